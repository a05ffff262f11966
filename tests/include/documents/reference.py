"""The plain way to render a document, one dict per record: slow, obvious, and what the encoder must equal."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pandas as pd

from include.documents.encoder import Rows
from include.documents.spec import Boolean, Children, Document, Field, Integer, Money, Object, Text, TextList, Time


def to_dicts(document: Document, rows: Rows) -> list[dict[str, Any]]:
    return [_object(document.fields, rows, i) for i in range(len(rows.frame))]


def _object(fields: tuple[Field, ...], rows: Rows, i: int) -> dict[str, Any]:
    members = {field.name: _value(field, rows, i) for field in fields}
    return {name: value for name, value in members.items() if value is not None}


def _value(field: Field, rows: Rows, i: int) -> Any:
    if isinstance(field, Object):
        return _object(field.fields, rows, i) or None
    if isinstance(field, Children):
        child = rows.children[field.frame]
        return [_object(field.fields, child.rows, j) for j in range(child.offsets[i], child.offsets[i + 1])] or None
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
