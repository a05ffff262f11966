"""Audiences ("lists") and their members: /lists, /lists/{id}, /lists/{id}/members.

Members come into being through customers, by Mailchimp's opt-in rules: an address that is new to the audience becomes
``subscribed`` (``pending`` where the audience asks for double opt-in) with a true ``opt_in_status``, otherwise
``transactional``. A later true lifts a transactional member; nothing else ever changes a member's status from here.
"""

import hashlib
from collections import Counter

from include.sandbox.account import Account
from include.sandbox.exchange import Call, Routes, existing, page
from include.sandbox.problems import bad_request
from include.sandbox.records import Document, now

STATUSES = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional", "archived")


def subscriber_hash(email: str) -> str:
    """Return the id of a member: md5 of the trimmed, lower-case address."""
    return hashlib.md5(email.strip().lower().encode(), usedforsecurity=False).hexdigest()


def follow_customer(account: Account, list_id: str, customer: Document) -> None:
    """Apply a customer's ``opt_in_status`` to the audience (contract: rules of the customers resource)."""
    members = account.members_of(list_id)
    member_id = subscriber_hash(customer["email_address"])
    known = members.get(member_id)
    opted_in = bool(customer.get("opt_in_status"))
    if known is not None and not (opted_in and known["status"] == "transactional"):
        return
    double_optin = existing(account.audiences, list_id)["double_optin"]
    status = ("pending" if double_optin else "subscribed") if opted_in else "transactional"
    members.put(
        member_id,
        {
            "email_address": customer["email_address"],
            "status": status,
            "merge_fields": {"FNAME": customer.get("first_name", ""), "LNAME": customer.get("last_name", "")},
            "timestamp_opt": now() if status == "subscribed" else "",
        },
    )
    if status == "pending":
        account.mail("opt-in confirmation", list_id, member_id)


def set_status(account: Account, list_id: str, email: str, status: str) -> None:
    """Change a member's status from outside the API, as the contact itself or Mailchimp would (for tests)."""
    members = account.members_of(list_id)
    member_id = subscriber_hash(email)
    known = members.get(member_id) or {"email_address": email, "merge_fields": {}, "timestamp_opt": ""}
    members.put(member_id, {**known, "status": status})


def count_by_status(account: Account, list_id: str) -> dict[str, int]:
    """Return how many members have each status (only those that occur)."""
    members = account.members_of(list_id)
    return dict(Counter(existing(members, member_id)["status"] for member_id in list(members)))


def _audience(account: Account, list_id: str) -> Document:
    stored = existing(account.audiences, list_id)
    counts = count_by_status(account, list_id)
    return {
        "id": list_id,
        "name": stored["name"],
        "permission_reminder": "You bought something in our shop.",
        "email_type_option": False,
        "double_optin": stored["double_optin"],
        "has_welcome": False,
        "marketing_permissions": False,
        "date_created": getattr(account.audiences.record(list_id), "created_at", ""),
        "visibility": "prv",
        "stats": {
            "member_count": counts.get("subscribed", 0),
            "total_contacts": sum(counts.values()),
            "unsubscribe_count": counts.get("unsubscribed", 0),
            "cleaned_count": counts.get("cleaned", 0),
            "campaign_count": 0,
            "campaign_last_sent": "",
            "merge_field_count": 2,
            "open_rate": 0,
            "click_rate": 0,
        },
    }


def _member(account: Account, list_id: str, member_id: str) -> Document:
    members = account.members_of(list_id)
    stored = existing(members, member_id)
    names = stored["merge_fields"]
    return {
        "id": member_id,
        "email_address": stored["email_address"],
        "unique_email_id": member_id[:10],
        "contact_id": hashlib.md5(f"{list_id} {member_id}".encode(), usedforsecurity=False).hexdigest(),
        "full_name": f"{names.get('FNAME', '')} {names.get('LNAME', '')}".strip(),
        "email_type": "html",
        "status": stored["status"],
        "merge_fields": names,
        "stats": {"avg_open_rate": 0, "avg_click_rate": 0},
        "ip_signup": "",
        "timestamp_signup": "",
        "ip_opt": "",
        "timestamp_opt": stored["timestamp_opt"],
        "member_rating": 2,
        "last_changed": getattr(members.record(member_id), "updated_at", ""),
        "language": "",
        "vip": False,
        "email_client": "",
        "source": "E-Commerce",
        "tags_count": 0,
        "tags": [],
        "list_id": list_id,
    }


def list_audiences(call: Call) -> Document:
    """GET /lists."""
    return page(call, "lists", list(call.account.audiences), lambda list_id: _audience(call.account, list_id))


def get_audience(call: Call) -> Document:
    """GET /lists/{list_id}."""
    return _audience(call.account, call.ids["list_id"])


def list_members(call: Call) -> Document:
    """GET /lists/{list_id}/members, filter ``status`` (archived members only by their status)."""
    account, list_id = call.account, call.ids["list_id"]
    existing(account.audiences, list_id)
    wanted = call.query.get("status", "")
    if wanted and wanted not in STATUSES:
        raise bad_request(f"The status parameter must be one of: {', '.join(STATUSES)}.")
    members = account.members_of(list_id)
    status_of = {member_id: existing(members, member_id)["status"] for member_id in list(members)}
    ids = [one for one, status in status_of.items() if status == wanted or (not wanted and status != "archived")]
    return page(call, "members", ids, lambda one: _member(account, list_id, one), {"list_id": list_id})


def get_member(call: Call) -> Document:
    """GET /lists/{list_id}/members/{subscriber_hash}; the path also takes the address itself."""
    list_id, member_id = call.ids["list_id"], call.ids["subscriber_hash"]
    existing(call.account.audiences, list_id)
    return _member(call.account, list_id, subscriber_hash(member_id) if "@" in member_id else member_id)


ROUTES: Routes = {
    "/lists": {"GET": list_audiences},
    "/lists/{list_id}": {"GET": get_audience},
    "/lists/{list_id}/members": {"GET": list_members},
    "/lists/{list_id}/members/{subscriber_hash}": {"GET": get_member},
}
