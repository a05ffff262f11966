"""What a payload and the record that Mailchimp returns of it are compared by.

Both are brought into one form, field by field as the entity's document declares them: amounts as exact numbers, times
in UTC, what is inside a record by its id, in whatever order; an empty value and none at all are the same. Not compared
is what Mailchimp decides on its own (attribution to campaigns), what the record's id stands for already (the address),
and consent: nothing here may lead to somebody being subscribed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from include.documents.spec import (
    Boolean,
    Children,
    Document,
    Field,
    Integer,
    Money,
    Object,
    Text,
    TextList,
    Time,
)
from include.transform import consent

Canonical = dict[str, Any]

MISSING: Final = "missing"
SURPLUS: Final = "surplus"

_MEMBER: Final = "member"
_MERGE_FIELDS: Final = "merge_fields"
_LEFT_OUT: Final = frozenset(
    {consent.FIELD.name, *(field.name for field in consent.MEMBER_FIELDS), "email_address", "campaign_id"}
)
_MOST_FIELDS: Final = 20
_DECIMALS: Final = 6  # more than any currency or percentage has


def compared(document: Document) -> Document:
    """Return what of a document is compared; of contacts that is the merge fields, the rest is theirs to change."""
    fields = document.fields
    if document.name == _MEMBER:
        fields = tuple(field for field in fields if field.name == _MERGE_FIELDS)
    return replace(document, fields=_without(fields))


def _without(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    kept = (field for field in fields if field.name not in _LEFT_OUT)
    return tuple(
        replace(field, fields=_without(field.fields)) if isinstance(field, Object | Children) else field
        for field in kept
    )


def canonical(document: Document, record: Mapping[str, Any]) -> Canonical:
    """Bring a payload, or a record as Mailchimp shows it, into the form that is compared.

    Args:
        document: as `compared` returns it.
        record: parsed JSON.

    Returns:
        The values that aren't empty; equal for equal contents.
    """
    return _object(document.fields, record)


def checksum(content: Canonical) -> bytes:
    """Return 16 bytes that are equal for equal contents."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def differences(document: Document, sent: Canonical, held: Canonical, *, clears: bool) -> list[str]:
    """Name the fields in which a record differs from what would be sent, and that sending it would mend.

    Args:
        document: as `compared` returns it.
        sent: the payload's content.
        held: that of the record at Mailchimp.
        clears: whether an update of the entity spells out emptied values.

    Returns:
        Names such as ``order_total``, ``lines/7.price``, ``lines/7 missing``, ``lines/9 surplus``; the first ones of
        many. Never values.
    """
    return [name for name, _ in zip(_differences(document.fields, sent, held, clears), range(_MOST_FIELDS))]  # noqa: B905


def is_incomplete(fields: Sequence[str]) -> bool:
    """Tell whether a difference is about something inside the record that is missing or too many."""
    return any(name.endswith((f" {MISSING}", f" {SURPLUS}")) for name in fields)


def _differences(fields: Sequence[Field], sent: Canonical, held: Canonical, clears: bool) -> Iterator[str]:
    for field in fields:
        ours, theirs = sent.get(field.name), held.get(field.name)
        if ours == theirs:
            continue
        if isinstance(field, Object):
            for inner in _differences(field.fields, ours or {}, theirs or {}, clears):
                yield f"{field.name}.{inner}"
        elif isinstance(field, Children):
            yield from _children(field, ours or {}, theirs or {}, clears)
        elif ours is not None or (clears and _clearable(field)):
            yield field.name


def _children(field: Children, sent: Canonical, held: Canonical, clears: bool) -> Iterator[str]:
    for key in sorted(sent.keys() | held.keys()):
        name = f"{field.name}/{key}"
        if key not in held:
            yield f"{name} {MISSING}"
        elif key not in sent:
            yield f"{name} {SURPLUS}"
        else:
            for inner in _differences(field.fields, sent[key], held[key], clears):
                yield f"{name}.{inner}"


def _clearable(field: Field) -> bool:
    match field:
        case Text(clears=clears) | Time(clears=clears):
            return clears
        case _:
            return isinstance(field, Money | TextList)


def _object(fields: Sequence[Field], record: Mapping[str, Any], *, loose: bool = False) -> Canonical:
    values = ((field.name, _value(field, record.get(field.name), loose)) for field in fields)
    return {name: value for name, value in values if value not in (None, {}, [])}


def _value(field: Field, value: Any, loose: bool) -> Any:
    if value is None or value == "":
        return None
    match field:
        case Object():
            inside = loose or field.name == _MERGE_FIELDS
            return _object(field.fields, value, loose=inside) if isinstance(value, Mapping) else str(value)
        case Children():
            return _listed(field, value)
        case Integer() | Money():
            return _number(value)
        case Boolean():
            return bool(value)
        case Time():
            return _instant(value)
        case TextList():
            return sorted(map(str, value))
        case _:
            # Mailchimp turns a merge field of type number into one.
            return (_number(value) if loose else None) or str(value).strip() or None


def _listed(field: Children, children: Sequence[Mapping[str, Any]]) -> Canonical:
    key = field.fields[0].name
    found: Canonical = {}
    for child in children:
        name = str(child.get(key, ""))
        while name in found:
            name += "+"
        found[name] = _object(field.fields, child)
    return found


def _number(value: Any) -> str | None:
    """Write a number, without the binary tail that it may come back with; nothing is as good as 0."""
    try:
        number = Decimal(str(value).strip())
        rounded = round(number, _DECIMALS)
    except InvalidOperation:
        return str(value)
    return format(rounded.normalize(), "f") if rounded else None


def _instant(value: Any) -> str:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="seconds")
