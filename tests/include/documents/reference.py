"""The plain way to render a document, one dict per record: slow, obvious, and what the encoder must equal."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pandas as pd

from include.documents.encoder import Rows
from include.documents.spec import (
    Boolean,
    Children,
    Document,
    Field,
    Integer,
    Leaf,
    Money,
    Object,
    Text,
    TextList,
    Time,
)


def to_dicts(document: Document, rows: Rows, *, clear: bool = False) -> list[dict[str, Any]]:
    return [_object(document.fields, rows, i, clear) for i in range(len(rows.frame))]


def _object(fields: tuple[Field, ...], rows: Rows, i: int, clear: bool) -> dict[str, Any]:
    members = {field.name: _value(field, rows, i, clear) for field in fields}
    return {name: value for name, value in members.items() if value is not None}


def _value(field: Field, rows: Rows, i: int, clear: bool) -> Any:
    if isinstance(field, Object):
        return _object(field.fields, rows, i, clear) or None
    value = _children(field, rows, i, clear) if isinstance(field, Children) else _leaf(field, rows, i)
    return _empty(field) if value is None and clear else value


def _empty(field: Field) -> Any:
    match field:
        case Text(clears=True) | Time(clears=True):
            return ""
        case Money():
            return 0
        case TextList() | Children():
            return []
        case _:
            return None


def _children(field: Children, rows: Rows, i: int, clear: bool) -> list[dict[str, Any]] | None:
    child = rows.children[field.frame]
    return [_object(field.fields, child.rows, j, clear) for j in range(child.offsets[i], child.offsets[i + 1])] or None


def _leaf(field: Leaf, rows: Rows, i: int) -> Any:
    value = rows.frame[field.column].iloc[i]
    if isinstance(field, TextList):
        return None if value is None or value is pd.NA or len(value) == 0 else list(value)
    if pd.isna(value):
        return None
    match field:
        case Text():
            return value or None
        case Integer():
            return int(value)
        case Boolean():
            return bool(value)
        case Time():
            return value.tz_convert("UTC").strftime("%Y-%m-%dT%H:%M:%S+00:00")
        case Money():
            digits = rows.frame[field.digits].iloc[i]
            return Decimal(value).quantize(Decimal(1).scaleb(-int(digits)), rounding=ROUND_HALF_UP)
