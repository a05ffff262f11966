"""What an update would change: field, value at Mailchimp, value in the shop; of people only that a field changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

HIDDEN: Final = "(not shown)"
_LONGEST = 60
_MOST_FIELDS = 20

# Fields whose values may be shown, by entity; None: all. What isn't listed may tell something about a person.
_SHOWN: Final[Mapping[str, frozenset[str] | None]] = {
    "products": None,
    "promo_rules": None,
    "promo_codes": frozenset({"enabled", "usage_count"}),
    "orders": frozenset(
        "currency_code order_total tax_total shipping_total discount_total financial_status fulfillment_status "
        "processed_at_foreign updated_at_foreign cancelled_at_foreign lines promos".split()
    ),
    "carts": frozenset("currency_code order_total tax_total lines".split()),
}
# Mailchimp sets these on its own (attribution), so they never tell a difference.
_ATTRIBUTED: Final = frozenset({"campaign_id", "outreach"})


@dataclass(frozen=True)
class Difference:
    """One field of a record that an update changes."""

    field: str
    at_mailchimp: str
    in_shop: str

    def __str__(self) -> str:
        if HIDDEN in {self.at_mailchimp, self.in_shop}:
            return f"{self.field} changed"
        return f"{self.field}: {self.at_mailchimp} → {self.in_shop}"


def names_people(entity: str) -> bool:
    """Tell whether the ids of an entity's records stand for people."""
    return entity not in _SHOWN


def differences(entity: str, body: Mapping[str, Any], held: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Compare what is sent of a record with what Mailchimp has of it.

    Args:
        entity: the entity.
        body: the payload.
        held: the record as Mailchimp shows it.

    Returns:
        The fields that differ, the first ones of many.
    """
    shown = _SHOWN.get(entity, frozenset())
    known = dict(_flat(held))
    found = []
    for name, value in _flat(body):
        before = known.get(name)
        top = name.partition(".")[0].partition("/")[0]
        if top in _ATTRIBUTED or _comparable(value) == _comparable(before):
            continue
        visible = shown is None or top in shown
        found.append(
            Difference(name, _text(before), _text(value)) if visible else Difference(name, HIDDEN, HIDDEN),
        )
    return tuple(found[:_MOST_FIELDS])


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield single values by path: "address.city", "lines/7.quantity"."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        for position, inner in enumerate(value):
            yield from _flat(inner, f"{name}/{inner.get('id', inner.get('code', position))}")
    else:
        yield name, value


def _comparable(value: Any) -> Any:
    """Return what two equal values have in common: to Mailchimp an empty value and none at all are the same."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return float(value) or None
    if isinstance(value, list):
        return sorted(map(str, value)) or None
    if isinstance(value, str) and value[4:5] == "-" and "T" in value[:11]:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return value
        return moment.replace(microsecond=0) if moment.tzinfo else moment.replace(tzinfo=UTC, microsecond=0)
    return value or None


def _text(value: Any) -> str:
    text = "—" if value in (None, "", []) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
