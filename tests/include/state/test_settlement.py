from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from include.state.batches import claim
from include.state.database import SliceKey, StateDatabase
from include.state.rejected import Rejection, orphans, top_error_classes, wait_for_parents
from include.state.settlement import MAX_ATTEMPTS, Results, settle, unfinished
from include.state.stores import StoreRef, learned_order_verb
from tests.include.state.records import answer, chunk, claim_in, ledger, payload_hash, post, records, rejections, send


@pytest.mark.parametrize(
    ("outcome", "state_after", "held", "rejected"),
    [
        ("ok", "synced", True, False),
        ("exists", "pending", True, False),
        ("missing", "pending", False, False),
        ("transient", "pending", False, False),
        ("unsupported", "pending", False, False),
        ("campaign", "pending", False, False),
        ("", "unknown", False, False),
        ("invalid", "rejected", False, True),
        ("compliance", "rejected", False, True),
        ("parent_missing", "rejected", False, True),
    ],
)
def test_each_outcome_has_its_state(
    state: StateDatabase,
    store: StoreRef,
    slice_key: SliceKey,
    outcome: str,
    state_after: str,
    held: bool,
    rejected: bool,
) -> None:
    send(state, store, slice_key, records("a", keys=["5"]), outcome)
    row = ledger(state, "a")
    assert (row["state"], row["on_mailchimp"], row["batch_ref"]) == (state_after, held, None)
    assert row["payload_hash"] == (None if outcome == "parent_missing" else payload_hash(1))
    assert (row["acknowledged_at"] is not None) == (outcome == "ok")
    assert ("a" in rejections(state)) == rejected


def test_failure_of_a_held_record_leaves_it_held(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("a"))
    send(state, store, slice_key, records("a", version=2, read=1), "invalid")
    assert ledger(state, "a")["on_mailchimp"]


def test_success_clears_the_rejection(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("a"), "invalid")
    send(state, store, slice_key, records("a", version=2, read=1), "invalid")
    assert rejections(state)["a"]["attempts"] == 1  # in one run
    assert rejections(state)["a"]["detail"] == "said so"
    send(state, store, slice_key, records("a", version=3, read=2))
    assert rejections(state) == {}


def test_success_clears_what_the_same_row_yielded_under_other_ids(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    send(state, store, slice_key, records("held", keys=["5"]))
    send(state, store, slice_key, records("held", keys=["5"], version=2, read=1), "invalid")
    send(state, store, slice_key, records("broken", keys=["5"], read=1), "invalid")
    send(state, store, slice_key, records("of another", keys=["6"], read=1), "invalid")
    reject(state, store, slice_key, Rejection("5", "5", "missing_value", "t", "d"), read=1)
    send(state, store, slice_key, records("mended", keys=["5"], read=2))
    assert set(rejections(state)) == {"held", "of another"}
    assert [ledger(state, name)["state"] for name in ("5", "broken", "held", "of another")] == [
        "deleted",
        "deleted",
        "rejected",
        "rejected",
    ]
    assert ledger(state, "broken")["payload_hash"] is None


def test_success_does_not_clear_a_rejection_that_was_read_later(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    batch_ref = claim_in(state, store, slice_key, chunk(records("good", keys=["5"], read=1)))
    post(state, batch_ref)
    reject(state, store, slice_key, Rejection("5", "5", "missing_value", "t", "d"), read=2)
    assert answer(state, batch_ref, "ok")
    assert set(rejections(state)) == {"5"}
    assert ledger(state, "5")["state"] == "rejected"


def test_success_does_not_wait_for_a_sibling_that_is_being_changed(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    reject(state, store, slice_key, Rejection("5", "5", "missing_value", "t", "d"), read=0)
    with state.begin() as other:
        other.execute(text("SELECT FROM ledger WHERE record_id = '5' FOR UPDATE"))
        send(state, store, slice_key, records("mended", keys=["5"], read=2))
    assert set(rejections(state)) == {"5"}


def reject(state: StateDatabase, store: StoreRef, key: SliceKey, rejection: Rejection, read: float) -> None:
    with state.begin() as connection:
        claim(connection, store, key, chunk(records(read=read), rejections=[rejection]), max_open=4, dag_run_id="run-1")


def test_the_last_attempt_of_a_run_makes_the_record_visible(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    for attempt in range(MAX_ATTEMPTS):
        assert rejections(state) == {}
        send(state, store, slice_key, records("a"), "transient", retry=attempt > 0)
    assert ledger(state, "a")["state"] == "unknown"
    assert rejections(state)["a"]["error_class"] == "transient"
    with state.begin() as connection:
        (left,) = unfinished(connection, slice_key.run_ref, "products", 0)
    assert (left.source_key, left.attempts) == ("a", MAX_ATTEMPTS)


def test_settling_is_done_once_even_by_many(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    batch_ref = claim_in(state, store, slice_key, chunk(records(*[f"r{number}" for number in range(50)])))
    post(state, batch_ref)
    start = threading.Barrier(4)

    def attempt(_: int) -> bool:
        start.wait()
        return answer(state, batch_ref, *["ok"] * 50)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, range(4))) == 1
    assert not answer(state, batch_ref, *["invalid"] * 50)
    with state.begin() as connection:
        assert connection.execute(text("SELECT succeeded, failed FROM batches")).one() == (50, 0)


def test_a_crash_in_the_middle_leaves_nothing_half_done(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    batch_ref = claim_in(state, store, slice_key, chunk(records("a", "b")))
    post(state, batch_ref)

    def die() -> None:
        with state.begin() as connection:
            assert settle(connection, batch_ref, Results([0, 1], ["ok", "ok"], [200, 200]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die()
    assert ledger(state, "a")["batch_ref"] == batch_ref
    assert answer(state, batch_ref, "ok", "")
    assert ledger(state, "a")["state"] == "synced"
    assert ledger(state, "b")["state"] == "unknown"


def test_a_lost_batch_makes_all_its_records_unknown(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    batch_ref = claim_in(state, store, slice_key, chunk(records("a")))
    post(state, batch_ref)
    with state.begin() as connection:
        assert settle(connection, batch_ref, Results(), final_state="lost")
    assert ledger(state, "a")["state"] == "unknown"
    with state.begin() as connection:
        assert connection.execute(text("SELECT state, failed FROM batches")).one() == ("lost", 1)


def test_the_verb_for_orders_is_learned_from_answers(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    orders = SliceKey(slice_key.run_ref, "orders", 0)
    for outcome, learned in (("invalid", None), ("unsupported", "post_patch")):
        send(state, store, orders, records(f"o-{outcome}"), outcome)
        with state.begin() as connection:
            assert learned_order_verb(connection, store.store_ref) == learned


def test_orphans_wait_for_their_parents_and_are_not_retried_for_ever(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    def found() -> list[str]:
        with state.begin() as connection:
            orphaned = orphans(connection, slice_key.run_ref, "products", 0, max_attempts=3, limit=10)
        return [orphan.record_id for orphan in orphaned]

    send(state, store, slice_key, records("a"), "parent_missing")
    assert found() == ["a"]
    with state.begin() as connection:
        wait_for_parents(connection, store.store_ref, "products", ["a"], ["products:p"])
    assert found() == []
    send(state, store, slice_key, records("a", read=1), "parent_missing")
    assert found() == ["a"]
    with state.begin() as connection:  # two runs later
        connection.exec_driver_sql("UPDATE rejected SET attempts = attempts + 2")
    assert found() == []
    with state.begin() as connection:
        reasons = top_error_classes(connection, store.store_ref, "run-1")
    assert reasons == ["products: Title parent_missing (1 records)"]
