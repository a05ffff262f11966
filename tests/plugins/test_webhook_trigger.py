"""The watcher of webhooks: tells what is waiting once, reminds of it, and outlives the database."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string
from airflow.triggers.base import BaseEventTrigger

from include.state.stores import register_store
from include.state.webhooks import ReceivedEvent, mark_processed, store_event, waiting_contacts
from mailchimp_airflow.hooks.shop import HURRIED
from mailchimp_airflow.triggers import webhooks
from mailchimp_airflow.triggers.webhooks import MailchimpWebhookTrigger
from tests.pipeline import Pipeline

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NUMBERS = count()


@pytest.fixture
def shop(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    connect(pipeline, monkeypatch)
    monkeypatch.setitem(HURRIED, "connect_timeout", "15")  # the machine may be doing something else
    with pipeline.state.begin() as connection:
        register_store(connection, pipeline.settings, "account-1")
    return pipeline


def connect(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    url = pipeline.engine.url
    known = {"conn_type": "postgres", "host": url.query["host"], "login": "postgres", "schema": url.database}
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", json.dumps(known | fields))


def say(shop: Pipeline, contact: str) -> None:
    event = ReceivedEvent("profile", NOON, [contact], str(next(NUMBERS)))
    store_event(shop.state, "demo", shop.settings.list_id, event, timedelta(seconds=20))


def process(shop: Pipeline) -> None:
    with shop.state.begin() as connection:
        [store_ref] = connection.exec_driver_sql("SELECT store_ref FROM store").scalars()
        mark_processed(connection, waiting_contacts(connection, store_ref, 100))


def trigger(**options: Any) -> MailchimpWebhookTrigger:
    return MailchimpWebhookTrigger(
        "demo", "shop_db", "mailchimp", **{"poll_seconds": 0.02, "collect_seconds": 0, "remind_seconds": 60} | options
    )


def nothing() -> None:
    """A step in which time passes."""


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def watch(watcher: MailchimpWebhookTrigger, *steps: tuple[Callable[[], Any], int], quiet: float = 0.4) -> None:
    """Take each step and see the watcher tell how many contacts wait (0: it says nothing for `quiet` seconds)."""

    async def look() -> None:
        async with aclosing(watcher.run()) as events:
            following: asyncio.Task[Any] | None = None
            for number, (step, expected) in enumerate(steps, 1):
                await asyncio.to_thread(step)
                following = following or asyncio.ensure_future(_next(events))
                done, _ = await asyncio.wait({following}, timeout=20 if expected else quiet)
                assert (following.result() if done else 0) == expected, f"step {number}"
                following = None if done else following
            if following:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    asyncio.run(look())


class Warnings:
    """What watchers say in their log; Airflow's own logging may be set up or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        monkeypatch.setattr(MailchimpWebhookTrigger, "log", self)

    def warning(self, message: str, *values: object) -> None:
        self.told.append(message % values)


async def _next(events: AsyncIterator[Any]) -> int:
    payload = (await anext(events)).payload
    assert payload["store"] == "demo"
    return int(payload["waiting"])


def test_it_watches_an_asset_and_can_be_handed_to_the_triggerer() -> None:
    made = trigger(remind_seconds=5)
    path, arguments = made.serialize()
    assert isinstance(made, BaseEventTrigger)
    assert import_string(path)(**arguments).serialize() == (path, arguments)
    assert json.loads(json.dumps(arguments)) == arguments


def test_what_waits_is_told_once_and_again_only_with_something_new(shop: Pipeline) -> None:
    watch(
        trigger(),
        (nothing, 0),
        (lambda: say(shop, "ann"), 1),
        (nothing, 0),
        (lambda: say(shop, "bob"), 2),
        (lambda: process(shop), 0),
        (lambda: say(shop, "ann"), 1),
    )


def test_what_was_there_before_the_watcher_is_told(shop: Pipeline) -> None:
    say(shop, "ann")
    watch(trigger(), (nothing, 1), (nothing, 0))


def test_many_at_once_are_told_together(shop: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    real_sleep: Callable[..., Any] = asyncio.sleep
    all_said = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await (all_said.wait() if seconds == 6 else real_sleep(seconds))  # six seconds, however slow the machine is

    async def flood() -> list[int]:
        async with aclosing(trigger(collect_seconds=6).run()) as events:
            following = asyncio.ensure_future(_next(events))
            for number in range(20):
                await asyncio.to_thread(say, shop, f"contact {number}")
            all_said.set()
            return [await following]

    monkeypatch.setattr(webhooks.asyncio, "sleep", sleep)

    assert asyncio.run(flood()) == [20]


def test_what_still_waits_after_a_while_is_told_again(shop: Pipeline) -> None:
    say(shop, "ann")
    reminding = trigger(remind_seconds=0.2)
    watch(reminding, *[(nothing, 1)] * 3)
    watch(reminding, (lambda: process(shop), 0), (nothing, 0))


def test_an_outage_is_waited_out_with_growing_pauses_and_a_word(
    shop: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(shop, monkeypatch, host="127.0.0.1", port=1)
    say(shop, "ann")
    watcher, warnings = trigger(), Warnings(monkeypatch)

    def reconnect() -> None:
        until(lambda: len(warnings.told) >= 3)
        connect(shop, monkeypatch)

    watch(watcher, (nothing, 0), (reconnect, 1), quiet=2)
    assert 3 <= len(warnings.told) <= 12
    assert warnings.told[0].startswith("store demo: webhooks can't be watched (OperationalError), next try in")


def test_the_pause_has_an_end(shop: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "_LONGEST_PAUSE", 0.02)
    connect(shop, monkeypatch, host="127.0.0.1", port=1)
    watcher, warnings = trigger(), Warnings(monkeypatch)
    # With pauses that go on growing it would take a minute.
    watch(watcher, (nothing, 0), (lambda: until(lambda: len(warnings.told) > 12), 0))


def test_tables_or_a_connection_that_are_not_there_yet_end_nothing(
    shop: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(shop, "ann")
    shop.sql("ALTER TABLE mailchimp.webhook_event RENAME TO gone")
    back = "ALTER TABLE mailchimp.gone RENAME TO webhook_event"
    watch(trigger(), (nothing, 0), (lambda: shop.sql(back), 1), quiet=1)
    monkeypatch.delenv("AIRFLOW_CONN_SHOP_DB")
    watch(trigger(), (nothing, 0), (lambda: connect(shop, monkeypatch), 1), quiet=1)


def test_no_connection_is_left_open(shop: Pipeline) -> None:
    say(shop, "ann")
    watch(trigger(), (nothing, 1))
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    until(lambda: shop.sql(sessions) == [(0,)])  # the server ends a session a moment after it was left
