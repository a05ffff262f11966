"""Orders: references, verbs, merging, computed customers, and the mails a status sets off."""

from typing import Any

import pytest

from include.sandbox.server import SandboxServer
from tests.include.sandbox.conftest import ORDER, STORE, Api, add_store

PATH = f"{STORE}/orders"
LINE = ORDER["lines"][0]


def test_an_order_is_shown_with_its_customer_and_empty_values(shop: Api) -> None:
    order = shop.ok("POST", PATH, ORDER)
    assert order["customer"]["email_address"] == "Ada@kauf-demo.shop"
    assert (order["customer"]["orders_count"], order["customer"]["total_spent"]) == (1, 49.9)
    assert (order["financial_status"], order["cancelled_at_foreign"], order["tax_total"]) == ("", "", 0)
    assert order["shipping_address"]["city"] == ""
    assert order["lines"][0]["product_variant_title"] == "Shirt M"
    shop.ok("PATCH", f"{PATH}/o1", {"order_total": 10.1})
    assert shop.ok("GET", f"{STORE}/customers/c1")["total_spent"] == 10.1
    shop.ok("DELETE", f"{PATH}/o1")
    assert shop.ok("GET", f"{STORE}/customers/c1")["orders_count"] == 0


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (
            {"lines": [{**LINE, "product_id": "p9"}]},
            "A product with the provided ID does not exist in the account for this list.",
        ),
        (
            {"lines": [{**LINE, "product_variant_id": "v9"}]},
            "A product with the provided variant ID does not exist in the account for this list.",
        ),
        ({"campaign_id": "x"}, "A campaign with the provided ID does not exist in the account for this list."),
        ({"lines": [LINE, LINE]}, "An order may not contain the same line item id more than once."),
        ({"customer": {"id": "c9"}}, "email_address: An email address is required to create a customer."),
        (
            {"customer": {"id": "c1", "email_address": "other@kauf-demo.shop"}},
            "A customer's email address may not be changed.",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["POST", "PUT"])
def test_an_order_is_refused(shop: Api, verb: str, change: dict[str, Any], detail: str) -> None:
    path = PATH if verb == "POST" else f"{PATH}/o1"
    assert shop.refused(400, verb, path, {**ORDER, **change})["detail"] == detail
    assert shop.ok("GET", PATH)["total_items"] == 0


@pytest.mark.parametrize("change", [{"lines": []}, {"customer": {"id": "x" * 51}}])
def test_some_violations_are_answered_404(shop: Api, change: dict[str, Any]) -> None:
    assert shop.refused(404, "POST", PATH, {**ORDER, **change})["title"] == "Resource Not Found"


def test_an_unknown_customer_is_created(shop: Api) -> None:
    customer = {"id": "c2", "email_address": "bo@kauf-demo.shop", "first_name": "Bo"}
    shop.ok("POST", PATH, {**ORDER, "customer": customer})
    created = shop.ok("GET", f"{STORE}/customers/c2")
    assert (created["first_name"], created["opt_in_status"], created["orders_count"]) == ("Bo", False, 1)


def test_post_of_a_known_order_is_refused(shop: Api) -> None:
    shop.ok("POST", PATH, ORDER)
    assert shop.refused(400, "POST", PATH, ORDER)["detail"] == (
        "We were unable to process the request. An order with the provided ID already exists in the account."
    )
    shop.refused(404, "PATCH", f"{PATH}/none", {"order_total": 1})


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_a_known_order_is_merged(shop: Api, verb: str) -> None:
    promos = [{"code": "A", "type": "fixed", "amount_discounted": 1}]
    shop.ok("PUT", f"{PATH}/o1", {**ORDER, "order_url": "https://kauf-demo.shop/o1", "promos": promos * 2})
    lines = [{**LINE, "quantity": 3}, {**LINE, "id": "l2"}]
    order = shop.ok(verb, f"{PATH}/o1", {**ORDER, "lines": lines[1:], "promos": promos})
    assert order["order_url"] == "https://kauf-demo.shop/o1"
    assert len(order["promos"]) == 1
    order = shop.ok(verb, f"{PATH}/o1", {**ORDER, "lines": lines[:1]})
    assert [(line["id"], line["quantity"]) for line in order["lines"]] == [("l1", 3), ("l2", 2)]


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_promos_are_replaced_as_a_whole(shop: Api, verb: str) -> None:
    promos = [{"code": code, "type": "fixed", "amount_discounted": 1} for code in "AB"]
    shop.ok("POST", PATH, {**ORDER, "promos": promos})
    assert shop.ok(verb, f"{PATH}/o1", ORDER)["promos"] == promos
    assert shop.ok(verb, f"{PATH}/o1", {**ORDER, "promos": promos[1:]})["promos"] == promos[1:]
    assert shop.ok(verb, f"{PATH}/o1", {**ORDER, "promos": []})["promos"] == []


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_an_order_moves_to_another_customer(shop: Api, verb: str) -> None:
    shop.ok("POST", PATH, ORDER)
    customer = {"id": "c2", "email_address": "bo@kauf-demo.shop", "opt_in_status": False}
    assert shop.ok(verb, f"{PATH}/o1", {**ORDER, "customer": customer})["customer"]["id"] == "c2"
    assert shop.ok("GET", f"{STORE}/customers/c2")["total_spent"] == 49.9
    assert shop.ok("GET", f"{STORE}/customers/c1")["orders_count"] == 0
    refused = {**ORDER, "customer": {"id": "c3"}}
    assert "email address is required" in shop.refused(400, verb, f"{PATH}/o1", refused)["detail"]
    assert shop.ok("GET", PATH, customer_id="c2")["total_items"] == 1


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_an_empty_value_takes_a_value_back(shop: Api, verb: str) -> None:
    texts = ("order_url", "landing_site", "tracking_number", "tracking_carrier", "tracking_url", "cart_id")
    address = {"name": "Ada", "city": "Ulm"}
    shop.ok("POST", PATH, {**ORDER, **dict.fromkeys(texts, "x"), "tax_total": 3, "billing_address": address})
    empty = {**ORDER, **dict.fromkeys(texts, ""), "campaign_id": "", "tax_total": 0, "billing_address": {"city": ""}}
    order = shop.ok(verb, f"{PATH}/o1", empty)
    assert [order[name] for name in texts] == [""] * len(texts)
    assert (order["tax_total"], order["billing_address"]["city"], order["billing_address"]["name"]) == (0, "", "Ada")


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_an_empty_address_is_no_address(shop: Api, verb: str) -> None:
    shop.ok("POST", PATH, ORDER)
    refused = {**ORDER, "customer": {"id": "c1", "email_address": ""}}
    assert shop.refused(400, verb, f"{PATH}/o1", refused)["detail"] == "Please provide a valid email address."


def test_lines_have_paths_of_their_own(shop: Api) -> None:
    shop.ok("POST", PATH, ORDER)
    shop.ok("POST", f"{PATH}/o1/lines", {**LINE, "id": "l2"})
    shop.refused(400, "POST", f"{PATH}/o1/lines", LINE)
    shop.refused(400, "PATCH", f"{PATH}/o1/lines/l2", {"product_id": "p9"})
    assert shop.ok("PATCH", f"{PATH}/o1/lines/l2", {"quantity": 5})["quantity"] == 5
    assert shop.ok("GET", f"{PATH}/o1/lines")["total_items"] == 2
    shop.ok("DELETE", f"{PATH}/o1/lines/l1")
    shop.refused(404, "GET", f"{PATH}/o1/lines/l1")
    assert shop.refused(400, "DELETE", f"{PATH}/o1/lines/l2")["detail"] == (
        "In order to delete this line item, delete the parent resource."
    )


def test_an_order_outlives_its_product_and_customer(shop: Api) -> None:
    shop.ok("POST", PATH, ORDER)
    shop.ok("DELETE", f"{STORE}/products/p1")
    shop.ok("DELETE", f"{STORE}/customers/c1")
    assert shop.ok("GET", f"{PATH}/o1")["customer"] == {"id": "c1"}


def test_orders_are_listed_by_customer_and_over_all_stores(shop: Api) -> None:
    shop.ok("POST", PATH, ORDER)
    assert shop.ok("GET", PATH, customer_id="c1")["total_items"] == 1
    assert shop.ok("GET", PATH, customer_id="c2")["total_items"] == 0
    assert shop.ok("GET", "/ecommerce/orders")["orders"][0]["id"] == "o1"


def test_an_account_without_order_put_and_with_a_campaign() -> None:
    with SandboxServer.start(no_order_put=True, campaigns=("abc123",)) as server:
        shop = Api(server)
        add_store(shop)
        shop.refused(405, "PUT", f"{PATH}/o1", ORDER)
        shop.ok("POST", PATH, {**ORDER, "campaign_id": "abc123"})
        assert shop.ok("GET", PATH, campaign_id="abc123")["total_items"] == 1
        assert shop.ok("GET", PATH, campaign_id="abc124")["total_items"] == 0
        assert shop.refused(400, "PATCH", f"{PATH}/o1", {"campaign_id": "gone"})["detail"] == (
            "A campaign with the provided ID does not exist in the account for this list."
        )


def test_changed_statuses_would_mail_the_buyer(shop: Api) -> None:
    shop.ok("POST", PATH, {**ORDER, "financial_status": "pending"})
    shop.ok("PATCH", f"{PATH}/o1", {"financial_status": "paid", "fulfillment_status": "shipped"})
    shop.ok("PATCH", f"{PATH}/o1", {"financial_status": "paid"})
    shop.ok("PATCH", f"{PATH}/o1", {"cancelled_at_foreign": "2026-11-20T10:00:00+00:00"})
    expected = ["order confirmation", "order invoice", "shipping confirmation", "cancellation confirmation"]
    assert [mail["kind"] for mail in shop.own("mails")["mails"]] == expected


def test_a_refund_would_mail_the_buyer(shop: Api) -> None:
    shop.ok("POST", PATH, {**ORDER, "financial_status": "paid"})
    shop.ok("PUT", f"{PATH}/o1", {**ORDER, "financial_status": "refunded"})
    assert shop.own("mails")["by_kind"] == {"order invoice": 1, "refund confirmation": 1}


def test_a_syncing_store_mails_nobody(shop: Api) -> None:
    shop.ok("PATCH", STORE, {"is_syncing": True})
    shop.ok("POST", PATH, {**ORDER, "financial_status": "paid"})
    assert shop.own("mails")["total"] == 0
