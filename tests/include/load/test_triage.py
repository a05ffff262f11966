from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from include.documents.encoder import ChildRows, Rows, encode
from include.documents.spec import Children, Document, Text
from include.load.operations import Endpoint
from include.load.triage import Fate, Limits, Segment, Triage, triage
from include.state.database import SliceKey, StateDatabase
from include.state.stores import StoreRef
from include.transform.entities import ENTITIES
from include.transform.records import TEXT, Built, ParentLinks
from include.transform.rules import ErrorClass, RejectedRecord
from tests.include.load.shop import TinyShop
from tests.include.state.records import chunk, claim_in, records, send

NOW = datetime(2026, 11, 21, 13, tzinfo=UTC)
LIMITS = Limits(operations=2, bytes=100_000)
DOCUMENT = Document(
    "order",
    (Text("id", "record_id"), Text("order_url", "order_url"), Children("lines", "lines", (Text("id", "line_id"),))),
)


def built(
    rows: Sequence[tuple[str, str, int]],
    rejected: Sequence[tuple[str, str]] = (),
    parents: Sequence[ParentLinks] = (),
    **columns: Sequence[Any],
) -> Built:
    """Rows are (key, record id, changed at, in seconds), each with one line; rejected ones (key, record id)."""
    times = pa.array([changed * 1_000_000 for _, _, changed in rows], pa.int64())
    texts = {"record_id": [record_id for _, record_id, _ in rows], "order_url": [None] * len(rows)}
    frame = pd.DataFrame({name: pd.Series(values, dtype=TEXT) for name, values in texts.items()})
    frame = frame.assign(**{name: pd.array(list(values)) for name, values in columns.items()})
    lines = pd.DataFrame({"line_id": pd.Series([f"line of {key}" for key, _, _ in rows], dtype=TEXT)})
    source = Rows(frame, {"lines": ChildRows(Rows(lines), np.arange(len(rows) + 1, dtype=np.int32))})
    return Built(
        keys=pa.array([key for key, _, _ in rows], pa.string()),
        record_ids=pa.array([record_id for _, record_id, _ in rows], pa.string()),
        bodies=encode(DOCUMENT, source, embedded=True),
        updated_at=times.cast(pa.timestamp("us", "UTC")),
        parents=parents,
        rejected=[
            RejectedRecord("orders", key, record_id, ErrorClass.MISSING_VALUE, "Missing", "it is missing")
            for key, record_id in rejected
        ],
        rows=len(rows) + len(rejected),
        last_key=None,
        read_at=NOW,
        source=source,
        document=DOCUMENT,
    )


def sort(
    shop: TinyShop, payloads: Built, keys: Sequence[str], entity: str = "orders", stuck: Collection[str] = ()
) -> Triage:
    store, kind = shop.store(), ENTITIES[entity]
    with shop.state.begin() as connection:
        endpoint = Endpoint.of(kind, shop.settings)
        return triage(connection, store, kind, endpoint, payloads, pa.array(keys), "put", LIMITS, NOW, stuck)


def claimed(state: StateDatabase, store: StoreRef, key: SliceKey, *ids: str) -> int:
    return claim_in(state, store, key, chunk(records(*ids)))


def hold(shop: TinyShop, entity: str, *ids: str, outcome: str = "ok") -> None:
    """Let the ledger say that Mailchimp holds older payloads of these records."""
    send(shop.state, shop.store(), SliceKey(shop.begin().run_ref, entity, 0), records(*ids), outcome)


def test_of_rows_that_yield_one_record_the_newest_speaks(shop: TinyShop) -> None:
    payloads = built([("1", "same", 5), ("2", "same", 9), ("3", "same", 9)], rejected=[("4", "same"), ("5", "bad")])
    sorted_ = sort(shop, payloads, ["1", "2", "3", "4", "5", "6"])
    expected = [Fate.UNCHANGED, Fate.SEND, Fate.UNCHANGED, Fate.UNCHANGED, Fate.REJECT, Fate.SKIPPED]
    assert sorted_.fates.tolist() == expected
    assert sorted_.sends.tolist() == [1]
    assert [rejection.record_id for rejection in sorted_.rejections.values()] == ["bad"]
    assert sorted(sorted_.aliases) == [("1", "same"), ("3", "same"), ("4", "same")]


def test_segments_cover_all_rows_once_in_order(shop: TinyShop) -> None:
    payloads = built([(str(n), str(n), 1) for n in (2, 3, 5, 6, 8)], rejected=[("4", "4")])
    sorted_ = sort(shop, payloads, [str(n) for n in range(10)])
    parts = [(part.start, part.end, part.sends.start, part.sends.stop) for part in sorted_.segments(LIMITS)]
    assert parts == [(0, 4, 0, 2), (4, 7, 2, 4), (7, 10, 4, 5)]


def test_nothing_behind_a_blocked_row_is_dealt_with(shop: TinyShop) -> None:
    shop.add_orders(1, 1)
    (key,) = shop.plan(shop.begin(), "orders")
    batch_ref = claimed(shop.state, shop.store(), key, "5")
    payloads = built([(str(n), str(n), 1) for n in (2, 3, 4, 5, 6)])
    sorted_ = sort(shop, payloads, [str(n) for n in range(8)])
    assert (sorted_.rows, sorted_.blocked_by, sorted_.complete) == (5, frozenset({batch_ref}), False)
    assert [(part.start, part.end) for part in sorted_.segments(LIMITS)] == [(0, 4), (4, 5)]
    blocked_at_once = sort(shop, built([("5", "5", 1)]), ["5"])
    assert blocked_at_once.segments(LIMITS) == []


def test_a_row_blocked_only_by_its_rejection_is_blocked_too(shop: TinyShop) -> None:
    """Else the answer to the older version in flight would clear the rejection of the newer one."""
    shop.add_orders(1, 1)
    (key,) = shop.plan(shop.begin(), "orders")
    claimed(shop.state, shop.store(), key, "5")
    sorted_ = sort(shop, built([], rejected=[("5", "5")]), ["5"])
    assert sorted_.rows == 0


def test_children_of_unknown_parents_wait_for_the_first_of_them(shop: TinyShop) -> None:
    links = ParentLinks("products", "lines[].product_id", np.array([0, 1, 1]), pa.array(["p1", "p2", "p3"]))
    sorted_ = sort(shop, built([("1", "1", 1), ("2", "2", 1)], parents=[links]), ["1", "2"])
    waits = [(one.record_id, one.waits_for, one.field) for one in sorted_.rejections.values()]
    assert waits == [("1", "products:p1", "lines[].product_id"), ("2", "products:p2", "lines[].product_id")]
    assert len(sorted_.sends) == 0


def test_children_wait_for_a_parent_under_its_key_in_the_shop_too(shop: TinyShop) -> None:
    links = ParentLinks("customers", "customer.id", np.array([1]), pa.array(["md5"]), pa.array(["7"]))
    sorted_ = sort(shop, built([("1", "1", 1), ("2", "2", 1)], parents=[links]), ["1", "2"])
    (one,) = sorted_.rejections.values()
    assert (one.record_id, one.waits_for, one.parent_id) == ("2", "customers:7", "md5")
    assert "customers:7" in one.detail


def test_rows_that_are_left_out_or_unchanged_under_another_id_are_named(shop: TinyShop) -> None:
    payloads = built([("1", "same", 5), ("2", "same", 9), ("3", "3", 1)], rejected=[("4", "md5")])
    sorted_ = sort(shop, payloads, [str(n) for n in range(6)])
    whole = Segment(0, 6, slice(0, 0))
    assert sorted_.left_out(whole) == ["0", "5"]
    assert sorted_.left_out(Segment(1, 5, slice(0, 0))) == []
    assert sorted_.unchanged_elsewhere(whole) == ["1"]


def test_an_update_spells_out_what_is_empty_and_a_new_record_does_not(shop: TinyShop) -> None:
    """Mailchimp keeps what an update leaves out; the ledger's hash is of the plain payload."""
    hold(shop, "orders", "2")
    payloads = built([("1", "1", 1), ("2", "2", 1)])
    sorted_ = sort(shop, payloads, ["1", "2"])
    bodies = [json.loads(json.loads(f'"{body}"')) for body in sorted_.bodies.to_pylist()]
    assert bodies == [
        {"id": "1", "lines": [{"id": "line of 1"}]},
        {"id": "2", "order_url": "", "lines": [{"id": "line of 2"}]},
    ]
    assert payloads.hashes == built([("1", "1", 1), ("2", "2", 1)]).hashes


def test_of_an_update_it_is_noted_what_the_record_has_inside(shop: TinyShop) -> None:
    """And of a record that was sent without an answer: an older version of it may have arrived."""
    hold(shop, "orders", "2")
    hold(shop, "orders", "3", outcome="")
    sorted_ = sort(shop, built([(key, key, 1) for key in "123"]), ["1", "2", "3"])
    assert sorted_.children == [None, ["lines/line of 2"], ["lines/line of 3"]]


def test_records_that_only_follow_what_mailchimp_has_create_nothing(shop: TinyShop) -> None:
    """A cart that somebody is still filling."""
    hold(shop, "carts", "2")
    payloads = built([("1", "1", 1), ("2", "2", 1)], if_held=[True, True], customer_record_id=["a", "b"])
    sorted_ = sort(shop, payloads, ["1", "2"], "carts")
    assert sorted_.fates.tolist() == [Fate.SKIPPED, Fate.SEND]
    assert sorted_.methods == ["PATCH"]


def test_the_method_that_a_record_asks_for_counts(shop: TinyShop) -> None:
    """An opt-out is a PATCH, whether or not the ledger knows the contact."""
    sorted_ = sort(shop, built([("1", "a", 1), ("2", "b", 1)], method=["PATCH", None]), ["1", "2"], "members")
    assert sorted_.methods == ["PATCH", "PUT"]


def test_people_whose_contact_cannot_follow_are_not_subscribed(shop: TinyShop) -> None:
    """Others, who opt out for example, are sent."""
    people = built([("1", "a", 1), ("2", "b", 1), ("3", "c", 1)], new_status=["subscribed", "subscribed", None])
    sorted_ = sort(shop, people, ["1", "2", "3"], "members", stuck={"b", "c"})
    assert sorted_.fates.tolist() == [Fate.SEND, Fate.REJECT, Fate.SEND]
    (one,) = sorted_.rejections.values()
    assert (one.record_id, one.error_class, one.field) == ("b", "compliance", "email_address")


def test_missing_parents_are_named_so_that_they_can_be_fetched(shop: TinyShop) -> None:
    hold(shop, "products", "p2")
    links = ParentLinks("products", "lines[].product_id", np.array([0, 1, 1]), pa.array(["p1", "p2", "p3"]))
    sorted_ = sort(shop, built([("1", "1", 1), ("2", "2", 1)], parents=[links]), ["1", "2"])
    assert sorted_.missing == {"products": frozenset({"p1", "p3"})}
