"""Explains what Mailchimp told of a contact's consent, as the pulls have recorded it, and what was made of it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

from include.explain.explanation import Step

_LATEST: Final = 10

_EVENTS = text("""
    SELECT happened_at, coalesce(from_status, 'unknown'), to_status, source, written_back FROM consent_event
    WHERE account_id = :account_id AND list_id = :list_id AND member_hash = :member_hash
    ORDER BY event_id DESC LIMIT :latest
""")
_CONFLICTS = text("""
    SELECT shop_at, remote_at, remote_status, rule, outcome FROM consent_conflict
    WHERE account_id = :account_id AND list_id = :list_id AND member_hash = :member_hash
    ORDER BY conflict_id DESC LIMIT :latest
""")
_REQUESTS = text("""
    SELECT opted_in_at, coalesce(outcome, 'not answered yet') FROM opt_in_request
    WHERE account_id = :account_id AND list_id = :list_id AND member_hash = :member_hash
    ORDER BY opted_in_at DESC LIMIT :latest
""")
_MEMBER = text("""
    SELECT CASE WHEN vanished_at IS NULL THEN status ELSE 'deleted' END AS status, pulled_at FROM member
    WHERE account_id = :account_id AND list_id = :list_id AND member_hash = :member_hash
""")


def trail_step(connection: Connection, account_id: str, list_id: str, member_hash: str) -> Step:
    """Explain what is known of a contact.

    Args:
        connection: a transaction on the state tables.
        account_id: the Mailchimp account.
        list_id: the audience.
        member_hash: the contact.
    """
    contact = {"account_id": account_id, "list_id": list_id, "member_hash": member_hash, "latest": _LATEST}
    member = connection.execute(_MEMBER, contact).one_or_none()
    if member is None:
        return Step("contact", "no pull has met this contact at Mailchimp")
    events = [
        f"{at.isoformat()}: {before} → {after} ({source}; {told} customers opted out or in by it)"
        for at, before, after, source, told in connection.execute(_EVENTS, contact)
    ]
    conflicts = [
        f"shop at {_moment(shop_at)}, Mailchimp {status} at {_moment(remote_at)}: {rule}; {outcome}"
        for shop_at, remote_at, status, rule, outcome in connection.execute(_CONFLICTS, contact)
    ]
    requests = [f"opt-in of {at.isoformat()}: {told}" for at, told in connection.execute(_REQUESTS, contact)]
    return Step(
        "contact",
        f"{member.status} at Mailchimp when it was pulled last ({member.pulled_at.isoformat(timespec='seconds')})",
        {"events": events, "conflicts": conflicts, "asked again": requests},
    )


def _moment(value: datetime | None) -> str:
    return "an unknown time" if value is None else value.isoformat()
