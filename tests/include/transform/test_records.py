"""Rows picked by position keep their children; a built chunk gives updates and child ids of the records asked for."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.documents.encoder import ChildRows, Rows, encode, to_arrow
from include.documents.spec import Children, Document, Text, Time
from include.transform.records import Built, keep_rows, take_rows
from tests.include.transform.rows import CHANGED

DOCUMENT = Document(
    "order",
    (
        Text("id", "key"),
        Text("url", "url"),
        Time("changed", "updated_at"),
        Children("lines", "lines", (Text("id", "line_id"),)),
        Children("promos", "promos", (Text("code", "code"),)),
    ),
)


def frame(**columns: list[Any]) -> pd.DataFrame:
    kinds = {"updated_at": pa.timestamp("us", "UTC"), "if_held": pa.bool_()}
    arrays = {name: pa.array(values, kinds.get(name, pa.string())) for name, values in columns.items()}
    return pa.table(arrays).to_pandas(types_mapper=pd.ArrowDtype)


def orders(counts: list[tuple[int, int]], **columns: list[Any]) -> Rows:
    """Return one order per pair of counts, with so many lines and promos."""
    keys = [str(number) for number in range(len(counts))]
    return Rows(
        frame(key=keys, url=[None] * len(keys), updated_at=[CHANGED] * len(keys), **columns),
        {
            "lines": children("line_id", [lines for lines, _ in counts]),
            "promos": children("code", [promos for _, promos in counts]),
        },
    )


def children(column: str, counts: list[int]) -> ChildRows:
    ids = [f"{column} {parent}.{child}" for parent, count in enumerate(counts) for child in range(count)]
    return ChildRows(Rows(frame(**{column: ids})), np.cumsum([0, *counts]).astype(np.int32))


def built(rows: Rows) -> Built:
    return Built(
        keys=to_arrow(rows.frame["key"]),
        record_ids=to_arrow(rows.frame["key"]),
        bodies=encode(DOCUMENT, rows, embedded=True),
        updated_at=to_arrow(rows.frame["updated_at"]),
        parents=(),
        rejected=(),
        rows=len(rows.frame),
        last_key=None,
        read_at=CHANGED,
        source=rows,
        document=DOCUMENT,
    )


COUNTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(COUNTS, st.data())
def test_picked_rows_render_as_they_did_among_all(counts: list[tuple[int, int]], data: st.DataObject) -> None:
    rows = orders(counts)
    texts = encode(DOCUMENT, rows).to_pylist()
    picked = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=8))
    taken = take_rows(rows, np.array(picked, np.int64))
    assert encode(DOCUMENT, taken).to_pylist() == [texts[position] for position in picked]


@settings(max_examples=100, deadline=None)
@given(COUNTS, st.data())
def test_keeping_rows_is_picking_them_in_order(counts: list[tuple[int, int]], data: st.DataObject) -> None:
    rows = orders(counts)
    kept = data.draw(st.lists(st.booleans(), min_size=len(counts), max_size=len(counts)))
    by_mask = encode(DOCUMENT, keep_rows(rows, pd.Series(kept))).to_pylist()
    assert by_mask == encode(DOCUMENT, take_rows(rows, np.flatnonzero(kept))).to_pylist()


def test_an_update_empties_what_a_record_no_longer_has() -> None:
    chunk = built(orders([(1, 0), (2, 1), (0, 0)]))
    bodies = [json.loads(json.loads(f'"{body}"')) for body in chunk.clearing_bodies(np.array([2, 0])).to_pylist()]
    changed = "2026-11-01T12:00:00+00:00"
    assert bodies == [
        {"id": "2", "url": "", "changed": changed, "lines": [], "promos": []},
        {"id": "0", "url": "", "changed": changed, "lines": [{"id": "line_id 0.0"}], "promos": []},
    ]


def test_the_hash_is_of_the_payload_that_empties_nothing() -> None:
    chunk = built(orders([(1, 0)]))
    assert "url" not in chunk.bodies[0].as_py()
    assert chunk.hashes == built(orders([(1, 0)])).hashes


def test_the_children_of_chosen_records() -> None:
    chunk = built(orders([(1, 0), (2, 1), (0, 0)]))
    assert chunk.child_ids("lines", "line_id", np.array([1, 2])) == [["line_id 1.0", "line_id 1.1"], []]
    assert chunk.child_ids("promos", "code", np.array([0, 1])) == [[], ["code 1.0"]]


@pytest.mark.parametrize("none", [np.array([], np.int64), np.flatnonzero(np.zeros(2, bool))])
def test_of_no_records_there_is_nothing(none: np.ndarray) -> None:
    chunk = built(orders([(1, 1), (2, 0)]))
    assert chunk.clearing_bodies(none).to_pylist() == []
    assert chunk.child_ids("lines", "line_id", none) == []


def test_methods_and_waiting_are_the_ledgers_choice_unless_the_rows_say() -> None:
    plain = built(orders([(1, 0), (1, 0)]))
    assert (plain.methods(), plain.if_held()) == ([None, None], [False, False])
    told = built(orders([(1, 0), (1, 0), (1, 0)], method=["PATCH", None, "PUT"], if_held=[True, None, False]))
    assert (told.methods(), told.if_held()) == (["PATCH", None, "PUT"], [True, False, False])
