from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.exceptions import TaskDeferred

from mailchimp_airflow.operators.push import MailchimpPushOperator
from mailchimp_airflow.push import Progress
from mailchimp_airflow.triggers import batches
from mailchimp_airflow.triggers.batches import MailchimpBatchTrigger
from tests.include.mailchimp.scripted_server import (
    Received,
    Reply,
    ScriptedServer,
    html_reply,
    json_reply,
    problem_reply,
)

KEY = "0123456789abcdef0123456789abcdef-us6"


@pytest.fixture(autouse=True)
def connection(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {"conn_type": "mailchimp", "password": KEY, "host": server.base_url, "extra": {"store_id": "s1"}}
    monkeypatch.setenv("AIRFLOW_CONN_MAILCHIMP", json.dumps(stored))


def trigger_for(*batch_ids: str, **options: Any) -> MailchimpBatchTrigger:
    options = {"poll_interval": 0.01, "max_poll_interval": 0.02, **options}
    return MailchimpBatchTrigger("mailchimp", list(batch_ids), **options)


def events_of(trigger: MailchimpBatchTrigger) -> list[Any]:
    async def collect() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    return asyncio.run(collect())


def finished(*batch_ids: str) -> dict[str, Any]:
    return {"status": "finished", "batch_ids": list(batch_ids)}


def listing(**phases: str) -> Reply:
    found = [{"id": batch_id, "status": phase} for batch_id, phase in phases.items()]
    return json_reply({"batches": found, "total_items": len(found)})


def test_it_fires_when_all_are_finished_with_one_call_per_poll(server: ScriptedServer) -> None:
    server.say(
        listing(other="started", a="pending", b="preprocessing"),
        listing(a="finished", b="started"),
        listing(a="finished", b="finalizing"),
        listing(b="finished"),
    )
    assert events_of(trigger_for("a", "b")) == [{"status": "finished", "batch_ids": ["a", "b"]}]
    assert len(server.received) == 4
    request = server.received[0]
    assert (request.method, request.path) == ("GET", "/3.0/batches")
    assert request.query["fields"] == "batches.id,batches.status,total_items"
    assert request.headers["Authorization"].startswith("Basic ")
    assert "store_id" not in request.headers


def test_batches_that_are_not_listed_are_asked_for_one_by_one(server: ScriptedServer) -> None:
    polls = 0

    def answer(request: Received) -> Reply:
        nonlocal polls
        if request.path == "/3.0/batches":
            polls += 1
            return listing(c="finished")
        if request.path.endswith("/gone"):
            return problem_reply(404, "Resource Not Found")
        return json_reply({"id": "old", "status": "finished" if polls > 1 else "started"})

    server.answer_by(answer)
    assert events_of(trigger_for("old", "gone", "c")) == [finished("old", "gone", "c")]
    assert polls == 2


def test_long_lists_are_paged_until_all_are_seen(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_PER_PAGE", 10)
    everything = [{"id": f"b{number}", "status": "finished"} for number in range(35)]

    def answer(request: Received) -> Reply:
        offset, count = int(request.query["offset"]), int(request.query["count"])
        return json_reply({"batches": everything[offset : offset + count], "total_items": 35})

    server.answer_by(answer)
    assert events_of(trigger_for("b3", "b17")) == [finished("b3", "b17")]
    assert [request.query["offset"] for request in server.received] == ["0", "10"]


def test_nothing_to_wait_for(server: ScriptedServer) -> None:
    assert events_of(trigger_for()) == [finished()]
    assert server.received == []


@pytest.mark.parametrize(
    "failure",
    [problem_reply(429, "Too Many Requests"), html_reply(403), html_reply(502), Reply(drop=True), Reply(cut=5)],
    ids=["429", "403 page", "502", "hang-up", "cut"],
)
def test_transient_failures_are_outlasted(server: ScriptedServer, failure: Reply) -> None:
    server.say(failure, failure, listing(a="started"), failure, listing(a="finished"))
    assert events_of(trigger_for("a")) == [finished("a")]


def test_it_gives_up_after_many_failures_in_a_row(server: ScriptedServer) -> None:
    server.say(html_reply(503))
    (event,) = events_of(trigger_for("a"))
    assert event["status"] == "error"
    assert "503" in event["message"]
    assert len(server.received) == batches._FAILURES_IN_A_ROW


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (problem_reply(401, "API Key Invalid", "for ada@shop.de"), "401 API Key Invalid"),
        (problem_reply(403, "User Disabled"), "403 User Disabled"),
        (json_reply({"hello": 1}), "no list of batches"),
        (html_reply(200), "no JSON object"),
        (Reply(302, headers={"Location": "http://127.0.0.1:1/"}), "redirect"),
    ],
)
def test_a_final_refusal_ends_the_wait_at_once(
    server: ScriptedServer, reply: Reply, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.say(reply)
    with caplog.at_level(logging.DEBUG):
        (event,) = events_of(trigger_for("a"))
    assert event["status"] == "error"
    assert said in event["message"]
    for secret in ("ada", KEY, "127.0.0.1"):
        assert secret not in event["message"]
    assert "ada" not in caplog.text
    assert len(server.received) == 1


def test_nobody_listening_and_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", f"mailchimp://:{KEY}@127.0.0.1:1/http")
    (event,) = events_of(MailchimpBatchTrigger("nowhere", ["a"], poll_interval=0.001, max_poll_interval=0.002))
    assert event["status"] == "error"
    assert "127.0.0.1" not in event["message"]
    (event,) = events_of(MailchimpBatchTrigger("missing", ["a"]))
    assert "AIRFLOW_CONN_MISSING" in event["message"]


def test_the_deadline_ends_the_wait_also_while_mailchimp_is_down(server: ScriptedServer) -> None:
    for reply in (listing(a="started"), html_reply(503)):
        server.say(reply)
        deadline = (datetime.now(UTC) + timedelta(seconds=0.15)).isoformat()
        started = time.monotonic()
        assert events_of(trigger_for("a", poll_interval=0.06, max_poll_interval=30, deadline=deadline)) == [
            {"status": "timeout"}
        ]
        assert time.monotonic() - started < 15  # the next look would come after 30 s


def test_a_deadline_in_the_past_still_asks_once(server: ScriptedServer) -> None:
    server.say(listing(a="finished"))
    past = "2020-01-01T00:00:00+00:00"
    assert events_of(trigger_for("a", deadline=past)) == [finished("a")]


@pytest.mark.parametrize("deadline", ["tomorrow", "2026-11-21T10:00:00"])
def test_an_unusable_deadline_fails_in_the_operator(deadline: str) -> None:
    with pytest.raises(ValueError, match=r"tomorrow|time zone"):
        trigger_for("a", deadline=deadline)


def test_the_event_loop_is_never_blocked(server: ScriptedServer) -> None:
    asked, ticked = threading.Event(), threading.Event()
    in_time: list[bool] = []

    def answer(_: Received) -> Reply:
        asked.set()
        in_time.append(ticked.wait(20))
        return listing(a="finished")

    async def tick() -> None:
        while not asked.is_set():
            await asyncio.sleep(0.01)
        ticked.set()

    async def both() -> None:
        ticking = asyncio.create_task(tick())
        async for _ in trigger_for("a").run():
            pass
        await ticking

    server.answer_by(answer)
    asyncio.run(both())
    assert in_time == [True]


def test_the_interval_grows_to_its_limit(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.say(*[listing(a="started")] * 6, listing(a="finished"))
    slept: list[float] = []
    real_sleep: Callable[..., Any] = asyncio.sleep

    async def note(seconds: float, *rest: Any) -> None:
        slept.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr(batches.asyncio, "sleep", note)
    monkeypatch.setattr(batches.random, "uniform", lambda _low, high: high)
    events_of(trigger_for("a", poll_interval=2, max_poll_interval=8))
    assert [seconds for seconds in slept if seconds] == [2, 3, 4.5, 6.75, 8, 8]
    slept.clear()
    server.say(listing(a="started"), listing(a="finished"))
    events_of(trigger_for("a", poll_interval=2, first_delay=10))
    assert [seconds for seconds in slept if seconds] == [10, 2]


def test_it_survives_the_way_to_the_triggerer(server: ScriptedServer) -> None:
    original = trigger_for("a", "b", deadline="2030-01-01T00:00:00+00:00", first_delay=0.01)
    path, arguments = original.serialize()
    assert path == "mailchimp_airflow.triggers.batches.MailchimpBatchTrigger"
    copy = import_string(path)(**json.loads(json.dumps(arguments)))
    assert copy.serialize() == original.serialize()
    server.say(listing(a="finished", b="finished"))
    assert events_of(copy) == [finished("a", "b")]


def test_netrc_and_environment_do_not_replace_the_credentials(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.say(listing(a="finished"))
    assert events_of(trigger_for("a")) == [finished("a")]
    assert "YW55c3RyaW5n" in server.received[0].headers["Authorization"]


@pytest.mark.parametrize(
    ("event", "waiting_for", "delay"),
    [
        (finished("a", "b"), ("a", "b"), 10),
        (finished("a", "b"), ("b",), 10),
        (finished("a", "b"), ("b", "c"), 0),
        ({"status": "timeout"}, ("a",), 0),
        (None, ("a",), 0),
    ],
)
def test_a_task_pauses_before_it_waits_for_batches_just_reported_finished(
    event: Any, waiting_for: tuple[str, ...], delay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their results cannot be had yet; a trigger that fires at once would send the task round in circles."""
    progress = Progress(waiting_for=waiting_for, conn_id="mailchimp", patience=timedelta(hours=1))
    monkeypatch.setattr("mailchimp_airflow.push.push_slice", lambda *_: progress)
    part = {"entity": "orders", "number": 0, "records": 10}
    operator = MailchimpPushOperator(task_id="push", store_key="demo", phase="orders", run_ref=1, part=part)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute_complete(cast("Any", {}), event)
    trigger = deferred.value.trigger
    assert isinstance(trigger, MailchimpBatchTrigger)
    assert (trigger.batch_ids, trigger.first_delay) == (list(waiting_for), delay)


def test_no_task_is_woken_before_airflow_knows_that_it_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker may notice 5 s late that the task has left; one that is back by then is stopped as a killed one."""
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "5")
    progress = Progress(waiting_for=("a",), conn_id="mailchimp", patience=timedelta(hours=1))
    monkeypatch.setattr("mailchimp_airflow.push.push_slice", lambda *_: progress)
    part = {"entity": "orders", "number": 0, "records": 10}
    operator = MailchimpPushOperator(task_id="push", store_key="demo", phase="orders", run_ref=1, part=part)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(cast("Any", {}))
    assert cast("MailchimpBatchTrigger", deferred.value.trigger).first_delay == 10
