"""The list of rejected records: how they get on it, how they leave it, and what retries them."""

from __future__ import annotations

import pytest

from include.extract.slices import Extractor
from include.load.outcomes import Outcome
from include.load.phases import PHASES
from include.load.plan import plan_phase
from include.load.retries import RETRIES, TERMINAL, Retry, retry_of
from include.sandbox.api import Reply
from include.state.database import SliceKey
from include.state.settlement import FINAL_OUTCOMES
from include.transform.rules import ErrorClass
from tests.features.sent import error_classes
from tests.include.load.refusals import accept, fill, problem, refuse, seen
from tests.pipeline import Pipeline, email_hash


@pytest.fixture
def shop(pipeline: Pipeline) -> Pipeline:
    """Two products and two customers that were sent."""
    return fill(pipeline)


class TestTheList:
    def test_it_counts_the_runs_that_rejected_a_record_and_when(self, shop: Pipeline) -> None:
        shop.add_order(1, 1, 1, currency_code="EUR")
        refuse(shop, "/orders/1")
        shop.push()
        [(attempts, first, last)] = seen(shop, "orders").values()
        assert (attempts, first == last) == (1, True)
        shop.push()  # the same payload isn't sent again, so nothing is counted
        assert seen(shop, "orders")["1"] == (1, first, last)
        shop.sql("UPDATE orders SET landing_site = 'https://little.shop/' WHERE order_id = 1")
        shop.push()
        attempts, still_first, later = seen(shop, "orders")["1"]
        assert (attempts, still_first) == (2, first)
        assert later > last

    def test_one_run_counts_once_however_often_it_looks(self, shop: Pipeline) -> None:
        shop.add_order(1, 1, status="paid")
        run, store = shop.begin()
        for _ in range(3):  # as a cleared task does
            with shop.engine.connect() as connection:
                planned = plan_phase(
                    shop.state, Extractor(connection, shop.profile), run, PHASES["orders"], shop.settings
                )
            for part in planned:
                shop.finish(SliceKey(run.run_ref, part.entity, part.number), store)
        assert seen(shop, "orders")["1"][0] == 1
        shop.conclude(run)
        shop.sql("UPDATE orders SET tracking_number = 'x' WHERE order_id = 1")
        shop.push()
        assert seen(shop, "orders")["1"][0] == 2

    def test_a_record_leaves_it_when_mailchimp_takes_it(self, shop: Pipeline) -> None:
        shop.add_order(1, 1, 1, order_total=99)
        shop.push()
        assert error_classes(shop, "orders") == {"1": "totals_mismatch"}
        shop.sql("UPDATE orders SET order_total = 10 WHERE order_id = 1")
        shop.push()
        assert error_classes(shop, "orders") == {}
        assert shop.ledger("orders") == {"1": "synced"}

    @pytest.mark.parametrize("full", [False, True])
    def test_a_record_leaves_it_when_it_vanishes_from_the_shop_without_a_trace(
        self, shop: Pipeline, full: bool
    ) -> None:
        shop.add_order(1, 1, status="paid")
        shop.add_order(2, 1, status="paid")
        shop.push()
        assert set(error_classes(shop, "orders")) == {"1", "2"}
        shop.sql("DELETE FROM orders WHERE order_id = 1")
        shop.sql("DELETE FROM deleted_records")
        shop.full_sync() if full else shop.push()
        assert set(error_classes(shop, "orders")) == {"2"}
        assert shop.ledger("orders") == {"1": "deleted", "2": "rejected"}

    def test_what_mailchimp_holds_of_it_goes_too(self, shop: Pipeline) -> None:
        shop.add_order(1, 1, 1)
        shop.push()
        shop.sql("UPDATE orders SET order_total = 99 WHERE order_id = 1")
        shop.push()
        assert error_classes(shop, "orders") == {"1": "totals_mismatch"}
        shop.sql("DELETE FROM order_lines; DELETE FROM orders; DELETE FROM deleted_records")
        shop.push()
        assert (error_classes(shop, "orders"), shop.held("orders")) == ({}, {})

    def test_a_subscriber_who_vanishes_leaves_it_and_stays_a_contact(self, pipeline: Pipeline) -> None:
        ada = pipeline.add_customer(1, opted_in=True)
        pipeline.push()
        refuse(pipeline, "/members/")
        pipeline.sql("UPDATE customers SET first_name = 'Grace' WHERE customer_id = 1")
        pipeline.push()
        accept(pipeline)
        assert error_classes(pipeline, "members") == {email_hash(ada): "invalid"}
        pipeline.sql("DELETE FROM newsletter_consents; DELETE FROM customers; DELETE FROM deleted_records")
        pipeline.push()
        assert error_classes(pipeline, "members") == {}
        assert pipeline.status(ada) == "subscribed"

    def test_another_row_of_the_shop_that_is_the_same_person_takes_over(self, pipeline: Pipeline) -> None:
        ada = pipeline.add_customer(1)
        pipeline.add_customer(2, ada)
        refuse(pipeline, "/customers/")
        pipeline.push()
        [(speaker,)] = pipeline.sql("SELECT source_key FROM mailchimp.ledger WHERE entity = 'customers'")
        pipeline.sql("DELETE FROM customers WHERE customer_id = CAST(:id AS int)", id=speaker)
        pipeline.sql("DELETE FROM deleted_records")
        accept(pipeline)
        pipeline.push()
        assert set(pipeline.held("customers")) == {email_hash(ada)}
        assert error_classes(pipeline, "customers") == {}

    def test_a_broken_profile_does_not_empty_it(self, shop: Pipeline) -> None:
        for number in range(1, 13):
            shop.add_order(number, 1, status="paid")
        shop.push()
        shop.sql("ALTER TABLE orders RENAME TO real_orders; CREATE VIEW orders AS SELECT * FROM real_orders LIMIT 0")
        shop.push()
        assert len(error_classes(shop, "orders")) == 12


class TestRetries:
    def test_every_class_has_its_line(self) -> None:
        known = {outcome.value for outcome in Outcome if outcome is not Outcome.OK}
        assert {*known, *map(str, ErrorClass), "too_large"} == set(RETRIES)
        assert set(TERMINAL) <= set(RETRIES)
        assert retry_of("something new") is Retry.ON_CHANGE

    def test_what_the_state_tables_take_for_final_is_not_retried_by_the_next_run(self) -> None:
        next_run = {name for name, retry in RETRIES.items() if retry is Retry.NEXT_RUN}
        assert next_run == {outcome.value for outcome in Outcome} - {"ok", *FINAL_OUTCOMES}

    @pytest.mark.parametrize(
        ("status", "title", "error_class"),
        [
            (503, "Service Unavailable", "transient"),
            (0, "", "unknown"),
            (400, "Invalid Resource", "invalid"),
            (400, "Member In Compliance State", "compliance"),
        ],
    )
    def test_the_next_run_does_as_the_table_says(
        self, shop: Pipeline, status: int, title: str, error_class: str
    ) -> None:
        shop.add_order(1, 1, 1)
        sent: list[str] = []

        def answer(method: str, path: str) -> Reply | None:
            if path.endswith("/orders/1"):
                sent.append(method)
                return problem(status, title)
            return None

        shop.sandbox.state.operation_fault = answer
        shop.push()
        assert error_classes(shop, "orders") == {"1": error_class}
        sent.clear()
        shop.push()
        assert bool(sent) is (retry_of(error_class) is Retry.NEXT_RUN)
        sent.clear()
        shop.sql("UPDATE orders SET landing_site = 'https://little.shop/' WHERE order_id = 1")
        shop.push()
        assert sent  # whatever it is, a change is news

    def test_a_record_that_waits_is_sent_with_its_parent_and_not_before(self, pipeline: Pipeline) -> None:
        pipeline.add_product(1)
        pipeline.add_customer(1, "nobody@test.com")
        pipeline.add_order(1, 1, 1)
        pipeline.push()
        assert error_classes(pipeline, "orders") == {"1": "parent_missing"}
        assert pipeline.push().operations == 0
        pipeline.sql("UPDATE customers SET email = 'ada@mail.little.shop' WHERE customer_id = 1")
        pipeline.push()
        assert set(pipeline.held("orders")) == {"1"}
