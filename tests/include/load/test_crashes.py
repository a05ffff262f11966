"""Workers die at every point between claim and outcome, replies and archives get lost: no record may be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import OperationalError

from include.load.push import Waiting
from include.load.settle import recover
from include.mailchimp.errors import ArchiveTruncated, BatchReplyLost
from include.state import settlement
from include.state.database import SliceKey
from tests.include.load.shop import Died, MortalClient, TinyShop, die_at

RECORDS = 35


@pytest.fixture
def key(shop: TinyShop) -> SliceKey:
    shop.add_products(1, RECORDS)
    (only,) = shop.plan(shop.begin(), "products")
    return only


def assert_all_arrived(shop: TinyShop) -> None:
    assert set(shop.ledger("products").values()) == {"synced"}
    assert len(shop.ledger("products")) == len(shop.held("products")) == RECORDS
    assert shop.query("SELECT * FROM ledger WHERE batch_ref IS NOT NULL") == []
    assert shop.run("products")["products"]["operations"] == 0


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("point", ["before_post", "after_post"])
def test_death_around_the_post(shop: TinyShop, key: SliceKey, point: str, nth: int) -> None:
    client = shop.new_client()
    setattr(client, point, die_at(nth))
    with pytest.raises(Died):
        shop.push(key, client).step()
    assert len(shop.query("SELECT * FROM batch WHERE state = 'intended'")) == 1
    shop.finish(key)
    assert_all_arrived(shop)


@pytest.mark.parametrize("nth", [1, 2])
def test_death_while_settling(shop: TinyShop, key: SliceKey, nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = shop.push(key).step()
    assert isinstance(waiting, Waiting)
    shop.wait(waiting)
    die, close = die_at(nth), settlement._close

    def close_then_die(*args: object) -> None:
        close(*args)  # type: ignore[arg-type]
        die()

    with monkeypatch.context() as patch:
        patch.setattr(settlement, "_close", close_then_die)
        with pytest.raises(Died):
            shop.push(key).step()
    assert len(shop.query("SELECT * FROM batch WHERE state = 'settled'")) == nth - 1
    shop.finish(key)
    assert_all_arrived(shop)


def test_a_killed_process_gives_up_its_slice(shop: TinyShop, key: SliceKey) -> None:
    """SIGKILL between claim and POST, in a process of its own: the lock goes with it, the records are sent again."""
    script = f"""
        import sys, time
        from sqlalchemy import create_engine
        from include.state.database import SliceKey, StateDatabase
        from tests.include.load.shop import TinyShop
        shop = TinyShop.__new__(TinyShop)
        shop.engine = create_engine(sys.argv[1]); shop.state = StateDatabase(shop.engine)
        from include.shops.profile import check_profile
        from include.config.stores import StoreSettings
        from tests.include.load.shop import PROFILE, SETTINGS, MortalClient
        from tests.pipeline import QUICK
        import requests
        session = requests.Session(); session.auth = ("any", sys.argv[3])
        shop.settings = StoreSettings(**SETTINGS)
        with shop.engine.connect() as connection:
            shop.profile = check_profile(PROFILE, connection)
        client = MortalClient(session, sys.argv[2], retry=QUICK)
        client.before_post = lambda: (print("posting", flush=True), time.sleep(60))
        shop.push(SliceKey({key.run_ref}, "products", 0), client).step()
    """
    url = shop.engine.url.render_as_string(hide_password=False)
    arguments = [sys.executable, "-c", textwrap.dedent(script), url, shop.sandbox.url, shop.sandbox.api_key]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "posting\n"
        assert shop.state.is_owned(key)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while shop.state.is_owned(key):  # the server ends a session a moment after its client
        assert time.monotonic() < deadline
        time.sleep(0.01)
    shop.finish(key)
    assert_all_arrived(shop)


def test_a_lost_reply_leaves_the_batch_intended_until_the_retry(shop: TinyShop, key: SliceKey) -> None:
    client = shop.new_client()

    def lose() -> None:
        raise BatchReplyLost("Batch reply lost", "the connection broke")

    client.after_post = lose
    with pytest.raises(BatchReplyLost):
        shop.push(key, client).step()
    shop.finish(key)
    assert_all_arrived(shop)


def test_a_vanished_batch_is_sent_again(shop: TinyShop, key: SliceKey) -> None:
    waiting = shop.push(key).step()
    assert isinstance(waiting, Waiting)
    for batch_id in waiting.batch_ids:
        shop.client.delete_batch(batch_id)
    counts = shop.finish(key)
    assert counts["unknown"] == 0
    assert_all_arrived(shop)


def test_a_batch_that_never_ends_is_given_up_after_its_time(
    shop: TinyShop, key: SliceKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    monkeypatch.setattr(shop.sandbox.state.batches, "_until", lambda *_: may_end.wait(60))
    waiting = shop.push(key).step()
    assert isinstance(waiting, Waiting)
    late = datetime.now(UTC) + timedelta(hours=7)
    push = shop.push(key, clock=lambda: late)
    assert isinstance(push.step(), Waiting)
    may_end.set()
    shop.finish(key)
    assert_all_arrived(shop)


def test_a_finished_batch_without_a_link_to_its_results_is_given_up_after_a_grace(
    shop: TinyShop, key: SliceKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = shop.push(key).step()
    assert isinstance(waiting, Waiting)
    shop.wait(waiting)
    with monkeypatch.context() as patch:
        patch.setattr(shop.sandbox.state.batches._links, "url", lambda *_: "")
        assert shop.push(key).step() == waiting
        assert shop.query("SELECT * FROM batch WHERE state = 'lost'") == []
        late = datetime.now(UTC) + timedelta(minutes=6)
        assert isinstance(shop.push(key, clock=lambda: late).step(), Waiting)
        lost = shop.query("SELECT batch_id FROM batch WHERE state = 'lost'")
    assert tuple(row["batch_id"] for row in lost) == waiting.batch_ids
    shop.finish(key)
    assert_all_arrived(shop)


def test_a_batch_given_up_while_it_was_posted_is_stopped(shop: TinyShop, key: SliceKey) -> None:
    """Its records are free again: should it run later, it would undo what is sent meanwhile."""
    shop.sandbox.state.batches._seconds = 3600
    client = shop.new_client()

    def give_up() -> None:
        client.after_post = None
        with shop.state.begin() as connection:
            assert settlement.release(connection, 1)

    client.after_post = give_up
    waiting = shop.push(key, client).step()
    assert isinstance(waiting, Waiting)
    assert set(shop.sandbox.state.batches.batches) == set(waiting.batch_ids)
    assert shop.query("SELECT state, batch_id FROM batch WHERE batch_ref = 1") == [{"state": "lost", "batch_id": None}]
    shop.sandbox.state.batches._seconds = 0.01
    late = datetime.now(UTC) + timedelta(hours=7)
    shop.push(key, clock=lambda: late).step()
    shop.finish(key)
    assert_all_arrived(shop)


def test_a_failure_to_count_calls_hides_nothing(
    shop: TinyShop, key: SliceKey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise OperationalError("UPDATE run", {}, Exception("server closed the connection"))

    monkeypatch.setattr("include.load.slice_step.add_run_metrics", break_down)
    client = shop.new_client()
    client.before_post = die_at(1)
    with pytest.raises(Died):
        shop.push(key, client).step()
    assert "missing from the run's counters" in caplog.text
    shop.finish(key)
    assert_all_arrived(shop)


def test_a_truncated_archive_changes_nothing_and_is_read_again(
    shop: TinyShop, key: SliceKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = shop.push(key).step()
    assert isinstance(waiting, Waiting)
    shop.wait(waiting)
    batch = shop.sandbox.state.batches.batches[waiting.batch_ids[0]]
    whole, batch.archive = batch.archive, batch.archive[:-40]
    with pytest.raises(ArchiveTruncated):
        shop.push(key).step()
    assert shop.query("SELECT * FROM operation WHERE batch_ref = 1 AND outcome IS NOT NULL") == []
    batch.archive = whole
    shop.finish(key)
    assert_all_arrived(shop)


def test_the_next_run_recovers_what_a_dead_one_left(shop: TinyShop, key: SliceKey) -> None:
    """The dead run's tasks never come back: one batch intended, the others posted, most rows never read."""
    client = shop.new_client()
    client.before_post = die_at(3)
    with pytest.raises(Died):
        shop.push(key, client).step()
    while recover(shop.state, shop.client, shop.store(), timedelta(hours=6)):
        pass
    assert shop.query("SELECT * FROM batch WHERE state IN ('intended', 'posted')") == []
    counts = shop.run("products")["products"]
    assert counts["operations"] == RECORDS - 20
    assert_all_arrived(shop)


def test_batches_of_dead_tasks_do_not_block_living_ones(shop: TinyShop, key: SliceKey) -> None:
    """All places are taken by batches nobody looks after; another slice of the same account must get on."""
    shop.configure(max_open_batches=2)
    client = shop.new_client()
    client.before_post = die_at(2)
    with pytest.raises(Died):
        shop.push(key, client).step()
    shop.add_customers(1, 25)
    (other,) = shop.plan(shop.begin(), "customers")
    assert shop.finish(other)["acknowledged"] == 25
    shop.finish(key)
    assert_all_arrived(shop)


def test_an_intention_of_a_living_worker_is_left_alone(shop: TinyShop, key: SliceKey) -> None:
    client = shop.new_client()
    seen: list[int] = []

    def look() -> None:
        seen.append(
            len(recover(shop.state, MortalClient(client._session, client.base_url), shop.store(), timedelta(1)))
        )

    client.before_post = look
    shop.push(key, client).step()
    assert seen[0] == 1
    assert len(shop.query("SELECT * FROM batch WHERE state = 'lost'")) == 0
    shop.finish(key)
    assert_all_arrived(shop)


@pytest.mark.parametrize("verb", ["put", "post_patch"])
def test_orders_survive_a_death_after_the_post_with_either_verb(shop: TinyShop, verb: str) -> None:
    shop.configure(order_upsert=verb)
    shop.add_products(1, 15)
    shop.add_customers(1, 15)
    shop.add_orders(1, 15)
    shop.run("products", "customers")
    (orders,) = shop.plan(shop.begin(), "orders")
    client = shop.new_client()
    client.after_post = die_at(1)
    with pytest.raises(Died):
        shop.push(orders, client).step()
    counts = shop.finish(orders)
    assert (counts["acknowledged"], counts["rejected"], counts["unknown"]) == (15, 0, 0)
    assert len(shop.held("orders")) == 15
    assert shop.run("orders")["orders"]["operations"] == 0
