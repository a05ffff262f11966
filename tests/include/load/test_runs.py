"""A run from its window to its summary: watermarks move where everything before them is done, and only there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.load.runs import Mode, summary_table
from include.state.runs import acknowledged_until, load_run
from include.transform.entities import ENTITIES
from tests.include.load.shop import die_at
from tests.pipeline import Died, Pipeline, email_hash


def marks(pipeline: Pipeline) -> dict[str, datetime]:
    rows = pipeline.sql("SELECT entity, acknowledged_until FROM mailchimp.watermark")
    return dict(rows)


def test_a_complete_run_moves_all_watermarks_to_its_end(pipeline: Pipeline) -> None:
    ran = pipeline.push()
    assert marks(pipeline) == dict.fromkeys(ENTITIES, ran.run.window_end)
    with pipeline.state.begin() as connection:
        assert load_run(connection, ran.run.run_ref).window_end == ran.run.window_end


def test_the_next_run_begins_where_the_last_one_ended(pipeline: Pipeline) -> None:
    pipeline.configure(window_overlap_minutes=7)
    first, second = pipeline.push(), pipeline.push()
    assert first.run.window_start is None
    assert second.run.window_start == first.run.window_end - timedelta(minutes=7)


def test_the_window_reaches_back_to_the_entity_that_is_furthest_behind(pipeline: Pipeline) -> None:
    first = pipeline.push()
    pipeline.push(entities=("products",))
    assert marks(pipeline)["products"] > marks(pipeline)["orders"] == first.run.window_end
    assert pipeline.push().run.window_start == first.run.window_end


def test_carts_do_not_hold_the_window_back(pipeline: Pipeline) -> None:
    """They look back on their own: a first load of everything else sends none."""
    others = tuple(entity for entity in ENTITIES if entity != "carts")
    first = pipeline.push(entities=others)
    assert "carts" not in marks(pipeline)
    assert pipeline.push().run.window_start == first.run.window_end


def test_carts_wait_for_the_first_load_of_the_orders(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_cart(5, 1, 1)
    pipeline.push(entities=("products", "customers", "carts"))
    assert pipeline.held("carts") == {}
    assert "carts" not in marks(pipeline)
    pipeline.push()
    assert set(pipeline.held("carts")) == {"5"}
    assert "carts" in marks(pipeline)


@pytest.mark.parametrize("options", [{"mode": Mode.IDS, "entities": ("products",)}, {"kind": "backfill"}])
def test_a_run_beside_the_others_leaves_a_gap_where_it_was(pipeline: Pipeline, options: dict[str, object]) -> None:
    """A window that doesn't join what was acknowledged before, or no window at all."""
    first = pipeline.push()
    late = first.run.window_end + timedelta(hours=1)
    window = {} if "mode" in options else {"since": late, "until": late + timedelta(hours=1)}
    pipeline.push(**options | window)  # type: ignore[arg-type]
    assert set(marks(pipeline).values()) == {first.run.window_end}


def test_a_phase_that_is_not_finished_fails_the_run_and_moves_no_mark_of_its_own(pipeline: Pipeline) -> None:
    first = pipeline.push()
    pipeline.add_product(1)
    pipeline.add_customer(1)
    with pytest.raises(Died):
        pipeline.push(dies=die_at(3))  # products take two steps
    with pipeline.state.begin() as connection:
        run = load_run(connection, 2)
    ran = pipeline.conclude(run)
    assert ran.failure is not None
    for phase in ("customers", "orders", "carts", "removals"):
        assert phase in ran.failure
    assert "products" not in ran.failure
    assert marks(pipeline)["products"] == run.window_end
    assert marks(pipeline)["orders"] == first.run.window_end
    assert pipeline.push().failure is None
    assert set(pipeline.held("products")) == {"1"}


def test_a_run_without_its_last_phase_is_not_complete(pipeline: Pipeline) -> None:
    """What it noticed as deleted stays on the list."""
    run, _ = pipeline.begin()
    failure = pipeline.conclude(run).failure
    assert failure is not None
    assert "removals" in failure
    assert marks(pipeline) == {}


def test_products_fetched_for_orders_count_as_the_run_s(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_order(1, 1, 1)
    ran = pipeline.push(entities=("customers", "orders"))
    assert [summary.entity for summary in ran.conclusion.summaries] == ["products", "customers", "orders"]
    assert "products" not in marks(pipeline)


def test_deletions_are_part_of_the_summary(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.push()
    pipeline.sql("UPDATE products SET deleted_at = now()")
    ran = pipeline.push()
    found = ran["products"]
    assert (found.extracted, found.skipped, found.operations, found.acknowledged, found.deleted) == (1, 1, 1, 0, 1)
    assert "deleted" in summary_table(ran.conclusion.summaries)


def test_no_run_covers_what_was_changed_after_it_was_asked_for(pipeline: Pipeline) -> None:
    asked = pipeline.push(until=datetime.now(UTC) + timedelta(days=1))
    assert asked.run.window_end < datetime.now(UTC) + timedelta(minutes=1)
    with pipeline.state.begin() as connection:
        assert acknowledged_until(connection, asked.run.store_ref, "orders") == asked.run.window_end


def test_entities_that_were_not_chosen_are_still_owed(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    email = pipeline.add_customer(1)
    pipeline.push(entities=["customers"], mode=Mode.FULL)
    assert set(marks(pipeline)) == {"customers"}
    pipeline.push()
    assert (set(pipeline.held("products")), set(pipeline.held("customers"))) == ({"1"}, {email_hash(email)})


def test_a_window_that_ends_in_the_future_covers_what_is_there_now(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.push(until=datetime.now(UTC) + timedelta(days=365))
    assert max(marks(pipeline).values()) <= datetime.now(UTC)
    pipeline.sql("UPDATE products SET title = 'Renamed'")
    assert pipeline.push().operations == 1


@pytest.mark.parametrize("kind", ["scheduled", "backfill"])
def test_a_full_sync_of_the_schedule_looks_at_everything_one_of_a_backfill_at_its_interval(
    pipeline: Pipeline, kind: str
) -> None:
    """Found in review: scheduled weekly, it left the older orders out, and a first load lost them for good."""
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_order(1, 1, 1)
    pipeline.sql("ALTER TABLE orders DISABLE TRIGGER ALL")
    pipeline.sql("UPDATE orders SET updated_at = now() - interval '60 days'")
    pipeline.add_order(2, 1, 1)
    now = datetime.now(UTC)
    pipeline.push(mode=Mode.FULL, kind=kind, since=now - timedelta(days=7), until=now + timedelta(minutes=1))
    assert set(pipeline.held("orders")) == ({"1", "2"} if kind == "scheduled" else {"2"})
    # What an interval's backfill leaves out is owed still.
    pipeline.push(kind="scheduled", since=now, until=now + timedelta(minutes=1))
    assert set(pipeline.held("orders")) == {"1", "2"}
