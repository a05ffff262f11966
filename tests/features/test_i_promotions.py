"""Group I of the feature map: promo rules and codes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.features.sent import calls, error_classes, sent, watch
from tests.pipeline import STORE, Pipeline

COUPONS = ("promo_rules", "promo_codes")
RULES = f"{STORE}/promo-rules"


def add_coupon(pipeline: Pipeline, coupon_id: int, *codes: str, **columns: Any) -> None:
    """Add a coupon, 10 % off the total unless said otherwise, with codes numbered 10 × coupon_id, …"""
    standard = {"description": f"Coupon {coupon_id}", "type": "percentage", "target": "total", "amount": "10"}
    values = {"coupon_id": coupon_id} | standard | columns
    names = ", ".join(values)
    pipeline.sql(f"INSERT INTO coupons ({names}) VALUES ({', '.join(f':{name}' for name in values)})", **values)
    for number, code in enumerate(codes):
        pipeline.sql(
            "INSERT INTO coupon_codes (code_id, coupon_id, code) VALUES (:id, :coupon_id, :code)",
            id=10 * coupon_id + number, coupon_id=coupon_id, code=code,
        )  # fmt: skip


def test_i1_a_coupon_is_a_rule_with_its_codes_below_it(pipeline: Pipeline) -> None:
    add_coupon(pipeline, 1, "SPRING", "SPRING-2", title="Spring", starts_at="2024-03-01T00:00:00+01:00")
    pipeline.sql("UPDATE coupon_codes SET usage_count = 7, is_enabled = false WHERE code = 'SPRING-2'")
    pipeline.push(entities=COUPONS)
    rule = pipeline.held("promo_rules")["1"]
    assert {name: rule[name] for name in ("title", "description", "type", "target", "amount", "enabled")} == {
        "title": "Spring",
        "description": "Coupon 1",
        "type": "percentage",
        "target": "total",
        "amount": 0.1,
        "enabled": True,
    }
    assert (rule["starts_at"], rule["ends_at"]) == ("2024-02-29T23:00:00+00:00", "")
    codes = pipeline.codes("1").values()
    assert [(one["id"], one["code"], one["usage_count"], one["enabled"]) for one in codes] == [
        ("10", "SPRING", 0, True),
        ("11", "SPRING-2", 7, False),
    ]


@pytest.mark.parametrize(
    ("kind", "target", "amount", "held"),
    [
        ("fixed", "per_item", "2.50", 2.5),
        ("fixed", "total", "5.00", 5),
        ("fixed", "shipping", "3.90", 3.9),
        ("fixed", "shipping", "0", 0),  # free shipping
        ("percentage", "per_item", "12.50", 0.125),
        ("percentage", "total", "100", 1),
        ("percentage", "shipping", "50", 0.5),
    ],
)
def test_i1_what_a_coupon_takes_off_and_of_what(
    pipeline: Pipeline, kind: str, target: str, amount: str, held: float
) -> None:
    add_coupon(pipeline, 1, "CODE", type=kind, target=target, amount=amount)
    pipeline.push(entities=COUPONS)
    rule = pipeline.held("promo_rules")["1"]
    assert (rule["type"], rule["target"], rule["amount"]) == (kind, target, held)
    assert set(pipeline.codes("1")) == {"10"}


def test_i1_rules_are_there_before_their_codes(pipeline: Pipeline) -> None:
    pipeline.push()
    seen: list[tuple[str, str]] = []
    watch(pipeline, lambda method, path: seen.append((method, path)))
    for number in (1, 2):
        add_coupon(pipeline, number, f"A{number}", f"B{number}")
    pipeline.push(entities=COUPONS)
    assert set(seen[:2]) == {("POST", RULES)}
    assert sorted(seen[2:]) == sorted([("POST", f"{RULES}/{number}/promo-codes") for number in (1, 1, 2, 2)])


def test_i1_codes_wait_for_a_rule_that_mailchimp_does_not_take(pipeline: Pipeline) -> None:
    pipeline.configure(max_rejected_percent=100)
    add_coupon(pipeline, 1, "NOTHING", amount="0")
    add_coupon(pipeline, 2, "TEN")
    pipeline.push(entities=COUPONS)
    assert set(pipeline.held("promo_rules")) == {"2"}
    assert pipeline.rejected() == {
        ("promo_rules", "1"): "Promotion amount zero",
        ("promo_codes", "1/10"): "Parent not at Mailchimp yet",
    }
    pipeline.sql("UPDATE coupons SET amount = 5 WHERE coupon_id = 1")
    pipeline.push(entities=COUPONS)
    assert set(pipeline.codes("1")) == {"10"}
    assert pipeline.rejected() == {}


@pytest.mark.parametrize(("coupons", "accepted"), [("all", {"1", "2", "3"}), ("matching_only", {"1"})])
def test_i2_all_coupons_or_only_those_that_mailchimp_can_express(
    pipeline: Pipeline, coupons: str, accepted: set[str]
) -> None:
    pipeline.configure(coupons=coupons)
    add_coupon(pipeline, 1, "ALWAYS", starts_at="2024-03-01T00:00:00Z", ends_at="2099-03-01T00:00:00Z")
    add_coupon(pipeline, 2, "MINIMUM", minimum_order_total="50")
    add_coupon(pipeline, 3, "FIRST", first_order_only=True)
    ran = pipeline.push(entities=COUPONS)
    assert set(pipeline.held("promo_rules")) == accepted
    assert [set(pipeline.codes(rule_id)) for rule_id in sorted(accepted)] == [{f"{one}0"} for one in sorted(accepted)]
    # The others are listed with the reason; what the settings ask for is no failure.
    left_out = {"1", "2", "3"} - accepted
    assert error_classes(pipeline, "promo_rules") == dict.fromkeys(left_out, "not_expressible")
    assert error_classes(pipeline, "promo_codes") == {}
    assert ran.failure is None
    reasons = pipeline.sql("SELECT DISTINCT detail FROM mailchimp.rejected_records")
    assert all("conditions besides its code, amount, start and end" in reason for (reason,) in reasons)


def test_i2_a_coupon_that_gets_a_condition_can_no_longer_be_used_from_mailchimp(pipeline: Pipeline) -> None:
    pipeline.configure(coupons="matching_only")
    add_coupon(pipeline, 1, "TEN")
    pipeline.push(entities=COUPONS)
    assert set(pipeline.codes("1")) == {"10"}
    pipeline.sql("UPDATE coupons SET minimum_order_total = 50")
    pipeline.push(entities=COUPONS)
    assert error_classes(pipeline, "promo_rules") == {"1": "not_expressible"}
    assert pipeline.codes("1") == {}


def test_i3_dates_that_the_shop_does_not_set_are_left_out(pipeline: Pipeline) -> None:
    add_coupon(pipeline, 1)
    add_coupon(pipeline, 2, ends_at="2099-12-31T23:00:00Z")
    pipeline.push(entities=COUPONS)
    assert {"starts_at", "ends_at"} & sent(pipeline, "promo_rules", "1").keys() == set()
    assert {"starts_at", "ends_at"} & sent(pipeline, "promo_rules", "2").keys() == {"ends_at"}
    assert pipeline.held("promo_rules")["2"]["ends_at"] == "2099-12-31T23:00:00+00:00"
    # A coupon that no longer ends.
    pipeline.sql("UPDATE coupons SET ends_at = NULL")
    pipeline.push(entities=COUPONS)
    assert pipeline.held("promo_rules")["2"]["ends_at"] == ""


def test_i4_a_changed_coupon_is_changed_and_never_made_anew(pipeline: Pipeline) -> None:
    add_coupon(pipeline, 1, "TEN", "TEN-2")
    pipeline.push(entities=COUPONS)
    pipeline.sql("UPDATE coupons SET amount = 20, title = 'More'")
    ran = pipeline.push(entities=COUPONS)
    assert (ran["promo_rules"].operations, ran["promo_codes"].operations) == (1, 0)
    pipeline.sql("UPDATE coupon_codes SET usage_count = 5 WHERE code = 'TEN'")
    ran = pipeline.push(entities=COUPONS)
    assert ran["promo_codes"].operations == 1
    rule = pipeline.held("promo_rules")["1"]
    assert (rule["amount"], rule["title"]) == (0.2, "More")
    assert [code["usage_count"] for code in pipeline.codes("1").values()] == [5, 0]
    assert calls(pipeline, "operation POST", "/promo-rules 200") == 1
    assert calls(pipeline, "operation POST", "/promo-codes 200") == 2
    assert calls(pipeline, "DELETE", "promo") == 0


def test_i4_a_coupon_that_is_there_already_is_taken_over(pipeline: Pipeline) -> None:
    pipeline.push()
    old = {"id": "1", "description": "Old", "type": "fixed", "target": "total", "amount": 1}
    pipeline.client.post(RULES, json=old)
    pipeline.client.post(f"{RULES}/1/promo-codes", json={"id": "10", "code": "OLD", "redemption_url": "https://x.org"})
    add_coupon(pipeline, 1, "NEW")
    ran = pipeline.push(entities=COUPONS)
    assert (ran["promo_rules"].acknowledged, ran["promo_codes"].acknowledged, pipeline.rejected()) == (1, 1, {})
    assert pipeline.held("promo_rules")["1"]["description"] == "Coupon 1"
    assert [code["code"] for code in pipeline.codes("1").values()] == ["NEW"]


def test_i5_a_deleted_coupon_is_deleted_with_its_codes_and_a_deleted_code_alone(pipeline: Pipeline) -> None:
    for number in (1, 2, 3):
        add_coupon(pipeline, number, f"A{number}", f"B{number}")
    pipeline.push(entities=COUPONS)
    pipeline.sql("UPDATE coupons SET deleted_at = now() WHERE coupon_id = 1")
    pipeline.sql("DELETE FROM coupon_codes WHERE coupon_id = 2 OR code = 'A3'")
    pipeline.sql("DELETE FROM coupons WHERE coupon_id = 2")
    pipeline.push(entities=COUPONS)
    assert set(pipeline.held("promo_rules")) == {"3"}
    assert set(pipeline.codes("3")) == {"31"}
    assert set(pipeline.ledger("promo_codes").items()) >= {("3/31", "synced"), ("1/10", "deleted"), ("3/30", "deleted")}
    # It comes back, with its codes.
    pipeline.sql("UPDATE coupons SET deleted_at = NULL")
    pipeline.push(entities=COUPONS)
    assert set(pipeline.codes("1")) == {"10", "11"}


def test_i5_a_rule_that_somebody_deleted_at_mailchimp_comes_back_with_its_codes(pipeline: Pipeline) -> None:
    add_coupon(pipeline, 1, "A", "B")
    pipeline.push(entities=COUPONS)
    pipeline.client.delete(f"{RULES}/1")
    pipeline.sql("UPDATE coupons SET title = 'Again'")
    pipeline.push(entities=COUPONS)
    assert set(pipeline.codes("1")) == {"10", "11"}
    assert pipeline.full_sync(entities=COUPONS).operations == 0


def test_i5_an_expired_or_disabled_coupon_says_so(pipeline: Pipeline) -> None:
    add_coupon(pipeline, 1, "OVER", starts_at="2024-01-01T00:00:00Z", ends_at="2024-02-01T00:00:00Z")
    add_coupon(pipeline, 2, "OFF")
    pipeline.push(entities=COUPONS)
    pipeline.sql("UPDATE coupons SET is_enabled = false WHERE coupon_id = 2")
    pipeline.push(entities=COUPONS)
    rules = pipeline.held("promo_rules")
    assert (rules["1"]["ends_at"], rules["1"]["enabled"]) == ("2024-02-01T00:00:00+00:00", True)
    assert rules["2"]["enabled"] is False


def test_i6_a_code_has_an_address_that_applies_it(pipeline: Pipeline) -> None:
    add_coupon(pipeline, 1, "TEN")
    pipeline.push(entities=COUPONS)
    assert pipeline.codes("1")["10"]["redemption_url"] == "https://little.shop/redeem/TEN"


def test_i6_a_template_makes_the_address_where_the_shop_has_none(pipeline: Pipeline) -> None:
    pipeline.sql("UPDATE shop SET domain = NULL")
    add_coupon(pipeline, 1, "10 % & more")
    pipeline.push(entities=COUPONS)
    assert pipeline.codes("1")["10"]["redemption_url"] == "https://shop.invalid/?coupon=10%20%25%20%26%20more"
    pipeline.configure(redemption_url_template=None, max_rejected_percent=100)
    add_coupon(pipeline, 2, "NEW")
    pipeline.push(entities=COUPONS)
    assert pipeline.rejected() == {("promo_codes", "2/20"): "Redemption URL missing"}


def test_i7_a_flood_of_single_use_codes_is_cut_off(pipeline: Pipeline) -> None:
    pipeline.configure(max_codes_per_rule=2)
    add_coupon(pipeline, 1, *(f"ONCE-{number}" for number in range(6)))
    add_coupon(pipeline, 2, "TEN")
    ran = pipeline.push(entities=COUPONS)
    assert (ran["promo_codes"].operations, ran["promo_codes"].rejected) == (3, 0)
    assert set(pipeline.codes("1")) == {"10", "11"}
    assert set(pipeline.codes("2")) == {"20"}
    # One is used up and removed: the next one takes its place.
    pipeline.sql("DELETE FROM coupon_codes WHERE code_id = 10")
    pipeline.push(entities=COUPONS)
    assert set(pipeline.codes("1")) == {"11", "12"}
