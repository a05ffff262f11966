"""Orders: exact totals, statuses as mapped, nothing of them lost, and one rejected record per bad order."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from include.documents.encoder import encode
from include.mailchimp.contract import Order
from include.transform import orders
from include.transform.products import PLACEHOLDER_ID
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
CATALOGUE = ({"product_id": "P1", "variant_id": "P1-S"}, {"product_id": "P2", "variant_id": "P1-S"})
PROMO = {"order_id": "1001", "code": "TAKE5", "type": "fixed", "amount_discounted": "2.40"}
BEFORE = datetime(2026, 10, 30, 8, tzinfo=UTC)
TURIN = {"address_id": "3", "name": "Ada Lovelace", "city": "Turin", "phone": "+39 1"}


def prepare(
    *rows: dict[str, Any],
    lines: tuple[dict[str, Any], ...] = (LINE,),
    promos: tuple[dict[str, Any], ...] = (),
    customers: tuple[dict[str, Any], ...] = (ADA,),
    products: tuple[dict[str, Any], ...] = CATALOGUE,
    refused_campaigns: frozenset[str] = frozenset(),
    **settings: Any,
) -> Prepared:
    related = {
        "line_products": extract("products", *({"product_id": one["product_id"]} for one in products)),
        "line_variants": extract("variants", *products),
        "order_lines": extract("order_lines", *lines),
        "order_promos": extract("order_promos", *promos),
        "customers": extract("customers", *customers),
        "addresses": extract("addresses", TURIN),
    }
    store = replace(context(**settings), refused_campaigns=refused_campaigns)
    return orders.prepare(Frames(extract("orders", *rows), related), store)


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


def test_amounts_have_the_decimals_of_their_currency() -> None:
    yen = ORDER | {"order_id": "2", "currency_code": "JPY", "order_total": "1200", "discount_total": None}
    yen |= {"shipping_total": None, "tax_total": None}
    dinar = yen | {"order_id": "3", "currency_code": "KWD", "order_total": "1.234"}
    dong = yen | {"order_id": "4", "currency_code": "VND", "order_total": "2500000", "tax_total": "0"}
    lines = (
        LINE | {"order_id": "2", "quantity": 1, "price": "1200.00"},
        LINE | {"order_id": "3", "quantity": 1, "price": "1.234"},
        LINE | {"order_id": "4", "quantity": 2, "price": "1250000", "discount": "0.00"},
    )
    texts = encode(orders.DOCUMENT, prepare(yen, dinar, dong, lines=lines).rows).to_pylist()
    assert '"order_total":1200,' in texts[0]
    assert '"price":1200}' in texts[0]
    assert '"order_total":1.234,' in texts[1]
    assert '"order_total":2500000,"tax_total":0,' in texts[2]
    assert '"price":1250000,"discount":0}' in texts[2]


def test_where_no_unit_is_smaller_one_unit_may_be_rounded() -> None:
    yen = ORDER | {"currency_code": "JPY", "discount_total": None, "shipping_total": None}
    line = LINE | {"quantity": 1, "price": "1200"}
    assert len(built(yen | {"order_total": "1201"}, lines=(line,))) == 1
    assert built(yen | {"order_total": "1202"}, lines=(line,)) == []


def test_one_currency_per_store_turns_the_others_down() -> None:
    foreign = ORDER | {"order_id": "2", "currency_code": "USD"}
    lines = (LINE, LINE | {"order_id": "2"})
    assert [order["currency_code"] for order in built(ORDER, foreign, lines=lines)] == ["EUR", "USD"]
    prepared = prepare(ORDER, foreign, lines=lines, currency_policy="store")
    assert [order["id"] for order in documents(orders.DOCUMENT, prepared)] == ["1001"]
    [rejected] = prepared.rejected
    assert (rejected.field, rejected.title) == ("currency_code", "Currency not the store's")
    assert rejected.detail.startswith("the order is in USD, the store in EUR; set currency_policy to order")


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


@pytest.mark.parametrize(("total", "adds_up"), [("52.42", True), ("52.38", True), ("52.43", False), ("52.37", False)])
def test_rounding_is_allowed_for_the_order_and_for_each_of_its_two_pieces(total: str, adds_up: bool) -> None:
    prepared = prepare(ORDER | {"order_total": total})
    assert len(prepared.rows.frame) == adds_up
    assert [rejected.title for rejected in prepared.rejected] == ["Totals don't add up"] * (not adds_up)


@pytest.mark.parametrize(
    ("prices", "total", "adds_up"),
    [
        ("gross", "52.40", True),
        ("gross", "59.80", False),
        ("net", "59.80", True),
        ("net", "52.40", False),
    ],
)
def test_the_setting_prices_says_whether_tax_is_added(prices: str, total: str, adds_up: bool) -> None:
    prepared = prepare(ORDER | {"order_total": total, "tax_total": "7.40"}, prices=prices)
    assert len(prepared.rows.frame) == adds_up
    if not adds_up:
        parts = {"gross": "lines - discount + shipping make 52.40", "net": "- discount + shipping + tax make 59.80"}
        assert parts[prices] in prepared.rejected[0].detail


@pytest.mark.parametrize(
    ("order", "line"),
    [
        ({"order_total": "93000000000"}, {}),
        ({}, {"price": "93000000000"}),
        ({}, {"price": "90000000000", "quantity": 5_000_000_000}),  # would wrap around
        ({"tax_total": "-93000000000"}, {}),
    ],
)
def test_amounts_beyond_all_arithmetic_cost_one_order(order: dict[str, Any], line: dict[str, Any]) -> None:
    good = ORDER | {"order_id": "5"}
    prepared = prepare(ORDER | order, good, lines=(LINE | line, LINE | {"order_id": "5"}))
    assert [document["id"] for document in documents(orders.DOCUMENT, prepared)] == ["5"]
    assert [rejected.title for rejected in prepared.rejected] == ["Amount too large"]


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
        ({}, (LINE | {"line_id": ""},), "lines[].id", "missing_value"),
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


def test_an_incomplete_promotion_is_rejected() -> None:
    [rejected] = prepare(ORDER, promos=(PROMO | {"type": "gift"},)).rejected
    assert rejected.field == "promos[]"


def test_free_shipping_is_a_fixed_promotion_of_nothing() -> None:
    [document] = built(ORDER, promos=(PROMO | {"type": "free_shipping", "amount_discounted": None}, PROMO))
    assert document["promos"] == [
        {"code": "TAKE5", "type": "fixed", "amount_discounted": Decimal("0.00")},
        {"code": "TAKE5", "type": "fixed", "amount_discounted": Decimal("2.40")},
    ]


@pytest.mark.parametrize(
    ("status", "cancelled_at", "sent"),
    [
        ("shipped", None, None),
        ("shipped", BEFORE, None),  # taken up again: any time would cancel it at Mailchimp
        ("cancelled", BEFORE, "2026-10-30T08:00:00+00:00"),
        ("cancelled", None, "2026-11-01T12:00:00+00:00"),  # as of the last change
        ("refunded", BEFORE, "2026-10-30T08:00:00+00:00"),
        ("refunded", None, None),
    ],
)
def test_cancelled_orders_have_a_time_and_live_ones_none(
    status: str, cancelled_at: datetime | None, sent: str | None
) -> None:
    [document] = built(ORDER | {"status": status, "cancelled_at": cancelled_at})
    assert document.get("cancelled_at_foreign") == sent


def test_no_update_says_an_empty_cancellation_time() -> None:
    [text] = encode(orders.DOCUMENT, prepare(ORDER).rows, clear=True).to_pylist()
    assert "cancelled_at_foreign" not in text


def test_the_total_of_refunded_and_cancelled_orders_is_what_was_really_paid() -> None:
    refunded = ORDER | {"status": "refunded", "order_total": "0.00"}
    cancelled = ORDER | {"order_id": "2", "status": "cancelled", "order_total": "4.90"}
    assert [
        (order["financial_status"], order["order_total"])
        for order in built(refunded, cancelled, lines=(LINE, LINE | {"order_id": "2"}))
    ] == [("refunded", Decimal("0.00")), ("cancelled", Decimal("4.90"))]


def test_lines_of_products_that_are_gone_keep_the_revenue() -> None:
    lines = (LINE, LINE | {"line_id": "2", "product_id": "P9", "variant_id": None, "quantity": 1, "price": "0.00"})
    prepared = prepare(ORDER, lines=lines)
    [document] = documents(orders.DOCUMENT, prepared)
    assert document["order_total"] == Decimal("52.40")
    assert [(line["id"], line["product_id"], line["product_variant_id"]) for line in document["lines"]] == [
        ("1", "P1", "P1-S"),
        ("2", PLACEHOLDER_ID, PLACEHOLDER_ID),
    ]
    assert prepared.parents[0].parent_ids.to_pylist() == ["P1", PLACEHOLDER_ID]


@pytest.mark.parametrize(
    ("column", "value", "sent"),
    [
        ("campaign_id", "0123456789", "0123456789"),
        ("campaign_id", "012345678Z", None),
        ("campaign_id", "01234567890", None),
        ("campaign_id", "fedcba9876", None),  # refused before
        ("tracking_code", "prec", "prec"),
        ("tracking_code", "PREC", None),
        ("cart_id", "c" * 50, "c" * 50),
        ("cart_id", "c" * 51, None),
        ("cart_id", "0", None),
        ("landing_site", "https://shop.dev/?mc_cid=0123456789", "https://shop.dev/?mc_cid=0123456789"),
    ],
)
def test_attribution_is_sent_as_far_as_mailchimp_takes_it(column: str, value: str, sent: str | None) -> None:
    prepared = prepare(ORDER | {column: value}, refused_campaigns=frozenset({"fedcba9876"}))
    [document] = documents(orders.DOCUMENT, prepared)
    assert document.get(column) == sent
    Order.model_validate_json(encode(orders.DOCUMENT, prepared.rows).to_pylist()[0])


def test_an_update_empties_what_the_shop_emptied_but_no_reference() -> None:
    [text] = encode(orders.DOCUMENT, prepare(ORDER | {"discount_total": None, "order_total": "54.80"}).rows, clear=True)
    update = json.loads(text.as_py(), parse_float=Decimal)
    emptied = {"order_url": "", "landing_site": "", "tracking_number": "", "discount_total": 0, "promos": []}
    assert update | emptied == update
    assert update["customer"] == {"id": ADA_ID}
    assert update["shipping_address"]["address2"] == ""
    assert not {"campaign_id", "cart_id", "tracking_code"} & update.keys()


@pytest.mark.parametrize("settings", [{"guests": "skip"}, {"exclude_emails": ["*@mail.dev"]}])
def test_orders_of_buyers_whom_the_settings_leave_out_are_left_out(settings: dict[str, Any]) -> None:
    guest = ORDER | {"order_id": "2", "customer_id": None, "email": "guest@mail.dev"}
    prepared = prepare(guest, ORDER, lines=(LINE, LINE | {"order_id": "2"}), **settings)
    assert [document["id"] for document in documents(orders.DOCUMENT, prepared)] == ["1001"]
    assert prepared.rejected == []


def test_deleted_orders_are_not_sent() -> None:
    assert built(ORDER | {"is_deleted": True}) == []
