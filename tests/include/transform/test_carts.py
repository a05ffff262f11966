"""Carts: only those that a mail may remind somebody of, with a way back to them; one rejected record per bad cart."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from include.documents.encoder import encode
from include.mailchimp.contract import Cart, CartPatch
from include.transform import carts
from include.transform.lines import PLACEHOLDER_ID
from include.transform.records import Frames, Prepared
from tests.include.transform.rows import CHANGED, context, documents, extract

ADA_ID = hashlib.md5(b"ada@engine.dev").hexdigest()
ADA = {"customer_id": "7", "updated_at": CHANGED, "email": "Ada@engine.dev", "opted_in": True}
CART = {
    "cart_id": "C1",
    "updated_at": CHANGED,
    "customer_id": "7",
    "currency_code": "EUR",
    "order_total": "49.90",
    "tax_total": "7.97",
    "checkout_token": "t0k3n",
    "is_open": True,
}
GUEST = CART | {"customer_id": None, "email": "Guest@mail.dev"}
LINE = {"cart_id": "C1", "line_id": "1", "product_id": "P1", "variant_id": "P1-S", "quantity": 2, "price": "24.95"}
SHIRT = {"product_id": "P1"}
SMALL = {"product_id": "P1", "variant_id": "P1-S"}


def prepare(
    *rows: dict[str, Any],
    lines: tuple[dict[str, Any], ...] = (LINE,),
    customers: tuple[dict[str, Any], ...] = (ADA,),
    products: tuple[dict[str, Any], ...] = (SHIRT,),
    later: timedelta = timedelta(hours=1),
    refused: frozenset[str] = frozenset(),
    **settings: Any,
) -> Prepared:
    related = {
        "cart_lines": extract("cart_lines", *lines),
        "customers": extract("customers", *customers),
        "line_products": extract("products", *products),
        "line_variants": extract("variants", SMALL),
    }
    at = replace(context(**settings), now=CHANGED + later, refused_campaigns=refused)
    return carts.prepare(Frames(extract("carts", *rows), related), at)


def built(*rows: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    return documents(carts.DOCUMENT, prepare(*rows, **options))


def test_a_cart_as_the_api_expects_it() -> None:
    prepared = prepare(
        CART | {"campaign_id": "0123456789"}, checkout_url_template="https://shop.dev/cart?token={checkout_token}"
    )
    [document] = documents(carts.DOCUMENT, prepared)
    assert document == {
        "id": "C1",
        "customer": {"id": ADA_ID},
        "campaign_id": "0123456789",
        "checkout_url": "https://shop.dev/cart?token=t0k3n",
        "currency_code": "EUR",
        "order_total": Decimal("49.90"),
        "tax_total": Decimal("7.97"),
        "lines": [
            {"id": "1", "product_id": "P1", "product_variant_id": "P1-S", "quantity": 2, "price": Decimal("24.95")}
        ],
    }
    Cart.model_validate_json(encode(carts.DOCUMENT, prepared.rows).to_pylist()[0])


def test_a_cart_with_its_own_address_introduces_its_customer_without_consent() -> None:
    [document] = built(GUEST)
    guest = hashlib.md5(b"guest@mail.dev").hexdigest()
    assert document["customer"] == {"id": guest, "email_address": "guest@mail.dev", "opt_in_status": False}


def test_a_cart_needs_its_products_and_its_customer() -> None:
    prepared = prepare(CART, GUEST | {"cart_id": "C2"}, lines=(LINE, LINE | {"cart_id": "C2"}))
    links = {link.entity: (link.positions.tolist(), link.parent_ids.to_pylist()) for link in prepared.parents}
    assert links == {"products": ([0, 1], ["P1", "P1"]), "customers": ([0], [ADA_ID])}


@pytest.mark.parametrize(
    "cart",
    [
        CART | {"is_open": False},
        GUEST | {"email": None},  # nobody to remind
        GUEST | {"email": "not an address"},
        GUEST | {"email": "buyer@marketplace.amazon.it"},
    ],
)
def test_a_cart_that_no_mail_may_remind_of_is_left_out(cart: dict[str, Any]) -> None:
    prepared = prepare(cart, CART | {"cart_id": "C2"}, lines=(LINE, LINE | {"cart_id": "C2"}))
    assert prepared.rows.frame["key"].tolist() == ["C2"]
    assert prepared.rejected == []


def test_a_cart_whose_profile_does_not_say_is_open() -> None:
    assert len(built(CART | {"is_open": None})) == 1


def test_an_emptied_cart_is_left_out() -> None:
    prepared = prepare(CART, lines=())
    assert (len(prepared.rows.frame), prepared.rejected) == (0, [])


def test_a_cart_is_given_up_when_it_is_too_old() -> None:
    assert len(built(CART, later=timedelta(days=30))) == 1
    assert built(CART, later=timedelta(days=30, seconds=1)) == []
    assert len(built(CART, later=timedelta(days=31), cart_max_age_days=31)) == 1


@pytest.mark.parametrize(
    ("minutes", "setting", "waits"), [(14, 15, True), (15, 15, False), (0, 0, False), (59, 60, True)]
)
def test_a_cart_that_is_still_filled_changes_only_what_mailchimp_holds(minutes: int, setting: int, waits: bool) -> None:
    prepared = prepare(CART, later=timedelta(minutes=minutes), cart_idle_minutes=setting)
    assert prepared.rows.frame["if_held"].tolist() == [waits]


@pytest.mark.parametrize(
    ("opted_in", "mode", "sent"),
    [
        (True, "all", True),
        (None, "all", True),
        (False, "all", True),
        (True, "subscribed", True),
        (None, "subscribed", False),
        (False, "subscribed", False),
        (True, "none", False),
    ],
)
def test_whose_carts_are_sent(opted_in: bool | None, mode: str, sent: bool) -> None:
    assert bool(built(CART, customers=(ADA | {"opted_in": opted_in},), abandoned_carts=mode)) is sent


def test_guests_are_skipped_as_the_setting_says() -> None:
    assert built(GUEST, guests="skip") == []
    assert built(CART, customers=(ADA | {"is_guest": True},), guests="skip") == []
    assert len(built(CART, guests="skip")) == 1
    assert built(GUEST, abandoned_carts="subscribed") == []


@pytest.mark.parametrize(
    ("template", "token", "url"),
    [
        ("https://shop.dev/c/{checkout_token}", "a/b+c=", "https://shop.dev/c/a%2Fb%2Bc%3D"),
        ("https://shop.dev/c/{cart_id}", None, "https://shop.dev/c/C1"),
        ("https://shop.dev/c/{cart_id}?t={checkout_token}#pay", "t0k3n", "https://shop.dev/c/C1?t=t0k3n#pay"),
        ("https://shop.dev/c/{checkout_token}", None, None),
        ("https://shop.dev/c/{checkout_token}", "", None),
        (None, "t0k3n", None),
    ],
)
def test_the_way_back_to_the_cart(template: str | None, token: str | None, url: str | None) -> None:
    [document] = built(CART | {"checkout_token": token}, checkout_url_template=template)
    assert document.get("checkout_url") == url


@pytest.mark.parametrize("campaign", ["0123456789", "ABCDEF0123", "summer", ""])
def test_a_campaign_that_mailchimp_would_refuse_does_not_cost_the_cart(campaign: str) -> None:
    [document] = built(CART | {"campaign_id": campaign}, refused=frozenset({"0123456789"}))
    assert "campaign_id" not in document


def test_a_line_without_its_product_refers_to_the_placeholder() -> None:
    prepared = prepare(CART, products=(SHIRT | {"is_deleted": True},))
    [document] = documents(carts.DOCUMENT, prepared)
    [line] = document["lines"]
    assert (line["product_id"], line["product_variant_id"]) == (PLACEHOLDER_ID, PLACEHOLDER_ID)
    assert prepared.parents[0].parent_ids.to_pylist() == [PLACEHOLDER_ID]


def test_amounts_have_the_decimals_of_their_currency() -> None:
    yen = CART | {"currency_code": "JPY", "order_total": "1200", "tax_total": None}
    [text] = encode(carts.DOCUMENT, prepare(yen, lines=(LINE | {"price": "600.00"},)).rows).to_pylist()
    assert '"order_total":1200,' in text
    assert '"price":600}' in text


@pytest.mark.parametrize(
    ("cart", "line", "field", "error_class"),
    [
        ({"cart_id": "0"}, {"cart_id": "0"}, "id", "missing_value"),
        ({"currency_code": "EURO"}, {}, "currency_code", "invalid_value"),
        ({"order_total": None}, {}, "order_total", "missing_value"),
        ({}, {"line_id": " "}, "lines[].id", "missing_value"),
        ({}, {"quantity": 0}, "lines[].quantity", "invalid_value"),
        ({}, {"price": None}, "lines[].price", "missing_value"),
    ],
)
def test_a_cart_that_cannot_be_expressed_is_one_rejected_record(
    cart: dict[str, Any], line: dict[str, Any], field: str, error_class: str
) -> None:
    prepared = prepare(CART | cart, CART | {"cart_id": "C5"}, lines=(LINE | line, LINE | {"cart_id": "C5"}))
    assert [document["id"] for document in documents(carts.DOCUMENT, prepared)] == ["C5"]
    [rejected] = prepared.rejected
    assert (rejected.entity, rejected.field, rejected.error_class) == ("carts", field, error_class)


def test_a_line_id_may_occur_in_several_carts_but_once_in_each() -> None:
    prepared = prepare(CART, CART | {"cart_id": "C2"}, lines=(LINE, LINE | {"cart_id": "C2"}, LINE | {"quantity": 1}))
    assert prepared.rows.frame["key"].tolist() == ["C2"]
    assert [(rejected.key, rejected.title) for rejected in prepared.rejected] == [("C1", "Line id repeated")]


def test_one_currency_only_where_the_setting_says_so() -> None:
    dollars = CART | {"currency_code": "USD"}
    assert len(built(dollars)) == 1
    [rejected] = prepare(dollars, currency_policy="store").rejected
    assert (rejected.title, rejected.field) == ("Currency not the store's", "currency_code")
    assert "the cart is in USD, the store in EUR" in rejected.detail
    assert len(built(CART, currency_policy="store")) == 1


def test_an_update_empties_what_the_cart_no_longer_has_and_names_no_address() -> None:
    bare = prepare(CART | {"tax_total": None, "checkout_token": None})
    [text] = encode(carts.DOCUMENT, bare.rows, clear=True).to_pylist()
    update = CartPatch.model_validate_json(text).model_dump(exclude_unset=True)
    assert (update["checkout_url"], update["tax_total"]) == ("", 0)
    assert "campaign_id" not in update
    assert "email_address" not in update["customer"]


def test_no_carts_give_no_documents() -> None:
    assert built(lines=(), customers=(), products=()) == []
