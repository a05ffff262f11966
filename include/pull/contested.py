"""Finds opt-outs that look newer than they are, because a write of ours came after them.

Mailchimp tells when a contact changed, not when it opted out, and a push changes it too: who opted out, then opted in
at the shop, and then got a new name by a push, seems to have opted out last. When that matters Mailchimp is asked who
unsubscribed since the opt-in ("List members info", `unsubscribed_since`). What can't be known stays as the shop says,
and is told as a conflict; at Mailchimp the contact is unsubscribed all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from include.mailchimp.client import MailchimpClient
from include.mailchimp.opt_outs import left_since
from include.pull.consent import HIDDEN, NEWER_OPT_IN, ShopConsent
from include.state.consent import touched_by_us
from include.state.database import StateDatabase
from include.state.members import Mirror
from include.transform.members import opt_out_hash
from include.transform.two_way import second


def contested(
    state: StateDatabase, mirror: Mirror, customers: Iterable[ShopConsent], changed: Mapping[str, datetime]
) -> dict[str, datetime]:
    """Return the contacts whose opt-out a write of ours may have made look newer, with the shop's last opt-in.

    Args:
        state: the state tables; in no transaction.
        mirror: the audience.
        customers: of contacts that have opted out.
        changed: when these contacts changed, or opted out as far as is known.
    """
    opt_ins: dict[str, datetime] = {}
    for one in customers:
        at, changed_at = one.opted_in_at, changed.get(one.member_hash)
        if one.opted_in and at is not None and changed_at is not None and second(at) <= changed_at:
            opt_ins[one.member_hash] = max(at, opt_ins.get(one.member_hash, at))
    if not opt_ins:
        return {}
    with state.begin() as connection:
        touched = touched_by_us(connection, mirror, {one: changed[one] for one in opt_ins}, opt_out_hash())
    return {one: at for one, at in opt_ins.items() if one in touched}


def asked(client: MailchimpClient, list_id: str, opt_ins: Mapping[str, datetime]) -> dict[str, str]:
    """Ask Mailchimp, by one call, which opt-outs came after the opt-ins.

    Args:
        client: of the account.
        list_id: the audience.
        opt_ins: by contact, the shop's last opt-in.

    Returns:
        The contacts whose opt-out doesn't count, with the rule that says why.
    """
    if not opt_ins:
        return {}
    latest = second(max(opt_ins.values()))
    found, complete = left_since(client, list_id, latest)
    return {
        one: NEWER_OPT_IN if complete and second(at) == latest else HIDDEN
        for one, at in opt_ins.items()
        if one not in found
    }


def unknown(opt_ins: Collection[str]) -> dict[str, str]:
    """Return the rule for contacts that nobody is asked about."""
    return dict.fromkeys(opt_ins, HIDDEN)
