"""Group H of the feature map: orders."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from include.sandbox.api import Reply
from tests.features.sent import calls, error_classes, sent
from tests.pipeline import STORE, Died, Pipeline, email_hash

ORDERS = ("orders",)
CAMPAIGN, OTHER_CAMPAIGN = "abcdef0123", "0123456789"
STATUSES = ("pending", "paid", "shipped", "completed", "cancelled", "refunded")


@pytest.fixture
def shop(pipeline: Pipeline) -> Pipeline:
    """A shop with two products and a customer, which Mailchimp has."""
    pipeline.add_product(1)
    pipeline.add_product(2)
    pipeline.add_customer(1, "ada@mail.little.shop", opted_in=True)
    pipeline.push()
    return pipeline


def dies_at(step: int) -> Callable[[], None]:
    """Kill the worker before one of its steps."""
    steps = iter(range(1, step))

    def die() -> None:
        if next(steps, None) is None:
            raise Died

    return die


def test_h1_only_orders_that_the_profile_counts_as_completed_are_sent(shop: Pipeline) -> None:
    for number, status in enumerate(STATUSES, 1):
        shop.add_order(number, 1, 1, status=status)
    ran = shop.push()
    assert (ran["orders"].acknowledged, ran["orders"].skipped) == (5, 1)
    assert set(shop.held("orders")) == {"2", "3", "4", "5", "6"}
    assert shop.rejected() == {}


def test_h1_the_setting_names_the_statuses_that_are_sent_instead(shop: Pipeline) -> None:
    shop.configure(order_statuses=["pending", "completed"])
    for number, status in enumerate(STATUSES, 1):
        shop.add_order(number, 1, 1, status=status)
    shop.push()
    assert set(shop.held("orders")) == {"1", "4"}
    shop.sql("UPDATE orders SET status = 'completed' WHERE order_id = 3")
    shop.push()
    assert set(shop.held("orders")) == {"1", "3", "4"}


def test_h1_an_order_whose_status_is_no_longer_sent_is_no_revenue_any_more(shop: Pipeline) -> None:
    shop.add_order(1, 1, 1)
    shop.push()
    shop.sql("UPDATE orders SET status = 'pending'")
    assert shop.push()["orders"].deleted == 1
    assert shop.held("orders") == {}


def test_h1_a_status_that_the_profile_does_not_know_is_told_not_guessed(shop: Pipeline) -> None:
    shop.configure(max_rejected_percent=100)
    shop.add_order(1, 1, 1, status="on hold")
    shop.push()
    assert shop.held("orders") == {}
    assert shop.sql("SELECT field, detail FROM mailchimp.rejected_records") == [
        ("financial_status", "status on hold is not under order_statuses in the shop's profile.yaml; add it there")
    ]


def test_h2_an_order_has_its_number_total_and_times_in_utc(shop: Pipeline) -> None:
    # The zone of the shop's database must not matter.
    [(database,)] = shop.sql("SELECT current_database()")
    shop.sql(f"ALTER DATABASE {database} SET timezone = 'Asia/Tokyo'")
    shop.engine.dispose()
    shop.add_order(5, 1, 1, 2, number="2024-0815", placed_at="2024-05-01T00:30:00+02:00")
    shop.sql("UPDATE orders SET updated_at = '2024-05-02T00:30:00.987+02:00'")
    shop.full_sync(entities=ORDERS)
    order = shop.held("orders")["5"]
    assert order["order_url"] == "https://little.shop/account/orders/2024-0815"
    assert (order["order_total"], order["currency_code"]) == (20, "EUR")
    assert order["processed_at_foreign"] == "2024-04-30T22:30:00+00:00"
    assert order["updated_at_foreign"] == "2024-05-01T22:30:00+00:00"


def test_h3_orders_go_in_batches_and_every_answer_is_read(shop: Pipeline) -> None:
    shop.configure(batch_operations=4, max_rejected_percent=100)
    for number in range(1, 11):
        shop.add_order(number, 1, 1)

    def refuse(_method: str, path: str) -> Reply | None:
        problem = b'{"title": "Invalid Resource", "status": 400, "detail": "Not this one.", "instance": ""}'
        return Reply(400, problem, "refused") if path.endswith("/orders/7") else None

    shop.sandbox.state.operation_fault = refuse
    batches = calls(shop, "POST /batches")
    ran = shop.push(entities=ORDERS, kind="scheduled")
    assert calls(shop, "POST /batches") == batches + 3
    assert calls(shop, "operation PUT", "/orders/", " 200") == 9
    assert calls(shop, "/orders") == 9, "no call but the batches' operations"
    assert (ran["orders"].acknowledged, ran["orders"].rejected) == (9, 1)
    assert shop.rejected() == {("orders", "7"): "Invalid Resource"}
    assert shop.ledger("orders") == {str(number): "synced" for number in range(1, 11)} | {"7": "rejected"}


@pytest.mark.parametrize("verb", ["put", "post_patch"])
def test_h4_no_order_is_sent_twice_whatever_is_looked_at_again(shop: Pipeline, verb: str) -> None:
    shop.configure(order_upsert=verb, window_overlap_minutes=60)
    for number in (1, 2, 3):
        shop.add_order(number, 1, 1)
    assert shop.push()["orders"].operations == 3
    # The next window overlaps; then everything is looked at.
    ran = shop.push()
    assert (ran["orders"].extracted, ran["orders"].unchanged, ran["orders"].operations) == (3, 3, 0)
    assert shop.full_sync()["orders"].operations == 0
    # Saved again without a change.
    shop.sql("UPDATE customers SET first_name = 'Countess'")
    shop.sql("UPDATE orders SET landing_site = landing_site || ''")
    assert shop.push()["orders"].operations == 0
    assert len(shop.held("orders")) == 3


def test_h4_the_ledger_knows_which_orders_are_new_and_which_are_changed(shop: Pipeline) -> None:
    shop.configure(order_upsert="post_patch")
    shop.add_order(1, 1, 1)
    shop.push()
    shop.sql("UPDATE orders SET status = 'shipped'")
    shop.add_order(2, 1, 1)
    shop.push()
    assert calls(shop, "operation POST", "/orders 200") == 2
    assert calls(shop, "operation PATCH", "/orders/{order_id} 200") == 1
    assert calls(shop, "operation", "/orders") == 3


def test_h4_an_order_is_sent_once_when_the_worker_dies_after_it_was_posted(shop: Pipeline) -> None:
    shop.add_order(1, 1, 1)
    with pytest.raises(Died):
        shop.push(entities=ORDERS, dies=dies_at(2))
    assert shop.push(entities=ORDERS)["orders"].operations == 0
    assert calls(shop, "operation", "/orders") == 1
    assert shop.ledger("orders") == {"1": "synced"}


@pytest.mark.parametrize("verb", ["auto", "put", "post_patch"])
def test_h5_a_changed_order_is_changed_at_mailchimp(shop: Pipeline, verb: str) -> None:
    shop.configure(order_upsert=verb)
    shop.add_order(1, 1, 1, landing_site="https://little.shop/spring")
    shop.add_order(2, 1, 1)
    shop.push()
    shop.sql("UPDATE order_lines SET quantity = 3 WHERE order_id = 1")
    shop.sql("UPDATE orders SET order_total = 30, status = 'shipped', landing_site = NULL WHERE order_id = 1")
    assert shop.push()["orders"].operations == 1
    order = shop.held("orders")["1"]
    assert [line["quantity"] for line in order["lines"]] == [3]
    assert (order["order_total"], order["fulfillment_status"], order["landing_site"]) == (30, "shipped", "")
    assert len(shop.held("orders")) == 2


def test_h5_an_order_follows_its_address(shop: Pipeline) -> None:
    shop.sql("INSERT INTO addresses (address_id, customer_id, name, city) VALUES (9, 1, 'Ada L', 'Ulm')")
    shop.add_order(1, 1, 1, shipping_address_id=9)
    shop.push()
    shop.sql("UPDATE addresses SET city = 'Bonn'")
    assert shop.push()["orders"].operations == 1
    assert shop.held("orders")["1"]["shipping_address"]["city"] == "Bonn"


def test_h5_a_deleted_order_is_deleted(shop: Pipeline) -> None:
    shop.add_order(1, 1, 1)
    shop.add_order(2, 1, 1)
    shop.push()
    shop.sql("UPDATE orders SET deleted_at = now() WHERE order_id = 1")
    assert shop.push()["orders"].deleted == 1
    assert set(shop.held("orders")) == {"2"}


def test_h6_an_order_belongs_to_the_contact_of_its_buyers_address(shop: Pipeline) -> None:
    """Which is what puts it into the contact's activity feed."""
    shop.add_customer(2, "  Grace@Mail.little.shop ", is_guest=True)
    shop.add_order(1, 1, 1)
    shop.add_order(2, 2, 1)
    shop.push()
    for order_id, address in (("1", "ada@mail.little.shop"), ("2", "grace@mail.little.shop")):
        customer = shop.held("orders")[order_id]["customer"]
        contact = shop.member(address)
        assert contact is not None
        assert customer["email_address"].lower() == contact["email_address"].lower() == address
        assert customer["id"] == contact["id"] == email_hash(address)
    assert shop.status("ada@mail.little.shop") == "subscribed"
    assert shop.status("grace@mail.little.shop") == "transactional"


def test_h6_orders_follow_a_buyer_who_changes_the_address(shop: Pipeline) -> None:
    shop.add_order(1, 1, 1)
    shop.push()
    shop.sql("UPDATE customers SET email = 'lovelace@mail.little.shop'")
    shop.push()
    assert shop.held("orders")["1"]["customer"]["email_address"] == "lovelace@mail.little.shop"
    assert shop.status("lovelace@mail.little.shop") == "subscribed"


def test_h7_the_profile_maps_both_statuses(shop: Pipeline) -> None:
    shop.configure(order_statuses=list(STATUSES))
    for number, status in enumerate(STATUSES, 1):
        shop.add_order(number, 1, 1, status=status)
    shop.push()
    orders = shop.held("orders").items()
    assert {number: (order["financial_status"], order["fulfillment_status"]) for number, order in orders} == {
        "1": ("pending", ""),
        "2": ("paid", ""),
        "3": ("paid", "shipped"),
        "4": ("paid", "delivered"),
        "5": ("cancelled", ""),
        "6": ("refunded", ""),
    }


def test_h7_each_change_of_status_is_told_the_buyer_once(shop: Pipeline) -> None:
    shop.add_order(1, 1, 1)
    shop.push()
    shop.sql("UPDATE orders SET status = 'shipped'")
    shop.push()
    shop.sql("UPDATE orders SET tracking_number = 'T1'")
    shop.push()
    assert shop.mails() == {"order invoice": 1, "shipping confirmation": 1}


def test_h8_a_cancelled_order_says_when_and_a_live_one_never_does(shop: Pipeline) -> None:
    shop.add_order(1, 1, 1)
    shop.add_order(2, 1, 1)
    # Taken up again: Mailchimp would count it as cancelled, whatever the time.
    shop.add_order(3, 1, 1, cancelled_at="2024-05-01T12:00:00Z")
    shop.push()
    assert not any("cancelled_at_foreign" in sent(shop, "orders", number) for number in ("1", "2", "3"))
    shop.sql("UPDATE orders SET status = 'cancelled', cancelled_at = '2024-05-02T12:00:00Z' WHERE order_id = 1")
    shop.sql("UPDATE orders SET status = 'cancelled', updated_at = '2024-05-03T12:00:00Z' WHERE order_id = 2")
    shop.full_sync(entities=ORDERS)
    orders = shop.held("orders")
    assert {number: order["cancelled_at_foreign"] for number, order in orders.items()} == {
        "1": "2024-05-02T12:00:00+00:00",
        "2": "2024-05-03T12:00:00+00:00",
        "3": "",
    }
    assert {order["order_total"] for order in orders.values()} == {10}


def test_h8_a_refunded_order_counts_with_what_was_really_paid(shop: Pipeline) -> None:
    shop.add_order(1, 1, 1, 2)
    shop.push()
    shop.sql("UPDATE orders SET status = 'refunded', order_total = 5")
    ran = shop.push()
    assert (ran["orders"].acknowledged, shop.rejected()) == (1, {})
    order = shop.held("orders")["1"]
    assert (order["financial_status"], order["order_total"]) == ("refunded", 5)
    assert order["customer"]["total_spent"] == 5


def test_h9_discount_tax_and_shipping_are_sent_and_have_to_add_up(shop: Pipeline) -> None:
    shop.configure(max_rejected_percent=100)
    shop.add_order(1, 1, 1, order_total="13.42", discount_total="3.00", tax_total="1.52", shipping_total="4.90")
    shop.add_order(2, 1, 1, order_total="14.42", discount_total="3.00", tax_total="1.52", shipping_total="4.90")
    shop.push()
    order = shop.held("orders")["1"]
    amounts = ("order_total", "discount_total", "tax_total", "shipping_total")
    assert [order[name] for name in amounts] == [13.42, 3, 1.52, 4.9]
    assert set(shop.held("orders")) == {"1"}
    [(record_id, field, detail)] = shop.sql("SELECT record_id, field, detail FROM mailchimp.rejected_records")
    assert (record_id, field) == ("2", "order_total")
    assert detail.startswith("order_total is 14.42, but lines - discount + shipping + tax make 13.42;")


@pytest.mark.parametrize(("policy", "accepted"), [("order", {"1", "2"}), ("store", {"1"})])
def test_h10_one_policy_for_orders_in_other_currencies(shop: Pipeline, policy: str, accepted: set[str]) -> None:
    shop.configure(currency_policy=policy, max_rejected_percent=100)
    shop.add_order(1, 1, 1)
    shop.add_order(2, 1, 1, currency_code="JPY")
    shop.push()
    orders = shop.held("orders")
    assert set(orders) == accepted
    assert set(error_classes(shop, "orders")) == {"1", "2"} - accepted
    # Nothing is converted: all amounts of an order are in its currency.
    amounts = {number: (one["currency_code"], one["order_total"]) for number, one in orders.items()}
    assert amounts.items() <= {"1": ("EUR", 10), "2": ("JPY", 10)}.items()


def test_h11_a_parcel_can_be_tracked(shop: Pipeline) -> None:
    shop.add_order(1, 1, 1)
    shop.push()
    shop.sql("UPDATE orders SET status = 'shipped', tracking_number = 'T 1', tracking_carrier = 'Post'")
    shop.push()
    order = shop.held("orders")["1"]
    assert (order["tracking_number"], order["tracking_carrier"]) == ("T 1", "Post")
    assert order["tracking_url"].startswith("https://little.shop/track/T")


@pytest.mark.parametrize("verb", ["put", "post_patch"])
def test_h12_an_order_names_the_coupons_that_were_used(shop: Pipeline, verb: str) -> None:
    shop.configure(order_upsert=verb)
    shop.add_order(1, 1, 1, 2, order_total="15.00", discount_total="5.00")
    shop.sql(
        "INSERT INTO order_promotions VALUES (1, 'SPRING', 'percentage', 2.00), (1, 'HELLO', 'fixed', 3.00), "
        "(1, 'FREESHIP', 'fixed', 0)"
    )
    shop.push()
    assert shop.held("orders")["1"]["promos"] == [
        {"code": "FREESHIP", "type": "fixed", "amount_discounted": 0},
        {"code": "HELLO", "type": "fixed", "amount_discounted": 3},
        {"code": "SPRING", "type": "percentage", "amount_discounted": 2},
    ]
    shop.sql("DELETE FROM order_promotions")
    shop.push()
    assert shop.held("orders")["1"]["promos"] == []


def test_h13_an_order_says_which_campaign_and_page_brought_the_buyer(shop: Pipeline) -> None:
    shop.sandbox.state.account.campaigns = frozenset({CAMPAIGN})
    page = f"https://little.shop/spring?mc_cid={CAMPAIGN}&mc_eid=UNIQID"
    shop.add_order(1, 1, 1, campaign_id=CAMPAIGN, landing_site=page, tracking_code="prec")
    shop.push()
    order = shop.held("orders")["1"]
    assert (order["campaign_id"], order["landing_site"], order["tracking_code"]) == (CAMPAIGN, page, "prec")


def test_h13_an_attribution_that_mailchimp_does_not_take_costs_no_order(shop: Pipeline) -> None:
    shop.sandbox.state.account.campaigns = frozenset({CAMPAIGN})
    shop.add_order(1, 1, 1, campaign_id=OTHER_CAMPAIGN)  # deleted, or of another account
    shop.add_order(2, 1, 1, campaign_id="utm-spring")
    shop.add_order(3, 1, 1, tracking_code="spring")
    shop.add_order(4, 1, 1, campaign_id=CAMPAIGN)
    ran = shop.push()
    assert (ran["orders"].acknowledged, ran["orders"].operations, shop.rejected()) == (4, 5, {})
    orders = shop.held("orders")
    assert [orders[number]["campaign_id"] for number in "1234"] == ["", "", "", CAMPAIGN]
    assert "tracking_code" not in sent(shop, "orders", "3")


def test_h13_attribution_asks_mailchimp_nothing_however_many_orders_there_are(shop: Pipeline) -> None:
    def reads(*orders: int) -> int:
        before = calls(shop, "GET ")
        for number in orders:
            shop.add_order(number, 1, 1, landing_site="https://little.shop/spring")
        shop.push(entities=ORDERS)
        return calls(shop, "GET ") - before

    reads(1)  # finds out how this account takes orders
    assert reads(2) == reads(*range(3, 12))
    assert len(shop.held("orders")) == 11


def test_h14_mailchimp_adds_up_the_shops_sales_by_buyer_and_campaign(shop: Pipeline) -> None:
    shop.sandbox.state.account.campaigns = frozenset({CAMPAIGN})
    shop.add_customer(2)
    shop.add_order(1, 1, 1, 2, campaign_id=CAMPAIGN)
    shop.add_order(2, 1, 1)
    shop.add_order(3, 2, 2, campaign_id=CAMPAIGN)
    shop.push()
    shop.sql("UPDATE orders SET status = 'shipped'")  # an update is no second purchase
    shop.push()
    buyers = shop.held("customers").values()
    assert {(one["orders_count"], one["total_spent"]) for one in buyers} == {(2, 30), (1, 10)}
    [(sales,)] = shop.sql("SELECT sum(order_total) FROM orders")
    everything = shop.client.list_all("/ecommerce/orders", "orders")
    assert sum(order["order_total"] for order in everything) == sales == 40
    found = shop.client.get(f"{STORE}/orders", params={"campaign_id": CAMPAIGN}) or {}
    assert {order["id"]: order["order_total"] for order in found["orders"]} == {"1": 20, "3": 10}


@pytest.mark.parametrize("verb", ["put", "post_patch"])
def test_h15_a_line_keeps_its_id_and_a_removed_one_is_deleted(shop: Pipeline, verb: str) -> None:
    shop.configure(order_upsert=verb)
    shop.add_order(1, 1, 1, 2, lines=(71, 72))
    shop.push()
    shop.sql("DELETE FROM order_lines WHERE line_id = 71")
    shop.sql("UPDATE order_lines SET quantity = 2")
    shop.sql("UPDATE orders SET order_total = 20")
    shop.push()
    assert [(line["id"], line["product_id"], line["quantity"]) for line in shop.held("orders")["1"]["lines"]] == [
        ("72", "2", 2)
    ]
    assert shop.full_sync()["orders"].operations == 0


def test_h15_an_order_may_exchange_all_of_its_lines(shop: Pipeline) -> None:
    """Mailchimp never deletes the last line, so the new ones have to be there first."""
    shop.add_order(1, 1, 1, lines=(71,))
    shop.push()
    shop.sql("DELETE FROM order_lines")
    shop.sql("INSERT INTO order_lines (order_id, line_id, product_id, variant_id, quantity, price) "
             "VALUES (1, 81, 2, 20, 1, 10)")  # fmt: skip
    shop.push()
    assert [line["id"] for line in shop.held("orders")["1"]["lines"]] == ["81"]
    assert calls(shop, "operation DELETE", "/lines/{line_id} 204") == 1
