from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, text

from include.state.batches import ClaimConflict, NoFreeBatch, claim, count_open, mark_posted, open_batches
from include.state.database import SliceKey, StateDatabase
from include.state.rejected import Rejection
from include.state.removals import Removal, due
from include.state.settlement import release
from include.state.slices import load_slice
from include.state.stores import StoreRef
from tests.include.state.records import (
    at,
    chunk,
    claim_in,
    ledger,
    moved,
    payload_hash,
    post,
    records,
    rejections,
    send,
)


def test_claim_writes_everything_or_nothing(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    claim_in(state, store, slice_key, chunk(records("taken")))
    part = chunk(
        records("b", "taken"),
        rejections=[Rejection("bad", "bad", "missing_value", "t", "d")],
        progress=moved(None, "c", 3),
    )
    with pytest.raises(ClaimConflict), state.begin() as connection:
        claim(connection, store, slice_key, part, max_open=4, dag_run_id="r")
    with state.begin() as connection:
        assert load_slice(connection, slice_key).cursor is None
        assert connection.scalar(text("SELECT count(*) FROM batch")) == 1
        assert connection.scalar(text("SELECT count(*) FROM ledger")) == 1
    assert rejections(state) == {}


def test_claim_moves_the_cursor_and_counts(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    bad = Rejection("bad", "77", "missing_value", "No e-mail", "add one", field="email_address")
    part = chunk(records("a"), rejections=[bad], progress=moved(None, "c", 3, unchanged=1, rejected=1))
    claim_in(state, store, slice_key, part)
    with state.begin() as connection:
        assert load_slice(connection, slice_key).cursor == "c"
        row = connection.execute(text("SELECT extracted, unchanged, rejected FROM slice")).one()
    assert tuple(row) == (3, 1, 1)
    assert ledger(state, "a")["state"] == "pending"
    assert ledger(state, "a")["payload_hash"] == payload_hash(1)
    assert ledger(state, "bad")["source_key"] == "77"
    assert rejections(state)["bad"]["title"] == "No e-mail"


def test_a_second_worker_at_the_same_slice_is_a_conflict(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    claim_in(state, store, slice_key, chunk(records("a"), progress=moved(None, "a", 1)))
    late = chunk(records("b"), progress=moved(None, "b", 1))
    with pytest.raises(ClaimConflict), state.begin() as connection:
        claim(connection, store, slice_key, late, max_open=4, dag_run_id="r")


def test_an_older_read_cannot_replace_a_newer_one(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("a", version=2, read=5))
    with pytest.raises(ClaimConflict), state.begin() as connection:
        claim(connection, store, slice_key, chunk(records("a", read=1)), max_open=4, dag_run_id="r")
    bad = Rejection("a", "a", "missing_value", "t", "d")
    with pytest.raises(ClaimConflict), state.begin() as connection:
        claim(connection, store, slice_key, chunk(records(read=1), rejections=[bad]), max_open=4, dag_run_id="r")
    assert ledger(state, "a")["state"] == "synced"


def test_rejecting_a_record_in_flight_is_a_conflict(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    claim_in(state, store, slice_key, chunk(records("a")))
    bad = Rejection("a", "a", "missing_value", "t", "d")
    with pytest.raises(ClaimConflict), state.begin() as connection:
        claim(connection, store, slice_key, chunk(records(read=1), rejections=[bad]), max_open=4, dag_run_id="r")


def test_rows_that_are_left_out_are_rejected_no_more_and_removed_where_held(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    for name in ("held", "owed", "shared"):
        send(state, store, slice_key, records(name))
    for name in ("held", "refused", "other", "shared"):
        send(state, store, slice_key, records(name, version=2, read=1), "invalid")
    send(state, store, slice_key, records("owed", version=2, read=1), "transient")
    part = chunk(records(read=2), left_out=["held", "refused", "owed", "shared", "never seen"], seen=["shared"])
    with state.begin() as connection:
        claim(connection, store, slice_key, part, max_open=4, dag_run_id="r")
    assert set(rejections(state)) == {"other", "shared"}
    assert ledger(state, "refused")["state"] == "deleted"
    assert (ledger(state, "held")["on_mailchimp"], ledger(state, "held")["payload_hash"]) == (True, None)
    # Another row yields "shared", and Mailchimp never held "refused".
    assert [removal.record_id for removal in listed(state, store)] == ["held", "owed"]


def test_a_row_that_is_another_record_now_leaves_its_former_one_to_be_removed(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    send(state, store, slice_key, records("md5", keys=["5"]))
    moved_to = records("md5 of the new address", keys=["5"], version=2, read=1)
    send(state, store, slice_key, moved_to, seen=moved_to.record_ids)
    assert listed(state, store) == [Removal("md5", "5")]


def test_what_is_never_deleted_is_not_put_on_the_list(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    """Leaving the shop is not an unsubscribe."""
    send(state, store, slice_key, records("md5", keys=["5"]), removable=False)
    send(state, store, slice_key, records("md5 of the new address", keys=["5"], version=2, read=1), removable=False)
    part = chunk(records(read=2), left_out=["5"], removable=False)
    with state.begin() as connection:
        claim(connection, store, slice_key, part, max_open=4, dag_run_id="r")
    assert listed(state, store) == []


def test_a_record_that_is_sent_again_is_not_removed(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("a"))
    with state.begin() as connection:
        claim(connection, store, slice_key, chunk(records(read=1), left_out=["a"]), max_open=4, dag_run_id="r")
    assert len(listed(state, store)) == 1
    send(state, store, slice_key, records("a", version=2, read=2))
    assert listed(state, store) == []


def listed(state: StateDatabase, store: StoreRef) -> list[Removal]:
    with state.begin() as connection:
        return due(connection, store.store_ref, "products")


def test_an_older_read_does_not_clear_a_rejection(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("a", read=5), "invalid")
    with state.begin() as connection:
        claim(connection, store, slice_key, chunk(records(read=1), left_out=["a"]), max_open=4, dag_run_id="r")
    assert set(rejections(state)) == {"a"}


def test_rejections_under_former_ids_of_unchanged_rows_are_cleared(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    """The customer has the address again that Mailchimp knows."""
    send(state, store, slice_key, records("md5", keys=["5"]))
    send(state, store, slice_key, records("md5 of a broken one", keys=["5"], read=1), "invalid")
    part = chunk(records(read=2), unchanged=["5"], seen=["md5"])
    with state.begin() as connection:
        claim(connection, store, slice_key, part, max_open=4, dag_run_id="r")
    assert rejections(state) == {}
    assert ledger(state, "md5")["state"] == "synced"


def test_open_batches_of_an_account_are_limited_under_concurrency(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    start = threading.Barrier(6)

    def attempt(number: int) -> bool:
        start.wait()
        try:
            claim_in(state, store, slice_key, chunk(records(f"r{number}")), max_open=2)
        except NoFreeBatch:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(attempt, range(6))) == 2
    with state.begin() as connection:
        assert count_open(connection, store.account_id) == 2


def test_one_record_is_claimed_once_under_concurrency(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    ids = [f"r{number}" for number in range(300)]
    start = threading.Barrier(4)

    def attempt(number: int) -> bool:
        start.wait()
        order = ids if number % 2 else ids[::-1]
        try:
            claim_in(state, store, slice_key, chunk(records(*order)))
        except ClaimConflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, range(4))) == 1


def test_released_records_are_owed_and_the_attempt_does_not_count(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    batch_ref = claim_in(state, store, slice_key, chunk(records("a")))
    with state.begin() as connection:
        assert release(connection, batch_ref)
        assert not release(connection, batch_ref)
        assert not mark_posted(connection, batch_ref, "too late")
        assert open_batches(connection, store.account_id) == []
    row = ledger(state, "a")
    assert (row["state"], row["batch_ref"], row["attempts"]) == ("pending", None, 0)


def test_posted_batches_cannot_be_released(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    batch_ref = claim_in(state, store, slice_key, chunk(records("a")))
    post(state, batch_ref)
    with state.begin() as connection:
        assert not release(connection, batch_ref)
        (only,) = open_batches(connection, store.account_id)
    assert (only.batch_id, only.slice) == (f"batch-{batch_ref}", slice_key)


def test_retries_count_attempts_and_a_new_run_starts_again(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    send(state, store, slice_key, records("a"), "transient")
    send(state, store, slice_key, records("a"), "transient", retry=True)
    assert ledger(state, "a")["attempts"] == 2
    send(state, store, slice_key, records("a", read=1), "transient")
    assert ledger(state, "a")["attempts"] == 1
    assert ledger(state, "a")["read_at"] == at(1)


def test_slice_lock_dies_with_its_owner(state: StateDatabase, slice_key: SliceKey) -> None:
    with state.slice_lock(slice_key) as first, state.slice_lock(slice_key) as second:
        assert (first, second) == (True, False)
    with state.slice_lock(slice_key) as third:
        assert third


def test_a_look_at_a_lock_leaves_it_alone(state: StateDatabase) -> None:
    """A worker that looks after the batches of others meets their owners coming back; one was told "busy" by a look."""
    keys = [SliceKey(run, "orders", number) for run in range(4) for number in range(4)]  # hashes of both signs
    for key in keys:
        assert not state.is_owned(key)
        with state.slice_lock(key) as free:
            assert free
            assert [one for one in keys if state.is_owned(one)] == [key]


def test_the_lock_of_a_vanished_host_dies_soon(state: StateDatabase, slice_key: SliceKey) -> None:
    statements: list[str] = []
    event.listen(state.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with state.slice_lock(slice_key) as free:
        assert free
    assert "tcp_keepalives_idle = 30" in statements[0]
    assert "pg_try_advisory_lock" in statements[1]
