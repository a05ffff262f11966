"""Which records each phase looks at, and the brake on deletions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.extract.slices import Extractor
from include.load.errors import TooManyDeletions
from include.load.phases import PHASES
from include.load.plan import PlannedSlice, plan_phase
from include.load.runs import Mode
from include.transform.products import PLACEHOLDER_ID
from tests.pipeline import Pipeline

SOON = timedelta(minutes=1)
GOODS = ("products",)


def planned(pipeline: Pipeline, phase: str, **options: object) -> list[PlannedSlice]:
    """Plan one phase of a run that is never worked off."""
    run, _ = pipeline.begin(**options)  # type: ignore[arg-type]
    with pipeline.engine.connect() as connection:
        extractor = Extractor(connection, pipeline.profile)
        return plan_phase(pipeline.state, extractor, run, PHASES[phase], pipeline.settings)


def forget_deletions(pipeline: Pipeline) -> None:
    """A shop that keeps no trace of what it deletes."""
    pipeline.sql("DELETE FROM deleted_records")


def pass_time(pipeline: Pipeline, **duration: float) -> None:
    """Let time pass in which nobody touches a cart and no run takes place."""
    pipeline.sql("UPDATE carts SET updated_at = updated_at - :time", time=timedelta(**duration))
    pipeline.sql("UPDATE mailchimp.watermark SET acknowledged_until = acknowledged_until - :t", t=timedelta(**duration))


# Deletions


def with_products(pipeline: Pipeline, count: int) -> None:
    for product_id in range(1, count + 1):
        pipeline.add_product(product_id)
    pipeline.push(entities=GOODS)


def delete_products(pipeline: Pipeline, last: int) -> None:
    pipeline.sql("DELETE FROM variants WHERE product_id <= :last", last=last)
    pipeline.sql("DELETE FROM products WHERE product_id <= :last", last=last)


def test_too_many_deletions_are_refused_all_together(pipeline: Pipeline) -> None:
    with_products(pipeline, 30)
    delete_products(pipeline, 11)
    with pytest.raises(
        TooManyDeletions, match="no longer has 11 of the 30 products at Mailchimp; a run may delete 10 "
    ):
        pipeline.push(entities=GOODS)
    assert len(pipeline.held("products")) == 30
    # They are still known to be gone, whatever the next run's window is.
    with pytest.raises(TooManyDeletions):
        pipeline.push(entities=GOODS, since=datetime.now(UTC) + SOON)
    assert pipeline.push(entities=GOODS, allow_deletes=True)["products"].deleted == 11
    assert len(pipeline.held("products")) == 19


def test_ten_deletions_are_always_allowed(pipeline: Pipeline) -> None:
    pipeline.configure(max_deletes=0)
    with_products(pipeline, 12)
    delete_products(pipeline, 10)
    assert pipeline.push(entities=GOODS)["products"].deleted == 10


@pytest.mark.parametrize("settings", [{"max_deletes": 11}, {"max_deletes_percent": 50}])
def test_both_limits_hold(pipeline: Pipeline, settings: dict[str, int]) -> None:
    pipeline.configure(**{"max_deletes": 1000, "max_deletes_percent": 100} | settings)
    with_products(pipeline, 20)
    delete_products(pipeline, 12)
    with pytest.raises(TooManyDeletions):
        pipeline.push(entities=GOODS)
    pipeline.configure(max_deletes=12, max_deletes_percent=60)
    assert pipeline.push(entities=GOODS)["products"].deleted == 12


@pytest.mark.parametrize("mode", [Mode.INCREMENTAL, Mode.FULL])
def test_what_came_back_after_the_brake_no_longer_counts(pipeline: Pipeline, mode: Mode) -> None:
    """A mistake in the shop, noticed and mended: the next run just goes through."""
    with_products(pipeline, 30)
    pipeline.sql("UPDATE products SET deleted_at = now() WHERE product_id <= 11")
    with pytest.raises(TooManyDeletions):
        pipeline.push(entities=GOODS)
    pipeline.sql("UPDATE products SET deleted_at = NULL")
    ran = pipeline.push(entities=GOODS, mode=mode)
    assert (ran.failure, ran["products"].deleted) == (None, 0)
    assert len(pipeline.held("products")) == 30


def test_restored_rows_no_longer_count_once_they_were_read(pipeline: Pipeline) -> None:
    """Rows that vanished and are there again as if nothing had happened: a backup was loaded."""
    with_products(pipeline, 30)
    for table in ("products", "variants"):
        pipeline.sql(f"CREATE TABLE saved_{table} AS SELECT * FROM {table} WHERE product_id <= 11")
    delete_products(pipeline, 11)
    forget_deletions(pipeline)
    with pytest.raises(TooManyDeletions):
        pipeline.full_sync(entities=GOODS)
    for table in ("products", "variants"):
        pipeline.sql(f"INSERT INTO {table} SELECT * FROM saved_{table}")
    assert pipeline.full_sync(entities=GOODS).failure is None
    assert len(pipeline.held("products")) == 30


def test_only_a_full_run_finds_what_was_deleted_without_a_trace(pipeline: Pipeline) -> None:
    with_products(pipeline, 3)
    delete_products(pipeline, 1)
    forget_deletions(pipeline)
    assert pipeline.push(entities=GOODS).operations == 0
    assert pipeline.full_sync(entities=GOODS)["products"].deleted == 1
    assert set(pipeline.held("products")) == {"2", "3"}
    assert pipeline.full_sync(entities=GOODS).operations == 0


def test_the_placeholder_is_never_deleted(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_order(1, 1, 1)
    pipeline.sql("UPDATE products SET deleted_at = now()")
    pipeline.push()
    for _ in range(2):
        assert pipeline.full_sync().operations == 0
        assert set(pipeline.held("products")) == {PLACEHOLDER_ID}


def test_named_records_are_deleted_if_they_are_gone(pipeline: Pipeline) -> None:
    with_products(pipeline, 3)
    delete_products(pipeline, 2)
    forget_deletions(pipeline)
    ran = pipeline.push(entities=GOODS, mode=Mode.IDS, ids=["1", "3"])
    assert (ran["products"].deleted, ran["products"].unchanged) == (1, 1)
    assert set(pipeline.held("products")) == {"2", "3"}


# Windows


def test_what_earlier_runs_owe_is_planned_besides_the_window(pipeline: Pipeline) -> None:
    with_products(pipeline, 2)
    pipeline.sql("UPDATE mailchimp.ledger SET state = 'unknown' WHERE record_id = '2'")
    later = datetime.now(UTC) + SOON
    assert [part.records for part in planned(pipeline, "products", since=later, until=later + SOON)] == [1]
    # A window that begins with the first record holds it anyway.
    assert [part.records for part in planned(pipeline, "products", mode=Mode.FULL)] == [2]


def test_a_phase_of_entities_that_the_run_leaves_out_has_nothing_to_do(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    assert planned(pipeline, "products", entities=("customers",)) == []


def with_cart(pipeline: Pipeline, minutes_ago: int) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_cart(5, 1, 1, minutes_ago=minutes_ago)


def test_a_cart_is_sent_once_it_is_idle(pipeline: Pipeline) -> None:
    pipeline.configure(cart_idle_minutes=30)
    with_cart(pipeline, minutes_ago=5)
    pipeline.push()
    assert pipeline.held("carts") == {}
    pass_time(pipeline, minutes=20)
    assert pipeline.push().operations == 0
    pass_time(pipeline, minutes=20)
    assert pipeline.push()["carts"].acknowledged == 1
    assert set(pipeline.held("carts")) == {"5"}
    pass_time(pipeline, minutes=20)
    assert planned(pipeline, "carts") == []  # nothing about it is new


def test_a_cart_becomes_idle_while_no_run_takes_place(pipeline: Pipeline) -> None:
    pipeline.configure(cart_idle_minutes=30)
    with_cart(pipeline, minutes_ago=1)
    pipeline.push()
    pass_time(pipeline, days=3)
    pipeline.push()
    assert set(pipeline.held("carts")) == {"5"}


def test_a_cart_is_deleted_when_it_is_too_old(pipeline: Pipeline) -> None:
    pipeline.configure(cart_max_age_days=2)
    with_cart(pipeline, minutes_ago=60)
    pipeline.push()
    assert set(pipeline.held("carts")) == {"5"}
    pass_time(pipeline, days=1)
    assert pipeline.push().operations == 0
    pass_time(pipeline, days=1)
    assert pipeline.push()["carts"].deleted == 1
    assert pipeline.held("carts") == {}


def test_carts_of_the_past_are_not_sent(pipeline: Pipeline) -> None:
    """A backfill brings old orders, and reminds nobody of anything."""
    with_cart(pipeline, minutes_ago=5)
    since = datetime.now(UTC) - timedelta(days=1)
    pipeline.push(kind="backfill", since=since)
    assert pipeline.held("carts") == {}
    pipeline.push()
    assert set(pipeline.held("carts")) == {"5"}
