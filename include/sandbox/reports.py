"""Reports of sent campaigns: /reports[/{id}] and the listings below it.

Every recipient is in ``email-activity``, often with an empty ``activity``; ``since`` takes events out, not recipients.
Contacts who were permanently deleted are in no listing (inferred).
"""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any

from include.sandbox.account import Account
from include.sandbox.audiences import member_of, subscriber_hash
from include.sandbox.campaigns import moment_asked, rates_of, sales_of, within
from include.sandbox.exchange import Call, Routes, bounds, existing, page
from include.sandbox.mailings import Mailing
from include.sandbox.problems import not_found
from include.sandbox.records import Document

_SENT = frozenset({"sending", "sent"})


def _report(account: Account, campaign_id: str) -> Document:
    stored = existing(account.campaign_records, campaign_id)
    if stored["status"] not in _SENT:
        raise not_found()
    mailing, list_id = account.mailing_for(campaign_id), stored["list_id"]
    counts, rates = mailing.counts, rates_of(mailing)
    return {
        "id": campaign_id,
        "campaign_title": stored["title"],
        "type": stored["type"],
        "list_id": list_id,
        "list_is_active": list_id in account.lists,
        "list_name": (account.lists.get(list_id) or {}).get("name", ""),
        "subject_line": stored["title"],
        "preview_text": "",
        "emails_sent": len(mailing),
        "abuse_reports": len(mailing.left["abuse"]),
        "unsubscribed": len(mailing.left["unsubscribed"]),
        "send_time": stored["send_time"],
        "bounces": {
            "hard_bounces": counts["hard bounce"],
            "soft_bounces": counts["soft bounce"],
            "syntax_errors": 0,
        },
        "forwards": {"forwards_count": 0, "forwards_opens": 0},
        "opens": {
            "opens_total": counts["open"],
            "unique_opens": counts["unique open"],
            "open_rate": rates["open_rate"],
            "last_open": mailing.latest["open"],
        },
        "clicks": {
            "clicks_total": counts["click"],
            "unique_clicks": counts["unique links"],
            "unique_subscriber_clicks": counts["unique click"],
            "click_rate": rates["click_rate"],
            "last_click": mailing.latest["click"],
        },
        "ecommerce": sales_of(account, campaign_id, list_id),
        "timeseries": [],
    }


def list_reports(call: Call) -> Document:
    """GET /reports: filters ``type, since_send_time, before_send_time``."""
    records, kind = call.account.campaign_records, call.query.get("type", "")
    ids = [
        one
        for one in records
        if (stored := existing(records, one))["status"] in _SENT
        and kind in {"", stored["type"]}
        and within(call, "since_send_time", "before_send_time", stored["send_time"])
    ]
    return page(call, "reports", ids, lambda one: _report(call.account, one))


def get_report(call: Call) -> Document:
    """GET /reports/{campaign_id}."""
    return _report(call.account, call.ids["campaign_id"])


def _sent(call: Call) -> tuple[Mailing, Document]:
    """Return the campaign of the path; 404 unless it was sent."""
    stored = existing(call.account.campaign_records, call.ids["campaign_id"])
    if stored["status"] not in _SENT:
        raise not_found()
    return call.account.mailing_for(stored["id"]), stored


def _person(stored: Document, email: str) -> Document:
    return {
        "campaign_id": stored["id"],
        "list_id": stored["list_id"],
        "list_is_active": True,
        "email_id": subscriber_hash(email),
        "email_address": email,
    }


def _recipients(call: Call, name: str, render: Callable[[Mailing, Document, str], Document]) -> Document:
    """Return one page of the recipients."""
    mailing, stored = _sent(call)
    forgotten = call.account.audience_for(stored["list_id"]).forgotten
    start, end = bounds(call)
    total = len(mailing)
    if len(forgotten):
        there = [one for one in mailing.recipients(0, total) if subscriber_hash(one) not in forgotten]
        total, addresses = len(there), there[start:end]
    else:
        addresses = list(mailing.recipients(start, end))
    items = [render(mailing, stored, one) for one in addresses]
    return {name: items, "campaign_id": stored["id"], "total_items": total}


def _activity(call: Call, mailing: Mailing, email: str) -> list[Any]:
    since = moment_asked(call, "since")
    done = (mailing.reactions.get(subscriber_hash(email)) or {}).get("activity", [])
    return [one for one in done if since is None or datetime.fromisoformat(one["timestamp"]) > since]


def list_activity(call: Call) -> Document:
    """GET …/email-activity, filter ``since``."""
    return _recipients(
        call,
        "emails",
        lambda mailing, stored, email: _person(stored, email) | {"activity": _activity(call, mailing, email)},
    )


def get_activity(call: Call) -> Document:
    """GET …/email-activity/{subscriber_hash}."""
    mailing, stored = _sent(call)
    member_id = member_of(call)
    email = next((one for one in mailing.recipients(0, len(mailing)) if subscriber_hash(one) == member_id), None)
    if email is None:
        raise not_found()
    return _person(stored, email) | {"activity": _activity(call, mailing, email)}


def _delivery(mailing: Mailing, stored: Document, email: str) -> Document:
    done = (mailing.reactions.get(subscriber_hash(email)) or {}).get("activity", [])
    opened = [one["timestamp"] for one in done if one["action"] == "open"]
    bounced = [one["type"] for one in done if one["action"] == "bounce"]
    return _person(stored, email) | {
        "merge_fields": {},
        "vip": False,
        "status": bounced[-1] if bounced else "sent",
        "open_count": len(opened),
        "last_open": max(opened, default=""),
        "absplit_group": "",
        "gmt_offset": 0,
    }


def list_deliveries(call: Call) -> Document:
    """GET …/sent-to."""
    return _recipients(call, "sent_to", _delivery)


def _left(call: Call, name: str, kind: str) -> Document:
    mailing, stored = _sent(call)
    forgotten = call.account.audience_for(stored["list_id"]).forgotten
    ids = [one for one in mailing.left[kind] if one not in forgotten]

    def render(member_id: str) -> Document:
        reaction = existing(mailing.reactions, member_id)
        about = {"merge_fields": {}, "vip": False, **reaction[kind]}
        return _person(stored, reaction["email_address"]) | about

    return page(call, name, ids, render, {"campaign_id": stored["id"]})


def list_unsubscribed(call: Call) -> Document:
    """GET …/unsubscribed."""
    return _left(call, "unsubscribes", "unsubscribed")


def list_complaints(call: Call) -> Document:
    """GET …/abuse-reports."""
    return _left(call, "abuse_reports", "abuse")


def list_clicks(call: Call) -> Document:
    """GET …/click-details: one entry per link."""
    mailing, stored = _sent(call)
    total, unique = mailing.counts["click"], mailing.counts["unique links"]

    def render(url: str) -> Document:
        clicked = +mailing.urls[url]
        return {
            "id": hashlib.md5(f"{stored['id']} {url}".encode(), usedforsecurity=False).hexdigest()[:10],
            "url": url,
            "total_clicks": clicked.total(),
            "click_percentage": clicked.total() / total if total else 0,
            "unique_clicks": len(clicked),
            "unique_click_percentage": len(clicked) / unique if unique else 0,
            "last_click": mailing.latest["click"],
            "campaign_id": stored["id"],
        }

    urls = [url for url, clicked in mailing.urls.items() if +clicked]
    return page(call, "urls_clicked", urls, render, {"campaign_id": stored["id"]})


def list_products(call: Call) -> Document:
    """GET …/ecommerce-product-activity: sales by product, ``sort_field`` title, total_revenue or total_purchased."""
    _mailing, stored = _sent(call)
    sold: dict[str, Document] = {}
    for store_id, store in call.account.stores.items():
        settings = call.account.store_settings.get(store_id) or {}
        if settings.get("list_id") != stored["list_id"]:
            continue
        for order_id in store.orders_of_campaign.get(stored["id"], {}):
            for line in existing(store.orders, order_id)["lines"]:
                title = (store.products.get(line["product_id"]) or {}).get("title", "")
                entry = sold.setdefault(
                    f"{store_id}/{line['product_id']}",
                    {
                        "title": title,
                        "sku": "",
                        "image_url": "",
                        "total_revenue": 0,
                        "total_purchased": 0,
                        "currency_code": settings["currency_code"],
                        "recommendation_total": 0,
                        "recommendation_purchased": 0,
                        "product_id": line["product_id"],
                        "store_id": store_id,
                    },
                )
                entry["total_revenue"] = round(entry["total_revenue"] + line["quantity"] * line["price"], 2)
                entry["total_purchased"] += line["quantity"]
    field = call.query.get("sort_field", "title")
    keys = sorted(sold, key=lambda key: sold[key].get(field, ""), reverse=field != "title")
    return page(call, "products", keys, sold.__getitem__, {"campaign_id": stored["id"]})


_REPORT = "/reports/{campaign_id}"
ROUTES: Routes = {
    "/reports": {"GET": list_reports},
    _REPORT: {"GET": get_report},
    _REPORT + "/email-activity": {"GET": list_activity},
    _REPORT + "/email-activity/{subscriber_hash}": {"GET": get_activity},
    _REPORT + "/sent-to": {"GET": list_deliveries},
    _REPORT + "/unsubscribed": {"GET": list_unsubscribed},
    _REPORT + "/abuse-reports": {"GET": list_complaints},
    _REPORT + "/click-details": {"GET": list_clicks},
    _REPORT + "/ecommerce-product-activity": {"GET": list_products},
}
