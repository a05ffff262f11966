"""Promo rules and codes: what a rule may say, whose code a code is, and what goes with a rule."""

from typing import Any

import pytest

from tests.include.sandbox.conftest import STORE, Api

PATH = f"{STORE}/promo-rules"
CODES = f"{PATH}/r1/promo-codes"
RULE: dict[str, Any] = {"id": "r1", "description": "15 % off", "amount": 0.15, "type": "percentage", "target": "total"}
CODE = {"id": "k1", "code": "SUMMER", "redemption_url": "https://kauf-demo.shop/?code=SUMMER"}


def test_a_rule_is_shown_with_empty_values(shop: Api) -> None:
    rule = shop.ok("POST", PATH, RULE)
    assert (rule["amount"], rule["title"], rule["starts_at"], rule["ends_at"], rule["enabled"]) == (
        0.15,
        "",
        "",
        "",
        True,
    )
    assert rule["created_at_foreign"]
    assert shop.ok("GET", PATH)["promo_rules"] == [rule]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": 1.5}, "amount"),
        ({"amount": 15}, "amount"),
        ({"amount": 0}, "amount"),
        ({"amount": 0, "type": "fixed"}, "amount"),
        ({"amount": 0, "target": "shipping"}, "amount"),
        ({"amount": -1, "type": "fixed", "target": "shipping"}, "amount"),
        ({"type": "free"}, "type"),
        ({"target": "order"}, "target"),
        ({"id": "x" * 51}, "id"),
        ({"id": "0"}, "id"),
        ({"title": "ü" * 51}, "title"),
        ({"description": "x" * 256}, "description"),
        ({"starts_at": "2026-11-20"}, "starts_at"),
        ({"starts_at": "2026-11-20T10:00:00+00:00", "ends_at": "2026-11-20T11:00:00+01:00"}, "ends_at"),
    ],
)
def test_a_rule_is_refused(shop: Api, change: dict[str, Any], field: str) -> None:
    problem = shop.refused(400, "POST", PATH, {**RULE, **change})
    assert problem["title"] == "Invalid Resource"
    assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 1},
        {"amount": 0, "type": "fixed", "target": "shipping"},
        {"amount": 250, "type": "fixed", "target": "per_item"},
        {"title": "ü" * 50},
        {"starts_at": "", "ends_at": ""},
        {"starts_at": "2026-11-20T10:00:00+00:00", "ends_at": "2026-11-20T10:00:01+00:00"},
    ],
)
def test_a_rule_is_accepted(shop: Api, change: dict[str, Any]) -> None:
    rule = shop.ok("POST", PATH, {**RULE, **change})
    assert {name: rule[name] for name in change} == change


def test_a_known_rule_is_changed_by_patch_alone(shop: Api) -> None:
    shop.refused(404, "PATCH", f"{PATH}/r1", {"amount": 0.2})
    shop.ok("POST", PATH, RULE)
    problem = shop.refused(400, "POST", PATH, RULE)
    assert problem["title"] == "Invalid Resource"
    assert problem["detail"] == "A promo rule for store with the id 'r1' already exists."
    shop.refused(405, "PUT", f"{PATH}/r1", RULE)
    assert shop.ok("PATCH", f"{PATH}/r1", {"enabled": False})["enabled"] is False
    assert shop.ok("GET", f"{PATH}/r1")["amount"] == 0.15


def test_a_patched_rule_must_be_valid_as_a_whole(shop: Api) -> None:
    shop.ok("POST", PATH, {**RULE, "starts_at": "2026-11-20T10:00:00+00:00"})
    assert shop.refused(400, "PATCH", f"{PATH}/r1", {"amount": 2})["errors"][0]["field"] == "amount"
    assert shop.ok("PATCH", f"{PATH}/r1", {"amount": 2, "type": "fixed"})["amount"] == 2
    ends = {"ends_at": "2026-11-19T10:00:00+00:00"}
    assert shop.refused(400, "PATCH", f"{PATH}/r1", ends)["errors"][0]["field"] == "ends_at"
    assert shop.ok("PATCH", f"{PATH}/r1", {**ends, "starts_at": ""})["starts_at"] == ""


def test_a_code_needs_its_rule(shop: Api) -> None:
    for method, path in (("POST", CODES), ("GET", CODES), ("PATCH", f"{CODES}/k1"), ("DELETE", f"{CODES}/k1")):
        shop.refused(404, method, path, CODE)


def test_a_code_lives_and_dies(shop: Api) -> None:
    shop.ok("POST", PATH, RULE)
    code = shop.ok("POST", CODES, CODE)
    assert (code["code"], code["usage_count"], code["enabled"]) == ("SUMMER", 0, True)
    problem = shop.refused(400, "POST", CODES, CODE)
    assert problem["detail"] == "A promo code for store with the id 'k1' already exists."
    shop.refused(405, "PUT", f"{CODES}/k1", CODE)
    assert shop.ok("PATCH", f"{CODES}/k1", {"usage_count": 7})["redemption_url"] == CODE["redemption_url"]
    assert shop.ok("GET", CODES)["promo_codes"][0]["usage_count"] == 7
    shop.ok("DELETE", f"{CODES}/k1")
    shop.refused(404, "GET", f"{CODES}/k1")


@pytest.mark.parametrize(
    "change",
    [{"code": "x" * 51}, {"code": ""}, {"id": "x" * 51}, {"redemption_url": ""}, {"redemption_url": "x" * 2001}],
)
def test_a_code_is_refused(shop: Api, change: dict[str, str]) -> None:
    shop.ok("POST", PATH, RULE)
    problem = shop.refused(400, "POST", CODES, {**CODE, **change})
    assert [error["field"] for error in problem["errors"]] == list(change)


def test_a_code_id_is_free_under_another_rule(shop: Api) -> None:
    for rule_id in ("r1", "r/2"):
        shop.ok("POST", PATH, {**RULE, "id": rule_id})
    shop.ok("POST", CODES, CODE)
    shop.ok("POST", f"{PATH}/r%2F2/promo-codes", {**CODE, "code": "OTHER"})
    assert shop.ok("GET", f"{PATH}/r%2F2/promo-codes")["total_items"] == 1
    assert shop.ok("GET", f"{CODES}/k1")["code"] == "SUMMER"
    assert shop.own("state")["stores"]["demo"]["counts"]["promo_codes"] == 2


def test_a_deleted_rule_takes_its_codes_along(shop: Api) -> None:
    for rule_id in ("r1", "r2"):
        shop.ok("POST", PATH, {**RULE, "id": rule_id})
        shop.ok("POST", f"{PATH}/{rule_id}/promo-codes", CODE)
    shop.ok("DELETE", f"{PATH}/r1")
    counts = shop.own("state")["stores"]["demo"]["counts"]
    assert (counts["promo_rules"], counts["promo_codes"]) == (1, 1)
    shop.ok("POST", PATH, RULE)
    assert shop.ok("GET", CODES)["total_items"] == 0
