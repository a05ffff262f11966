"""Asks Mailchimp who has unsubscribed since a moment ("List members info", `unsubscribed_since`)."""

from __future__ import annotations

from datetime import datetime, timedelta

from include.mailchimp.client import MOST_PER_PAGE, MailchimpClient


def left_since(client: MailchimpClient, list_id: str, moment: datetime) -> tuple[set[str], bool]:
    """Return who has unsubscribed in the second of a moment or later, by one call.

    Args:
        client: of the account.
        list_id: the audience.
        moment: aware.

    Returns:
        The contacts, and whether these are all of them: one page is read.
    """
    query = {
        "status": "unsubscribed",
        "unsubscribed_since": (moment.replace(microsecond=0) - timedelta(seconds=1)).isoformat(),
        "count": MOST_PER_PAGE,
        "fields": "members.id,total_items",
    }
    reply = client.get(f"/lists/{list_id}/members", params=query) or {}
    found = {one["id"] for one in reply.get("members") or ()}
    return found, len(found) >= (reply.get("total_items") or 0)
