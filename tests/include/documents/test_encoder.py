"""The columnar encoder equals the plain one, whatever the text, and writes amounts and times exactly."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.documents.encoder import ChildRows, Rows, encode, hash_texts
from include.documents.spec import Boolean, Children, Document, Integer, Money, Object, Text, TextList, Time
from tests.include.documents.reference import to_dicts

LINE = (Text("id", "line_id"), Integer("quantity", "quantity"), TextList("tags", "tags"))
DOCUMENT = Document(
    "everything",
    (
        Text("note", "note"),
        Text("id", "id"),
        Money("total", "total", digits="digits"),
        Time("at", "at"),
        Boolean("flag", "flag"),
        Object("nested", (Text("note", "note"), Object("deeper", (Integer("quantity", "quantity"),)))),
        Object("fixed", (Text("note", "note", clears=False), Time("until", "at", clears=True))),
        Children("lines", "lines", LINE),
    ),
)
TYPES = {
    "note": pa.string(),
    "id": pa.string(),
    "total": pa.decimal128(24, 8),
    "digits": pa.int64(),
    "at": pa.timestamp("us", "UTC"),
    "flag": pa.bool_(),
    "quantity": pa.int64(),
}
LINE_TYPES = {"line_id": pa.string(), "quantity": pa.int64(), "tags": pa.list_(pa.string())}


def frame(types: dict[str, pa.DataType], records: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            name: pd.Series(pd.arrays.ArrowExtensionArray(pa.array([record.get(name) for record in records], kind)))
            for name, kind in types.items()
        }
    )


def rows(records: list[dict[str, Any]]) -> Rows:
    lines = [line for record in records for line in record.get("lines", [])]
    offsets = np.cumsum([0, *(len(record.get("lines", [])) for record in records)]).astype(np.int32)
    return Rows(frame(TYPES, records), {"lines": ChildRows(Rows(frame(LINE_TYPES, lines)), offsets)})


HOSTILE = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\\n\r\t\x00\x1f/\u2028😀,{}[]'), max_size=8
)
INSTANT = st.integers(-(2**31), 2**33).map(lambda seconds: datetime.fromtimestamp(seconds + 0.25, UTC))
AMOUNT = st.decimals(-(10**9), 10**9, places=8, allow_nan=False)
LINES = st.fixed_dictionaries(
    {
        "line_id": HOSTILE,
        "quantity": st.none() | st.integers(-(2**62), 2**62),
        "tags": st.none() | st.lists(HOSTILE, max_size=3),
    }
)
RECORDS = st.fixed_dictionaries(
    {
        "note": st.none() | HOSTILE,
        "id": HOSTILE,
        "total": st.none() | AMOUNT,
        "digits": st.sampled_from([0, 2, 3]),
        "at": st.none() | INSTANT,
        "flag": st.none() | st.booleans(),
        "quantity": st.none() | st.integers(-(2**62), 2**62),
        "lines": st.lists(LINES, max_size=3),
    }
)


def parsed(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


@settings(max_examples=150, deadline=None)
@given(st.lists(RECORDS, max_size=6))
def test_equals_the_plain_encoder(records: list[dict[str, Any]]) -> None:
    data = rows(records)
    expected = to_dicts(DOCUMENT, data)
    assert [parsed(text) for text in encode(DOCUMENT, data).to_pylist()] == expected


@settings(max_examples=150, deadline=None)
@given(st.lists(RECORDS, max_size=6))
def test_embedded_text_stands_in_a_json_string(records: list[dict[str, Any]]) -> None:
    data = rows(records)
    plain = encode(DOCUMENT, data).to_pylist()
    assert [json.loads(f'"{text}"') for text in encode(DOCUMENT, data, embedded=True).to_pylist()] == plain


@settings(max_examples=150, deadline=None)
@given(st.lists(RECORDS, max_size=6), st.booleans())
def test_an_emptying_document_equals_the_plain_encoders(records: list[dict[str, Any]], embedded: bool) -> None:
    data = rows(records)
    texts = encode(DOCUMENT, data, clear=True, embedded=embedded).to_pylist()
    plain = [json.loads(f'"{text}"') for text in texts] if embedded else texts
    assert [parsed(text) for text in plain] == to_dicts(DOCUMENT, data, clear=True)


def test_what_has_an_empty_form_is_emptied_and_the_rest_left_out() -> None:
    [text] = encode(DOCUMENT, rows([{"note": "", "lines": [{"line_id": "1"}]}, {"id": "2"}]), clear=True).to_pylist()[
        :1
    ]
    assert parsed(text) == {
        "note": "",
        "id": "",
        "total": 0,
        "nested": {"note": ""},
        "fixed": {"until": ""},
        "lines": [{"id": "1", "tags": []}],
    }


def test_an_emptying_document_says_the_same_of_what_is_there() -> None:
    record = {"note": "n", "id": "1", "total": Decimal("1.50"), "digits": 2, "at": datetime(2026, 11, 21, tzinfo=UTC)}
    record |= {"flag": False, "quantity": 3, "lines": [{"line_id": "1", "quantity": 1, "tags": ["new"]}]}
    assert encode(DOCUMENT, rows([record]), clear=True) == encode(DOCUMENT, rows([record]))


def test_a_sliced_column_is_read_from_its_offset() -> None:
    records = [{"id": f'record "{i}"', "digits": 2, "total": Decimal(i)} for i in range(5)]
    whole = rows(records)
    part = Rows(whole.frame.iloc[2:4], {"lines": ChildRows(whole.children["lines"].rows, np.zeros(3, np.int32))})
    assert [parsed(text)["id"] for text in encode(DOCUMENT, part).to_pylist()] == ['record "2"', 'record "3"']


@pytest.mark.parametrize(
    ("amount", "digits", "text"),
    [
        ("12.5", 2, "12.50"),
        ("59.2999999", 2, "59.30"),
        ("0.005", 2, "0.01"),
        ("-0.005", 2, "-0.01"),
        ("0", 2, "0.00"),
        ("0", 3, "0.000"),
        ("1200", 0, "1200"),
        ("0.00000001", 3, "0.000"),
        ("9999999999999.99", 2, "9999999999999.99"),
    ],
)
def test_money_has_the_currencys_decimals(amount: str, digits: int, text: str) -> None:
    document = Document("price", (Money("price", "total", digits="digits"),))
    encoded = encode(document, rows([{"total": Decimal(amount), "digits": digits}])).to_pylist()
    assert encoded == [f'{{"price":{text}}}']


def test_currencies_may_differ_from_row_to_row() -> None:
    document = Document("price", (Money("price", "total", digits="digits"),))
    records = [{"total": Decimal("7"), "digits": digits} for digits in (0, 2, 3, 0)]
    assert encode(document, rows(records)).to_pylist() == [
        '{"price":7}',
        '{"price":7.00}',
        '{"price":7.000}',
        '{"price":7}',
    ]


def test_times_are_written_in_utc_with_offset() -> None:
    document = Document("time", (Time("at", "at"),))
    local = datetime(2026, 11, 21, 1, 30, 15, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert encode(document, rows([{"at": local}])).to_pylist() == ['{"at":"2026-11-20T23:30:15+00:00"}']


def test_absent_is_left_out_never_null_or_empty() -> None:
    assert encode(DOCUMENT, rows([{"id": "1", "note": "", "lines": []}])).to_pylist() == ['{"id":"1"}']
    assert encode(DOCUMENT, rows([{"id": ""}])).to_pylist() == ["{}"]


def test_no_rows_give_no_texts() -> None:
    assert encode(DOCUMENT, rows([])).to_pylist() == []
    assert hash_texts(encode(DOCUMENT, rows([]))) == []


def test_a_column_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        encode(Document("broken", (Text("id", "nowhere"),)), rows([{"id": "1"}]))


def test_hashes_tell_texts_apart() -> None:
    texts = encode(DOCUMENT, rows([{"id": "1"}, {"id": "2"}, {"id": "1"}]))
    first, second, third = hash_texts(texts)
    assert len(first) == 16
    assert first == third != second
    assert hash_texts(texts.slice(1)) == [second, third]
