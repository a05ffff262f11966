"""Orders: exact totals, statuses as mapped, customers by address, and one rejected record per bad order."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import Any

import pytest

from include.documents.encoder import encode
from include.mailchimp.contract import Order
from include.transform import orders
from include.transform.records import Frames, Prepared
from tests.include.transform.rows import CHANGED, context, documents, extract

ADA_ID = hashlib.md5(b"ada@engine.dev").hexdigest()
ADA = {"customer_id": "7", "updated_at": CHANGED, "email": "Ada@engine.dev"}
ORDER = {
    "order_id": "1001",
    "updated_at": CHANGED,
    "customer_id": "7",
    "placed_at": CHANGED,
    "currency_code": "EUR",
    "order_total": "52.40",
    "tax_total": "0.00",
    "shipping_total": "4.90",
    "discount_total": "2.40",
    "status": "shipped",
    "shipping_address_id": "3",
}
LINE = {"order_id": "1001", "line_id": "1", "product_id": "P1", "variant_id": "P1-S", "quantity": 2, "price": "24.95"}
PROMO = {"order_id": "1001", "code": "TAKE5", "type": "fixed", "amount_discounted": "2.40"}
TURIN = {"address_id": "3", "name": "Ada Lovelace", "city": "Turin", "phone": "+39 1"}


def prepare(
    *rows: dict[str, Any],
    lines: tuple[dict[str, Any], ...] = (LINE,),
    promos: tuple[dict[str, Any], ...] = (),
    customers: tuple[dict[str, Any], ...] = (ADA,),
    **settings: Any,
) -> Prepared:
    related = {
        "order_lines": extract("order_lines", *lines),
        "order_promos": extract("order_promos", *promos),
        "customers": extract("customers", *customers),
        "addresses": extract("addresses", TURIN),
    }
    return orders.prepare(Frames(extract("orders", *rows), related), context(**settings))


def built(*rows: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    return documents(orders.DOCUMENT, prepare(*rows, **options))


def test_an_order_as_the_api_expects_it() -> None:
    prepared = prepare(ORDER, promos=(PROMO,))
    [document] = documents(orders.DOCUMENT, prepared)
    assert document == {
        "id": "1001",
        "customer": {"id": ADA_ID},
        "financial_status": "paid",
        "fulfillment_status": "shipped",
        "currency_code": "EUR",
        "order_total": Decimal("52.40"),
        "discount_total": Decimal("2.40"),
        "tax_total": Decimal("0.00"),
        "shipping_total": Decimal("4.90"),
        "processed_at_foreign": "2026-11-01T12:00:00+00:00",
        "updated_at_foreign": "2026-11-01T12:00:00+00:00",
        "shipping_address": {"name": "Ada Lovelace", "city": "Turin", "phone": "+39 1"},
        "promos": [{"code": "TAKE5", "type": "fixed", "amount_discounted": Decimal("2.40")}],
        "lines": [
            {"id": "1", "product_id": "P1", "product_variant_id": "P1-S", "quantity": 2, "price": Decimal("24.95")}
        ],
    }
    Order.model_validate_json(encode(orders.DOCUMENT, prepared.rows).to_pylist()[0])


def test_an_order_needs_its_products_and_its_customer() -> None:
    other = ORDER | {"order_id": "1002"}
    prepared = prepare(ORDER, other, lines=(LINE, LINE | {"order_id": "1002", "product_id": "P2"}))
    links = {link.entity: (link.positions.tolist(), link.parent_ids.to_pylist()) for link in prepared.parents}
    assert links == {"products": ([0, 1], ["P1", "P2"]), "customers": ([0, 1], [ADA_ID, ADA_ID])}


def test_only_completed_orders_are_sent_unless_the_setting_names_statuses() -> None:
    waiting = ORDER | {"status": "open"}
    assert built(waiting) == []
    assert [order["financial_status"] for order in built(waiting, order_statuses=["open"])] == ["pending"]
    assert built(ORDER, order_statuses=["open"]) == []


def test_an_order_with_its_own_address_introduces_its_customer_without_consent() -> None:
    prepared = prepare(ORDER | {"customer_id": None, "email": "Guest@mail.dev"})
    [document] = documents(orders.DOCUMENT, prepared)
    guest = hashlib.md5(b"guest@mail.dev").hexdigest()
    assert document["customer"] == {"id": guest, "email_address": "guest@mail.dev", "opt_in_status": False}
    assert {link.entity: len(link.parent_ids) for link in prepared.parents} == {"products": 1, "customers": 0}


def test_amounts_have_the_decimals_of_their_currency() -> None:
    yen = ORDER | {"order_id": "2", "currency_code": "JPY", "order_total": "1200", "discount_total": None}
    yen |= {"shipping_total": None, "tax_total": None}
    dinar = yen | {"order_id": "3", "currency_code": "KWD", "order_total": "1.234"}
    lines = (
        LINE | {"order_id": "2", "quantity": 1, "price": "1200.00"},
        LINE | {"order_id": "3", "quantity": 1, "price": "1.234"},
    )
    texts = encode(orders.DOCUMENT, prepare(yen, dinar, lines=lines).rows).to_pylist()
    assert '"order_total":1200,' in texts[0]
    assert '"price":1200}' in texts[0]
    assert '"order_total":1.234,' in texts[1]


@pytest.mark.parametrize(
    "totals",
    [
        {"order_total": "59.80", "tax_total": "7.40"},  # prices without tax: 49.90 - 2.40 + 4.90 + 7.40
        {"order_total": "52.40", "tax_total": "7.40"},  # prices with tax
        {"order_total": "52.41"},  # one cent of rounding
        {"order_total": "0.00", "status": "refunded"},  # what was really paid
    ],
)
def test_totals_that_add_up(totals: dict[str, str]) -> None:
    assert len(built(ORDER | totals)) == 1


def test_line_discounts_count_where_the_order_states_none() -> None:
    order = ORDER | {"discount_total": None, "order_total": "53.80"}
    assert len(built(order, lines=(LINE | {"discount": "1.00"},))) == 1


@pytest.mark.parametrize(
    ("order", "lines", "field", "error_class"),
    [
        ({"order_total": "60.00"}, (LINE,), "order_total", "totals_mismatch"),
        ({"order_total": None}, (LINE,), "order_total", "missing_value"),
        ({"currency_code": "EURO"}, (LINE,), "currency_code", "invalid_value"),
        ({"status": "lost"}, (LINE,), "financial_status", "invalid_value"),
        ({"customer_id": "99"}, (LINE,), "customer.id", "parent_missing"),
        ({"customer_id": None}, (LINE,), "customer.email_address", "missing_value"),
        ({"order_id": "0"}, (LINE | {"order_id": "0"},), "id", "missing_value"),
        ({}, (), "lines", "missing_value"),
        ({}, (LINE, LINE), "lines[].id", "invalid_value"),
        ({}, (LINE | {"quantity": -1},), "lines[].quantity", "invalid_value"),
        ({}, (LINE | {"price": None},), "lines[].price", "missing_value"),
        ({}, (LINE | {"product_id": ""},), "lines[].id", "missing_value"),
    ],
)
def test_an_order_that_cannot_be_expressed_is_one_rejected_record(
    order: dict[str, Any], lines: tuple[dict[str, Any], ...], field: str, error_class: str
) -> None:
    good = ORDER | {"order_id": "5"}
    prepared = prepare(ORDER | order, good, lines=(*lines, LINE | {"order_id": "5"}))
    assert [document["id"] for document in documents(orders.DOCUMENT, prepared)] == ["5"]
    [rejected] = prepared.rejected
    assert (rejected.field, rejected.error_class) == (field, error_class)


def test_a_rejected_order_says_what_it_waits_for() -> None:
    [rejected] = prepare(ORDER, customers=()).rejected
    assert rejected.waits_for == "customers:7"


def test_links_to_customers_carry_the_key_in_the_shop() -> None:
    links = {link.entity: link for link in prepare(ORDER).parents}
    assert links["products"].parent_keys is None
    assert links["customers"].parent_ids.to_pylist() == [ADA_ID]
    keys = links["customers"].parent_keys
    assert keys is not None
    assert keys.to_pylist() == ["7"]


def test_an_incomplete_promotion_is_rejected() -> None:
    [rejected] = prepare(ORDER, promos=(PROMO | {"type": "gift"},)).rejected
    assert rejected.field == "promos[]"


def test_cancellation_time_is_absent_for_live_orders() -> None:
    [document] = built(ORDER)
    assert "cancelled_at_foreign" not in json.dumps(document, default=str)


def test_deleted_orders_are_not_sent() -> None:
    assert built(ORDER | {"is_deleted": True}) == []
