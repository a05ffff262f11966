"""What the shop yields of one record right now: its row, and what the transforms make of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pandas as pd

from include.explain.explanation import Step
from include.explain.reasons import reasons, yields
from include.extract.contract import CONTRACT, Kind
from include.extract.slices import Extractor
from include.transform import consent
from include.transform.entities import Entity
from include.transform.identity import contact_hashes
from include.transform.records import BuildContext
from include.transform.rules import RejectedRecord

#: Extracts whose rows are no people's, so that all of their columns may be shown.
_IMPERSONAL: Final = frozenset({"products", "variants", "images", "promo_rules"})
_SHOWN_TEXTS: Final = frozenset({"status", "currency_code", "opt_in_source", "language", "type"})
#: What belongs to a record, and is shown with its row.
_INSIDE: Final = ("variants", "images", "order_lines", "order_promos", "cart_lines", "customer_groups")
_SHOWN_FIELDS: Final[Mapping[str, frozenset[str] | None]] = {
    "products": None,
    "promo_rules": None,
    "promo_codes": frozenset({"id", "enabled", "usage_count"}),
    "orders": frozenset(
        "id currency_code order_total tax_total shipping_total discount_total financial_status fulfillment_status "
        "processed_at_foreign updated_at_foreign cancelled_at_foreign lines".split()
    ),
    "carts": frozenset("id currency_code order_total tax_total lines".split()),
    "customers": frozenset({"id", consent.FIELD.name}),
    "members": frozenset({one.name for one in consent.MEMBER_FIELDS} | {"timestamp_opt", "interests"}),
}


@dataclass(frozen=True)
class Parent:
    """A record that another one refers to: by its id at Mailchimp, and by its key in the shop where that differs."""

    entity: str
    record_id: str
    key: str


@dataclass(frozen=True)
class ShopRecord:
    """A row of the shop, and what becomes of it. Of the last five, what doesn't apply is empty.

    Attributes:
        key: the shop's key.
        updated_at: when it changed.
        row: the step that shows it.
        record_id: the id at Mailchimp of what it yields.
        payload: what is sent.
        payload_hash: what the ledger compares.
        rejected: why it can't be sent, by our own rules.
        left_out: (setting or column, sentence) of each reason why it isn't sent.
        parents: what it refers to.
        contact: the hash of the address, of a row that is about a person.
    """

    key: str
    updated_at: datetime | None
    row: Step
    record_id: str | None = None
    payload: dict[str, Any] | None = None
    payload_hash: bytes | None = None
    rejected: RejectedRecord | None = None
    left_out: list[tuple[str, str]] = field(default_factory=list)
    parents: list[Parent] = field(default_factory=list)
    contact: str | None = None


def read_record(
    extractor: Extractor, entity: Entity, key: str, context: BuildContext, *, held: bool
) -> ShopRecord | None:
    """Read a row and build it.

    Args:
        extractor: reads the shop.
        entity: the entity.
        key: the shop's key.
        context: the store's settings, profile and audience.
        held: whether Mailchimp holds the record; some are sent only then.

    Returns:
        None where the shop has no such row.
    """
    if key not in extractor.existing(entity.extract, [key]):
        return None
    frame = extractor.read_ids(entity.extract, [key])
    built = entity.build(extractor, frame, context)
    updated_at = frame["updated_at"].iloc[0]
    changed = None if pd.isna(updated_at) else updated_at.to_pydatetime()
    base = ShopRecord(key, changed, _row_step(extractor, entity, frame), contact=_contact(entity, frame))
    if not yields(built, key, held=held):
        return replace(base, left_out=reasons(entity, extractor, frame, context, held=held))
    for record in built.rejected:
        if record.key == key:
            return replace(base, record_id=record.record_id, rejected=record)
    if key not in built.keys.to_pylist():  # another row of the same read speaks for it
        return replace(base, record_id=dict(built.aliases).get(key))
    index = built.keys.to_pylist().index(key)
    parents = [
        Parent(links.entity, parent_id, parent_key)
        for links in built.parents
        for position, parent_id, parent_key in zip(
            links.positions.tolist(),
            links.parent_ids.to_pylist(),
            (links.parent_ids if links.parent_keys is None else links.parent_keys).to_pylist(),
            strict=True,
        )
        if position == index and parent_id is not None
    ]
    return replace(
        base,
        record_id=built.record_ids[index].as_py(),
        payload=json.loads(json.loads(f'"{built.bodies[index].as_py()}"')),
        payload_hash=built.hashes[index],
        parents=list(dict.fromkeys(parents)),
    )


def payload_step(entity: Entity, record: ShopRecord) -> Step:
    """Show what is sent of a record; only for one that has a payload."""
    payload = record.payload or {}
    return Step("payload", f"{len(payload)} fields are sent", payload, _SHOWN_FIELDS[entity.name])


def _contact(entity: Entity, frame: pd.DataFrame) -> str | None:
    if entity.extract != "customers":
        return None
    return next(iter(contact_hashes(frame["email"])), None)


def _row_step(extractor: Extractor, entity: Entity, frame: pd.DataFrame) -> Step:
    row = {str(name): _plain(value) for name, value in frame.iloc[0].items()}
    related = entity.read_related(extractor, frame)
    shown = _shown_columns(entity.extract)
    for name in (one for one in _INSIDE if one in related):
        visible = _shown_columns(name)
        row[name] = [
            {column: _plain(value) for column, value in child.items() if column in visible}
            for child in related[name].to_dict("records")
        ]
        shown |= {name}
    return Step("shop row", f"{entity.extract}.sql yields a row of {entity.key} {row[entity.key]}", row, shown)


def _shown_columns(extract: str) -> frozenset[str]:
    """Return the columns that tell nothing about a person: no texts but a few, and none beyond the contract."""
    return frozenset(
        column.name
        for column in CONTRACT[extract].columns
        if extract in _IMPERSONAL or column.kind is not Kind.TEXT or column.name in _SHOWN_TEXTS
    )


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(one) for one in value]
    if value is None or pd.isna(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return value.item() if isinstance(value, np.generic) else value
