from __future__ import annotations

import json
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.config.stores import StoreSettings
from include.load.operations import Endpoint, batch_body, deletions, methods_for, operation_sizes, split
from include.state.stores import OrderVerb
from include.transform.entities import ENTITIES

TOKEN = "0123456789abcdef"
SETTINGS = StoreSettings(key="demo", store_id="demo-shop", list_id="a1b2c3d4e5", profile="reference")
STORE = "/ecommerce/stores/demo-shop"
ORDERS = Endpoint(f"{STORE}/orders")
CODES = Endpoint(f"{STORE}/promo-rules/{{parent}}/promo-codes")


def embedded(document: object) -> str:
    """A document as the encoder gives it: JSON text, escaped once more, without the outer quotes."""
    return json.dumps(json.dumps(document))[1:-1]


def test_a_batch_is_a_list_of_objects_with_text_bodies() -> None:
    documents = [{"id": "1", "title": 'quote " backslash \\ line\nend ü'}, {"id": "a b/ü"}, {"id": "3"}]
    ids = pa.array(["1", "a b/ü", "3"])
    bodies = pa.array([embedded(document) for document in documents])
    body = batch_body(TOKEN, ["PUT", "PATCH", "POST"], ORDERS, ids, bodies)
    operations = json.loads(body)
    assert [(one["method"], one["path"], one["operation_id"]) for one in operations] == [
        ("PUT", f"{STORE}/orders/1", f"{TOKEN}-0"),
        ("PATCH", f"{STORE}/orders/a%20b%2F%C3%BC", f"{TOKEN}-1"),
        ("POST", f"{STORE}/orders", f"{TOKEN}-2"),
    ]
    assert [json.loads(one["body"]) for one in operations] == documents


def test_arrays_with_an_offset_are_rendered_from_their_own_rows() -> None:
    ids, bodies = pa.array(["1", "2", "3"]), pa.array(["a", "b", "c"])
    operations = json.loads(batch_body(TOKEN, ["PUT"], ORDERS, ids.slice(1, 1), bodies.slice(1, 1)))
    assert (operations[0]["path"], operations[0]["body"]) == (f"{STORE}/orders/2", "b")


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=50)), min_size=1, max_size=40))
def test_sizes_are_never_underestimated(records: list[tuple[str, str]]) -> None:
    ids = pa.array([record_id.encode("utf-8", "ignore").decode() for record_id, _ in records], pa.string())
    bodies = pa.array([embedded(text) for _, text in records], pa.string())
    body = batch_body(TOKEN, ["PATCH"] * len(records), ORDERS, ids, bodies)
    assert len(body) <= operation_sizes(ORDERS, ids, bodies).sum() + 2


@given(
    st.lists(st.integers(1, 100), max_size=60),
    st.integers(1, 10),
    st.integers(100, 300),
)
def test_batches_are_consecutive_and_within_both_limits(sizes: list[int], operations: int, size: int) -> None:
    batches = split(np.array(sizes, dtype=np.int64), operations, size)
    assert [position for start, end in batches for position in range(start, end)] == list(range(len(sizes)))
    for start, end in batches:
        assert 0 < end - start <= operations
        assert sum(sizes[start:end]) <= size


def test_a_nested_record_is_addressed_through_its_parent() -> None:
    """Ids of nested records are "<parent's>/<own>", each percent-encoded already."""
    ids = pa.array(["7/SAVE", "7/10%20%25", "a%2Fb/c%2Fd"])
    operations = json.loads(batch_body(TOKEN, ["PATCH", "POST", "DELETE"], CODES, ids, pa.array(["", "", ""])))
    assert [one["path"] for one in operations] == [
        f"{STORE}/promo-rules/7/promo-codes/SAVE",
        f"{STORE}/promo-rules/7/promo-codes",
        f"{STORE}/promo-rules/a%2Fb/promo-codes/c%2Fd",
    ]


@given(st.lists(st.tuples(st.text(min_size=1, max_size=60), st.text(max_size=60)), min_size=1, max_size=40))
def test_sizes_of_nested_records_are_never_underestimated(records: list[tuple[str, str]]) -> None:
    encoded = [tuple(quote(part.encode("utf-8", "ignore"), safe="") for part in parts) for parts in records]
    ids = pa.array(["/".join(parts) for parts in encoded], pa.string())
    bodies = pa.array([""] * len(records), pa.string())
    body = batch_body(TOKEN, ["PATCH"] * len(records), CODES, ids, bodies)
    assert len(body) <= operation_sizes(CODES, ids, bodies).sum() + 2


@pytest.mark.parametrize(
    ("entity", "path"),
    [
        ("products", f"{STORE}/products/1%202"),
        ("members", "/lists/a1b2c3d4e5/members/1%202"),
        ("promo_rules", f"{STORE}/promo-rules/1%202"),
        ("carts", f"{STORE}/carts/1%202"),
    ],
)
def test_each_entity_has_its_place_in_the_store(entity: str, path: str) -> None:
    assert Endpoint.of(ENTITIES[entity], SETTINGS).path("1 2") == path


def test_deletions_name_paths_and_have_no_body() -> None:
    paths = [ORDERS.path("1"), ORDERS.path("a/b"), CODES.path("7/SAVE")]
    assert json.loads(deletions(TOKEN, paths)) == [
        {"method": "DELETE", "path": f"{STORE}/orders/1", "operation_id": f"{TOKEN}-0"},
        {"method": "DELETE", "path": f"{STORE}/orders/a%2Fb", "operation_id": f"{TOKEN}-1"},
        {"method": "DELETE", "path": f"{STORE}/promo-rules/7/promo-codes/SAVE", "operation_id": f"{TOKEN}-2"},
    ]


@pytest.mark.parametrize(
    ("entity", "verb", "methods"),
    [
        ("products", "post_patch", ["PUT", "PUT"]),
        ("orders", None, ["PUT", "PUT"]),
        ("orders", "post_patch", ["PATCH", "POST"]),
        # There is no PUT for these (API reference, "Ecommerce carts", "Ecommerce promo rules", "… promo codes").
        ("carts", "put", ["PATCH", "POST"]),
        ("promo_rules", "put", ["PATCH", "POST"]),
        ("promo_codes", None, ["PATCH", "POST"]),
    ],
)
def test_a_record_that_mailchimp_holds_and_a_new_one_get_their_methods(
    entity: str, verb: OrderVerb | None, methods: list[str]
) -> None:
    assert methods_for(ENTITIES[entity], verb, [True, False]) == methods
