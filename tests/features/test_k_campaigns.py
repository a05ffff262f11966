"""Group K of the feature map: what campaigns achieved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import requests

from include.sandbox import campaigns
from tests.features.test_g_carts import pass_time
from tests.include.pull.campaigning import LIST_ID, NOW, Campaigning, ago, who
from tests.pipeline import Pipeline, email_hash


@pytest.fixture
def shop(pipeline: Pipeline) -> Campaigning:
    return Campaigning(pipeline)


def test_k1_campaigns_are_imported_with_their_statistics(shop: Campaigning) -> None:
    ada, bob, eve = (f"{name}@mail.little.shop" for name in ("ada", "bob", "eve"))
    campaign_id = shop.send(ada, bob, eve, title="Spring")
    draft = campaigns.add_campaign(shop.account, LIST_ID, title="Summer")
    for _ in range(2):
        shop.react(campaign_id, ada, "open", ago(hours=3))
    shop.react(campaign_id, ada, "click", ago(hours=2))
    shop.react(campaign_id, bob, "bounce", ago(hours=2), "soft")
    shop.react(campaign_id, eve, "unsubscribe", ago(hours=1))
    assert vars(shop.pull()[0]) == {"campaigns": 2, "with_figures": 1, "removed": 0}
    assert shop.pipeline.sql(
        "SELECT store_key, campaign_id, title, status, emails_sent, opens, unique_opens, clicks, unique_clicks, "
        "clicked_by, hard_bounces, soft_bounces, unsubscribed, abuse_reports "
        "FROM mailchimp.campaign_results ORDER BY title"
    ) == [
        ("demo", campaign_id, "Spring", "sent", 3, 2, 1, 1, 1, 1, 0, 1, 1, 0),
        ("demo", draft, "Summer", "save", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    ]


def test_k1_all_campaigns_of_the_audience_are_imported_and_none_of_another(shop: Campaigning) -> None:
    shop.account.add_audience("club", "Club", double_optin=False)
    campaigns.send_campaign(shop.account, "club", title="Club", to=["a@mail.little.shop"])
    for number in range(1_001):
        campaigns.add_campaign(shop.account, LIST_ID, title=f"News {number}")
    shop.pull()
    assert shop.pipeline.sql("SELECT count(*), count(DISTINCT list_id) FROM mailchimp.campaign") == [(1_001, 1)]


def test_k1_revenue_is_exact_and_leads_to_the_shops_orders(shop: Campaigning) -> None:
    pipeline = shop.pipeline
    spring, summer = (
        shop.send("ada@mail.little.shop", title="Spring"),
        shop.send("ada@mail.little.shop", title="Summer"),
    )
    for number in (1, 2):
        pipeline.add_product(number)
        pipeline.add_customer(number)
    pipeline.add_order(1, 1, 1, order_total="10.10", shipping_total="0.10", campaign_id=spring)
    pipeline.add_order(2, 2, 1, 2, order_total="20.20", shipping_total="0.20", campaign_id=spring)
    pipeline.add_order(3, 2, 2, currency_code="USD", campaign_id=spring)
    pipeline.add_order(4, 2, 2)
    pipeline.push()
    shop.pull()
    revenue = "SELECT currency_code, orders, revenue FROM mailchimp.campaign_revenue WHERE campaign_id = :id ORDER BY 1"
    assert pipeline.sql(revenue, id=spring) == [("EUR", 2, Decimal("30.3000")), ("USD", 1, Decimal("10.0000"))]
    assert pipeline.sql(
        "SELECT orders, spent, revenue, orders_of_store FROM mailchimp.campaign_results ORDER BY title"
    ) == [
        (3, Decimal("40.3000"), Decimal("40.0000"), 3),
        (0, Decimal(0), Decimal(0), 0),
    ]
    assert pipeline.sql(
        "SELECT c.title, o.number, o.customer_id FROM mailchimp.campaign_orders c "
        "JOIN public.orders o ON o.order_id::text = c.order_id ORDER BY 2"
    ) == [("Spring", "N1", 1), ("Spring", "N2", 2), ("Spring", "N3", 2)]
    pipeline.sql("UPDATE orders SET campaign_id = :id WHERE order_id = 2", id=summer)
    pipeline.client.patch("/ecommerce/stores/demo-shop/orders/2", json={"campaign_id": summer})
    shop.pull(NOW + timedelta(hours=6))
    assert pipeline.sql("SELECT title, order_id FROM mailchimp.campaign_orders ORDER BY 2") == [
        ("Spring", "1"),
        ("Summer", "2"),
        ("Spring", "3"),
    ]


def test_k1_a_campaign_that_is_gone_at_mailchimp_stays_with_what_it_achieved(shop: Campaigning) -> None:
    campaign_id = shop.send("ada@mail.little.shop")
    shop.react(campaign_id, "ada@mail.little.shop", "open", ago(hours=1))
    shop.pull()
    document = shop.account.campaign_records.get(campaign_id) or {}
    shop.account.campaign_records.remove(campaign_id)
    assert shop.pull()[0].removed == 1
    assert shop.pipeline.sql("SELECT opens, removed_at IS NOT NULL FROM mailchimp.campaign_results") == [(1, True)]
    assert shop.actions(campaign_id) == [(who("ada@mail.little.shop"), "open")]
    shop.account.campaign_records.put(campaign_id, document)
    shop.pull()
    assert shop.pipeline.sql("SELECT removed_at FROM mailchimp.campaign_results") == [(None,)]


def test_k2_what_each_contact_did_is_known_of_the_shops_customers(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    people = [pipeline.add_customer(number, opted_in=True) for number in (1, 2, 3, 4)]
    pipeline.push()
    shop = Campaigning(pipeline)
    sent_at = ago(days=2)
    campaign_id = shop.send(*people, "stranger@mail.little.shop", sent_at=sent_at)
    doings: list[tuple[int, campaigns.Action, str]] = [
        (0, "open", ""), (0, "click", "https://shop.invalid/p1?e=ada"), (1, "bounce", "hard"), (2, "unsubscribe", ""),
        (3, "abuse", ""),
    ]  # fmt: skip
    for place, (number, action, detail) in enumerate(doings):
        shop.react(campaign_id, people[number], action, sent_at + timedelta(hours=place + 1), detail)
    shop.pull()
    rows = pipeline.sql(
        "SELECT customer_id, action, happened_at, detail FROM mailchimp.campaign_activity_of_customers "
        "WHERE campaign_id = :id ORDER BY happened_at, customer_id", id=campaign_id,
    )  # fmt: skip
    hours = [sent_at + timedelta(hours=number) for number in range(6)]
    assert rows == [
        *((str(number), "sent", sent_at, "") for number in (1, 2, 3, 4)),
        ("1", "open", hours[1], ""),
        ("1", "click", hours[2], "https://shop.invalid/p1"),
        ("2", "bounce", hours[3], "hard"),
        ("3", "unsubscribe", hours[4], ""),
        ("4", "abuse", hours[5], ""),
    ]
    assert len(shop.actions(campaign_id, sent=True)) == 10


def test_k2_customers_who_share_an_address_are_both_told_about(pipeline: Pipeline) -> None:
    for number in (1, 2):
        pipeline.add_customer(number, "both@mail.little.shop", opted_in=True)
    pipeline.push()
    shop = Campaigning(pipeline)
    campaign_id = shop.send("both@mail.little.shop")
    shop.react(campaign_id, "both@mail.little.shop", "open", ago(hours=1))
    shop.pull()
    opened = "SELECT customer_id FROM mailchimp.campaign_activity_of_customers WHERE action = 'open' ORDER BY 1"
    assert pipeline.sql(opened) == [("1",), ("2",)]


def test_k3_activity_is_read_until_the_interval_after_sending_is_over(shop: Campaigning) -> None:
    shop.pipeline.configure(activity_update_interval_days=10)
    ada = "ada@mail.little.shop"
    campaign_id, sent_at = shop.send(ada, sent_at=ago(days=1)), ago(days=1)
    for day in (0.5, 9.9, 10.1):
        shop.react(campaign_id, ada, "open", sent_at + timedelta(days=day))
    shop.pull(sent_at + timedelta(days=5))
    calls = shop.asked("email-activity")
    # The last round begins after the interval's end, and reads what came before that.
    shop.react(campaign_id, ada, "click", sent_at + timedelta(days=9.95))
    shop.pull(sent_at + timedelta(days=11))
    assert shop.asked("email-activity") == calls + 1
    moments = [when - sent_at for _, action, when, _ in shop.events(campaign_id) if action != "sent"]
    assert moments == [timedelta(days=day) for day in (0.5, 9.9, 9.95)]
    shop.react(campaign_id, ada, "open", sent_at + timedelta(days=12))
    shop.pull(sent_at + timedelta(days=13))
    assert shop.asked("email-activity") == calls + 1
    # Its figures go on being read.
    assert shop.pipeline.sql("SELECT opens FROM mailchimp.campaign_results") == [(4,)]


def test_k3_of_campaigns_that_were_over_before_the_first_pull_only_figures_are_read(shop: Campaigning) -> None:
    old = shop.send("ada@mail.little.shop", sent_at=ago(days=91))
    young = shop.send("ada@mail.little.shop", sent_at=ago(days=89))
    for campaign_id in (old, young):
        shop.react(campaign_id, "ada@mail.little.shop", "open", ago(days=88))
    shop.pull()
    assert (len(shop.events(old)), len(shop.events(young))) == (0, 2)
    assert shop.pipeline.sql("SELECT opens FROM mailchimp.campaign_results") == [(1,), (1,)]


def test_k4_a_campaigns_activity_is_switched_off_and_on_by_the_shop(shop: Campaigning) -> None:
    ada = "ada@mail.little.shop"
    loud, quiet = shop.send(ada), shop.send(ada)
    shop.pull()
    shop.pipeline.sql("UPDATE mailchimp.campaign SET receives_activity = false WHERE campaign_id = :id", id=quiet)
    for campaign_id in (loud, quiet):
        shop.react(campaign_id, ada, "open", ago(hours=1))
    shop.pull(NOW + timedelta(hours=6))
    assert (shop.actions(loud), shop.actions(quiet)) == ([(who(ada), "open")], [])
    results = "SELECT opens, receives_activity FROM mailchimp.campaign_results ORDER BY receives_activity"
    assert shop.pipeline.sql(results) == [(1, False), (1, True)]
    shop.pipeline.sql("UPDATE mailchimp.campaign SET receives_activity = true")
    shop.pull(NOW + timedelta(hours=12))
    assert shop.actions(quiet) == [(who(ada), "open")]


def test_k6_what_marketers_segment_by_is_complete(pipeline: Pipeline) -> None:
    """Who bought what, how often, when and for how much: Mailchimp works it out from what it is sent."""
    for number in (1, 2, 3):
        pipeline.add_product(number)
        pipeline.add_customer(number)
    last_year = datetime.now(UTC) - timedelta(days=365)
    pipeline.add_order(1, 1, 1, 2, placed_at=last_year)
    pipeline.add_order(2, 1, 2)
    pipeline.add_order(3, 2, 3)
    pipeline.push()
    customers, orders = pipeline.held("customers"), pipeline.held("orders")
    bought = {one: (customers[email_hash(f"c{one}@mail.little.shop")]) for one in (1, 2, 3)}
    totals = {one: (buyer["orders_count"], buyer["total_spent"]) for one, buyer in bought.items()}
    assert totals == {1: (2, 30), 2: (1, 10), 3: (0, 0)}
    products = {one: {line["product_id"] for line in order["lines"]} for one, order in orders.items()}
    assert products == {"1": {"1", "2"}, "2": {"2"}, "3": {"3"}}
    placed_at = datetime.fromisoformat(orders["1"]["processed_at_foreign"])
    assert abs(placed_at - last_year) < timedelta(seconds=1)


def test_k8_automations_have_what_they_need_and_write_about_news_only(pipeline: Pipeline) -> None:
    pipeline.configure(checkout_url_template="https://shop.invalid/{cart_id}")
    pipeline.add_product(1)
    for number in (1, 2):
        pipeline.add_customer(number, opted_in=True)
    pipeline.add_order(1, 1, 1)
    pipeline.push()
    assert pipeline.mails() == {}, "the store is quiet while it is filled"
    pipeline.add_order(2, 1, 1)
    pipeline.add_cart(5, 2, 1)
    pass_time(pipeline, timedelta(minutes=20))
    pipeline.push()
    assert set(pipeline.held("carts")) == {"5"}
    requests.post(f"{pipeline.sandbox.origin}/sandbox/remind", timeout=30).raise_for_status()
    account = pipeline.sandbox.state.account
    assert [(mail["kind"], mail["record_id"]) for mail in account.mails] == [
        ("order invoice", "2"),
        ("abandoned cart", "5"),
    ]
