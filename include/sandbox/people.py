"""What people do themselves, away from the API: contacts with their own hands, the marketer at Mailchimp, mail servers.

For tests and for the sandbox's page. Each function takes the account's lock; ``at`` is when it happened (None: now).
A contact that opted out, bounced or complained can't be subscribed by the API any more, only by itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from include.sandbox.account import Account, Audience, Origin
from include.sandbox.audiences import new_member, subscriber_hash
from include.sandbox.exchange import existing
from include.sandbox.groups import new_category, new_interest
from include.sandbox.problems import bad_request, not_found
from include.sandbox.records import Document, now

ABUSE = "Abuse complaint"
"""The reason that the opt-out of somebody who complained has (inferred)."""


def subscribe(account: Account, list_id: str, email: str, at: datetime | None = None) -> None:
    """A contact signs up by itself: it is subscribed whatever was before."""
    with account.lock:
        audience = _audience(account, list_id)
        member = audience.members.get(subscriber_hash(email)) or new_member(email, "Hosted Signup Form")
        member.pop("in_compliance", None)
        changed = {**member, "status": "subscribed", "timestamp_opt": _words(at), "timestamp_signup": _words(at)}
        audience.save_member(subscriber_hash(email), changed, "contact", _words(at))


def unsubscribe(account: Account, list_id: str, email: str, reason: str = "", at: datetime | None = None) -> None:
    """A contact opts out by the link in a mail, with a reason if it gives one."""
    marks = {"in_compliance": True, "unsubscribe_reason": reason}
    _change(account, list_id, email, "contact", at, status="unsubscribed", **marks)


def bounce(account: Account, list_id: str, email: str, at: datetime | None = None) -> None:
    """An address turns out to be dead: Mailchimp cleans it."""
    _change(account, list_id, email, "mailchimp", at, status="cleaned", in_compliance=True)


def complain(account: Account, list_id: str, email: str, at: datetime | None = None) -> None:
    """A contact marks a mail as spam: Mailchimp takes it for an opt-out."""
    marks = {"in_compliance": True, "complained": True, "unsubscribe_reason": ABUSE}
    _change(account, list_id, email, "contact", at, status="unsubscribed", **marks)


def change_profile(
    account: Account,
    list_id: str,
    email: str,
    merge_fields: Mapping[str, Any] | None = None,
    at: datetime | None = None,
    **fields: Any,
) -> None:
    """A contact changes what is known of it.

    Args:
        account: the account.
        list_id: the audience.
        email: the contact.
        merge_fields: values by tag, added to those it has.
        at: when.
        fields: ``language``, ``email_type`` and so on.
    """
    with account.lock:
        audience, member = _member(account, list_id, email)
        values = {**member["merge_fields"], **(merge_fields or {})}
        changed = {**member, **fields, "merge_fields": values}
        audience.save_member(subscriber_hash(email), changed, "contact", _words(at))


def choose_groups(
    account: Account, list_id: str, email: str, interests: Mapping[str, bool], at: datetime | None = None
) -> None:
    """A contact chooses groups (true) or leaves them (false), by their ids."""
    with account.lock:
        audience, member = _member(account, list_id, email)
        for interest_id in interests:
            existing(audience.records["interests"], interest_id)
        changed = {**member, "interests": {**member.get("interests", {}), **interests}}
        audience.save_member(subscriber_hash(email), changed, "contact", _words(at))


def change_address(account: Account, list_id: str, email: str, new_email: str, at: datetime | None = None) -> None:
    """A contact moves to another address, which must not be one of the audience's: it gets another hash."""
    with account.lock:
        audience, member = _member(account, list_id, email)
        new_id = subscriber_hash(new_email)
        if new_id in audience.members or new_id in audience.forgotten:
            raise bad_request("The new address is or was a contact.")
        changed = {**member, "email_address": new_email}
        audience.rename_member(subscriber_hash(email), new_id, changed, "contact", _words(at))


def unsubscribe_by_marketer(account: Account, list_id: str, email: str, at: datetime | None = None) -> None:
    """The marketer unsubscribes a contact; the API may subscribe it again."""
    _change(account, list_id, email, "marketer", at, status="unsubscribed")


def archive(account: Account, list_id: str, email: str, at: datetime | None = None) -> None:
    """The marketer archives a contact."""
    _change(account, list_id, email, "marketer", at, status="archived")


def delete(account: Account, list_id: str, email: str) -> None:
    """The marketer deletes a contact for good: its address can't be imported again."""
    with account.lock:
        audience, _ = _member(account, list_id, email)
        audience.forget_member(subscriber_hash(email), "marketer")


def mark_vip(account: Account, list_id: str, email: str, vip: bool = True, at: datetime | None = None) -> None:
    """The marketer marks a contact as a VIP, or no longer."""
    _change(account, list_id, email, "marketer", at, vip=vip)


def import_contacts(
    account: Account,
    list_id: str,
    contacts: Iterable[Mapping[str, Any]],
    status: str = "subscribed",
    update_existing: bool = False,
    at: datetime | None = None,
) -> int:
    """The marketer imports a file of contacts; all of them change in the same second.

    Args:
        account: the account.
        list_id: the audience.
        contacts: lines of the file: ``email_address`` and, if need be, ``merge_fields`` and ``interests``.
        status: of those who are new. The status of known contacts stays.
        update_existing: whether known contacts get the file's merge fields and interests.
        at: when.

    Returns:
        How many contacts were made or changed.
    """
    moment, number = _words(at), 0
    with account.lock:
        audience = _audience(account, list_id)
        for contact in contacts:
            member_id = subscriber_hash(contact["email_address"])
            known = audience.members.get(member_id)
            if member_id in audience.forgotten or (known is not None and not update_existing):
                continue
            member = known or {**new_member(contact["email_address"], "Import"), "status": status}
            if known is None and status == "subscribed":
                member["timestamp_opt"] = moment
            member["merge_fields"] = {**member["merge_fields"], **contact.get("merge_fields", {})}
            member["interests"] = {**member.get("interests", {}), **contact.get("interests", {})}
            audience.save_member(member_id, member, "marketer", moment)
            number += 1
    return number


def add_groups(
    account: Account, list_id: str, groups: Mapping[str, Sequence[str]], kind: str = "checkboxes"
) -> dict[str, dict[str, str]]:
    """The marketer makes categories with groups.

    Args:
        account: the account.
        list_id: the audience.
        groups: names of groups by the title of their category.
        kind: how a category is shown (checkboxes, dropdown, radio, hidden).

    Returns:
        The ids of the groups by title and name.
    """
    made: dict[str, dict[str, str]] = {}
    with account.lock:
        audience = _audience(account, list_id)
        for title, names in groups.items():
            category_id = new_category(audience, {"title": title, "type": kind})
            made[title] = {name: new_interest(audience, category_id, {"name": name}) for name in names}
    return made


def _change(account: Account, list_id: str, email: str, by: Origin, at: datetime | None, **changes: Any) -> None:
    with account.lock:
        audience, member = _member(account, list_id, email)
        audience.save_member(subscriber_hash(email), {**member, **changes}, by, _words(at))


def _audience(account: Account, list_id: str) -> Audience:
    if list_id not in account.lists:
        raise not_found()
    return account.audience_for(list_id)


def _member(account: Account, list_id: str, email: str) -> tuple[Audience, Document]:
    audience = _audience(account, list_id)
    return audience, existing(audience.members, subscriber_hash(email))


def _words(at: datetime | None) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds") if at else now()
