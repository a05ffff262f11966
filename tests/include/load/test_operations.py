from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from include.load.operations import batch_body, methods_for, operation_sizes, split

TOKEN = "0123456789abcdef"
ORDERS = "/ecommerce/stores/demo-shop/orders"


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
        ("PUT", f"{ORDERS}/1", f"{TOKEN}-0"),
        ("PATCH", f"{ORDERS}/a%20b%2F%C3%BC", f"{TOKEN}-1"),
        ("POST", ORDERS, f"{TOKEN}-2"),
    ]
    assert [json.loads(one["body"]) for one in operations] == documents


def test_arrays_with_an_offset_are_rendered_from_their_own_rows() -> None:
    ids, bodies = pa.array(["1", "2", "3"]), pa.array(["a", "b", "c"])
    operations = json.loads(batch_body(TOKEN, ["PUT"], ORDERS, ids.slice(1, 1), bodies.slice(1, 1)))
    assert (operations[0]["path"], operations[0]["body"]) == (f"{ORDERS}/2", "b")


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


def test_methods() -> None:
    assert methods_for("products", "post_patch", [True, False]) == ["PUT", "PUT"]
    assert methods_for("orders", None, [True, False]) == ["PUT", "PUT"]
    assert methods_for("orders", "post_patch", [True, False]) == ["PATCH", "POST"]
