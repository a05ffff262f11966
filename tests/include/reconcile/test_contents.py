"""Two contents are equal when Mailchimp means the same by them, and what differs has a name."""

from __future__ import annotations

from typing import Any

import pytest

from include.documents.spec import Document
from include.reconcile.contents import canonical, checksum, compared, differences
from include.transform import orders, products

ORDER = compared(orders.DOCUMENT)
PRODUCT = compared(products.DOCUMENT)
LINE = {"id": "1", "product_id": "p", "product_variant_id": "v", "quantity": 2, "price": 12.5}


def equal(document: Document, sent: dict[str, Any], held: dict[str, Any]) -> bool:
    return checksum(canonical(document, sent)) == checksum(canonical(document, held))


@pytest.mark.parametrize(
    ("sent", "held"),
    [
        ({"order_total": "12.50"}, {"order_total": 12.5}),
        ({"order_total": 1200}, {"order_total": 1200.0}),
        ({"order_total": 0.3}, {"order_total": 0.1 + 0.2}),
        ({}, {"order_total": 0, "landing_site": "", "promos": [], "shipping_address": {"city": "", "longitude": 0}}),
        (
            {"processed_at_foreign": "2026-11-21T10:00:00+00:00"},
            {"processed_at_foreign": "2026-11-21T11:00:00+01:00"},
        ),
        ({"processed_at_foreign": "2026-11-21T10:00:00+00:00"}, {"processed_at_foreign": "2026-11-21T10:00:00"}),
        ({"lines": [LINE, LINE | {"id": "2"}]}, {"lines": [LINE | {"id": "2", "discount": 0}, LINE]}),
        ({"campaign_id": "a"}, {"campaign_id": "b"}),
        ({"customer": {"id": "c"}}, {"customer": {"id": "c", "email_address": "x@y.shop", "orders_count": 3}}),
        ({"landing_site": " /a"}, {"landing_site": "/a"}),
        ({}, {"store_id": "s", "outreach": {"id": "o"}, "cart_id": ""}),
    ],
)
def test_equal_contents(sent: dict[str, Any], held: dict[str, Any]) -> None:
    assert equal(ORDER, sent, held)


@pytest.mark.parametrize(
    ("sent", "held", "named"),
    [
        ({"order_total": 12.5}, {"order_total": 12.51}, ["order_total"]),
        ({"lines": [LINE]}, {"lines": [LINE | {"quantity": 3}]}, ["lines/1.quantity"]),
        ({"lines": [LINE]}, {"lines": [LINE, LINE | {"id": "2"}]}, ["lines/2 surplus"]),
        ({"lines": [LINE]}, {"lines": []}, ["lines/1 missing"]),
        ({"billing_address": {"city": "A"}}, {}, ["billing_address.city"]),
        ({}, {"billing_address": {"city": "A"}}, ["billing_address.city"]),
        ({}, {"tracking_number": "1"}, ["tracking_number"]),
    ],
)
def test_different_contents(sent: dict[str, Any], held: dict[str, Any], named: list[str]) -> None:
    assert not equal(ORDER, sent, held)
    assert differences(ORDER, canonical(ORDER, sent), canonical(ORDER, held), clears=True) == named


@pytest.mark.parametrize(
    ("document", "held"),
    [
        (ORDER, {"cart_id": "1"}),
        (ORDER, {"cancelled_at_foreign": "2026-11-21T10:00:00+00:00"}),
        (PRODUCT, {"published_at_foreign": "2026-11-21T10:00:00+00:00"}),
    ],
)
def test_what_an_update_could_not_mend_is_no_difference(document: Document, held: dict[str, Any]) -> None:
    assert not equal(document, {}, held)
    assert differences(document, {}, canonical(document, held), clears=True) == []


def test_where_emptied_values_are_not_spelled_out_they_are_no_difference() -> None:
    held = canonical(ORDER, {"tracking_number": "1"})
    assert differences(ORDER, {}, held, clears=False) == []
