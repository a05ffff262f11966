from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from include.state.database import StateDatabase
from include.state.erasures import Traces, remembered, scrub
from include.state.stores import StoreRef
from include.state.teardown import remove_store_state
from include.state.webhooks import (
    KEPT_FOR,
    ReceivedEvent,
    StoreNotRegistered,
    forget_processed,
    mark_processed,
    store_event,
    waiting_contacts,
    waiting_ids,
)
from tests.include.state.conftest import DEMO
from tests.include.state.records import NOON

SOON = timedelta(seconds=1)
PATIENCE = timedelta(seconds=20)


def told(
    state: StateDatabase, signature: str, *hashes: str, store_key: str = "demo", list_id: str = DEMO.list_id
) -> bool:
    return store_event(state, store_key, list_id, ReceivedEvent("profile", NOON, hashes, signature), PATIENCE)


def waiting(state: StateDatabase, store: StoreRef, limit: int = 10) -> dict[str, Sequence[int]]:
    with state.begin() as connection:
        return {one.member_hash: one.event_ids for one in waiting_contacts(connection, store.store_ref, limit)}


def process(state: StateDatabase, store: StoreRef) -> int:
    with state.begin() as connection:
        return mark_processed(connection, waiting_contacts(connection, store.store_ref, 10))


def test_a_call_is_stored_once_by_its_signature(state: StateDatabase, store: StoreRef) -> None:
    assert told(state, "s1", "ann") is True
    assert told(state, "s1", "ann") is False
    assert told(state, "s2", "ann") is True  # Mailchimp's own repetition, which is signed anew
    assert told(state, "s3", "old", "new") is True
    assert told(state, "s3", "old", "new") is False
    assert {one: len(ids) for one, ids in waiting(state, store).items()} == {"ann": 2, "old": 1, "new": 1}


@pytest.mark.parametrize(("key", "list_id"), [("other", DEMO.list_id), ("demo", "another")])
def test_a_store_that_no_run_has_met_with_this_audience_is_told(
    state: StateDatabase, store: StoreRef, key: str, list_id: str
) -> None:
    with pytest.raises(StoreNotRegistered, match=key):
        told(state, "s1", "ann", store_key=key, list_id=list_id)
    assert waiting(state, store) == {}


def test_a_locked_table_is_not_waited_for(state: StateDatabase, store: StoreRef) -> None:
    with state.begin() as connection:
        connection.execute(text("LOCK TABLE webhook_event"))
        begun = time.monotonic()
        with pytest.raises(OperationalError):
            store_event(
                state, "demo", DEMO.list_id, ReceivedEvent("profile", NOON, ["ann"], "s"), timedelta(seconds=0.2)
            )
    assert time.monotonic() - begun < 30  # the lock is held until this test ends
    assert waiting(state, store) == {}


def test_who_waits_longest_comes_first_and_each_contact_once(state: StateDatabase, store: StoreRef) -> None:
    for number, one in enumerate(["ann", "bob", "ann", "cid"]):
        told(state, f"s{number}", one)
    assert list(waiting(state, store)) == ["ann", "bob", "cid"]
    assert list(waiting(state, store, 2)) == ["ann", "bob"]


def test_what_comes_while_events_are_worked_off_goes_on_waiting(state: StateDatabase, store: StoreRef) -> None:
    told(state, "s1", "ann")
    with state.begin() as connection:
        contacts = waiting_contacts(connection, store.store_ref, 10)
    told(state, "s2", "ann")
    with state.begin() as connection:
        assert mark_processed(connection, contacts) == 1
        assert mark_processed(connection, contacts) == 0
    assert {one: len(ids) for one, ids in waiting(state, store).items()} == {"ann": 1}


def test_the_watcher_sees_the_newest_of_its_own_store(state: StateDatabase, store: StoreRef) -> None:
    for number in range(3):
        told(state, f"s{number}", f"contact {number}")
    with state.begin() as connection:
        assert len(waiting_ids(connection, "demo", 10)) == 3
        assert waiting_ids(connection, "demo", 1) == {max(waiting_ids(connection, "demo", 10))}
        assert waiting_ids(connection, "other", 10) == set()
    process(state, store)
    with state.begin() as connection:
        assert waiting_ids(connection, "demo", 10) == set()


def test_only_what_was_worked_off_long_ago_is_removed(state: StateDatabase, store: StoreRef) -> None:
    told(state, "s1", "ann")
    told(state, "s2", "bob")
    process(state, store)
    told(state, "s3", "cid")
    age = "UPDATE webhook_event SET received_at = received_at - :age, processed_at = processed_at - :age WHERE {}"
    with state.begin() as connection:
        connection.execute(text(age.format("member_hash <> 'bob'")), {"age": KEPT_FOR + SOON})
        assert forget_processed(connection, store.store_ref) == 1
        left = connection.execute(text("SELECT member_hash FROM webhook_event ORDER BY 1")).scalars()
        assert list(left) == ["bob", "cid"]


def test_a_store_that_is_taken_down_leaves_no_events(state: StateDatabase, store: StoreRef) -> None:
    told(state, "s1", "ann")
    with state.begin() as connection:
        assert remove_store_state(connection, store.store_ref)["webhook_event"] == 1


def test_of_a_person_who_is_erased_no_event_is_left(state: StateDatabase, store: StoreRef) -> None:
    told(state, "s1", "ann")
    told(state, "s2", "bob")
    with state.begin() as connection:
        assert remembered(connection, store.store_ref, ["ann", "cid"]) == {"ann"}
        scrub(connection, store.store_ref, Traces(["ann"], [], [], []), [])
    assert list(waiting(state, store)) == ["bob"]
