from __future__ import annotations

from include.state.database import StateDatabase
from include.state.segments import (
    SegmentMember,
    held_by_others,
    members_between,
    record_members,
    save_segment,
    segment_ids,
)
from include.state.stores import StoreRef

ADA, BOB, BOB_AGAIN = SegmentMember("1", "ada"), SegmentMember("10", "bob"), SegmentMember("2", "bob")


def fill(state: StateDatabase, store: StoreRef, *members: SegmentMember, segment_id: int = 7) -> None:
    with state.begin() as connection:
        save_segment(connection, store.store_ref, "VIP", segment_id)
        record_members(connection, store.store_ref, "VIP", members, [])


def members(state: StateDatabase, store: StoreRef) -> list[SegmentMember]:
    with state.begin() as connection:
        return members_between(connection, store.store_ref, "VIP", None, None, 100)


def test_members_come_in_byte_order_page_by_page(state: StateDatabase, store: StoreRef) -> None:
    fill(state, store, BOB_AGAIN, BOB, ADA)
    with state.begin() as connection:
        assert members_between(connection, store.store_ref, "VIP", None, None, 2) == [ADA, BOB]
        assert members_between(connection, store.store_ref, "VIP", "10", None, 2) == [BOB_AGAIN]
        assert members_between(connection, store.store_ref, "VIP", "1", "10", 2) == [BOB]


def test_a_contact_that_stands_for_somebody_else_too_is_held(state: StateDatabase, store: StoreRef) -> None:
    fill(state, store, ADA, BOB, BOB_AGAIN)
    with state.begin() as connection:
        assert held_by_others(connection, store.store_ref, "VIP", [ADA, BOB]) == {"bob"}
        assert held_by_others(connection, store.store_ref, "VIP", [BOB, BOB_AGAIN]) == set()


def test_a_customer_with_a_new_address_is_one_member_still(state: StateDatabase, store: StoreRef) -> None:
    fill(state, store, ADA)
    moved = SegmentMember("1", "ada-new")
    with state.begin() as connection:
        record_members(connection, store.store_ref, "VIP", [moved], [ADA])
    assert members(state, store) == [moved]
    with state.begin() as connection:
        record_members(connection, store.store_ref, "VIP", [], [ADA])  # what was acknowledged late takes nobody out
    assert members(state, store) == [moved]


def test_a_segment_made_anew_is_empty(state: StateDatabase, store: StoreRef) -> None:
    fill(state, store, ADA)
    fill(state, store, BOB)
    assert members(state, store) == [ADA, BOB]
    fill(state, store, segment_id=8)
    assert members(state, store) == []
    with state.begin() as connection:
        assert segment_ids(connection, store.store_ref) == {"VIP": 8}
