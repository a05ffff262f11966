"""Decides what an opt-out at Mailchimp means for the shop's customers. Pure: nothing is read or written.

| at Mailchimp | the shop says yes | says nothing | says no |
|---|---|---|---|
| unsubscribed, cleaned | opted out, unless the yes is newer | opted out | stays |
| archived, and opted out before | opted out, unless the yes is newer than the opt-out | opted out | stays |
| archived | the same, unless the store keeps them | stays: archiving is housekeeping | stays |
| opted out by a push of ours | stays: the shop said so, and may have changed its mind since | stays | stays |
| anything else | stays: nobody is opted in from here (with `two_way_sync`: `opt_ins`) | stays | stays |

With `two_way_sync`, a yes that is newer has to stand by the rules of `include.transform.two_way`, or is opted out too.

Mailchimp's times are whole seconds, and the time of a contact's last change of any kind: an unsubscribe may look newer
than it is, never older, so that in doubt it counts; unless what changed the contact was ours (`contested`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from include.shops.write_back import ConsentChange
from include.state.consent import Conflict
from include.state.members import StatusChange
from include.transform.two_way import Priority, second, weigh_newer

NEWER_OPT_IN: Final = "an opt-in that is newer than the opt-out counts"
HIDDEN: Final = "a write of ours hides when the opt-out was"
KEPT: Final = "the shop keeps its opt-in"
GIVEN_UP: Final = "opted out in the shop"


@dataclass(frozen=True)
class ShopConsent:
    """What the shop says of a customer.

    Attributes:
        customer_id: the shop's.
        member_hash: the contact.
        opted_in: the answer; None: never asked.
        opted_in_at: of a yes, when it was given, if the shop knows.
        opted_out_at: of a no, when it was given, or at the latest; None: nobody knows.
        is_live: false for deleted accounts, and for people who asked to be erased.
    """

    customer_id: str
    member_hash: str
    opted_in: bool | None
    opted_in_at: datetime | None
    opted_out_at: datetime | None = None
    is_live: bool = True


@dataclass
class Decision:
    """What is written to the shop, to how many customers by event, and what isn't, and why."""

    changes: list[ConsentChange] = field(default_factory=list)
    customers: dict[int, int] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    customer_of: dict[str, str] = field(default_factory=dict)


def opting_out(
    standing: Iterable[StatusChange], on_remote_archive: Literal["unsubscribe", "keep"]
) -> dict[str, StatusChange]:
    """Pick what is an opt-out, by contact.

    Args:
        standing: by what each contact is opted out or archived, at most one per contact.
        on_remote_archive: the store's setting.
    """
    kinds = {"unsubscribed", "cleaned"} | ({"archived"} if on_remote_archive == "unsubscribe" else set())
    return {one.member_hash: one for one in standing if one.to_status in kinds}


def decide(
    opt_outs: Mapping[str, StatusChange],
    customers: Iterable[ShopConsent],
    overruled: Mapping[str, str] | None = None,
    priority: Priority | None = None,
) -> Decision:
    """Decide what to write to the shop.

    Args:
        opt_outs: by contact.
        customers: of these contacts, each once.
        overruled: contacts who unsubscribed, but not after the shop's opt-in as far as is known, with the rule for it.
        priority: of a store with two-way sync: which side counts in doubt.
    """
    decision = Decision()
    for customer in customers:
        change = opt_outs[customer.member_hash]
        unasked = customer.opted_in is None and change.to_status == "archived"
        if customer.opted_in is False or unasked:
            continue
        opted_in_at = customer.opted_in_at if customer.opted_in else None
        newer = opted_in_at is not None and second(opted_in_at) > change.happened_at
        rule = NEWER_OPT_IN if newer else (overruled or {}).get(change.member_hash)
        if opted_in_at is not None and rule and (newer or change.to_status == "unsubscribed"):
            stands, rule = _stands(opted_in_at, change.recorded_at, rule, priority)
            outcome = KEPT if stands else GIVEN_UP
            decision.conflicts.append(conflict(customer, change.to_status, change.happened_at, rule, outcome))
            if stands:
                continue
        recorded_at = max(change.happened_at, opted_in_at or change.happened_at)
        decision.changes.append(ConsentChange(customer.customer_id, recorded_at, change.to_status))
        decision.customers[change.event_id] = decision.customers.get(change.event_id, 0) + 1
        decision.customer_of.setdefault(change.member_hash, customer.customer_id)
    return decision


def _stands(opted_in_at: datetime, known_at: datetime, rule: str, priority: Priority | None) -> tuple[bool, str]:
    """Tell whether the shop's opt-in stands against an opt-out that `rule` says isn't known to be newer, and why."""
    if priority is None:
        return True, rule
    if rule == HIDDEN:
        return priority == "local_wins", rule
    return weigh_newer(opted_in_at, known_at, has_priority=priority == "local_wins")


def conflict(customer: ShopConsent, status: str, happened_at: datetime, rule: str, outcome: str) -> Conflict:
    """Describe a disagreement about a customer.

    Args:
        customer: what the shop says.
        status: what Mailchimp says.
        happened_at: since when.
        rule: what decides.
        outcome: how.
    """
    return Conflict(
        customer.member_hash,
        customer.customer_id,
        customer.opted_in,
        customer.opted_in_at if customer.opted_in else customer.opted_out_at,
        status,
        happened_at,
        rule,
        outcome,
    )
