"""Why is order 1001 (not) in Mailchimp? One test for each answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from include.explain.explanation import Verdict
from include.sandbox.api import Reply
from tests.include.explain.asking import ask, told, values
from tests.pipeline import Died, Pipeline


def refuse(pipeline: Pipeline, part: str, status: int = 400, title: str = "Invalid Resource") -> None:
    body = json.dumps({"title": title, "status": status, "detail": "it is too blue", "instance": ""}).encode()
    pipeline.sandbox.state.operation_fault = lambda _, path: Reply(status, body, "a fault") if part in path else None


class TestSent:
    def test_acknowledged_says_when_by_which_run_and_batch(self, shop: Pipeline) -> None:
        shop.add_order(1001, 1, 1)
        shop.push()
        answer = ask(shop, "orders", 1001)
        assert (answer.verdict, answer.at_mailchimp) == (Verdict.ACKNOWLEDGED, True)
        [(batch_id,)] = shop.sql("SELECT batch_id FROM mailchimp.batches WHERE entity = 'orders'")
        assert f"by run run 2 in batch {batch_id}" in answer.sentence
        assert str(datetime.now(UTC).year) in answer.sentence
        assert values(answer, "payload")["order_total"] == 10
        [line] = values(answer, "shop row")["order_lines"]
        assert (line["product_id"], line["quantity"], line["price"]) == ("1", 1, "10")
        assert values(answer, "parents") == {"refers to": ["products 1", "customers 1"]}

    def test_an_acknowledgement_is_found_among_many_later_batches(self, shop: Pipeline) -> None:
        shop.configure(batch_operations=1)
        for number in range(1, 106):
            shop.add_order(number, 1, 1)
        shop.push()
        assert "in batch" in ask(shop, "orders", 1).sentence

    def test_a_change_after_it_is_told(self, shop: Pipeline) -> None:
        shop.sql("UPDATE products SET title = 'New' WHERE product_id = 1")
        answer = ask(shop, "products", 1)
        assert answer.verdict is Verdict.OUTDATED
        assert answer.next_step == "The next run sends it."
        shop.push()
        shop.sql("ALTER TABLE products DISABLE TRIGGER USER; UPDATE products SET title = 'Unseen'")
        assert "updated_at hasn't moved" in ask(shop, "products", 1).next_step

    def test_in_flight_names_the_batch(self, shop: Pipeline) -> None:
        shop.add_order(1001, 1, 1)

        def die_on_the_second_step() -> None:
            if shop.sql("SELECT 1 FROM mailchimp.batch WHERE entity = 'orders' AND state = 'posted'"):
                raise Died

        with pytest.raises(Died):
            shop.push(dies=die_on_the_second_step)
        answer = ask(shop, "orders", 1001)
        [(batch_id,)] = shop.sql("SELECT batch_id FROM mailchimp.batches WHERE entity = 'orders'")
        assert answer.verdict is Verdict.IN_FLIGHT
        assert f"is in batch {batch_id} (PUT)" in answer.sentence

    def test_unknown_says_that_it_is_sent_again(self, shop: Pipeline) -> None:
        shop.add_order(1001, 1, 1)
        refuse(shop, "/orders/1001", 503, "Service Unavailable")
        shop.push()
        answer = ask(shop, "orders", 1001)
        assert (answer.verdict, answer.next_step) == (
            Verdict.UNKNOWN,
            "The next run sends it again, whatever became of it.",
        )

    def test_owed_is_what_a_dead_run_left(self, shop: Pipeline) -> None:
        shop.sql("UPDATE mailchimp.ledger SET state = 'pending', on_mailchimp = false WHERE entity = 'products'")
        assert ask(shop, "products", 1).verdict is Verdict.OWED


class TestNotSentYet:
    def test_before_the_first_run_there_is_no_state_at_all(self, pipeline: Pipeline) -> None:
        pipeline.add_product(1)
        pipeline.sql("DROP SCHEMA mailchimp CASCADE")
        answer = ask(pipeline, "products", 1)
        assert answer.verdict is Verdict.NOT_YET
        assert "no run has brought products to Mailchimp" in answer.sentence
        assert told(answer, "ledger") == "no run has ever dealt with it"

    def test_newer_than_the_last_run(self, shop: Pipeline) -> None:
        shop.add_product(2)
        answer = ask(shop, "products", 2)
        assert answer.verdict is Verdict.NOT_YET
        assert "changed after the last run" in answer.sentence

    def test_outside_of_the_window_of_a_confined_first_load(self, pipeline: Pipeline) -> None:
        pipeline.add_product(1)
        pipeline.add_customer(1)
        pipeline.add_order(1001, 1, 1)
        pipeline.sql("ALTER TABLE orders DISABLE TRIGGER USER")
        pipeline.sql("UPDATE orders SET updated_at = now() - interval '1 year'")
        pipeline.full_sync(since=datetime.now(UTC) - timedelta(days=30))
        answer = ask(pipeline, "orders", 1001)
        assert answer.verdict is Verdict.NOT_YET
        assert "outside of all windows" in answer.sentence
        assert "full sync without dates" in answer.next_step


class TestLeftOut:
    def test_a_status_that_is_not_sent(self, shop: Pipeline) -> None:
        shop.add_order(1001, 1, 1, status="pending")
        answer = ask(shop, "orders", 1001)
        assert answer.verdict is Verdict.LEFT_OUT
        assert "its status pending is none of those that are sent (paid, shipped, " in answer.sentence
        assert values(answer, "settings") == {"left out by": ["order_statuses"]}

    def test_an_excluded_address(self, shop: Pipeline) -> None:
        shop.configure(exclude_emails=["*@mail.little.shop"])
        shop.add_order(1001, 1, 1)
        answer = ask(shop, "orders", 1001)
        assert values(answer, "settings") == {"left out by": ["exclude_emails"]}
        assert "little.shop" not in answer.to_text()

    def test_guests(self, shop: Pipeline) -> None:
        shop.configure(guests="skip")
        shop.add_customer(2, is_guest=True)
        shop.add_order(1001, 2, 1)
        for entity, record in (("customers", 2), ("orders", 1001)):
            assert values(ask(shop, entity, record), "settings") == {"left out by": ["guests"]}

    def test_several_reasons_are_told_together(self, shop: Pipeline) -> None:
        shop.configure(guests="skip")
        shop.add_customer(2, is_guest=True)
        shop.add_order(1001, 2, 1, status="pending")
        answer = ask(shop, "orders", 1001)
        assert values(answer, "settings") == {"left out by": ["order_statuses", "guests"]}

    def test_a_store_without_ecommerce(self, shop: Pipeline) -> None:
        shop.configure(ecommerce=False)
        answer = ask(shop, "products", 1)
        assert (answer.verdict, "ecommerce is off" in answer.sentence) == (Verdict.LEFT_OUT, True)

    @pytest.mark.parametrize(
        ("settings", "minutes", "reason"),
        [
            ({"cart_idle_minutes": 60}, 5, "cart_idle_minutes"),
            ({"cart_max_age_days": 1}, 2 * 24 * 60, "cart_max_age_days"),
            ({"abandoned_carts": "subscribed"}, 5, "abandoned_carts"),
            ({"abandoned_carts": "none"}, 5, "abandoned_carts"),
        ],
    )
    def test_carts(self, shop: Pipeline, settings: dict[str, object], minutes: int, reason: str) -> None:
        shop.configure(**settings)
        shop.add_cart(5, 1, 1, minutes_ago=minutes)
        answer = ask(shop, "carts", 5)
        assert answer.verdict is Verdict.LEFT_OUT
        assert values(answer, "settings") == {"left out by": [reason]}

    def test_a_cart_without_lines(self, shop: Pipeline) -> None:
        shop.add_cart(5, 1)
        assert "it has no lines" in ask(shop, "carts", 5).sentence

    def test_coupons(self, pipeline: Pipeline) -> None:
        pipeline.configure(coupons="matching_only", max_codes_per_rule=1)
        pipeline.sql(
            "INSERT INTO coupons (coupon_id, title, description, amount, type, target) "
            "VALUES (1, 'Ten', 'Ten off', 10, 'fixed', 'total')"
        )
        pipeline.sql("INSERT INTO coupon_codes (code_id, coupon_id, code) VALUES (1, 1, 'A'), (2, 1, 'B')")
        assert ask(pipeline, "promo_codes", "1/1").verdict is Verdict.NOT_YET
        assert values(ask(pipeline, "promo_codes", "1/2"), "settings") == {"left out by": ["max_codes_per_rule"]}

    def test_every_entity_has_its_conditions(self) -> None:
        from include.explain.reasons import CONDITIONS
        from include.transform.entities import ENTITIES

        assert set(CONDITIONS) == set(ENTITIES)


class TestRejected:
    def test_a_rule_is_named_with_its_field(self, shop: Pipeline) -> None:
        shop.add_order(1001, 1, 1, order_total=99)
        shop.push()
        answer = ask(shop, "orders", 1001)
        assert answer.verdict is Verdict.BROKEN_RULE
        assert "(Totals don't add up, order_total): order_total is 99.00" in answer.sentence
        assert told(answer, "last error") == "totals_mismatch: Totals don't add up"

    def test_mailchimps_own_words_are_repeated(self, shop: Pipeline) -> None:
        shop.add_order(1001, 1, 1)
        refuse(shop, "/orders/1001")
        shop.push()
        answer = ask(shop, "orders", 1001)
        assert answer.verdict is Verdict.REFUSED
        assert "Mailchimp refused orders 1001 (run run 2, " in answer.sentence
        assert "Invalid Resource: it is too blue" in answer.sentence
        assert "replay it" in answer.next_step
        assert values(answer, "last operation")["status"] == 400

    def test_a_change_since_then_is_told(self, shop: Pipeline) -> None:
        shop.add_order(1001, 1, 1)
        refuse(shop, "/orders/1001")
        shop.push()
        shop.sql("UPDATE orders SET landing_site = 'https://little.shop/'")
        answer = ask(shop, "orders", 1001)
        assert "It has changed since." in answer.sentence
        assert answer.next_step == "The next run sends it."

    def test_waiting_explains_the_parent_too(self, pipeline: Pipeline) -> None:
        pipeline.add_product(1)
        pipeline.add_customer(1)
        pipeline.add_order(1001, 1, 1)
        refuse(pipeline, "/products/1")
        pipeline.push()
        answer = ask(pipeline, "orders", 1001)
        assert answer.verdict is Verdict.WAITING
        assert "waits for products 1" in answer.sentence
        [parent] = answer.others
        assert (parent.entity, parent.id, parent.verdict) == ("products", "1", Verdict.REFUSED)
        assert "it is too blue" in answer.to_text()

    def test_waiting_for_a_customer_who_can_not_be_sent(self, pipeline: Pipeline) -> None:
        pipeline.add_product(1)
        pipeline.add_customer(1, "nobody@test.com")
        pipeline.add_order(1001, 1, 1)
        pipeline.push()
        answer = ask(pipeline, "orders", 1001)
        assert answer.verdict is Verdict.WAITING
        [parent] = answer.others
        assert (parent.entity, parent.id, parent.verdict) == ("customers", "1", Verdict.BROKEN_RULE)
        assert "nobody@test.com" not in answer.to_text()

    def test_a_parent_that_came_meanwhile_makes_it_owed(self, pipeline: Pipeline) -> None:
        pipeline.add_product(1)
        pipeline.add_customer(1)
        pipeline.add_order(1001, 1, 1)
        refuse(pipeline, "/customers/")
        pipeline.push()
        pipeline.sandbox.state.operation_fault = None
        pipeline.sql("UPDATE customers SET first_name = 'Grace'")
        pipeline.push(entities=["customers"])
        answer = ask(pipeline, "orders", 1001)
        assert (answer.verdict, answer.next_step) == (Verdict.OWED, "The next run sends it.")


class TestGone:
    def test_nobody_knows_it(self, shop: Pipeline) -> None:
        for unknown in ("4711", "no number"):
            answer = ask(shop, "orders", unknown)
            assert (answer.verdict, answer.record_id) == (Verdict.NOT_IN_SHOP, None)
            assert "orders.sql yields no such row" in answer.sentence

    def test_deleted_says_why_and_by_which_run(self, shop: Pipeline) -> None:
        shop.add_order(1001, 1, 1)
        shop.push()
        shop.sql("UPDATE orders SET deleted_at = now()")
        answer = ask(shop, "orders", 1001)
        assert (answer.verdict, answer.at_mailchimp) == (Verdict.TO_BE_DELETED, True)
        shop.push()
        answer = ask(shop, "orders", 1001)
        assert (answer.verdict, answer.at_mailchimp) == (Verdict.DELETED, False)
        assert "by run run 3" in answer.sentence
        assert "because the shop marks it as deleted" in answer.sentence

    def test_a_row_that_vanished_is_deleted_for_that(self, shop: Pipeline) -> None:
        shop.add_order(1001, 1, 1)
        shop.push()
        shop.sql("DELETE FROM order_lines; DELETE FROM orders")
        assert ask(shop, "orders", 1001).verdict is Verdict.TO_BE_DELETED
        shop.push()
        answer = ask(shop, "orders", 1001)
        assert (answer.verdict, "no such row any more" in answer.sentence) == (Verdict.DELETED, True)

    def test_a_customer_whom_orders_refer_to_is_kept(self, shop: Pipeline) -> None:
        shop.add_order(1001, 1, 1)
        shop.push()
        shop.sql("UPDATE customers SET deleted_at = now()")
        shop.push()
        answer = ask(shop, "customers", 1)
        assert answer.verdict is Verdict.TO_BE_DELETED
        assert "is kept at Mailchimp" in answer.sentence

    def test_another_row_speaks_for_it(self, pipeline: Pipeline) -> None:
        ada = pipeline.add_customer(1)
        pipeline.add_customer(2, ada.upper())
        pipeline.push()
        speaker, other = sorted(("1", "2"), key=lambda key: ask(pipeline, "customers", key).verdict is Verdict.ALIAS)
        answer = ask(pipeline, "customers", other)
        assert f"customers {other} and customers {speaker} have one e-mail address" in answer.sentence
        [speaks] = answer.others
        assert (speaks.id, speaks.verdict) == (speaker, Verdict.ACKNOWLEDGED)


def test_nothing_is_written_and_mailchimp_is_not_asked(shop: Pipeline) -> None:
    shop.add_order(1001, 1, 1)
    before = shop.requests(), shop.sql("SELECT pg_current_wal_insert_lsn() IS NOT NULL, count(*) FROM mailchimp.run")
    ask(shop, "orders", 1001)
    after = shop.requests(), shop.sql("SELECT pg_current_wal_insert_lsn() IS NOT NULL, count(*) FROM mailchimp.run")
    assert before == after


def test_an_entity_that_does_not_exist_is_refused(shop: Pipeline) -> None:
    with pytest.raises(ValueError, match="no entity 'order'; there are products, members"):
        ask(shop, "order", 1)
