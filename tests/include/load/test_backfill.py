"""Backfills: whatever intervals are run again, in whatever order, Mailchimp ends with the shop's newest state."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event
from typing import Any, get_args

import pytest

from include.load.runs import Mode
from include.mailchimp.client import MailchimpClient
from include.sandbox.server import SandboxServer
from include.state.runs import quiet_runs
from tests.include.load.scheduled import LONG_AGO, Interval, LivelyShop, Reprocess, Schedule, fully_synced
from tests.include.load.shop import die_at
from tests.pipeline import Died, Pipeline


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer.start(seed=1, batch_seconds=0) as server:
        yield server


def assert_as_after_a_full_sync(pipeline: Pipeline) -> None:
    with fully_synced(pipeline) as fresh:
        for entity in ("products", "customers", "orders", "carts"):  # says what differs, where the digests only tell
            assert without_times(pipeline.held(entity)) == without_times(fresh.held(entity)), entity
        assert pipeline.digests() == fresh.digests()
        assert pipeline.rejected() == fresh.rejected()


def without_times(value: Any) -> Any:
    """What Mailchimp holds, but not since when."""
    if isinstance(value, dict):
        return {name: without_times(one) for name, one in value.items() if name not in {"created_at", "updated_at"}}
    return [without_times(one) for one in value] if isinstance(value, list) else value


# In any order


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_backfills_in_any_order_end_with_the_newest_state(pipeline: Pipeline, seed: int) -> None:
    """Runs fail or are left out, and past intervals are run again, forwards and backwards, while the shop changes."""
    chance = random.Random(seed)
    shop, schedule = LivelyShop(pipeline, chance), Schedule()
    shop.open()
    for _ in range(7):
        for _ in range(chance.randint(0, 4)):
            shop.change()
        interval = schedule.elapse(pipeline)
        match chance.choice(["in time", "in time", "fails", "is left out"]):
            case "in time":
                schedule.run(pipeline, interval)
            case "fails":
                schedule.run(pipeline, interval, dies=die_at(chance.randint(1, 6)))
                if chance.random() < 0.5:
                    schedule.tear_down(pipeline, interval)
        if chance.random() < 0.5:
            continue
        first = chance.randrange(len(schedule.intervals))
        intervals = schedule.to_backfill(schedule.intervals[first:], chance.choice(get_args(Reprocess)))
        for past in intervals if chance.random() < 0.5 else reversed(intervals):
            shop.change()
            dies = die_at(chance.randint(1, 6)) if chance.random() < 0.2 else None
            schedule.run(pipeline, past, "backfill", dies)
    for past in schedule.to_backfill(schedule.intervals, "failed"):  # what was left as failed would keep carts back
        schedule.run(pipeline, past, "backfill")
    schedule.run(pipeline, schedule.elapse(pipeline))
    assert_as_after_a_full_sync(pipeline)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_four_backfill_runs_at_a_time_beside_the_schedule_end_with_the_newest_state(
    pipeline: Pipeline, seed: int
) -> None:
    pipeline.configure(window_overlap_minutes=1)
    chance = random.Random(seed)
    shop, schedule = LivelyShop(pipeline, chance), Schedule()
    shop.open()
    for _ in range(6):
        for _ in range(3):
            shop.change()
        interval = schedule.elapse(pipeline)
        if chance.random() < 0.7:
            schedule.run(pipeline, interval, dies=die_at(2) if chance.random() < 0.3 else None)
    for reprocess, turn in (("missing", -1), ("failed", 1), ("completed", -1)):
        intervals = schedule.to_backfill(schedule.intervals, reprocess)[::turn]  # type: ignore[arg-type]
        with ThreadPoolExecutor(4) as workers:
            running = [workers.submit(backfill, pipeline, schedule, interval) for interval in intervals]
            while not all(future.done() for future in running):
                shop.change()
                schedule.run(pipeline, schedule.elapse(pipeline))
            for future in running:
                future.result()
        assert all(schedule.runs[interval][1] for interval in intervals)
    schedule.run(pipeline, schedule.elapse(pipeline))
    assert_as_after_a_full_sync(pipeline)


def backfill(pipeline: Pipeline, schedule: Schedule, interval: Interval) -> None:
    """One run of a backfill, by a worker of its own."""
    schedule.run(Pipeline(pipeline.engine, pipeline.sandbox, pipeline.settings), interval, "backfill")


# The same run once more


def test_a_completed_run_that_is_reprocessed_looks_again(pipeline: Pipeline) -> None:
    """What somebody else changed or deleted at Mailchimp, and the ledger was told of, is sent once more."""
    pipeline.add_product(1)
    first = pipeline.push(dag_run_id="a", kind="backfill", since=LONG_AGO)
    pipeline.sql("UPDATE mailchimp.ledger SET payload_hash = '\\x00' WHERE entity = 'products'")
    again = pipeline.push(dag_run_id="a", kind="backfill", since=LONG_AGO)
    assert again.run.run_ref == first.run.run_ref
    assert (first["products"].operations, again["products"].operations) == (1, 1)


def test_a_reprocessed_run_is_what_it_is_now_asked_for(pipeline: Pipeline) -> None:
    """A backfill gives it another kind and, if that is wanted, other params."""
    first = pipeline.push(kind="scheduled", dag_run_id="a")
    since, until = first.run.window_end - timedelta(hours=2), first.run.window_end - timedelta(hours=1)
    again = pipeline.push(
        kind="backfill", mode=Mode.FULL, since=since, until=until, entities=("products",), dag_run_id="a"
    )
    run = again.run
    assert (run.kind, run.mode, run.entities) == ("backfill", "full", ("products",))
    assert (run.window_start, run.window_end) == (since, until)


def test_nothing_of_an_earlier_try_counts_for_the_next_one(pipeline: Pipeline) -> None:
    """Its open slices don't make the run incomplete, and its operations aren't counted twice."""
    pipeline.add_product(1)
    pipeline.add_customer(1)
    with pytest.raises(Died):
        pipeline.push(dag_run_id="a", dies=die_at(2))
    again = pipeline.push(dag_run_id="a", kind="backfill", entities=("customers",))
    assert again.failure is None
    assert [summary.entity for summary in again.conclusion.summaries] == ["customers"]
    [(operations,)] = pipeline.sql("SELECT operations FROM mailchimp.runs")
    assert operations == 1


def test_a_run_that_is_reprocessed_after_days_keeps_the_store_quiet(pipeline: Pipeline) -> None:
    """A run that began more than a day ago counts as dead; this one begins now."""
    pipeline.push(kind="scheduled", dag_run_id="a")
    pipeline.sql("UPDATE mailchimp.run SET started_at = now() - interval '3 days'")
    run, store = pipeline.begin(kind="backfill", dag_run_id="a")
    with pipeline.state.begin() as connection:
        assert quiet_runs(connection, store.store_ref, besides=0) == [run.dag_run_id]


def test_a_reprocessed_scheduled_run_ends_no_run_of_the_schedule(pipeline: Pipeline) -> None:
    """It runs beside the schedule, as backfills do."""
    pipeline.push(kind="scheduled", dag_run_id="a")
    live, _ = pipeline.begin(kind="scheduled", dag_run_id="b")
    pipeline.push(kind="backfill", dag_run_id="a")
    [(state,)] = pipeline.sql("SELECT state FROM mailchimp.run WHERE run_ref = :ref", ref=live.run_ref)
    assert state == "running"


def test_records_that_were_rejected_before_do_not_fail_the_run_that_is_reprocessed(pipeline: Pipeline) -> None:
    """As they would not fail the next one."""
    pipeline.add_customer(1, email="no address")
    first = pipeline.push(dag_run_id="a")
    assert first.failure is not None
    assert "max_rejected_percent" in first.failure
    assert pipeline.push(dag_run_id="a", kind="backfill").failure is None
    assert len(pipeline.rejected()) >= 1


# Beside other runs


def test_runs_that_begin_together_create_the_store_once(pipeline: Pipeline) -> None:
    """The first run of the schedule and those of a backfill, on the first day."""

    def begin(name: str) -> int:
        one = Pipeline(pipeline.engine, pipeline.sandbox, pipeline.settings)
        _run, store = one.begin(kind="backfill", dag_run_id=name)
        return store.store_ref

    with ThreadPoolExecutor(4) as workers:
        assert len(set(workers.map(begin, "abcd"))) == 1
    created = {
        route: times for route, times in pipeline.requests().items() if route.startswith("POST /ecommerce/stores ")
    }
    assert created == {"POST /ecommerce/stores 200": 1}


def test_the_last_of_several_quiet_runs_to_end_lets_automations_work_again(pipeline: Pipeline) -> None:
    pipeline.push()
    runs = [pipeline.begin(kind="backfill", dag_run_id=name)[0] for name in ("a", "b")]
    pipeline.push(kind="scheduled")
    assert is_syncing(pipeline)
    pipeline.conclude(runs[0])
    assert is_syncing(pipeline)
    pipeline.conclude(runs[1])
    assert not is_syncing(pipeline)


def test_a_run_that_ends_does_not_take_away_the_quiet_of_one_that_begins(pipeline: Pipeline) -> None:
    """It has seen that nobody needs the quiet; then a backfill run asks for it, and then it clears it."""
    pipeline.push()
    ending, _ = pipeline.begin(kind="backfill", dag_run_id="a")
    asked = Event()

    class SlowClient(MailchimpClient):
        def get(self, path: str, **options: Any) -> Any:
            found = super().get(path, **options)
            asked.set()
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and not pipeline.sql("SELECT FROM mailchimp.run WHERE dag_run_id = 'b'"):
                time.sleep(0.01)
            time.sleep(0.5)  # the other one asks for quiet, and gets it at once if it may
            return found

    slow = Pipeline(pipeline.engine, pipeline.sandbox)
    slow.client = SlowClient(slow.client._session, slow.client.base_url)
    with ThreadPoolExecutor(1) as worker:
        conclusion = worker.submit(slow.conclude, ending)
        asked.wait(10)
        pipeline.begin(kind="backfill", dag_run_id="b")
        conclusion.result()
    assert is_syncing(pipeline)


def test_a_backfill_sends_no_carts_and_the_schedule_sends_them_after_it(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1)
    first = pipeline.push()
    pipeline.add_cart(5, 1, 1)
    pipeline.push(kind="backfill", since=first.run.window_end)
    assert pipeline.held("carts") == {}
    backfill, _ = pipeline.begin(kind="backfill", dag_run_id="b")
    pipeline.push(kind="scheduled", since=first.run.window_end)
    assert pipeline.held("carts") == {}
    pipeline.conclude(backfill)
    pipeline.push(kind="scheduled", since=first.run.window_end + timedelta(hours=1))
    assert set(pipeline.held("carts")) == {"5"}


def test_a_backfill_moves_no_watermark_over_a_gap(pipeline: Pipeline) -> None:
    """The next scheduled run covers what lies between."""
    first = pipeline.push()
    pipeline.add_product(1)
    [(moment,)] = pipeline.sql("SELECT clock_timestamp()")
    pipeline.push(kind="backfill", since=moment, until=moment + timedelta(hours=1))
    assert pipeline.held("products") == {}
    ran = pipeline.push(kind="scheduled", since=moment)
    assert ran.run.window_start == first.run.window_end
    assert set(pipeline.held("products")) == {"1"}


def is_syncing(pipeline: Pipeline) -> bool:
    found = pipeline.client.get("/ecommerce/stores/demo-shop")
    return bool(found and found["is_syncing"])
