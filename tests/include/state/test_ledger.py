from __future__ import annotations

import time

import pytest
from sqlalchemy import text

from include.state.batches import ClaimConflict, claim
from include.state.database import SliceKey, StateDatabase
from include.state.ledger import Candidates, Verdict, acknowledged, compare, demote, leftovers, retire
from include.state.rejected import Rejection
from include.state.removals import due
from include.state.stores import StoreRef, register_store
from tests.include.state.conftest import DEMO
from tests.include.state.records import (
    at,
    chunk,
    claim_in,
    ledger,
    post,
    records,
    rejections,
    send,
)


def verdicts(state: StateDatabase, store: StoreRef, candidates: Candidates) -> list[Verdict]:
    with state.begin() as connection:
        return compare(connection, store.store_ref, "products", candidates).verdicts


def test_new_records_are_sent_in_the_order_given(state: StateDatabase, store: StoreRef) -> None:
    assert verdicts(state, store, records("b", "a")) == [Verdict.SEND, Verdict.SEND]


def test_acknowledged_payload_is_unchanged_whatever_the_snapshot(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    send(state, store, slice_key, records("a", read=5))
    assert verdicts(state, store, records("a", read=9)) == [Verdict.UNCHANGED]
    assert verdicts(state, store, records("a", read=1)) == [Verdict.UNCHANGED]


def test_changed_payload_is_sent(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("a"))
    assert verdicts(state, store, records("a", version=2, read=1)) == [Verdict.SEND]


def test_older_snapshot_is_stale(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("a", read=5))
    assert verdicts(state, store, records("a", version=2, read=1)) == [Verdict.STALE]


def test_record_in_flight_is_blocked(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    batch_ref = claim_in(state, store, slice_key, chunk(records("a")))
    with state.begin() as connection:
        comparison = compare(connection, store.store_ref, "products", records("a", "b", read=1))
    assert comparison.verdicts == [Verdict.BLOCKED, Verdict.SEND]
    assert comparison.batch_refs == [batch_ref, None]


def test_refused_payload_is_not_sent_again_but_a_changed_one_is(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    send(state, store, slice_key, records("a"), "invalid")
    assert verdicts(state, store, records("a", read=1)) == [Verdict.STILL_REJECTED]
    assert verdicts(state, store, records("a", version=2, read=1)) == [Verdict.SEND]


def test_two_rows_of_one_record_do_not_alternate(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("md5", keys=["9"], updated=5))
    older = records("md5", keys=["5"], version=2, updated=1, read=1)
    newer = records("md5", keys=["7"], version=3, updated=6, read=1)
    assert verdicts(state, store, older) == [Verdict.ALIAS]
    assert verdicts(state, store, newer) == [Verdict.SEND]


def test_change_without_effect_is_noted_so_that_an_older_state_cannot_follow(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    """The shop's record went from version 1 to 2 and back; the run that read 2 comes last."""
    send(state, store, slice_key, records("a", read=0, updated=0))
    back = records("a", read=9, updated=8)
    with state.begin() as connection:
        assert compare(connection, store.store_ref, "products", back).touch == [True]
    with state.begin() as connection:
        claim(connection, store, slice_key, chunk(records(read=9), touched=back), max_open=4, dag_run_id="r")
    assert ledger(state, "a")["read_at"] == at(9)
    assert verdicts(state, store, records("a", version=2, read=5, updated=4)) == [Verdict.STALE]


def test_touching_a_record_that_was_claimed_meanwhile_is_a_conflict(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    send(state, store, slice_key, records("a"))
    claim_in(state, store, slice_key, chunk(records("a", version=2, read=1)))
    with state.begin() as connection, pytest.raises(ClaimConflict):
        claim(connection, store, slice_key, chunk(records(), touched=records("a")), max_open=4, dag_run_id="r")


def test_acknowledged_are_those_mailchimp_holds(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("held"))
    send(state, store, slice_key, records("refused"), "invalid")
    with state.begin() as connection:
        assert acknowledged(connection, store.store_ref, "products", ["held", "refused", "new"]) == {"held"}
        assert acknowledged(connection, store.store_ref, "customers", ["held"]) == set()


def test_leftovers_are_owed_and_not_in_flight(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("done"))
    send(state, store, slice_key, records("again", keys=["17"]), "transient")
    send(state, store, slice_key, records("lost"), "")
    send(state, store, slice_key, records("refused"), "invalid")
    post(state, claim_in(state, store, slice_key, chunk(records("flying"))))
    with state.begin() as connection:
        assert leftovers(connection, store.store_ref, "products") == ["17", "lost"]


def test_waiting_record_is_left_over_once_its_parent_is_held(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    orders = SliceKey(slice_key.run_ref, "orders", 0)
    waiting = Rejection("o1", "o1", "parent_missing", "t", "d", waits_for="products:p:1")
    with state.begin() as connection:
        claim(connection, store, orders, chunk(records(), rejections=[waiting]), max_open=4, dag_run_id="r")
        assert leftovers(connection, store.store_ref, "orders") == []
    send(state, store, slice_key, records("p:1"))
    with state.begin() as connection:
        assert leftovers(connection, store.store_ref, "orders") == ["o1"]


@pytest.mark.parametrize("broken_id", ["7", "md5 of a broken address"])
def test_an_order_is_left_over_once_its_customer_is_repaired(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey, broken_id: str
) -> None:
    """The customer's id at Mailchimp comes from its address, so nothing is ever acknowledged under the broken one's."""
    customers, orders = SliceKey(slice_key.run_ref, "customers", 0), SliceKey(slice_key.run_ref, "orders", 0)
    old, order = Rejection(broken_id, "7", "missing_value", "t", "d"), waiting_for("customers:7")

    def owed() -> list[str]:
        with state.begin() as connection:
            return leftovers(connection, store.store_ref, "orders")

    send(state, store, customers, records("md5 of the first address", keys=["7"], read=-5))
    with state.begin() as connection:
        claim(connection, store, customers, chunk(records(), rejections=[old]), max_open=4, dag_run_id="r")
        claim(connection, store, orders, chunk(records(), rejections=[order]), max_open=4, dag_run_id="r")
    assert owed() == []  # the shop still has the broken address
    send(state, store, customers, records("md5 of the new address", keys=["7"], read=1))
    assert owed() == ["o1"]
    assert ledger(state, broken_id, "customers")["state"] == "deleted"


def test_a_parent_waited_for_by_key_and_id_is_found_by_either(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    """Two customers with one address: the ledger names the other one as the record's source."""
    customers, orders = SliceKey(slice_key.run_ref, "customers", 0), SliceKey(slice_key.run_ref, "orders", 0)
    order = waiting_for("customers:7", parent_id="md5")
    with state.begin() as connection:
        claim(connection, store, orders, chunk(records(), rejections=[order]), max_open=4, dag_run_id="r")
    send(state, store, customers, records("md5", keys=["9"]))
    with state.begin() as connection:
        assert leftovers(connection, store.store_ref, "orders") == ["o1"]


def waiting_for(parent: str, parent_id: str | None = None) -> Rejection:
    return Rejection("o1", "o1", "parent_missing", "t", "d", waits_for=parent, parent_id=parent_id)


def test_demoted_parent_is_owed_again(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("a"))
    with state.begin() as connection:
        demote(connection, store, "products", ["a", "never seen"])
    with state.begin() as connection:
        assert acknowledged(connection, store.store_ref, "products", ["a"]) == set()
        assert leftovers(connection, store.store_ref, "products") == ["a"]
    assert verdicts(state, store, records("a", read=1)) == [Verdict.SEND]


def test_owed_records_the_shop_no_longer_yields_are_closed_or_removed(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    send(state, store, slice_key, records("held"))
    send(state, store, slice_key, records("held", version=2, read=1), "transient")
    send(state, store, slice_key, records("never held"), "transient")
    send(state, store, slice_key, records("who knows"), "")
    send(state, store, slice_key, records("other"), "transient")
    keys = ["held", "never held", "who knows", "other"]
    with state.begin() as connection:
        retire(connection, store.store_ref, "products", keys=keys, seen=["other"])
    assert ledger(state, "never held")["state"] == "deleted"
    with state.begin() as connection:
        assert [one.record_id for one in due(connection, store.store_ref, "products")] == ["held", "who knows"]
    assert rejections(state) == {}


def test_owed_records_that_are_never_deleted_are_closed_wherever_they_are(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    send(state, store, slice_key, records("held"))
    send(state, store, slice_key, records("held", version=2, read=1), "transient")
    with state.begin() as connection:
        retire(connection, store.store_ref, "products", keys=["held"], seen=[], removable=False)
        assert due(connection, store.store_ref, "products") == []
        assert leftovers(connection, store.store_ref, "products") == []
    assert ledger(state, "held")["state"] == "deleted"


def test_state_is_kept_per_account(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    send(state, store, slice_key, records("a"))
    with state.begin() as connection:
        other = register_store(connection, DEMO, "account-2")
    assert verdicts(state, other, records("a", read=1)) == [Verdict.SEND]
    with state.begin() as connection:
        assert connection.execute(text("SELECT * FROM sync_status")).all() == []
        assert register_store(connection, DEMO, "account-1").store_ref == store.store_ref
        assert connection.execute(text("SELECT synced FROM sync_status")).scalar_one() == 1


def test_lists_of_records_are_found_quickly_even_before_the_planner_knows_the_ledger(
    state: StateDatabase, store: StoreRef, slice_key: SliceKey
) -> None:
    """As during a first load: many rows, no statistics. A plan that begins with the ledger takes many times as long."""
    with state.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO ledger (store_ref, entity, record_id, payload_hash, state, read_at)
                SELECT :store, 'products', 'p' || n, decode(md5(n::text), 'hex'), 'synced', '2026-01-01'
                FROM generate_series(1, 200000) n
            """),
            {"store": store.store_ref},
        )
    changed = records(*[f"p{n * 97 + 1}" for n in range(2000)])
    begun = time.perf_counter()
    assert set(verdicts(state, store, changed)) == {Verdict.SEND}
    send(state, store, slice_key, changed)
    with state.begin() as connection:
        assert len(acknowledged(connection, store.store_ref, "products", changed.record_ids)) == 2000
    assert time.perf_counter() - begun < 25  # seconds; a scan of the table per record takes minutes
