"""Audiences ("lists"): /lists, /lists/{id}, and how their members follow customers and the outside world.

Members come into being through customers, by Mailchimp's opt-in rules: an address that is new to the audience becomes
``subscribed`` (``pending`` where the audience asks for double opt-in) with a true ``opt_in_status``, otherwise
``transactional``. A later true lifts a transactional member; nothing else ever changes a member's status from here.
What the API's own member calls do is in ``members``.
"""

import hashlib
import zlib
from typing import Literal

from include.sandbox.account import Account, Audience
from include.sandbox.exchange import Call, Routes, existing, page
from include.sandbox.records import Document, now

STATUSES = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional", "archived")
_NAMES = (("FNAME", "first_name"), ("LNAME", "last_name"))
CONFIRMATION = "opt-in confirmation"
CROWD_ADDRESS = "crowd{number}@crowd-demo.shop"
Source = Literal["E-Commerce", "API - Generic", "Hosted Signup Form", "Import"]


def subscriber_hash(email: str) -> str:
    """Return the id of a member: md5 of the trimmed, lower-case address."""
    return hashlib.md5(email.strip().lower().encode(), usedforsecurity=False).hexdigest()


def member_of(call: Call) -> str:
    """Return the id of the member that the path means; it also takes the address itself."""
    name = call.ids["subscriber_hash"]
    return subscriber_hash(name) if "@" in name else name.lower()


def new_member(email: str, source: Source) -> Document:
    """Return the document of a contact of whom nothing but the address is known."""
    return {"email_address": email, "merge_fields": {}, "source": source}


def follow_customer(account: Account, list_id: str, customer: Document) -> None:
    """Apply a customer's ``opt_in_status`` to the audience (contract: rules of the customers resource).

    An address that was permanently deleted stays away (inferred: it can't come back by any call).
    """
    audience = account.audience_for(list_id)
    member_id = subscriber_hash(customer["email_address"])
    known = audience.members.get(member_id)
    opted_in = bool(customer.get("opt_in_status"))
    lifts = ("transactional", "archived") if account.revives_archived else ("transactional",)
    liftable = known is not None and known["status"] in lifts and not known.get("in_compliance")
    if member_id in audience.forgotten or (known is not None and not (opted_in and liftable)):
        return
    double_optin = existing(account.lists, list_id)["double_optin"]
    status = ("pending" if double_optin else "subscribed") if opted_in else "transactional"
    before = known or new_member(customer["email_address"], "E-Commerce")
    names = {tag: customer[name] for tag, name in _NAMES if customer.get(name)}
    member = {**before, "status": status, "merge_fields": before["merge_fields"] | names}
    member["timestamp_opt"] = now() if status == "subscribed" else ""
    audience.save_member(member_id, member, "ecommerce")
    if status == "pending":
        account.mail(CONFIRMATION, list_id, member_id)


def set_status(account: Account, list_id: str, email: str, status: str, *, by_contact: bool = False) -> None:
    """Change a member's status from outside the API, as the contact itself or Mailchimp would (for tests).

    Args:
        account: the account; its lock is taken.
        list_id: the audience.
        email: whose status; an unknown address becomes a member.
        status: any of ``STATUSES``.
        by_contact: the contact did it. Once it unsubscribed itself or complained, or Mailchimp found its address dead
            (``cleaned``), no call of the API subscribes it again, until it subscribes itself.
    """
    with account.lock:
        audience = account.audience_for(list_id)
        member_id = subscriber_hash(email)
        member = audience.members.get(member_id) or new_member(email, "Hosted Signup Form")
        member["status"] = status
        if status == "cleaned" or (by_contact and status == "unsubscribed"):
            member["in_compliance"] = True
        elif by_contact and status == "subscribed":
            member.pop("in_compliance", None)
            member["timestamp_opt"] = now()
        audience.save_member(member_id, member, "contact" if by_contact else "mailchimp")


def gather(account: Account, list_id: str, size: int, address: str = CROWD_ADDRESS) -> None:
    """Put a crowd of contacts into an audience, and the groups it chose from (see ``crowd``).

    Args:
        account: the account; its lock is taken.
        list_id: the audience.
        size: how many contacts.
        address: makes an address of a ``number``; with the shop's own pattern the crowd are its customers.
    """
    from include.sandbox import crowd  # only who wants a crowd pays for numpy

    people = crowd.Crowd(size, address)
    category_id, title = crowd.CATEGORY
    with account.lock:
        audience = account.audience_for(list_id)
        audience.records["categories"].put(category_id, {"title": title, "type": "checkboxes"})
        for interest_id, name in crowd.GROUPS.items():
            audience.records["interests"].put(interest_id, {"name": name, "category_id": category_id})
        audience.join(people)


def count_by_status(account: Account, list_id: str) -> dict[str, int]:
    """Return how many members have each status (only those that occur)."""
    return {status: number for status, number in account.audience_for(list_id).statuses.items() if number}


def _render(account: Account, audience: Audience) -> Document:
    stored = existing(account.lists, audience.id)
    counts = count_by_status(account, audience.id)
    created_at = getattr(account.lists.record(audience.id), "created_at", "")
    left = {"unsubscribe_count": counts.get("unsubscribed", 0), "cleaned_count": counts.get("cleaned", 0)}
    member_count = counts.get("subscribed", 0)
    return {
        "id": audience.id,
        "web_id": zlib.crc32(audience.id.encode()),
        "name": stored["name"],
        "permission_reminder": "You bought something in our shop.",
        "use_archive_bar": True,
        "notify_on_subscribe": "",
        "notify_on_unsubscribe": "",
        "date_created": created_at,
        "list_rating": 0,
        "email_type_option": False,
        "double_optin": stored["double_optin"],
        "has_welcome": False,
        "marketing_permissions": False,
        "visibility": "prv",
        "stats": {
            "member_count": member_count,
            "total_contacts": sum(counts.values()),
            **left,
            # No campaign is taken to have been sent since the audience was made.
            "member_count_since_send": member_count,
            **{f"{name}_since_send": number for name, number in left.items()},
            "campaign_count": 0,
            "campaign_last_sent": "",
            "merge_field_count": len(audience.records["merge_fields"]),
            "avg_sub_rate": 0,
            "avg_unsub_rate": 0,
            "target_sub_rate": 0,
            "open_rate": 0,
            "click_rate": 0,
            "last_sub_date": audience.last_subscribed,
            "last_unsub_date": audience.last_unsubscribed,
        },
    }


def list_audiences(call: Call) -> Document:
    """GET /lists."""
    account = call.account
    return page(call, "lists", list(account.lists), lambda list_id: _render(account, account.audience_for(list_id)))


def get_audience(call: Call) -> Document:
    """GET /lists/{list_id}."""
    return _render(call.account, call.audience)


ROUTES: Routes = {"/lists": {"GET": list_audiences}, "/lists/{list_id}": {"GET": get_audience}}
