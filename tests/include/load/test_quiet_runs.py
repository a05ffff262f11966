"""No automation writes to anybody about old orders, however they come to be sent; carts wait until all is there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.load.drive import go_on
from include.load.errors import PreflightFailed
from include.load.runs import Mode
from include.load.store import pause_automations
from include.state.runs import find_run
from tests.pipeline import STORE, Pipeline

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def shop(pipeline: Pipeline) -> Pipeline:
    """A shop with an old order."""
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_order(9, 1, 1, placed_at=LONG_AGO)
    return pipeline


def is_syncing(pipeline: Pipeline) -> bool:
    return bool((pipeline.client.get(STORE) or {})["is_syncing"])


def test_a_first_run_by_hand_that_is_confined_by_date_is_quiet_and_sends_no_carts(shop: Pipeline) -> None:
    shop.add_cart(5, 1, 1, minutes_ago=20)
    shop.push(since=datetime.now(UTC) - timedelta(days=2))
    assert (set(shop.held("orders")), shop.held("carts"), shop.mails()) == ({"9"}, {}, {})


def test_carts_by_id_wait_for_the_first_load_too(shop: Pipeline) -> None:
    shop.add_cart(5, 1, 1, minutes_ago=20)
    shop.push(mode=Mode.IDS, entities=["customers"], ids=["1"])
    shop.push(mode=Mode.IDS, entities=["carts"], ids=["5"])
    assert shop.held("carts") == {}


def test_catching_up_after_an_outage_is_quiet(shop: Pipeline) -> None:
    shop.sql("DELETE FROM order_lines")
    shop.sql("DELETE FROM orders")
    shop.push()
    shop.sql("UPDATE mailchimp.watermark SET acknowledged_until = acknowledged_until - interval '60 days'")
    shop.add_order(9, 1, 1, placed_at=datetime.now(UTC) - timedelta(days=40))
    shop.push(kind="scheduled", since=datetime.now(UTC) - timedelta(minutes=15))
    assert (set(shop.held("orders")), shop.mails()) == ({"9"}, {})
    assert not is_syncing(shop)


def test_a_cleared_task_of_a_run_that_has_ended_makes_the_store_quiet_again(shop: Pipeline) -> None:
    run = shop.full_sync().run
    assert not is_syncing(shop)
    go_on(shop.state, shop.client, shop.settings, run.run_ref, fills=True)
    assert is_syncing(shop)
    shop.conclude(run)
    assert not is_syncing(shop)


def test_a_long_full_sync_stays_quiet_beside_other_runs(shop: Pipeline) -> None:
    run, _ = shop.begin(mode=Mode.FULL)
    shop.sql("UPDATE mailchimp.run SET dag_id = 'full_sync', started_at = now() - interval '2 days'")
    shop.sql(
        "INSERT INTO mailchimp.batch (store_ref, run_ref, entity, slice_number, token, operations, body_bytes, state) "
        "VALUES (:store, :run, 'orders', 0, 't', 1, 1, 'settled')",
        store=run.store_ref, run=run.run_ref,
    )  # fmt: skip
    shop.push()
    assert is_syncing(shop)


def test_one_that_has_done_nothing_for_a_day_counts_as_dead(shop: Pipeline) -> None:
    run, _ = shop.begin(mode=Mode.FULL)
    shop.sql("UPDATE mailchimp.run SET dag_id = 'full_sync', started_at = now() - interval '2 days'")
    pause_automations(shop.state, shop.client, shop.settings, run)
    shop.push()
    assert not is_syncing(shop)


def test_a_run_does_not_go_on_in_another_account(shop: Pipeline) -> None:
    run, _ = shop.begin()
    shop.sql("UPDATE mailchimp.store SET account_id = 'the former one'")
    with pytest.raises(PreflightFailed, match="began in 'the former one'"):
        go_on(shop.state, shop.client, shop.settings, run.run_ref)


def test_runs_are_found_again_as_they_began(shop: Pipeline) -> None:
    run = shop.full_sync().run
    with shop.state.begin() as connection:
        found = find_run(connection, "push", run.dag_run_id)
    assert found is not None
    assert found.is_quiet
