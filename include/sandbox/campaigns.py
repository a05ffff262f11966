"""Campaigns: /campaigns[/{id}], how the sandbox sends one, and what the people who got it do with it.

Nothing is mailed. ``send_campaign`` plays the marketer, ``react`` one contact, ``let_react`` all of them at random.
"""

import hashlib
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Literal

from include.sandbox.account import DEFAULT_LIST, Account
from include.sandbox.audiences import set_status, subscriber_hash
from include.sandbox.exchange import Call, Routes, existing, page
from include.sandbox.mailings import Mailing
from include.sandbox.problems import bad_request
from include.sandbox.records import Document

Action = Literal["open", "click", "bounce", "unsubscribe", "abuse"]
STATUSES = ("save", "paused", "schedule", "sending", "sent")
LINKS = ("https://shop.invalid/new", "https://shop.invalid/sale?utm_source=news")

# Of a hundred recipients, how many do what.
_OPENS, _CLICKS, _BOUNCES, _LEAVES, _COMPLAINS = 0.3, 0.25, 0.01, 0.005, 0.001


def in_notation(moment: datetime) -> str:
    """Return a time in Mailchimp's notation."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def add_campaign(
    account: Account,
    list_id: str = DEFAULT_LIST,
    *,
    campaign_id: str | None = None,
    title: str = "News",
    kind: str = "regular",
    created_at: datetime | None = None,
) -> str:
    """Write a campaign that isn't sent yet. Returns its id.

    Args:
        account: the account; its lock is taken.
        list_id: the audience it is for.
        campaign_id: by default made from the number of campaigns.
        title: its title, and its subject line.
        kind: its type.
        created_at: by default now.
    """
    with account.lock:
        number = len(account.campaign_records)
        made = hashlib.md5(f"campaign {number}".encode(), usedforsecurity=False).hexdigest()[:10]
        chosen = campaign_id or made
        document = {
            "id": chosen,
            "web_id": 100001 + number,
            "list_id": list_id,
            "type": kind,
            "status": "save",
            "title": title,
            "create_time": in_notation(created_at or datetime.now(UTC)),
            "send_time": "",
        }
        account.campaign_records.put(chosen, document)
        return chosen


def send_campaign(
    account: Account,
    list_id: str = DEFAULT_LIST,
    *,
    campaign_id: str | None = None,
    title: str = "News",
    sent_at: datetime | None = None,
    to: Iterable[str] | None = None,
) -> str:
    """Send a campaign. Returns its id.

    Args:
        account: the account; its lock is taken.
        list_id: the audience.
        campaign_id: of one that was added and not sent, or of a new one; by default a new one.
        title: of a new one.
        sent_at: when; by default now.
        to: the addresses; by default all subscribed members.
    """
    moment = sent_at or datetime.now(UTC)
    with account.lock:
        if campaign_id is None or campaign_id not in account.campaign_records:
            campaign_id = add_campaign(account, list_id, campaign_id=campaign_id, title=title, created_at=moment)
        mailing = account.mailing_for(campaign_id)
        members = account.audience_for(list_id).members
        everybody = (members.get(one) or {} for one in members) if to is None else ()
        subscribed = (one["email_address"] for one in everybody if one.get("status") == "subscribed")
        mailing.send_to(subscribed if to is None else to)
        document = existing(account.campaign_records, campaign_id)
        sent = {"status": "sent", "send_time": in_notation(moment), "emails_sent": len(mailing)}
        account.campaign_records.put(campaign_id, document | sent)
    return campaign_id


def react(
    account: Account,
    campaign_id: str,
    email: str,
    action: Action,
    *,
    at: datetime | None = None,
    detail: str = "",
) -> None:
    """Let a contact do something with a campaign; who leaves, complains or can't be reached is no subscriber any more.

    Args:
        account: the account; its lock is taken.
        campaign_id: a sent campaign.
        email: who.
        action: what.
        at: when; by default now.
        detail: of a click the link (by default one of the shop's), of a bounce "hard" (default) or "soft", of leaving
            the reason.
    """
    moment = in_notation(at or datetime.now(UTC))
    with account.lock:
        list_id = existing(account.campaign_records, campaign_id)["list_id"]
        mailing, member_id = account.mailing_for(campaign_id), subscriber_hash(email)
        reaction = mailing.reactions.get(member_id) or {"email_address": email, "activity": []}
        done: Document = {"action": action, "timestamp": moment}
        match action:
            case "open" | "click":
                done |= {"url": detail or LINKS[0]} if action == "click" else {}
                reaction["activity"].append(done | {"ip": "203.0.113.7"})
            case "bounce":
                reaction["activity"].append(done | {"type": detail or "hard"})
            case "unsubscribe":
                reaction["unsubscribed"] = {"timestamp": moment, "reason": detail or "None given"}
            case "abuse":
                reaction["abuse"] = {"date": moment, "id": len(mailing.left["abuse"]) + 1}
        mailing.react(member_id, reaction)
        if member_id not in account.audience_for(list_id).members:
            return
        if action in {"unsubscribe", "abuse"}:
            set_status(account, list_id, email, "unsubscribed", by_contact=True)
        elif action == "bounce" and detail in {"", "hard"}:
            set_status(account, list_id, email, "cleaned")


def let_react(
    account: Account,
    campaign_id: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    seed: int = 0,
) -> int:
    """Let time pass: some recipients open, click, bounce, leave or complain. Returns how many did something.

    Args:
        account: the account; its lock is taken.
        campaign_id: a sent campaign.
        since: beginning of the time that passes; by default when it was sent.
        until: its end; by default now.
        seed: of the chances, which are the same each time.
    """
    with account.lock:
        begun = since or datetime.fromisoformat(existing(account.campaign_records, campaign_id)["send_time"])
        seconds = max(0, int(((until or datetime.now(UTC)) - begun).total_seconds()))
        mailing, chance = account.mailing_for(campaign_id), random.Random(f"{seed} {campaign_id} {begun}")  # noqa: S311
        active = 0
        for email in list(mailing.recipients(0, len(mailing))):
            doings: list[tuple[Action, str]] = []
            if chance.random() < _BOUNCES:
                doings = [("bounce", chance.choice(("hard", "soft")))]
            elif chance.random() < _OPENS:
                doings = [("open", "")]
                doings += [("click", chance.choice(LINKS))] if chance.random() < _CLICKS else []
            if chance.random() < _LEAVES:
                doings += [("unsubscribe", "")]
            elif chance.random() < _COMPLAINS:
                doings += [("abuse", "")]
            moments = sorted(chance.randint(0, seconds) for _ in doings)
            for (action, detail), second in zip(doings, moments, strict=True):
                react(account, campaign_id, email, action, at=begun + timedelta(seconds=second), detail=detail)
            active += bool(doings)
        return active


def sales_of(account: Account, campaign_id: str, list_id: str) -> Document:
    """Return what the orders that name a campaign come to, in all stores of its audience."""
    spent = revenue = 0.0
    number, currency = 0, ""
    for store_id, store in account.stores.items():
        settings = account.store_settings.get(store_id) or {}
        if settings.get("list_id") != list_id:
            continue
        currency = currency or settings["currency_code"]
        for order_id in store.orders_of_campaign.get(campaign_id, {}):
            order = existing(store.orders, order_id)
            number += 1
            spent += order["order_total"]
            revenue += order["order_total"] - order.get("tax_total", 0) - order.get("shipping_total", 0)
    figures = {"total_orders": number, "total_spent": round(spent, 2), "total_revenue": round(revenue, 2)}
    return {**figures, "currency_code": currency}


def rates_of(mailing: Mailing) -> Document:
    """Return opens and clicks as a campaign's summary has them."""
    counts, sent = mailing.counts, max(1, len(mailing))
    return {
        "opens": counts["open"],
        "unique_opens": counts["unique open"],
        "open_rate": counts["unique open"] / sent,
        "clicks": counts["click"],
        "subscriber_clicks": counts["unique click"],
        "click_rate": counts["unique click"] / sent,
    }


def render(account: Account, campaign_id: str) -> Document:
    """Return a campaign as the API shows it."""
    stored = existing(account.campaign_records, campaign_id)
    mailing, list_id = account.mailing_for(campaign_id), stored["list_id"]
    shop = {name: value for name, value in sales_of(account, campaign_id, list_id).items() if name != "currency_code"}
    return {
        "id": campaign_id,
        "web_id": stored["web_id"],
        "type": stored["type"],
        "create_time": stored["create_time"],
        "archive_url": "",
        "status": stored["status"],
        "emails_sent": stored.get("emails_sent", 0),
        "send_time": stored["send_time"],
        "content_type": "template",
        "recipients": {
            "list_id": list_id,
            "list_is_active": list_id in account.lists,
            "list_name": (account.lists.get(list_id) or {}).get("name", ""),
            "segment_text": "",
            "recipient_count": len(mailing),
        },
        "settings": {
            "subject_line": stored["title"],
            "title": stored["title"],
            "from_name": "Shop",
            "reply_to": "owner@sandbox.invalid",
        },
        "report_summary": {**rates_of(mailing), "ecommerce": shop},
    }


def moment_asked(call: Call, name: str) -> datetime | None:
    """Return a time among the query parameters; 400 for one that isn't one."""
    given = call.query.get(name, "")
    try:
        found = datetime.fromisoformat(given) if given else None
    except ValueError:
        raise bad_request(f"The {name} parameter must be a time in ISO 8601.") from None
    return found.replace(tzinfo=UTC) if found and found.tzinfo is None else found


def within(call: Call, since: str, before: str, value: str) -> bool:
    """Tell whether a time lies after one query parameter and before another."""
    after, until = moment_asked(call, since), moment_asked(call, before)
    if not value:
        return after is None and until is None
    moment = datetime.fromisoformat(value)
    return (after is None or moment > after) and (until is None or moment < until)


def list_campaigns(call: Call) -> Document:
    """GET /campaigns: filters ``type, status, list_id``, times of sending and creation, ``sort_field, sort_dir``."""
    records, query = call.account.campaign_records, call.query
    wanted = {name: query[name] for name in ("type", "status", "list_id") if query.get(name)}
    if wanted.get("status", "save") not in STATUSES:
        raise bad_request(f"The status parameter must be one of: {', '.join(STATUSES)}.")
    found = [
        document
        for document in (existing(records, one) for one in records)
        if all(document[name] == value for name, value in wanted.items())
        and within(call, "since_send_time", "before_send_time", document["send_time"])
        and within(call, "since_create_time", "before_create_time", document["create_time"])
    ]
    if (field := query.get("sort_field", "")) in {"create_time", "send_time"}:
        found.sort(key=lambda one: one[field], reverse=query.get("sort_dir", "").upper() == "DESC")
    return page(call, "campaigns", [one["id"] for one in found], lambda one: render(call.account, one))


def get_campaign(call: Call) -> Document:
    """GET /campaigns/{campaign_id}."""
    return render(call.account, call.ids["campaign_id"])


ROUTES: Routes = {"/campaigns": {"GET": list_campaigns}, "/campaigns/{campaign_id}": {"GET": get_campaign}}
