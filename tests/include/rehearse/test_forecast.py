"""What a forecast shows: examples without people, a pace that was measured, and never more than a log can take."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from include.load.slice_step import Waiting
from include.rehearse.differences import differences
from include.rehearse.forecast import SAMPLES, throughput
from include.rehearse.table import forecast_table
from include.sandbox.faults import Fault, heal, inject_at_random
from tests.include.load.shop import die_at
from tests.include.rehearse.rehearsals import comes_true, rehearse
from tests.pipeline import Died, Pipeline, wait_for_batches

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def after(*seconds: float) -> tuple[datetime, ...]:
    return tuple(NOON + timedelta(seconds=one) for one in seconds)


def test_an_update_is_shown_field_by_field(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.push()
    pipeline.sql("UPDATE products SET title = 'A new name' WHERE product_id = 1")
    pipeline.sql("UPDATE variants SET price = 12.5 WHERE product_id = 1")
    shown = forecast_table(rehearse(pipeline))
    assert "products, update 1: title: Product 1 → A new name; variants/10.price: 10.0 → 12.5" in shown


def test_of_people_it_says_only_that_something_changes(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1, "canary@mail.little.shop", opted_in=True, first_name="Canary", phone="+49 123 canary")
    pipeline.add_order(1, 1, 1)
    pipeline.push()
    pipeline.add_customer(2, "canary2@mail.little.shop", opted_in=True, last_name="Canary")
    pipeline.sql("UPDATE customers SET first_name = 'Canary the Second' WHERE customer_id = 1")
    forecast = rehearse(pipeline)
    assert "customers, update: first_name changed" in forecast_table(forecast)
    for told in (forecast_table(forecast), repr(forecast), repr(forecast.counts())):
        assert "canary" not in told.lower()
    for contact in pipeline.ledger("customers"):
        assert contact not in forecast_table(forecast)


def test_it_says_that_news_of_contacts_is_read_first(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1, opted_in=True)
    assert "not foreseen: what contacts did at Mailchimp" in forecast_table(rehearse(pipeline))
    assert "not foreseen" not in forecast_table(rehearse(pipeline, entities=("products",)))


def test_examples_are_few_however_many_records_change(pipeline: Pipeline) -> None:
    for product in range(1, 41):
        pipeline.add_product(product)
    assert len(rehearse(pipeline)["products"].samples["create"]) == SAMPLES
    pipeline.push()
    pipeline.sql("UPDATE products SET title = title || '!'")
    forecast = rehearse(pipeline)
    assert forecast["products"].updates == 40
    assert len(forecast["products"].samples["update"]) == SAMPLES
    assert len(forecast_table(forecast).splitlines()) < 20


def test_more_than_can_be_looked_up_is_taken_from_the_ledger_and_said(pipeline: Pipeline) -> None:
    for product in range(1, 6):
        pipeline.add_product(product, variants=2)
    pipeline.push()
    pipeline.sql("DELETE FROM variants WHERE position = 2")
    forecast = rehearse(pipeline, most_lookups=2)
    assert (forecast["products"].updates, forecast["products"].deletes_inside, forecast.unchecked) == (5, 2, 3)
    assert "3 records were too many to look up" in forecast_table(forecast)
    comes_true(pipeline)


def test_rejections_are_told_with_their_reasons(pipeline: Pipeline) -> None:
    pipeline.add_customer(1, "no address at all")
    forecast = rehearse(pipeline)
    assert forecast["customers"].rejected == 1
    assert sum(forecast["customers"].reasons.values()) == 1
    assert "Too many records were rejected" in forecast.failures[0]


def test_new_subscribers_are_counted_where_there_is_a_limit(pipeline: Pipeline) -> None:
    pipeline.add_customer(1, opted_in=True)
    assert rehearse(pipeline).new_subscribers is None
    pipeline.configure(max_new_subscribers=10)
    assert rehearse(pipeline).new_subscribers == 1


def until_worked_off(pipeline: Pipeline) -> None:
    wait_for_batches(pipeline.sandbox, Waiting(tuple(pipeline.sandbox.state.batches.batches)))


def test_a_batch_of_another_run_that_cannot_be_read_ends_the_forecast(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.add_product(1)
    die = die_at(1)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "wait", lambda waiting: die())
        with pytest.raises(Died):
            pipeline.push()
    until_worked_off(pipeline)
    inject_at_random(pipeline.sandbox.state, 1, {Fault.ARCHIVE_TRUNCATED: 1.0})
    [failure] = rehearse(pipeline).failures
    assert "cannot be read now; ask again" in failure
    heal(pipeline.sandbox.state)
    assert rehearse(pipeline).failures == []


class TestPace:
    def test_batches_that_waited_for_each_other_count_once(self) -> None:
        first, second = (500, *after(0, 30)), (500, *after(1, 60))
        assert throughput([second, first]) == pytest.approx(1000 / 60)  # type: ignore[list-item]

    def test_idle_time_does_not_count(self) -> None:
        assert throughput([(100, *after(0, 10)), (100, *after(3600, 3610))]) == 10  # type: ignore[list-item]

    @pytest.mark.parametrize("seconds", [(0, 0), (10, 5)])
    def test_clocks_that_differ_tell_nothing(self, seconds: tuple[float, float]) -> None:
        assert throughput([(100, *after(*seconds))]) is None  # type: ignore[list-item]

    def test_the_forecast_uses_it(self, pipeline: Pipeline) -> None:
        pipeline.add_product(1)
        pipeline.push()
        pipeline.sql("UPDATE mailchimp.batch SET completed_at = posted_at")  # at once, however busy the machine was
        assert rehearse(pipeline).measured is False
        pipeline.sql("UPDATE mailchimp.batch SET operations = 100, completed_at = posted_at + interval '50 seconds'")
        pipeline.add_product(2)
        forecast = rehearse(pipeline)
        assert (forecast.measured, forecast.per_second) == (True, 2)
        assert forecast.minutes == pytest.approx(1 / 2 / 60)


class TestDifferences:
    def test_what_mailchimp_writes_otherwise_is_the_same(self) -> None:
        sent = {"price": 10.0, "when": "2026-11-21T10:00:00Z", "note": "", "campaign_id": "a"}
        held = {"price": 10, "when": "2026-11-21T10:00:00+00:00", "campaign_id": "b"}
        assert differences("products", sent, held) == ()

    def test_an_order_shows_amounts_but_no_address(self) -> None:
        found = differences("orders", {"order_total": 2, "shipping_address": {"city": "Ulm"}}, {"order_total": 1})
        assert [str(one) for one in found] == ["order_total: 1 → 2", "shipping_address.city changed"]


def test_what_mailchimp_is_still_working_on_is_taken_as_done(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.add_product(1)
    pipeline.add_product(2)
    may_end = threading.Event()
    monkeypatch.setattr(pipeline.sandbox.state.batches, "_until", lambda *_: may_end.wait(60))
    die = die_at(1)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "wait", lambda waiting: die())
        with pytest.raises(Died):
            pipeline.push()
    [batch] = pipeline.sandbox.state.batches.batches.values()
    forecast = rehearse(pipeline)
    assert batch.status != "finished"
    assert forecast.operations == 0
    assert forecast["products"].unchanged == 2
    may_end.set()
    assert pipeline.push().operations == 0
