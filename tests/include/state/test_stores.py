"""What is known of a store when its store, its account or its audience at Mailchimp is another than before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sqlalchemy import text

from include.state.database import SliceKey, StateDatabase
from include.state.runs import acknowledged_until, advance_watermark, start_run
from include.state.segments import save_segment, segment_ids
from include.state.slices import save_slices
from include.state.stores import (
    MEMBERS,
    StoreRef,
    find_store,
    forget_acknowledgements,
    has_sent,
    learn_order_verb,
    load_store,
    register_store,
)
from tests.include.state.conftest import DEMO, UNTIL
from tests.include.state.records import answer, at, chunk, claim_in, ledger, post, records, send


def register(state: StateDatabase, account_id: str = "account-1", **changes: str) -> StoreRef:
    with state.begin() as connection:
        return register_store(connection, SimpleNamespace(**(vars(DEMO) | changes)), account_id)


def forget(state: StateDatabase, store: StoreRef) -> list[str]:
    with state.begin() as connection:
        return list(forget_acknowledgements(connection, store.store_ref))


def members_slice(state: StateDatabase, store: StoreRef) -> SliceKey:
    with state.begin() as connection:
        run = start_run(connection, store.store_ref, "push", "run-2", "manual", "full", None, UNTIL)
        save_slices(connection, run.run_ref, MEMBERS, [SimpleNamespace(first_key="a", last_key="z", records=10)])
        advance_watermark(connection, store.store_ref, MEMBERS, at(0))
        advance_watermark(connection, store.store_ref, "products", at(0))
        save_segment(connection, store.store_ref, "VIP", 7)
    return SliceKey(run.run_ref, MEMBERS, 0)


def brief(state: StateDatabase, record_id: str, entity: str = "products") -> tuple[Any, ...]:
    row = ledger(state, record_id, entity)
    return row["state"], row["on_mailchimp"], row["payload_hash"], row["batch_ref"]


def known(state: StateDatabase, store: StoreRef) -> tuple[Any, ...]:
    with state.begin() as connection:
        marks = [acknowledged_until(connection, store.store_ref, entity) for entity in ("products", MEMBERS)]
        return *(mark is not None for mark in marks), segment_ids(connection, store.store_ref)


def test_another_account_never_sees_the_old_ledger(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("a"))
    other = register(state, "account-2")
    assert other.store_ref != store.store_ref
    with state.begin() as connection:
        assert has_sent(connection, store.store_ref)
        assert not has_sent(connection, other.store_ref)
        assert connection.execute(text("SELECT * FROM sync_status")).all() == []
        assert find_store(connection, DEMO, "account-1") == store
        assert find_store(connection, DEMO, "account-3") is None


def test_a_store_that_was_never_filled_can_be_forgotten(state: StateDatabase, store: StoreRef) -> None:
    assert forget(state, store) == []
    assert register(state) == store


def test_what_a_vanished_store_held_is_owed_again(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("sent", "gone"))
    send(state, store, slice_key, records("refused"), "invalid")
    with state.begin() as connection:
        learn_order_verb(connection, store.store_ref, put_accepted=1, put_refused=0)
        connection.execute(text("INSERT INTO removal SELECT store_ref, entity, 'gone' FROM ledger LIMIT 1"))
        connection.execute(text("INSERT INTO stale_child SELECT store_ref, entity, 'sent', 'variants/1' FROM removal"))
    forget(state, store)
    assert brief(state, "sent") == ("pending", False, None, None)
    assert brief(state, "gone") == ("deleted", False, None, None)  # it was to be deleted, and is
    assert brief(state, "refused") == ("rejected", False, None, None)
    with state.begin() as connection:
        assert load_store(connection, store.store_ref).order_verb is None
        for table in ("removal", "stale_child"):
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0


def test_answers_about_a_vanished_store_are_not_believed(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    posted = claim_in(state, store, slice_key, chunk(records("a", "b")))
    post(state, posted)
    intended = claim_in(state, store, slice_key, chunk(records("c")))
    assert forget(state, store) == [f"batch-{posted}"]
    assert not answer(state, posted, "ok", "ok")
    assert brief(state, "a") == ("pending", False, None, None)
    assert brief(state, "c")[3] == intended  # its worker may live, and send it to the new store
    post(state, intended)
    assert answer(state, intended, "ok")
    assert brief(state, "c")[:2] == ("synced", True)


def test_the_contacts_outlive_the_store(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("a"))
    send(state, store, members_slice(state, store), records("m"))
    forget(state, store)
    assert brief(state, "m", MEMBERS)[:2] == ("synced", True)
    assert known(state, store) == (False, True, {"VIP": 7})


def test_another_audience_begins_without_contacts(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("a"))
    send(state, store, members_slice(state, store), records("m"))
    assert register(state, list_id="another") == store
    assert brief(state, "m", MEMBERS) == ("pending", False, None, None)
    assert brief(state, "a")[:2] == ("synced", True)
    assert known(state, store) == (True, False, {})


def test_a_rejected_record_was_not_sent(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("refused"), "invalid")
    send(state, store, members_slice(state, store), records("m"))
    with state.begin() as connection:
        assert not has_sent(connection, store.store_ref)
