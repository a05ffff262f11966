"""The replay of rejected records: which are selected, and what becomes of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.load import replay
from include.load.errors import TooManyDeletions
from include.load.replay import Selection
from include.load.runs import Mode
from include.sandbox.api import Reply
from include.state.runs import QUIET_REPLAY
from tests.features.sent import error_classes, watch
from tests.include.load.refusals import accept, fill, problem, refuse, seen
from tests.pipeline import Pipeline, email_hash
from tests.replaying import run_replay


@pytest.fixture
def shop(pipeline: Pipeline) -> Pipeline:
    """Two products and two customers that were sent."""
    return fill(pipeline)


class TestSelection:
    @pytest.fixture
    def mixed(self, shop: Pipeline) -> Pipeline:
        """Orders 1 to 3 are rejected by rules or by Mailchimp, product 3 by Mailchimp; 1 a day earlier."""
        shop.add_order(1, 1, 1, order_total=99)
        shop.push()
        shop.sql("UPDATE mailchimp.rejected SET first_seen_at = now() - interval '1 day'")
        shop.sql("UPDATE mailchimp.rejected SET last_seen_at = now() - interval '20 hours'")
        shop.add_order(2, 1, status="paid")
        shop.add_order(3, 1, 1)
        shop.add_product(3)
        refuse(shop, "/orders/3")
        shop.push()
        refuse(shop, "/products/3")
        shop.sql("UPDATE products SET title = 'New' WHERE product_id = 3")
        shop.push()
        accept(shop)
        assert error_classes(shop, "orders") == {"1": "totals_mismatch", "2": "missing_value", "3": "invalid"}
        assert error_classes(shop, "products") == {"3": "invalid"}
        return shop

    @pytest.mark.parametrize(
        ("selection", "expected"),
        [
            (
                {},
                {
                    ("orders", "totals_mismatch"),
                    ("orders", "missing_value"),
                    ("orders", "invalid"),
                    ("products", "invalid"),
                },
            ),
            ({"error_classes": ["invalid"]}, {("orders", "invalid"), ("products", "invalid")}),
            ({"entities": ["products"]}, {("products", "invalid")}),
            ({"ids": ["3"], "entities": ["orders"]}, {("orders", "invalid")}),
            ({"ids": ["4711"]}, set()),
        ],
    )
    def test_records_are_chosen_by_class_entity_and_id(
        self, mixed: Pipeline, selection: dict[str, Any], expected: set[tuple[str, str]]
    ) -> None:
        counts = replay.count(mixed.state, 1, Selection(**selection))
        assert {(one.entity, one.error_class) for one in counts} == expected
        assert {one.records for one in counts} <= {1}

    def test_records_are_chosen_by_the_time_they_were_rejected(self, mixed: Pipeline) -> None:
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        ago = {hours: datetime.now(UTC) - timedelta(hours=hours) for hours in (22, 26)}

        def chosen(**selection: Any) -> set[str]:
            return {one.error_class for one in replay.count(mixed.state, 1, Selection(**selection))}

        assert chosen(until=an_hour_ago) == {"totals_mismatch"}
        assert chosen(since=an_hour_ago) == {"missing_value", "invalid"}
        assert chosen(seen="first", since=ago[26], until=ago[22]) == {"totals_mismatch"}
        assert chosen(seen="last", since=ago[26], until=ago[22]) == set()

    def test_people_are_found_by_the_shops_key_too(self, pipeline: Pipeline) -> None:
        ada = pipeline.add_customer(7)
        refuse(pipeline, "/customers/")
        pipeline.push()
        for name in ("7", email_hash(ada)):
            [found] = replay.count(pipeline.state, 1, Selection(ids=[name]))
            assert (found.entity, found.records) == ("customers", 1)

    def test_the_count_says_what_would_happen_without_a_replay(self, mixed: Pipeline) -> None:
        chosen = Selection()
        told = replay.counts_table(replay.count(mixed.state, 1, chosen), chosen)
        assert "4 records are replayed" in told
        assert "when it changes in the shop" in told
        assert mixed.ledger("orders") == dict.fromkeys("123", "rejected")  # nothing was done


class TestReplay:
    def test_the_current_rows_are_sent(self, shop: Pipeline) -> None:
        """A mistake in the shop is corrected by a statement that leaves `updated_at` alone: no push would see it."""
        shop.add_order(1, 1, 1, order_total=99)
        shop.push()
        shop.sql("ALTER TABLE orders DISABLE TRIGGER USER")
        shop.sql("UPDATE orders SET order_total = 10 WHERE order_id = 1")
        assert shop.push().operations == 0
        done = run_replay(shop)
        assert done.to_json() == {"records": 1, "succeeded": 1, "gone": 0, "rejected": 0, "open": 0}
        assert shop.held("orders")["1"]["order_total"] == 10
        assert error_classes(shop, "orders") == {}

    def test_a_payload_that_was_refused_is_sent_as_it_is(self, shop: Pipeline) -> None:
        """A push never repeats it; but what made Mailchimp refuse it may have been changed there."""
        shop.add_order(1, 1, 1)
        refuse(shop, "/orders/1")
        shop.push()
        accept(shop)
        assert shop.full_sync()["orders"].operations == 0
        assert run_replay(shop, error_classes=["invalid"]).total("succeeded") == 1
        assert set(shop.held("orders")) == {"1"}

    def test_only_what_was_chosen_is_sent(self, shop: Pipeline) -> None:
        shop.add_order(1, 1, 1)
        shop.add_order(2, 1, 1)
        shop.add_product(3)
        refuse(shop, "/")
        shop.push()
        accept(shop)
        done = run_replay(shop, ids=["2"], entities=["orders"])
        assert done.total("records") == 1
        assert set(shop.held("orders")) == {"2"}
        assert set(error_classes(shop, "products")) == {"3"}

    def test_parents_go_first(self, pipeline: Pipeline) -> None:
        pipeline.add_product(1)
        pipeline.add_customer(1)
        pipeline.add_order(1, 1, 1)
        refuse(pipeline, "/")
        pipeline.push()
        accept(pipeline)
        assert set(error_classes(pipeline, "orders").values()) == {"parent_missing"}
        done = run_replay(pipeline)
        assert (done.total("records"), done.total("succeeded")) == (3, 3)
        assert set(pipeline.held("orders")) == {"1"}

    def test_it_says_how_many_are_rejected_again_and_why(self, shop: Pipeline) -> None:
        shop.add_order(1, 1, 1, order_total=99)
        shop.add_order(2, 1, 1, order_total=99)
        shop.push()
        shop.sql("UPDATE orders SET order_total = 10 WHERE order_id = 1")
        done = run_replay(shop)
        assert (done.total("succeeded"), done.total("rejected")) == (1, 1)
        assert done.reasons == ("orders: Totals don't add up (1 records)",)
        assert "rejected again for: orders: Totals don't add up" in replay.outcome_table(done)
        assert seen(shop, "orders")["2"][0] == 2
        assert shop.last is not None
        assert shop.last.failure is None  # known to be bad, they fail no run

    def test_what_vanished_from_the_shop_is_let_go(self, shop: Pipeline) -> None:
        shop.add_order(1, 1, status="paid")
        shop.push()
        shop.sql("DELETE FROM orders")
        done = run_replay(shop)
        assert (done.total("gone"), error_classes(shop, "orders")) == (1, {})

    def test_what_mailchimp_holds_of_it_is_deleted_there(self, shop: Pipeline) -> None:
        shop.add_order(1, 1, 1)
        shop.push()
        shop.sql("UPDATE orders SET order_total = 99")
        shop.push()
        shop.sql("DELETE FROM order_lines; DELETE FROM orders")
        done = run_replay(shop)
        assert (done.total("gone"), error_classes(shop, "orders"), shop.held("orders")) == (1, {}, {})

    def test_but_not_more_than_the_settings_allow(self, shop: Pipeline) -> None:
        shop.configure(max_deletes_percent=0)
        for number in range(1, 13):
            shop.add_order(number, 1, 1)
        shop.push()
        shop.sql("UPDATE orders SET order_total = 99")
        shop.push()
        shop.sql("DELETE FROM order_lines; DELETE FROM orders")
        with pytest.raises(TooManyDeletions):
            run_replay(shop)
        assert len(shop.held("orders")) == 12

    def test_a_refused_deletion_is_tried_again(self, shop: Pipeline) -> None:
        shop.add_order(1, 1, 1)
        shop.push()
        shop.sql("UPDATE orders SET deleted_at = now()")
        refuse(shop, "DELETE", "/orders/1")
        shop.push()
        accept(shop)
        assert error_classes(shop, "orders") == {"1": "invalid"}
        assert shop.push().operations == 0
        done = run_replay(shop)
        assert (done.total("gone"), shop.held("orders"), error_classes(shop, "orders")) == (1, {}, {})

    def test_a_corrected_address_counts_as_success(self, pipeline: Pipeline) -> None:
        pipeline.add_customer(1, "nobody@test.com")
        pipeline.push()
        pipeline.sql("ALTER TABLE customers DISABLE TRIGGER USER")
        pipeline.sql("UPDATE customers SET email = 'ada@mail.little.shop'")
        done = run_replay(pipeline)
        assert (done.total("succeeded"), done.total("gone")) == (1, 0)
        assert error_classes(pipeline, "customers") == {}

    def test_compliance_is_left_out_unless_it_is_named(self, pipeline: Pipeline) -> None:
        ada = pipeline.add_customer(1, opted_in=True)
        sent: list[str] = []

        def answer(method: str, path: str) -> Reply | None:
            if "/members/" in path:
                sent.append(method)
                return problem(400, "Member In Compliance State")
            return None

        pipeline.sandbox.state.operation_fault = answer
        pipeline.push()
        assert error_classes(pipeline, "members") == {email_hash(ada): "compliance"}
        sent.clear()
        everything, by_id = Selection(entities=["members"]), Selection(ids=[email_hash(ada)], entities=["members"])
        for chosen in (everything, by_id):
            counts = replay.count(pipeline.state, 1, chosen)
            assert replay.selected(counts, chosen) == []
            assert "left out" in replay.counts_table(counts, chosen)
        assert run_replay(pipeline, entities=["members"]).counts == ()
        assert sent == []
        assert run_replay(pipeline, error_classes=["compliance"]).total("rejected") == 1
        assert sent == ["PUT"]

    def test_nobody_is_subscribed_by_it_who_opted_out_meanwhile(self, pipeline: Pipeline) -> None:
        ada = pipeline.add_customer(1, opted_in=True)
        pipeline.push()
        refuse(pipeline, "/members/")
        pipeline.sql("UPDATE customers SET first_name = 'Grace' WHERE customer_id = 1")
        pipeline.push()
        accept(pipeline)
        path = f"/lists/{pipeline.settings.list_id}/members/{email_hash(ada)}"
        pipeline.client.patch(path, json={"status": "unsubscribed"})
        assert run_replay(pipeline).total("succeeded") == 1
        assert pipeline.status(ada) == "unsubscribed"

    def test_should_it_die_the_next_push_sends_them(self, shop: Pipeline) -> None:
        shop.add_order(1, 1, 1)
        refuse(shop, "/orders/1")
        shop.push()
        accept(shop)
        run, store = shop.begin(mode=Mode.IDS, entities=("orders",), kind=QUIET_REPLAY)
        assert replay.select(shop.state, store, run, Selection()) == 1
        assert set(error_classes(shop, "orders")) == {"1"}  # listed until it is acknowledged
        assert shop.push()["orders"].acknowledged == 1
        assert replay.outcome(shop.state, run).total("succeeded") == 1

    def test_old_orders_make_no_automation_write_to_anybody(self, shop: Pipeline) -> None:
        shop.add_order(1, 1, 1)
        refuse(shop, "/orders/1")
        shop.push()
        accept(shop)
        before = shop.mails()
        quiet: list[bool] = []
        settings = shop.sandbox.state.account.store_settings
        watch(shop, lambda *_: quiet.append((settings.get("demo-shop") or {})["is_syncing"]))
        run_replay(shop)
        assert quiet == [True]
        assert shop.mails() == before
        store = shop.client.get("/ecommerce/stores/demo-shop")
        assert store is not None
        assert store["is_syncing"] is False
