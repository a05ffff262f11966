"""Carts: references, merging, lines by their own paths, and the mail to whoever left one behind."""

from typing import Any

import pytest
import requests

from tests.include.sandbox.conftest import ORDER, STORE, Api

PATH = f"{STORE}/carts"
CART: dict[str, Any] = {**ORDER, "id": "k1", "checkout_url": "https://kauf-demo.shop/cart/k1"}
LINE = CART["lines"][0]


def test_a_cart_is_shown_with_its_customer_and_empty_values(shop: Api) -> None:
    cart = shop.ok("POST", PATH, CART)
    assert cart["customer"]["email_address"] == "Ada@kauf-demo.shop"
    assert (cart["campaign_id"], cart["tax_total"], cart["order_total"]) == ("", 0, 49.9)
    assert (cart["lines"][0]["product_title"], cart["lines"][0]["product_variant_title"]) == ("Shirt", "Shirt M")
    assert cart["created_at"]
    assert shop.ok("GET", f"{STORE}/customers/c1")["orders_count"] == 0


def test_a_list_of_carts_has_no_times(shop: Api) -> None:
    shop.ok("POST", PATH, CART)
    listed = shop.ok("GET", PATH)["carts"][0]
    assert (listed["created_at"], listed["updated_at"]) == ("", "")


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
        ({"lines": [LINE, LINE]}, "A cart may not contain the same line item id more than once."),
        ({"customer": {"id": "c9"}}, "email_address: An email address is required to create a customer."),
    ],
)
def test_a_cart_is_refused(shop: Api, change: dict[str, Any], detail: str) -> None:
    assert shop.refused(400, "POST", PATH, {**CART, **change})["detail"] == detail
    assert shop.ok("GET", PATH)["total_items"] == 0


@pytest.mark.parametrize("change", [{"lines": []}, {"customer": {"id": "x" * 51}}])
def test_some_violations_are_answered_404(shop: Api, change: dict[str, Any]) -> None:
    shop.refused(404, "POST", PATH, {**CART, **change})


def test_there_is_post_of_new_carts_and_patch_of_known_ones_but_no_put(shop: Api) -> None:
    shop.refused(404, "PATCH", f"{PATH}/k1", {"order_total": 1})
    shop.ok("POST", PATH, CART)
    assert "already exists" in shop.refused(400, "POST", PATH, CART)["detail"]
    shop.refused(405, "PUT", f"{PATH}/k1", CART)
    shop.ok("DELETE", f"{PATH}/k1")
    shop.refused(404, "GET", f"{PATH}/k1")


def test_an_unknown_customer_is_created(shop: Api) -> None:
    shop.ok("POST", PATH, {**CART, "customer": {"id": "c2", "email_address": "bo@kauf-demo.shop"}})
    assert shop.ok("GET", f"{STORE}/customers/c2")["opt_in_status"] is False


def test_a_patch_merges_lines_and_keeps_the_customer(shop: Api) -> None:
    shop.ok("POST", PATH, CART)
    lines = [{**LINE, "quantity": 5}, {**LINE, "id": "l2"}]
    cart = shop.ok("PATCH", f"{PATH}/k1", {"lines": lines[1:], "order_total": 60, "customer": {"first_name": "X"}})
    assert (cart["order_total"], cart["customer"]["first_name"], cart["checkout_url"] != "") == (60, "Ada", True)
    cart = shop.ok("PATCH", f"{PATH}/k1", {"lines": lines[:1], "checkout_url": ""})
    assert [(line["id"], line["quantity"]) for line in cart["lines"]] == [("l1", 5), ("l2", 2)]
    assert cart["checkout_url"] == ""
    shop.refused(400, "PATCH", f"{PATH}/k1", {"campaign_id": "x"})


def test_lines_have_paths_of_their_own(shop: Api) -> None:
    shop.ok("POST", PATH, CART)
    shop.ok("POST", f"{PATH}/k1/lines", {**LINE, "id": "l2"})
    shop.refused(400, "POST", f"{PATH}/k1/lines", LINE)
    shop.refused(400, "PATCH", f"{PATH}/k1/lines/l2", {"product_id": "p9"})
    assert shop.ok("PATCH", f"{PATH}/k1/lines/l2", {"quantity": 5})["quantity"] == 5
    assert shop.ok("GET", f"{PATH}/k1/lines")["total_items"] == 2
    shop.refused(405, "PUT", f"{PATH}/k1/lines/l2", LINE)
    shop.ok("DELETE", f"{PATH}/k1/lines/l1")
    shop.refused(404, "GET", f"{PATH}/k1/lines/l1")
    assert shop.refused(400, "DELETE", f"{PATH}/k1/lines/l2")["detail"] == (
        "In order to delete this line item, delete the parent resource."
    )


def test_an_abandoned_cart_sets_off_one_mail(shop: Api) -> None:
    shop.ok("POST", PATH, CART)
    assert shop.server.remind(after_seconds=60) == 0
    assert shop.server.remind() == 1
    shop.ok("PATCH", f"{PATH}/k1", {"order_total": 1})
    assert requests.post(f"{shop.server.origin}/sandbox/remind", timeout=10).json() == {"mails": 0}
    assert shop.own("mails")["by_kind"] == {"abandoned cart": 1}
    assert shop.own("mails")["mails"][0]["record_id"] == "k1"


def test_a_cart_that_is_gone_or_leads_nowhere_sets_off_none(shop: Api) -> None:
    shop.ok("POST", PATH, CART)
    shop.ok("DELETE", f"{PATH}/k1")
    shop.ok("POST", PATH, {**CART, "id": "k2", "checkout_url": ""})
    assert shop.server.remind() == 0


def test_carts_that_came_while_the_store_was_syncing_never_set_off_a_mail(shop: Api) -> None:
    shop.ok("PATCH", STORE, {"is_syncing": True})
    shop.ok("POST", PATH, CART)
    shop.ok("PATCH", STORE, {"is_syncing": False})
    shop.ok("PATCH", f"{PATH}/k1", {"order_total": 1})
    assert shop.server.remind() == 0


def test_a_syncing_store_keeps_its_mails_for_later(shop: Api) -> None:
    shop.ok("POST", PATH, CART)
    shop.ok("PATCH", STORE, {"is_syncing": True})
    assert shop.server.remind() == 0
    shop.ok("PATCH", STORE, {"is_syncing": False})
    assert shop.server.remind() == 1
