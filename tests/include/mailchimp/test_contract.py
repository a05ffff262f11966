"""The contract accepts the documented form and refuses each known violation."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from include.mailchimp.contract import (
    Batch,
    Cart,
    CartPatch,
    Customer,
    Member,
    MemberPatch,
    MemberPut,
    MergeField,
    Order,
    OrderPatch,
    Product,
    PromoCode,
    PromoRule,
    PromoRulePatch,
    RequestBody,
    SegmentChanges,
    StoreCreate,
    Tags,
)

ORDER: dict[str, Any] = {
    "id": "1",
    "customer": {"id": "c1"},
    "currency_code": "EUR",
    "order_total": 10,
    "tax_total": 1.6,
    "processed_at_foreign": "2026-11-20T10:00:00+00:00",
    "shipping_address": {"name": "Ada", "country_code": "DE", "longitude": 13.4},
    "promos": [{"code": "SUMMER", "type": "fixed", "amount_discounted": 0}],
    "lines": [{"id": "l1", "product_id": "p1", "product_variant_id": "v1", "quantity": 2, "price": 5}],
}
PRODUCT: dict[str, Any] = {
    "id": "p1",
    "title": "Shirt",
    "variants": [{"id": "v1", "title": "M", "price": 5, "inventory_quantity": 3}],
    "images": [{"id": "i1", "url": "https://kauf-demo.shop/1.jpg", "variant_ids": ["v1"]}],
}
CUSTOMER: dict[str, Any] = {"id": "c1", "email_address": "ada@kauf-demo.shop", "opt_in_status": False}
STORE: dict[str, Any] = {"id": "demo", "list_id": "a1", "name": "Demo", "currency_code": "EUR"}
LINE = ORDER["lines"][0]
CART: dict[str, Any] = {
    "id": "k1",
    "customer": {"id": "c1"},
    "checkout_url": "https://kauf-demo.shop/cart/k1",
    "currency_code": "EUR",
    "order_total": 10,
    "lines": [LINE],
}
RULE: dict[str, Any] = {
    "title": "Summer",
    "description": "15 % off",
    "starts_at": "2026-11-20T10:00:00+00:00",
    "ends_at": "",
    "type": "percentage",
    "target": "total",
    "amount": 0.15,
    "id": "r1",
}
CODE: dict[str, Any] = {"code": "SUMMER", "redemption_url": "https://kauf-demo.shop/?code=SUMMER", "id": "k1"}
MEMBER: dict[str, Any] = {
    "merge_fields": {"FNAME": "Ada", "LTV": 7, "ADDRESS": {"addr1": "Street 1", "city": "Berlin"}},
    "interests": {"9143cf3bd1": True},
    "language": "de",
    "ip_opt": "203.0.113.7",
    "timestamp_opt": "2026-11-20T10:00:00+00:00",
    "email_address": "ada@kauf-demo.shop",
    "status_if_new": "subscribed",
}


def violations(model: type[RequestBody], body: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(json.dumps(body))
    return [(".".join(map(str, error["loc"])), error["type"]) for error in caught.value.errors()]


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (Order, ORDER),
        (Product, PRODUCT),
        (Customer, CUSTOMER),
        (StoreCreate, STORE),
        (Cart, CART),
        (PromoRule, RULE),
        (PromoCode, CODE),
        (MemberPut, MEMBER),
        (MemberPatch, {"status": "unsubscribed"}),
    ],
)
def test_the_documented_form_is_valid_and_kept(model: type[RequestBody], body: dict[str, Any]) -> None:
    document = model.model_validate_json(json.dumps(body | {"undocumented": None}))
    assert document.model_dump(exclude_unset=True) == body


@pytest.mark.parametrize(
    ("change", "field", "kind"),
    [
        ({"tax_total": None}, "tax_total", "float_type"),
        ({"order_total": "10.00"}, "order_total", "float_type"),
        ({"order_total": True}, "order_total", "float_type"),
        ({"order_total": float("nan")}, "order_total", "finite_number"),
        ({"id": 1}, "id", "string_type"),
        ({"id": " "}, "id", "string_pattern_mismatch"),
        ({"id": "0"}, "id", "zero_id"),
        ({"customer": {"id": "x" * 51}}, "customer.id", "too_long"),
        ({"customer": {"id": "c", "email_address": "a@example.com"}}, "customer.email_address", "fake_email"),
        ({"lines": []}, "lines", "too_short"),
        ({"lines": [LINE, LINE]}, "lines", "repeated_line"),
        ({"lines": [LINE | {"quantity": 1.5}]}, "lines.0.quantity", "int_type"),
        ({"lines": [LINE | {"product_id": ""}]}, "lines.0.product_id", "string_too_short"),
        ({"currency_code": "EURO"}, "currency_code", "currency"),
        ({"currency_code": "eur"}, "currency_code", "currency"),
        ({"processed_at_foreign": "2026-11-20 10:00:00"}, "processed_at_foreign", "instant"),
        ({"processed_at_foreign": "2026-11-20T10:00:00"}, "processed_at_foreign", "instant"),
        ({"processed_at_foreign": "2026-13-20T10:00:00+00:00"}, "processed_at_foreign", "instant"),
        ({"cancelled_at_foreign": ""}, "cancelled_at_foreign", "instant"),
        ({"tracking_code": "other"}, "tracking_code", "literal_error"),
        ({"cart_id": "x" * 51}, "cart_id", "string_too_long"),
        ({"promos": [{"code": "A", "type": "free", "amount_discounted": 1}]}, "promos.0.type", "literal_error"),
        ({"promos": [{"code": "A", "type": "fixed"}]}, "promos.0.amount_discounted", "missing"),
        ({"billing_address": None}, "billing_address", "model_type"),
        ({"billing_address": {"phone": 49}}, "billing_address.phone", "string_type"),
    ],
)
def test_an_order_is_refused(change: dict[str, Any], field: str, kind: str) -> None:
    assert violations(Order, ORDER | change) == [(field, kind)]


@pytest.mark.parametrize(
    ("model", "body", "field", "kind"),
    [
        (Product, PRODUCT | {"title": " "}, "title", "string_pattern_mismatch"),
        (Product, PRODUCT | {"variants": []}, "variants", "too_short"),
        (Product, PRODUCT | {"handle": False}, "handle", "string_type"),
        (Product, PRODUCT | {"images": [{"id": "x" * 51, "url": ""}]}, "images.0.id", "too_long"),
        (Customer, CUSTOMER | {"opt_in_status": "false"}, "opt_in_status", "bool_type"),
        (Customer, CUSTOMER | {"opt_in_status": 0}, "opt_in_status", "bool_type"),
        (Customer, CUSTOMER | {"id": "x" * 51}, "id", "too_long"),
        (StoreCreate, STORE | {"name": ""}, "name", "string_too_short"),
        (Cart, CART | {"lines": []}, "lines", "too_short"),
        (Cart, CART | {"lines": [LINE, LINE]}, "lines", "repeated_cart_line"),
        (Cart, CART | {"customer": {"id": "x" * 51}}, "customer.id", "too_long"),
        (CartPatch, {"checkout_url": None}, "checkout_url", "string_type"),
        (PromoRule, RULE | {"amount": 15}, "amount", "no_fraction"),
        (PromoRule, RULE | {"amount": 0}, "amount", "no_amount"),
        (PromoRule, RULE | {"amount": 0, "type": "fixed", "target": "total"}, "amount", "no_amount"),
        (PromoRule, RULE | {"ends_at": RULE["starts_at"]}, "ends_at", "ends_too_early"),
        (PromoRule, RULE | {"title": "ü" * 51}, "title", "too_many_bytes"),
        (PromoRulePatch, {"description": "x" * 256}, "description", "string_too_long"),
        (PromoRulePatch, {"starts_at": "2026-11-20"}, "starts_at", "instant"),
        (PromoCode, CODE | {"redemption_url": ""}, "redemption_url", "string_too_short"),
        (PromoCode, CODE | {"code": "x" * 51}, "code", "string_too_long"),
        (MemberPut, MEMBER | {"status_if_new": "archived"}, "status_if_new", "literal_error"),
        (MemberPut, MEMBER | {"merge_fields": {"FNAME": None}}, "merge_fields.FNAME", "any_of"),
        (MemberPut, MEMBER | {"interests": {"a": "yes"}}, "interests.a", "bool_type"),
        (MemberPatch, {"status": "transactional"}, "status", "literal_error"),
        (Member, {"email_address": "ada@kauf-demo.shop"}, "status", "missing"),
        (Tags, {"tags": [{"name": "vip", "status": "on"}]}, "tags.0.status", "literal_error"),
        (MergeField, {"name": "Size", "tag": "size", "type": "text"}, "tag", "string_pattern_mismatch"),
        (SegmentChanges, {"members_to_add": ["a@kauf-demo.shop"] * 501}, "members_to_add", "too_long"),
        (Batch, {"operations": {"0": {}}}, "operations", "list_type"),
        (Batch, {"operations": []}, "operations", "too_short"),
        (Batch, {"operations": [[]]}, "operations.0", "model_type"),
        (Batch, {"operations": [{"method": "put", "path": "/x"}]}, "operations.0.method", "literal_error"),
        (Batch, {"operations": [{"method": "PUT", "path": "x"}]}, "operations.0.path", "string_pattern_mismatch"),
        (Batch, {"operations": [{"method": "PUT", "path": "/x", "body": {}}]}, "operations.0.body", "string_type"),
        (Batch, {"operations": [{"method": "GET", "path": "/x"}] * 1001}, "operations", "too_long"),
    ],
)
def test_other_bodies_are_refused(model: type[RequestBody], body: Any, field: str, kind: str) -> None:
    assert violations(model, body) == [(field, kind)]


@pytest.mark.parametrize("address", ["no-at-sign", "@x.de", "a@b", "a b@x.de", "a@x..de", "a@@x.de", "a@.de", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    assert violations(Customer, CUSTOMER | {"email_address": address}) == [("email_address", "invalid_email")]


@pytest.mark.parametrize("domain", ["example.com", "EXAMPLE.org", "example.net", "test.com"])
def test_fake_domains_are_refused(domain: str) -> None:
    assert violations(Customer, CUSTOMER | {"email_address": f"a@{domain}"}) == [("email_address", "fake_email")]


def test_missing_properties_are_named() -> None:
    assert set(violations(Order, {"lines": [{"id": "l1", "quantity": 1, "price": 1}]})) == {
        ("lines.0.product_id", "missing"),
        ("lines.0.product_variant_id", "missing"),
        ("id", "missing"),
        ("customer", "missing"),
        ("currency_code", "missing"),
        ("order_total", "missing"),
    }


@pytest.mark.parametrize(
    "change",
    [
        {"starts_at": "", "ends_at": ""},
        {"amount": 1},
        {"amount": 0, "type": "fixed", "target": "shipping"},
        {"amount": 250.5, "type": "fixed", "target": "per_item"},
        {"title": "ü" * 50},
    ],
)
def test_a_promo_rule_is_valid(change: dict[str, Any]) -> None:
    PromoRule.model_validate_json(json.dumps(RULE | change))


def test_a_patch_needs_nothing_but_is_checked_all_the_same() -> None:
    assert OrderPatch.model_validate_json("{}").model_dump(exclude_unset=True) == {}
    assert violations(OrderPatch, {"order_total": None}) == [("order_total", "float_type")]


def test_error_texts_do_not_repeat_what_was_sent() -> None:
    with pytest.raises(ValidationError) as caught:
        Customer.model_validate_json(json.dumps(CUSTOMER | {"email_address": "ada.muster@example.com", "last_name": 7}))
    assert "ada.muster" not in str(caught.value)
