"""Coupons: percentages as fractions, free shipping, texts cut to fit, and one rejected record per bad rule or code."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from include.documents.encoder import encode
from include.mailchimp.contract import PromoCode, PromoRule, PromoRulePatch
from include.transform import promotions
from include.transform.records import Frames, Prepared
from tests.include.transform.rows import CHANGED, context, documents, extract

SUMMER = {
    "rule_id": "R1",
    "updated_at": CHANGED,
    "description": "15 % off everything",
    "amount": "15",
    "type": "percentage",
    "target": "total",
    "title": "Summer",
    "starts_at": CHANGED,
    "ends_at": CHANGED + timedelta(days=30),
    "enabled": True,
}
CODE = {
    "code_key": "R1/K1",
    "rule_id": "R1",
    "code_id": "K1",
    "updated_at": CHANGED,
    "code": "SUMMER",
    "redemption_url": "https://shop.dev/?code=SUMMER",
    "usage_count": 3,
    "enabled": True,
    "number": 1,
}


def rules(*rows: dict[str, Any], currency: str = "EUR", **settings: Any) -> Prepared:
    at = replace(context(**settings), store_currency=currency)
    return promotions.prepare_rules(Frames(extract("promo_rules", *rows)), at)


def built_rules(*rows: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    return documents(promotions.RULES_DOCUMENT, rules(*rows, **options))


def codes(*rows: dict[str, Any], **settings: Any) -> Prepared:
    return promotions.prepare_codes(Frames(extract("promo_codes", *rows)), context(**settings))


def built_codes(*rows: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
    return documents(promotions.CODES_DOCUMENT, codes(*rows, **settings))


def test_a_rule_as_the_api_expects_it() -> None:
    prepared = rules(SUMMER)
    [document] = documents(promotions.RULES_DOCUMENT, prepared)
    assert document == {
        "id": "R1",
        "title": "Summer",
        "description": "15 % off everything",
        "starts_at": "2026-11-01T12:00:00+00:00",
        "ends_at": "2026-12-01T12:00:00+00:00",
        "amount": Decimal("0.15"),
        "type": "percentage",
        "target": "total",
        "enabled": True,
        "updated_at_foreign": "2026-11-01T12:00:00+00:00",
    }
    PromoRule.model_validate_json(encode(promotions.RULES_DOCUMENT, prepared.rows).to_pylist()[0])


@pytest.mark.parametrize(
    ("kind", "target", "amount", "currency", "text"),
    [
        ("percentage", "per_item", "15", "EUR", '"amount":0.15,"type":"percentage","target":"per_item"'),
        ("percentage", "total", "12.5", "EUR", '"amount":0.1250,"type":"percentage","target":"total"'),
        ("percentage", "total", "33.33333333", "EUR", '"amount":0.33333333,"type":"percentage","target":"total"'),
        ("percentage", "shipping", "100", "JPY", '"amount":1.00,"type":"percentage","target":"shipping"'),
        ("fixed", "total", "5", "EUR", '"amount":5.00,"type":"fixed","target":"total"'),
        ("fixed", "per_item", "500", "JPY", '"amount":500,"type":"fixed","target":"per_item"'),
        ("fixed", "shipping", "4.9", "EUR", '"amount":4.90,"type":"fixed","target":"shipping"'),
        ("fixed", "shipping", "0", "EUR", '"amount":0.00,"type":"fixed","target":"shipping"'),
        ("free_shipping", "total", None, "EUR", '"amount":0.00,"type":"fixed","target":"shipping"'),
        ("free_shipping", "total", "4.9", "EUR", '"amount":4.90,"type":"fixed","target":"shipping"'),
    ],
)
def test_what_a_coupon_takes_off(kind: str, target: str, amount: str | None, currency: str, text: str) -> None:
    prepared = rules(SUMMER | {"type": kind, "target": target, "amount": amount}, currency=currency)
    [body] = encode(promotions.RULES_DOCUMENT, prepared.rows).to_pylist()
    assert text in body
    PromoRule.model_validate_json(body)


def test_fractions_and_amounts_keep_apart_in_one_chunk() -> None:
    five = SUMMER | {"rule_id": "R2", "type": "fixed", "amount": "5"}
    assert [rule["amount"] for rule in built_rules(SUMMER, five)] == [Decimal("0.15"), Decimal("5.00")]


def test_dates_that_the_shop_does_not_set_are_left_out_and_an_update_empties_them() -> None:
    prepared = rules(SUMMER | {"starts_at": None, "ends_at": None, "title": None})
    [document] = documents(promotions.RULES_DOCUMENT, prepared)
    assert not {"starts_at", "ends_at", "title"} & set(document)
    [text] = encode(promotions.RULES_DOCUMENT, prepared.rows, clear=True).to_pylist()
    update = PromoRulePatch.model_validate_json(text).model_dump(exclude_unset=True)
    assert (update["starts_at"], update["ends_at"], update["title"]) == ("", "", "")


def test_a_rule_is_enabled_as_the_shop_says_even_when_it_has_expired() -> None:
    past = {"starts_at": CHANGED - timedelta(days=60), "ends_at": CHANGED - timedelta(days=30)}
    flags = (True, False, None)
    rows = (SUMMER | past | {"rule_id": f"R{number}", "enabled": flag} for number, flag in enumerate(flags, 1))
    assert [rule["enabled"] for rule in built_rules(*rows)] == [True, False, True]


def test_a_title_is_cut_to_a_hundred_bytes_and_never_inside_a_character() -> None:
    titles = ("x" * 101, "é" * 51, "x" + "é" * 50, "😀" * 26, "short")
    rows = (SUMMER | {"rule_id": f"R{number}", "title": title} for number, title in enumerate(titles, 1))
    assert [rule["title"] for rule in built_rules(*rows)] == ["x" * 100, "é" * 50, "x" + "é" * 49, "😀" * 25, "short"]


def test_a_description_is_cut_and_a_missing_one_is_the_title() -> None:
    long = SUMMER | {"description": "é" * 300}
    blank = SUMMER | {"rule_id": "R2", "description": "  "}
    untold = SUMMER | {"rule_id": "R3", "description": None, "title": "t" * 300}
    assert [rule["description"] for rule in built_rules(long, blank, untold)] == ["é" * 255, "Summer", "t" * 255]


@pytest.mark.parametrize(
    ("rule", "field", "error_class"),
    [
        ({"rule_id": "0"}, "id", "missing_value"),
        ({"rule_id": "r" * 51}, "id", "missing_value"),
        ({"description": None, "title": None}, "description", "missing_value"),
        ({"type": "gift"}, "type", "invalid_value"),
        ({"type": None}, "type", "invalid_value"),
        ({"target": "order"}, "target", "invalid_value"),
        ({"target": None}, "target", "invalid_value"),
        ({"amount": None}, "amount", "missing_value"),
        ({"amount": "-1"}, "amount", "invalid_value"),
        ({"amount": "0"}, "amount", "invalid_value"),
        ({"amount": "0", "type": "fixed"}, "amount", "invalid_value"),
        ({"amount": "0", "target": "shipping"}, "amount", "invalid_value"),
        ({"amount": "100.01"}, "amount", "invalid_value"),
        ({"ends_at": CHANGED}, "ends_at", "invalid_value"),
        ({"ends_at": CHANGED + timedelta(milliseconds=900)}, "ends_at", "invalid_value"),
    ],
)
def test_a_rule_that_cannot_be_expressed_is_one_rejected_record(
    rule: dict[str, Any], field: str, error_class: str
) -> None:
    prepared = rules(SUMMER | rule, SUMMER | {"rule_id": "R5"})
    assert [document["id"] for document in documents(promotions.RULES_DOCUMENT, prepared)] == ["R5"]
    [rejected] = prepared.rejected
    assert (rejected.entity, rejected.field, rejected.error_class) == ("promo_rules", field, error_class)


def test_a_fixed_amount_may_be_above_a_hundred() -> None:
    assert [rule["amount"] for rule in built_rules(SUMMER | {"type": "fixed", "amount": "250"})] == [Decimal("250.00")]


def test_only_expressible_coupons_where_the_setting_says_so_and_the_others_are_listed() -> None:
    first_order = SUMMER | {"rule_id": "R2", "other_conditions": True}
    assert len(built_rules(SUMMER, first_order, coupons="all")) == 2
    prepared = rules(SUMMER, first_order, coupons="matching_only")
    assert prepared.rows.frame["key"].tolist() == ["R1"]
    [rejected] = prepared.rejected
    assert (rejected.key, rejected.error_class) == ("R2", "not_expressible")
    assert rejected.title == "Not expressible at Mailchimp"
    assert "conditions besides its code, amount, start and end" in rejected.detail


def test_deleted_rules_are_left_out() -> None:
    prepared = rules(SUMMER | {"is_deleted": True, "amount": None})
    assert (len(prepared.rows.frame), prepared.rejected) == (0, [])


def test_a_code_as_the_api_expects_it() -> None:
    prepared = codes(CODE)
    [document] = documents(promotions.CODES_DOCUMENT, prepared)
    assert document == {
        "id": "K1",
        "code": "SUMMER",
        "redemption_url": "https://shop.dev/?code=SUMMER",
        "usage_count": 3,
        "enabled": True,
    }
    PromoCode.model_validate_json(encode(promotions.CODES_DOCUMENT, prepared.rows).to_pylist()[0])


def test_a_code_is_known_by_its_rule_and_itself() -> None:
    prepared = codes(CODE | {"code_key": "a/b/10 %", "rule_id": "a/b", "code_id": "10 %"}, CODE)
    assert prepared.rows.frame["key"].tolist() == ["a/b/10 %", "R1/K1"]
    assert prepared.rows.frame["record_id"].tolist() == ["a%2Fb/10%20%25", "R1/K1"]
    [link] = prepared.parents
    assert (link.entity, link.field) == ("promo_rules", "promo_rule_id")
    assert (link.positions.tolist(), link.parent_ids.to_pylist()) == ([0, 1], ["a/b", "R1"])


def test_a_change_of_its_rule_alone_does_not_change_a_code() -> None:
    assert built_codes(CODE) == built_codes(CODE | {"updated_at": CHANGED + timedelta(days=1)})


@pytest.mark.parametrize(
    ("own", "template", "url"),
    [
        ("https://shop.dev/?code=SUMMER", "https://shop.dev/c/{code}", "https://shop.dev/?code=SUMMER"),
        (None, "https://shop.dev/c/{code}", "https://shop.dev/c/10%25%20OFF"),
        ("", "https://shop.dev/c/{code}", "https://shop.dev/c/10%25%20OFF"),
        ("/c/relative", "https://shop.dev/c/{code}", "https://shop.dev/c/10%25%20OFF"),
    ],
)
def test_where_a_code_is_redeemed(own: str | None, template: str, url: str) -> None:
    [document] = built_codes(CODE | {"code": "10% OFF", "redemption_url": own}, redemption_url_template=template)
    assert document["redemption_url"] == url


@pytest.mark.parametrize(
    ("code", "field", "error_class", "title"),
    [
        ({"code_id": "0"}, "id", "missing_value", "Promo code id unusable"),
        ({"code_id": "k" * 51}, "id", "missing_value", "Promo code id unusable"),
        ({"updated_at": None}, "promo_rule_id", "parent_missing", "Promotion missing"),
        ({"code": " "}, "code", "missing_value", "Promo code missing"),
        ({"code": None}, "code", "missing_value", "Promo code missing"),
        ({"code": "c" * 51}, "code", "invalid_value", "Promo code too long"),
        ({"redemption_url": None}, "redemption_url", "missing_value", "Redemption URL missing"),
        ({"redemption_url": "/relative"}, "redemption_url", "missing_value", "Redemption URL missing"),
        (
            {"redemption_url": "https://shop.dev/" + "x" * 2000},
            "redemption_url",
            "invalid_value",
            "Redemption URL too long",
        ),
    ],
)
def test_a_code_that_cannot_be_expressed_is_one_rejected_record(
    code: dict[str, Any], field: str, error_class: str, title: str
) -> None:
    prepared = codes(CODE | code, CODE | {"code_key": "R1/K5", "code_id": "K5"})
    assert [document["id"] for document in documents(promotions.CODES_DOCUMENT, prepared)] == ["K5"]
    [rejected] = prepared.rejected
    assert (rejected.entity, rejected.key) == ("promo_codes", "R1/K1")
    assert (rejected.field, rejected.error_class, rejected.title) == (field, error_class, title)


def test_a_code_without_a_rule_waits_for_it() -> None:
    [rejected] = codes(CODE | {"updated_at": None}).rejected
    assert rejected.waits_for == "promo_rules:R1"


def test_single_use_codes_are_sent_up_to_the_setting() -> None:
    many = [CODE | {"code_key": f"R1/K{n}", "code_id": f"K{n}", "number": n} for n in range(1, 6)]
    assert len(built_codes(*many)) == 5
    prepared = codes(*many, max_codes_per_rule=2)
    assert prepared.rows.frame["code_id"].tolist() == ["K1", "K2"]
    assert prepared.rejected == []


def test_codes_of_rules_that_are_not_sent_are_left_out() -> None:
    assert built_codes(CODE | {"rule_is_deleted": True}) == []
    assert len(built_codes(CODE | {"rule_other_conditions": True})) == 1
    assert built_codes(CODE | {"rule_other_conditions": True}, coupons="matching_only") == []


def test_a_code_counts_as_enabled_unless_the_shop_says_no() -> None:
    flags = (True, False, None)
    rows = (CODE | {"code_key": f"R1/K{n}", "code_id": f"K{n}", "enabled": flag} for n, flag in enumerate(flags, 1))
    assert [code["enabled"] for code in built_codes(*rows)] == [True, False, True]


def test_no_coupons_give_no_documents() -> None:
    assert built_rules() == []
    assert built_codes() == []
