"""Groups ("interests") of a contact: what the customer chose in the shop, or what everybody gets who opts in.

A group that is not active is never offered, so it is neither chosen nor taken away. API reference: "Add or update list
member", ``interests``: groups that a document doesn't name stay as they are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from include.config.stores import StoreSettings
from include.documents.spec import Boolean, Object
from include.transform.audience import Audience, Group
from include.transform.rules import ErrorClass, Rule

_FLAG = pd.ArrowDtype(pa.bool_())


@dataclass(frozen=True)
class Choices:
    """The groups of people: the columns that the document reads, and how many each person chose in the shop."""

    columns: dict[str, pd.Series]
    count: pd.Series


def document(audience: Audience | None) -> Object:
    """Declare the groups of a member document; it reads the columns of `chosen`."""
    return Object("interests", tuple(Boolean(group.group_id, _column(group)) for group in _active(audience)))


def chosen(
    customer_ids: pd.Series, customer_groups: pd.DataFrame, settings: StoreSettings, audience: Audience | None
) -> Choices:
    """Derive the groups of people who opted in.

    Args:
        customer_ids: the shop's ids of the people.
        customer_groups: the extract of that name: groups by name or by Mailchimp's id, whatever their case.
        settings: ``selection``.
        audience: whose groups count.

    Returns:
        True for chosen groups, then false for all others; where a customer chose none, true for those that are
        subscribed by default and nothing of the others.
    """
    asked = customer_ids.isin(customer_groups["customer_id"])
    names = customer_groups["group_name"].str.strip().str.lower()
    choices = {}
    for group in _active(audience):
        choosing = names.isin(_names(group, audience))
        choices[group] = customer_ids.isin(customer_groups.loc[choosing, "customer_id"])
    count = sum(choices.values(), start=pd.Series(0, customer_ids.index))
    by_default = _by_default(settings, audience)
    columns = {}
    for group, choice in choices.items():
        flag = choice.astype(_FLAG).where(count > 0)
        columns[_column(group)] = flag.mask(~asked, True) if group in by_default else flag
    return Choices(columns, count)


def rules(count: pd.Series, settings: StoreSettings) -> list[Rule]:
    """Return the rule for how many groups a contact may choose."""
    return [
        Rule(
            (count > 1) & (settings.selection == "one"),
            ErrorClass.INVALID_VALUE,
            "interests",
            "More than one group chosen",
            "the store's setting selection allows one group; leave the customer one in the shop, or set it to many",
        )
    ]


def problems(settings: StoreSettings, audience: Audience | None) -> list[str]:
    """Tell what of the audience's groups can't work as it is, as sentences for whoever runs the store."""
    found = [
        f"several groups of the audience are called {name}; the shop has to choose them by their ids"
        for name in _ambiguous(audience)
    ]
    wanted = [group for group in _active(audience) if group.subscribe_by_default]
    if settings.selection == "one" and len(wanted) > 1:
        found.append(
            f"{len(wanted)} groups are subscribed by default, but the setting selection allows one; "
            f"only {wanted[0].name} is"
        )
    return found


def _active(audience: Audience | None) -> tuple[Group, ...]:
    return tuple(group for group in audience.groups if group.is_active) if audience else ()


def _by_default(settings: StoreSettings, audience: Audience | None) -> tuple[Group, ...]:
    wanted = tuple(group for group in _active(audience) if group.subscribe_by_default)
    return wanted[:1] if settings.selection == "one" else wanted


def _names(group: Group, audience: Audience | None) -> list[str]:
    """Return what a group may be called: its id, its name unless another group has it too, and names it once had."""
    name = _folded(group)
    others = [other for other in (audience.groups if audience else ()) if other.group_id != group.group_id]
    taken = {_fold(known) for other in others for known in (other.name, *other.former_names)}
    former = [former for former in map(_fold, group.former_names) if former not in taken]
    return [group.group_id.lower()] + ([] if name in _ambiguous(audience) else [name]) + former


def _ambiguous(audience: Audience | None) -> list[str]:
    return [name for name, count in Counter(map(_folded, _active(audience))).items() if count > 1]


def _folded(group: Group) -> str:
    return _fold(group.name)


def _fold(name: str) -> str:
    return name.strip().lower()


def _column(group: Group) -> str:
    return f"interests.{group.group_id}"
