"""Campaigns and their reports, as the API shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from include.sandbox.account import DEFAULT_LIST, Account
from include.sandbox.audiences import subscriber_hash
from include.sandbox.campaigns import add_campaign, let_react, react, send_campaign
from include.sandbox.server import SandboxServer
from tests.include.sandbox.conftest import ORDER, STORE, Api

SENT_AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
ADA, BOB, EVE = (f"{name}@kauf-demo.shop" for name in ("ada", "bob", "eve"))


def account(api: Api) -> Account:
    return api.server.state.account


@pytest.fixture
def campaign(api: Api) -> str:
    """Sent to three subscribers."""
    for email in (ADA, BOB, EVE):
        api.ok("POST", f"/lists/{DEFAULT_LIST}/members", {"email_address": email, "status": "subscribed"})
    return send_campaign(account(api), title="Nov", sent_at=SENT_AT)


def after(hours: float) -> datetime:
    return SENT_AT + timedelta(hours=hours)


def done(api: Api, campaign: str, **params: Any) -> dict[str, list[Any]]:
    found = api.ok("GET", f"/reports/{campaign}/email-activity", count=1000, **params)
    return {one["email_address"]: one["activity"] for one in found["emails"]}


def test_campaigns_are_listed_by_filters_and_order(api: Api, campaign: str) -> None:
    draft = add_campaign(account(api), title="Dec", created_at=after(1))
    every = api.ok("GET", "/campaigns", sort_field="create_time", sort_dir="DESC")
    assert [one["id"] for one in every["campaigns"]] == [draft, campaign]
    for filters, expected in (
        ({"status": "sent"}, [campaign]),
        ({"status": "save"}, [draft]),
        ({"list_id": "other"}, []),
        ({"since_send_time": "2026-11-20T09:59:59+00:00"}, [campaign]),
        ({"before_send_time": "2026-11-20T10:00:00+00:00"}, []),
        ({"since_create_time": "2026-11-20T10:30:00+00:00"}, [draft]),
    ):
        assert [one["id"] for one in api.ok("GET", "/campaigns", **filters)["campaigns"]] == expected
    api.refused(400, "GET", "/campaigns", status="gone")
    api.refused(400, "GET", "/campaigns", since_send_time="yesterday")
    shown = api.ok("GET", f"/campaigns/{campaign}")
    assert (shown["status"], shown["emails_sent"], shown["send_time"]) == ("sent", 3, "2026-11-20T10:00:00+00:00")
    assert [one["id"] for one in api.ok("GET", "/reports")["reports"]] == [campaign]
    api.refused(404, "GET", f"/reports/{draft}")
    api.refused(404, "GET", f"/reports/{draft}/sent-to")
    api.refused(404, "GET", "/campaigns/unknown")


def test_every_recipient_is_listed_often_without_any_activity(api: Api, campaign: str) -> None:
    react(account(api), campaign, ADA, "open", at=after(1))
    react(account(api), campaign, ADA, "click", at=after(2), detail="https://shop.invalid/p1")
    react(account(api), campaign, BOB, "bounce", at=after(1))
    activity = done(api, campaign)
    assert [[one["action"] for one in activity[who]] for who in (ADA, BOB, EVE)] == [["open", "click"], ["bounce"], []]
    assert activity[ADA][1]["url"] == "https://shop.invalid/p1"
    assert activity[BOB][0]["type"] == "hard"
    later = done(api, campaign, since=after(1).isoformat())
    assert [[one["action"] for one in later[who]] for who in (ADA, BOB, EVE)] == [["click"], [], []]
    alone = api.ok("GET", f"/reports/{campaign}/email-activity/{subscriber_hash(ADA)}")
    assert alone["activity"] == activity[ADA]
    api.refused(404, "GET", f"/reports/{campaign}/email-activity/{subscriber_hash('x@kauf-demo.shop')}")
    deliveries = api.ok("GET", f"/reports/{campaign}/sent-to")["sent_to"]
    assert [(one["email_address"], one["status"], one["open_count"]) for one in deliveries] == [
        (ADA, "sent", 1),
        (BOB, "hard", 0),
        (EVE, "sent", 0),
    ]


def test_who_leaves_complains_or_bounces_is_no_subscriber_any_more(api: Api, campaign: str) -> None:
    react(account(api), campaign, ADA, "unsubscribe", at=after(1), detail="Too many")
    react(account(api), campaign, BOB, "abuse", at=after(2))
    react(account(api), campaign, EVE, "bounce", at=after(2))
    [left] = api.ok("GET", f"/reports/{campaign}/unsubscribed")["unsubscribes"]
    assert (left["email_address"], left["timestamp"], left["reason"]) == (ADA, "2026-11-20T11:00:00+00:00", "Too many")
    [complaint] = api.ok("GET", f"/reports/{campaign}/abuse-reports")["abuse_reports"]
    assert (complaint["email_id"], complaint["date"]) == (subscriber_hash(BOB), "2026-11-20T12:00:00+00:00")
    statuses = [
        api.ok("GET", f"/lists/{DEFAULT_LIST}/members/{subscriber_hash(one)}")["status"] for one in (ADA, BOB, EVE)
    ]
    assert statuses == ["unsubscribed", "unsubscribed", "cleaned"]
    api.refused(400, "PATCH", f"/lists/{DEFAULT_LIST}/members/{subscriber_hash(ADA)}", {"status": "subscribed"})
    report = api.ok("GET", f"/reports/{campaign}")
    assert (report["unsubscribed"], report["abuse_reports"], report["bounces"]["hard_bounces"]) == (1, 1, 1)


def test_clicks_are_counted_by_link_and_contact(api: Api, campaign: str) -> None:
    for who, url in ((ADA, "https://a.invalid/"), (ADA, "https://a.invalid/"), (BOB, "https://a.invalid/"),
                     (BOB, "https://b.invalid/")):  # fmt: skip
        react(account(api), campaign, who, "click", at=after(1), detail=url)
    links = api.ok("GET", f"/reports/{campaign}/click-details")["urls_clicked"]
    assert [(one["url"], one["total_clicks"], one["unique_clicks"]) for one in links] == [
        ("https://a.invalid/", 3, 2),
        ("https://b.invalid/", 1, 1),
    ]
    clicks = api.ok("GET", f"/reports/{campaign}")["clicks"]
    assert (clicks["clicks_total"], clicks["unique_clicks"], clicks["unique_subscriber_clicks"]) == (4, 3, 2)


def test_orders_that_name_a_campaign_are_its_sales(shop: Api) -> None:
    campaign = send_campaign(account(shop), to=[ADA])
    shop.ok("POST", f"{STORE}/orders", {**ORDER, "campaign_id": campaign, "tax_total": 9.9})
    shop.ok("POST", f"{STORE}/orders", {**ORDER, "id": "o2"})
    sales = {"total_orders": 1, "total_spent": 49.9, "total_revenue": 40.0, "currency_code": "EUR"}
    assert shop.ok("GET", f"/reports/{campaign}")["ecommerce"] == sales
    [product] = shop.ok("GET", f"/reports/{campaign}/ecommerce-product-activity")["products"]
    assert (product["title"], product["total_revenue"], product["total_purchased"]) == ("Shirt", 49.9, 2)
    shop.ok("DELETE", f"{STORE}/orders/o1")
    assert shop.ok("GET", f"/reports/{campaign}")["ecommerce"]["total_orders"] == 0


def test_activity_grows_as_time_passes(api: Api) -> None:
    campaign = send_campaign(account(api), to=[f"reader{one}@kauf-demo.shop" for one in range(2500)], sent_at=SENT_AT)
    totals = []
    for hour in (0, 10, 20):
        let_react(account(api), campaign, since=after(hour), until=after(hour + 10))
        totals.append(api.ok("GET", f"/reports/{campaign}")["opens"]["opens_total"])
    assert 0 < totals[0] < totals[1] < totals[2]
    pages = [
        api.ok("GET", f"/reports/{campaign}/email-activity", count=1000, offset=offset)["emails"]
        for offset in (0, 1000, 2000)
    ]
    assert [len(page) for page in pages] == [1000, 1000, 500]
    assert len({one["email_id"] for page in pages for one in page}) == 2500
    across = api.ok("GET", f"/reports/{campaign}/sent-to", count=300, offset=900)["sent_to"]
    assert [one["email_address"] for one in across] == [f"reader{one}@kauf-demo.shop" for one in range(900, 1200)]


def test_a_contact_who_was_deleted_for_good_is_in_no_listing(api: Api, campaign: str) -> None:
    react(account(api), campaign, ADA, "unsubscribe")
    api.ok("POST", f"/lists/{DEFAULT_LIST}/members/{subscriber_hash(ADA)}/actions/delete-permanent")
    assert list(done(api, campaign)) == [BOB, EVE]
    assert api.ok("GET", f"/reports/{campaign}/email-activity")["total_items"] == 2
    assert api.ok("GET", f"/reports/{campaign}/unsubscribed")["unsubscribes"] == []


def test_campaigns_and_reactions_are_kept_in_the_file(tmp_path: Path) -> None:
    with SandboxServer.start(file=tmp_path / "sandbox.db") as server:
        campaign = send_campaign(server.state.account, to=[ADA, BOB], sent_at=SENT_AT)
        react(server.state.account, campaign, ADA, "open", at=after(1))
        before = Api(server).ok("GET", f"/reports/{campaign}")
    with SandboxServer.start(file=tmp_path / "sandbox.db") as server:
        again = Api(server)
        assert again.ok("GET", f"/reports/{campaign}") == before
        assert list(done(again, campaign)) == [ADA, BOB]


def test_a_campaign_can_be_sent_from_outside(api: Api, campaign: str) -> None:
    reply = requests.post(f"{api.server.origin}/sandbox/campaigns", params={"title": "Now"}, timeout=10).json()
    assert reply["sent"] == 3
    assert api.ok("GET", f"/campaigns/{reply['campaign_id']}")["settings"]["title"] == "Now"
