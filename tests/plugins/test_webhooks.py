"""The address that Mailchimp calls: the sandbox delivers to a real server, and whoever else calls is refused."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from airflow.plugins_manager import AirflowPlugin
from fastapi import FastAPI
from sqlalchemy import text

from include.sandbox import people
from include.sandbox.account import DEFAULT_LIST
from include.sandbox.deliveries import signature
from mailchimp_airflow import webhooks
from mailchimp_airflow.hooks.shop import HURRIED
from tests.pipeline import Pipeline, email_hash
from tests.plugins.endpoint import ANN, BODY, FORM, SECRET, Endpoint, open_endpoint, served

InTime = Callable[[Callable[[], requests.Response]], requests.Response]
IN_A_SECOND = {name: getattr(webhooks, name) for name in ("_ANSWER_SECONDS", "_STATEMENT")}


@pytest.fixture
def endpoint(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Endpoint]:
    with open_endpoint(pipeline, monkeypatch, tmp_path) as endpoint:
        yield endpoint


@pytest.fixture
def in_time(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> InTime:
    """Make a call that is answered when the database has had its 0.8 s, as in production."""

    def answered(call: Callable[[], requests.Response]) -> requests.Response:
        with monkeypatch.context() as patch:
            for name, limit in IN_A_SECOND.items():
                patch.setattr(webhooks, name, limit)
            patch.setitem(HURRIED, "connect_timeout", "2")
            begun = time.monotonic()
            reply = call()
        assert time.monotonic() - begun < 8  # a database that doesn't answer is otherwise waited for 10 s and more
        return reply

    return answered


def test_what_a_contact_does_at_mailchimp_is_stored_without_its_address(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    account, deliveries = endpoint.pipeline.sandbox.state.account, endpoint.pipeline.sandbox.state.deliveries
    people.subscribe(account, DEFAULT_LIST, ANN)
    endpoint.register()
    with caplog.at_level(logging.DEBUG):
        people.unsubscribe(account, DEFAULT_LIST, ANN)
        people.change_address(account, DEFAULT_LIST, ANN, "new@mail.little.shop")
        assert deliveries.settle(30)
    assert deliveries.counts["delivered"] == 2
    events = [
        ("unsubscribe", email_hash(ANN)),
        ("upemail", email_hash(ANN)),
        ("upemail", email_hash("new@mail.little.shop")),
    ]
    assert sorted(endpoint.stored()) == sorted(events)
    [(kept,)] = endpoint.pipeline.sql("SELECT string_agg(to_jsonb(e)::text, '') FROM mailchimp.webhook_event e")
    assert "little.shop" not in str(kept)
    assert "little.shop" not in caplog.text.replace(str(endpoint.pipeline.sandbox.url), "")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_address_answers_mailchimps_validator(endpoint: Endpoint, method: str) -> None:
    endpoint.connect()  # the secret is known only after the webhook is made
    assert requests.request(method, f"{endpoint.url}/webhooks/demo", timeout=30).status_code == 200
    assert requests.request(method, f"{endpoint.url}/webhooks/nobody", timeout=30).status_code == 404


def test_a_repetition_of_mailchimps_own_is_taken_and_a_replay_is_refused(endpoint: Endpoint) -> None:
    now = int(time.time())
    first = signature(SECRET, now - 60, BODY)
    assert endpoint.call(header=first).json() == {"status": "stored"}
    replayed = endpoint.call(header=first)
    assert (replayed.status_code, replayed.json()["detail"]) == (409, "a call with this signature was taken before")
    assert len(endpoint.stored()) == 1
    assert endpoint.call(header=signature(SECRET, now, BODY)).status_code == 200


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (lambda _: "", "is missing"),
        (lambda _: "t=1,v1=0", "not of the form"),
        (lambda now: signature("another secret", now, BODY), "not by the secret"),
        (lambda now: signature(SECRET, now, BODY + b"&x=1"), "not by the secret"),
        (lambda now: signature(SECRET, now - 3600, BODY), "more than 300 seconds"),
        (lambda now: signature(SECRET, now + 3600, BODY), "more than 300 seconds"),
    ],
    ids=["unsigned", "no signature", "another secret", "another body", "old", "from the future"],
)
def test_a_call_that_is_not_mailchimps_is_refused(
    endpoint: Endpoint, header: Callable[[int], str], reason: str
) -> None:
    reply = endpoint.call(header=header(int(time.time())))
    assert reply.status_code == 401
    assert reason in reply.json()["detail"]
    assert endpoint.stored() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b'{"type": "unsubscribe"}', 400),
        (b"type=%ff", 400),
        (urlencode(FORM | {"data[email]": "ann"}).encode(), 400),
        (urlencode(FORM | {"data[list_id]": "another"}).encode(), 400),
        (urlencode(FORM | {"fired_at": "now"}).encode(), 400),
        (BODY + b"&x=" + b"x" * 70_000, 413),
    ],
)
def test_a_call_that_is_no_event_is_refused(endpoint: Endpoint, body: bytes, status: int) -> None:
    reply = endpoint.call(body)
    assert reply.status_code == status
    assert ANN not in reply.text
    assert endpoint.stored() == []


def test_events_about_no_contact_are_taken_and_ignored(endpoint: Endpoint) -> None:
    for kind in ("campaign", "sms_subscribe"):
        assert endpoint.call(urlencode({"type": kind}).encode()).json() == {"status": "ignored"}
    assert endpoint.stored() == []


@pytest.mark.parametrize("settings", [{"webhooks": False}, {"enabled": False}, {"key": "another"}])
def test_a_store_that_takes_no_webhooks_has_no_address(endpoint: Endpoint, settings: dict[str, Any]) -> None:
    endpoint.configure(**settings)
    assert endpoint.call().status_code == 404
    assert requests.get(f"{endpoint.url}/webhooks/demo", timeout=30).status_code == 404
    assert endpoint.stored() == []


@pytest.mark.parametrize("secrets", [f"older, {SECRET}", ["older", SECRET]])
def test_a_secret_is_replaced_without_a_gap(endpoint: Endpoint, secrets: str | list[str]) -> None:
    endpoint.connect(webhook_secret=secrets)
    assert endpoint.call().status_code == 200


def test_without_a_secret_mailchimp_is_asked_to_call_again(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.connect()
    reply = endpoint.call()
    assert (reply.status_code, reply.json()["detail"]) == (503, "the secret of the webhook is not configured yet")
    assert "`webhook_secret` of connection 'mailchimp' is missing" in caplog.text


def test_a_secret_counts_as_soon_as_it_is_there(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint.connect()
    assert requests.get(f"{endpoint.url}/webhooks/demo", timeout=30).status_code == 200
    assert endpoint.call().status_code == 503
    monkeypatch.setattr(endpoint, "forget", lambda: None)  # the same reception, a moment later
    endpoint.connect(webhook_secret=SECRET)
    assert endpoint.call().status_code == 200


def test_another_secret_is_read_after_a_while_and_airflows_database_may_be_down_meanwhile(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert endpoint.call().status_code == 200
    monkeypatch.setattr(endpoint, "forget", lambda: None)
    endpoint.connect(webhook_secret="another")
    now = int(time.time())  # read once: two calls of one signature would be a replay
    assert endpoint.call(header=signature("another", now, BODY)).status_code == 401
    monkeypatch.setattr(webhooks, "_READ_AGAIN_SECONDS", 0.0)
    assert endpoint.call(header=signature("another", now, BODY)).status_code == 200
    monkeypatch.delenv("AIRFLOW_CONN_MAILCHIMP")
    assert endpoint.call(header=signature("another", now - 1, BODY)).status_code == 200


def test_a_store_that_no_run_has_met_is_called_again(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    endpoint.pipeline.sql("DELETE FROM mailchimp.store")
    assert endpoint.call().status_code == 503
    assert "Let its pull run once" in caplog.text


def test_while_the_table_is_locked_the_answer_comes_in_time_and_the_next_call_is_stored(
    endpoint: Endpoint, in_time: InTime
) -> None:
    assert endpoint.call().status_code == 200
    with endpoint.pipeline.engine.begin() as connection:
        connection.execute(text("LOCK TABLE mailchimp.webhook_event"))
        for _ in range(5):
            assert in_time(endpoint.call).status_code == 503
    deadline = time.monotonic() + 20
    while in_time(endpoint.call).status_code != 200:  # the calls that gave up still hold their connections for a while
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_database_that_says_nothing_holds_up_no_answer_and_no_other_call(endpoint: Endpoint, in_time: InTime) -> None:
    """It takes connections and never answers, as behind a broken network."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint.connect_shop(host="127.0.0.1", port=silent.getsockname()[1])
        for _ in range(8):
            assert in_time(endpoint.call).status_code == 503
        assert in_time(lambda: endpoint.call(b"x" * 70_000)).status_code == 413


def test_a_database_that_is_down_is_tried_again_by_the_next_call(endpoint: Endpoint, in_time: InTime) -> None:
    endpoint.connect_shop(host="127.0.0.1", port=1)
    assert in_time(endpoint.call).status_code == 503
    endpoint.connect_shop()
    assert endpoint.call().status_code == 200


def test_airflow_gets_the_address_from_the_plugin(endpoint: Endpoint) -> None:
    import mailchimp_plugin

    assert issubclass(mailchimp_plugin.MailchimpPlugin, AirflowPlugin)
    server = FastAPI()
    for one in mailchimp_plugin.MailchimpPlugin.fastapi_apps:
        server.mount(one["url_prefix"], one["app"])
    with served(server) as url:
        assert requests.get(f"{url}/mailchimp/webhooks/demo", timeout=30).json() == {"status": "ready"}
        for path in ("/mailchimp/docs", "/mailchimp/openapi.json", "/mailchimp/"):
            assert requests.get(url + path, timeout=30).status_code == 404
