"""Why a row yields no record: found by asking what it would take for it to yield one.

Nothing of the transforms' conditions is repeated here. The row is built again with single settings (or columns) the
other way round; a condition without which the row still yields nothing, although all others are lifted, is a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pandas as pd

from include.extract.slices import Extractor
from include.transform.entities import Entity
from include.transform.erasures import are_erased, read_erased
from include.transform.identity import contact_hashes, customer_ids, normalised
from include.transform.records import BuildContext, Built


@dataclass(frozen=True)
class Condition:
    """One thing that may leave a row out.

    Attributes:
        name: the setting, or the column.
        told: why it does, with {column} and {setting} placeholders; never a personal column.
        settings: values that lift it.
        columns: values of the row that lift it.
    """

    name: str
    told: str
    settings: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)


_DELETED: Final = Condition("is_deleted", "the shop marks it as deleted", columns={"is_deleted": False})
_EXCLUDED: Final = Condition(
    "exclude_emails", "its e-mail address fits one of the patterns of exclude_emails", {"exclude_emails": []}
)
_GUEST: Final = Condition("guests", "it is about a guest, and guests are left out (guests: skip)", {"guests": "full"})
_COUPONS: Final = Condition(
    "coupons", "its coupon has conditions that Mailchimp can't express (coupons: matching_only)", {"coupons": "all"}
)

CONDITIONS: Final[dict[str, tuple[Condition, ...]]] = {
    "products": (_DELETED,),
    "customers": (_DELETED, _EXCLUDED, _GUEST),
    "members": (
        _DELETED,
        _EXCLUDED,
        Condition(
            "opted_in",
            "the shop has neither an opt-in nor an opt-out of this person; nobody is subscribed without being asked",
            {"always_opt_in": True},
        ),
    ),
    "promo_rules": (_DELETED, _COUPONS),
    "promo_codes": (
        Condition("rule_is_deleted", "its coupon is deleted in the shop", columns={"rule_is_deleted": False}),
        _COUPONS,
        Condition(
            "max_codes_per_rule",
            "its coupon has more codes than are sent of one (max_codes_per_rule: {max_codes_per_rule})",
            {"max_codes_per_rule": None},
        ),
    ),
    "orders": (
        _DELETED,
        Condition(
            "order_statuses",
            "its status {status} is none of those that are sent ({sent_statuses})",
            {"order_statuses": None},
        ),
        _EXCLUDED,
        _GUEST,
    ),
    "carts": (
        Condition("is_open", "it isn't open any more: ordered, emptied or closed", columns={"is_open": True}),
        Condition(
            "cart_max_age_days",
            "nobody has touched it for longer than cart_max_age_days ({cart_max_age_days})",
            {"cart_max_age_days": 36_500},
        ),
        Condition(
            "abandoned_carts", "carts of such buyers are left out (abandoned_carts: {abandoned_carts})",
            {"abandoned_carts": "all"},
        ),
        _EXCLUDED,
        _GUEST,
        Condition(
            "cart_idle_minutes",
            "somebody may still be filling it: it isn't sent before nobody has touched it for {cart_idle_minutes} "
            "minutes",
            {"cart_idle_minutes": 0},
        ),
    ),
}  # fmt: skip

_NOTHING_LIFTS: Final = {
    "carts": "it has no lines, or no buyer whom a mail could reach",
    "members": "an opt-out under an address that Mailchimp refuses; nobody can be reached there anyway",
}


def yields(built: Built, key: str, *, held: bool) -> bool:
    """Tell whether a row comes to anything: a payload, a rejection, or a part of another row's record.

    Args:
        built: of the row.
        key: the shop's key.
        held: whether Mailchimp holds the record; some are sent only then.
    """
    kept = dict(zip(built.keys.to_pylist(), built.if_held(), strict=True))
    if key in kept:
        return held or not kept[key]
    return any(record.key == key for record in built.rejected) or any(key == one for one, _ in built.aliases)


def asked_to_be_erased(extractor: Extractor, entity: Entity, frame: pd.DataFrame) -> bool:
    """Tell whether the row is about a person whose request to be erased stands."""
    if not entity.of_people:
        return False
    people = frame
    if "email" not in frame or frame["email"].isna().all():
        people = extractor.read_ids("customers", frame["customer_id"], columns=("customer_id", "email"))
    record_ids = customer_ids(normalised(people["email"]))
    return bool(are_erased(people["customer_id"], record_ids, read_erased(extractor)).any())


def reasons(
    entity: Entity, extractor: Extractor, frame: pd.DataFrame, context: BuildContext, *, held: bool
) -> list[tuple[str, str]]:
    """Find why a row is left out.

    Args:
        entity: the entity.
        extractor: reads what the row refers to.
        frame: the row.
        context: the store's settings and profile.
        held: whether Mailchimp holds the record.

    Returns:
        (setting or column, sentence) of each reason.
    """
    if asked_to_be_erased(extractor, entity, frame):
        return [("", "the person it is about asked to be erased: nothing is sent of them any more")]
    if entity.name == "members" and context.archived_among(contact_hashes(frame["email"])):
        return [("", "the contact is archived at Mailchimp; to subscribe it would undo that, which is done there")]
    key = str(frame[entity.key].iloc[0])
    conditions = CONDITIONS[entity.name]

    def sent_without(lifted: Sequence[Condition]) -> bool:
        changed, asked = _lift(frame, context, lifted)
        return yields(entity.build(extractor, changed, asked), key, held=held)

    if not sent_without(conditions):
        return [("", _NOTHING_LIFTS.get(entity.name, "the shop's rows don't add up to a record"))]
    needed = [one for one in conditions if not sent_without([other for other in conditions if other is not one])]
    row: dict[str, Any] = {str(name): value for name, value in frame.iloc[0].items()}
    values = {**context.settings.model_dump(), **row, "sent_statuses": _sent_statuses(context)}
    return [(one.name, one.told.format_map(values)) for one in needed]


def _lift(frame: pd.DataFrame, context: BuildContext, lifted: Sequence[Condition]) -> tuple[pd.DataFrame, BuildContext]:
    columns: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for one in lifted:
        columns |= {name: value for name, value in one.columns.items() if name in frame}
        settings |= one.settings
    if "order_statuses" in settings:
        settings["order_statuses"] = list(context.profile.statuses)
    changed = frame.assign(**{name: pd.Series([value], dtype=frame[name].dtype) for name, value in columns.items()})
    return changed, replace(context, settings=context.settings.model_copy(update=settings))


def _sent_statuses(context: BuildContext) -> str:
    chosen = context.settings.order_statuses
    if chosen is None:
        chosen = [name for name, status in context.profile.statuses.items() if status.completed]
    return ", ".join(chosen)
