"""Rows of extracts for the transform tests: name only the columns that matter, the rest is null."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa

from include.config.stores import StoreSettings
from include.documents.encoder import encode
from include.documents.spec import Document
from include.extract.contract import CONTRACT
from include.shops.profile import OrderStatus, Profile
from include.transform.records import BuildContext, Prepared

CHANGED = datetime(2026, 11, 1, 12, tzinfo=UTC)

PROFILE = Profile(
    name="test",
    timezone=None,
    statuses={
        "open": OrderStatus("pending", None, completed=False),
        "paid": OrderStatus("paid", None, completed=True),
        "shipped": OrderStatus("paid", "shipped", completed=True),
        "refunded": OrderStatus("refunded", None, completed=True),
        "cancelled": OrderStatus("cancelled", None, completed=True),
    },
    sql={},
)


def context(**settings: Any) -> BuildContext:
    store = StoreSettings(key="demo", store_id="demo-shop", list_id="a1b2c3d4e5", profile="test", **settings)
    return BuildContext(store, PROFILE, "EUR")


def extract(name: str, *rows: dict[str, Any]) -> pd.DataFrame:
    """Return a frame of an extract as the extractor would, from dicts; amounts may be written as text."""
    unknown = {column for row in rows for column in row} - set(CONTRACT[name].by_name)
    assert not unknown, f"{name} has no column {unknown}"
    schema = CONTRACT[name].arrow_schema()
    data = {
        field.name: pa.array([_value(field.type, row.get(field.name)) for row in rows], field.type) for field in schema
    }
    return pa.table(data, schema=schema).to_pandas(types_mapper=pd.ArrowDtype)


def _value(kind: pa.DataType, value: Any) -> Any:
    return Decimal(value) if pa.types.is_decimal(kind) and value is not None else value


def documents(document: Document, prepared: Prepared) -> list[dict[str, Any]]:
    """Encode prepared rows and parse them again, amounts as exact decimals."""
    return [json.loads(text, parse_float=Decimal) for text in encode(document, prepared.rows).to_pylist()]
