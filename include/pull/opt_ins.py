"""Decides, for stores with two-way sync, what a subscription at Mailchimp means for the shop's customers. Pure.

| the shop says | the contact's own opt-in at Mailchimp |
|---|---|
| yes | is no news |
| nothing | counts |
| no | counts if it lifts the opt-out (`include.transform.two_way`); else Mailchimp is told of the opt-out again |

A subscription without the time of an opt-in proves nothing. A shop that doesn't tell when somebody opted out
(`opted_out_at`) may have been told no again whenever the customer changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from include.pull.consent import Decision, ShopConsent, conflict
from include.shops.write_back import ConsentChange
from include.state.opt_ins import RemoteOptIn
from include.transform.two_way import OPT_OUT_COUNTS, Priority, weigh

NO_PROOF: Final = "Mailchimp doesn't know when the contact opted in"
KEPT: Final = "the shop keeps its opt-out, and Mailchimp is told of it"
TAKEN: Final = "opted in in the shop"


def decide_opt_ins(
    opt_ins: Mapping[str, RemoteOptIn], customers: Iterable[ShopConsent], priority: Priority
) -> Decision:
    """Decide what to write to the shop.

    Args:
        opt_ins: by contact.
        customers: of these contacts, each once.
        priority: which side counts in doubt.
    """
    decision = Decision()
    for customer in customers:
        remote = opt_ins[customer.member_hash]
        if not customer.is_live:
            continue
        if customer.opted_in or (customer.opted_in is None and remote.opted_in_at is None):
            continue
        counts = True
        if customer.opted_in is False:
            counts, rule = _weigh(remote, customer, priority)
            outcome = TAKEN if counts else KEPT
            moment = remote.opted_in_at or remote.happened_at
            decision.conflicts.append(conflict(customer, "subscribed", moment, rule, outcome))
        if counts and remote.opted_in_at is not None:
            decision.changes.append(ConsentChange(customer.customer_id, remote.opted_in_at, "subscribed"))
            decision.customers[remote.event_id] = decision.customers.get(remote.event_id, 0) + 1
    return decision


def _weigh(remote: RemoteOptIn, customer: ShopConsent, priority: Priority) -> tuple[bool, str]:
    """Weigh a contact's opt-in against the shop's opt-out: whether it counts, and by which rule."""
    if remote.opted_in_at is None:
        return False, NO_PROOF
    if customer.opted_out_at is None:
        return False, OPT_OUT_COUNTS
    has_priority = priority == "remote_wins"
    return weigh(remote.opted_in_at, customer.opted_out_at, remote.told_at, has_priority=has_priority)
