from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from include.mailchimp import errors
from include.mailchimp.client import BatchPhase, MailchimpClient
from include.mailchimp.retry import RetryPolicy
from include.mailchimp.throttle import Throttle
from tests.include.mailchimp.scripted_server import (
    Received,
    Reply,
    ScriptedServer,
    html_reply,
    json_reply,
    problem_reply,
)

QUICK = RetryPolicy(attempts=5, total_seconds=60, first_wait_seconds=0.001, longest_wait_seconds=0.002)
SLOW = Reply(delay=2.5)
BATCH = {
    "id": "5c1b7c0e7a",
    "status": "pending",
    "total_operations": 0,
    "finished_operations": 0,
    "errored_operations": 0,
    "submitted_at": "2026-11-20T10:00:00+00:00",
    "completed_at": "",
    "response_body_url": "",
}


@pytest.fixture
def session() -> requests.Session:
    session = requests.Session()
    session.auth = ("anystring", "secret-us6")
    return session


@pytest.fixture
def client(server: ScriptedServer, session: requests.Session, request: pytest.FixtureRequest) -> MailchimpClient:
    """Impatient only with a server that is slow on purpose: any may be slow on a busy machine."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    patience = 2 if parameters.get("failure") is SLOW else 30
    return MailchimpClient(session, server.base_url, throttle=Throttle(4), timeout=(30, patience), retry=QUICK)


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port that nobody listens at, nor can as long as it is held."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_ping(client: MailchimpClient, server: ScriptedServer) -> None:
    server.say(json_reply({"health_status": "Everything's Chimpy!"}))
    assert client.ping() == "Everything's Chimpy!"
    assert server.received[0].path == "/3.0/ping"
    assert server.received[0].headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
@pytest.mark.parametrize(
    "failure",
    [
        problem_reply(429, "Too Many Requests"),
        Reply(429, b""),
        html_reply(403),
        html_reply(503),
        html_reply(502),
        problem_reply(500, "Internal Server Error"),
        html_reply(400, "<H1>Bad Request</H1>"),
        Reply(drop=True),
        Reply(body=b'{"half', cut=50),
        SLOW,
    ],
    ids=["429", "429 empty", "403 page", "503 page", "502", "500", "400 page", "hang-up", "cut", "slow"],
)
def test_transient_failures_are_repeated(
    client: MailchimpClient, server: ScriptedServer, method: str, failure: Reply
) -> None:
    server.say(failure, json_reply({"id": "1"}))
    assert getattr(client, method)("/ecommerce/stores/s") == {"id": "1"}
    assert len(server.received) == 2


@pytest.mark.parametrize("failure", [problem_reply(429, "Too Many Requests"), html_reply(403), html_reply(503)])
def test_a_post_is_repeated_when_refused_before_processing(
    client: MailchimpClient, server: ScriptedServer, failure: Reply
) -> None:
    server.say(failure, json_reply({"id": "1"}))
    assert client.post("/ecommerce/stores", json={"name": "Größe"}) == {"id": "1"}
    assert [json.loads(request.body) for request in server.received] == [{"name": "Größe"}] * 2


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (problem_reply(500, "Internal Server Error"), errors.ServerError),
        (html_reply(502), errors.ServerError),
        (Reply(drop=True), errors.ConnectionFailed),
        (SLOW, errors.ConnectionFailed),
    ],
)
def test_a_post_whose_fate_is_unknown_is_not_repeated(
    client: MailchimpClient, server: ScriptedServer, failure: Reply, kind: type[errors.MailchimpError]
) -> None:
    server.say(failure)
    with pytest.raises(kind):
        client.post("/ecommerce/stores", json={})
    assert len(server.received) == 1


@pytest.mark.parametrize(
    "failure",
    [
        problem_reply(400, "Invalid Resource"),
        problem_reply(401, "API Key Invalid"),
        problem_reply(403, "Forbidden"),
        problem_reply(404, "Resource Not Found"),
        Reply(302, headers={"Location": "http://127.0.0.1:1/"}),
        html_reply(200),
        Reply(body=b"[1]"),
    ],
)
def test_final_failures_are_not_repeated(client: MailchimpClient, server: ScriptedServer, failure: Reply) -> None:
    server.say(failure)
    with pytest.raises(errors.MailchimpError) as caught:
        client.get("/ping")
    assert not caught.value.transient
    assert len(server.received) == 1


def test_attempts_are_bounded(client: MailchimpClient, server: ScriptedServer) -> None:
    server.say(html_reply(503))
    with pytest.raises(errors.RefusedAtEdge):
        client.get("/ping")
    assert len(server.received) == QUICK.attempts
    server.received.clear()
    server.say(html_reply(400))
    with pytest.raises(errors.RefusedAtEdge):
        client.get("/ping")
    assert len(server.received) == 3


def test_total_time_is_bounded(server: ScriptedServer, session: requests.Session) -> None:
    server.say(html_reply(503))
    patient = RetryPolicy(attempts=1000, total_seconds=0.3, first_wait_seconds=0.1, longest_wait_seconds=0.1)
    started = time.monotonic()
    with pytest.raises(errors.Throttled):
        MailchimpClient(session, server.base_url, retry=patient).get("/ping")
    assert time.monotonic() - started < 20  # a thousand attempts take 100 s


@pytest.mark.parametrize("method", ["get", "post"])
def test_nobody_listening(
    session: requests.Session, unused_port: int, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = MailchimpClient(session, f"http://127.0.0.1:{unused_port}/3.0", retry=QUICK)
    with caplog.at_level(logging.DEBUG), pytest.raises(errors.ConnectionFailed) as caught:
        getattr(client, method)("/lists/x/members", params={"email_address": "ada@shop.de"})
    assert not caught.value.request_sent
    assert client.metrics.calls == QUICK.attempts
    assert "ada" not in f"{caught.value} {caught.value.__cause__} {caplog.text}"
    assert caught.value.__suppress_context__


def test_no_address_and_no_key_in_logs_or_errors(
    client: MailchimpClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.say(html_reply(503), problem_reply(400, "Member Exists", "ada@shop.de is already a list member."))
    with caplog.at_level(logging.DEBUG), pytest.raises(errors.Invalid) as caught:
        client.put("/lists/x/members/ada@shop.de", json={"email_address": "ada@shop.de"}, params={"q": "ada@shop.de"})
    assert "again in" in caplog.text
    assert "ada" not in caplog.text
    assert "secret" not in caplog.text
    assert "ada" not in str(caught.value)


def test_204_gives_nothing_and_booleans_are_lower_case(client: MailchimpClient, server: ScriptedServer) -> None:
    server.say(Reply(204))
    assert client.delete("/x", params={"a": True, "b": None, "c": 1}) is None
    assert server.received[0].query == {"a": "true", "c": "1"}


def test_at_most_the_allowed_number_in_flight(server: ScriptedServer, session: requests.Session) -> None:
    server.say(Reply(delay=0.3))
    client = MailchimpClient(session, server.base_url, throttle=Throttle(3), retry=QUICK)
    threads = [threading.Thread(target=client.get, args=("/ping",)) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.most_at_once == 3
    assert client.metrics.calls == 9
    assert client.metrics.wait_seconds > 0


def test_metrics(client: MailchimpClient, server: ScriptedServer) -> None:
    server.say(problem_reply(429, "Too Many Requests"), json_reply({"a": 1}))
    client.put("/x", json={"b": 2})
    metrics = client.metrics
    assert (metrics.calls, metrics.throttled, metrics.bytes_sent) == (2, 1, 2 * len(b'{"b": 2}'))
    assert metrics.bytes_received > len(b'{"a": 1}')


def pages_of(total: int, claimed: int | None = None, cap: int = 1000) -> object:
    def answer(request: Received) -> Reply:
        offset, count = int(request.query["offset"]), min(int(request.query["count"]), cap)
        items = [{"id": str(number)} for number in range(offset, min(offset + count, total))]
        return json_reply({"members": items, "total_items": total if claimed is None else claimed})

    return answer


@pytest.mark.parametrize(
    ("total", "cap", "calls"), [(0, 1000, 1), (1, 1000, 1), (10, 1000, 1), (25, 1000, 3), (25, 4, 7)]
)
def test_paging(client: MailchimpClient, server: ScriptedServer, total: int, cap: int, calls: int) -> None:
    server.answer_by(pages_of(total, cap=cap))  # type: ignore[arg-type]
    found = client.list_all("/lists/x/members", "members", {"status": "archived"}, page_size=10, fields=["id"])
    assert [item["id"] for item in found] == [str(number) for number in range(total)]
    assert len(server.received) == calls
    assert server.received[0].query["fields"] == "members.id,total_items"
    assert server.received[0].query["status"] == "archived"


@pytest.mark.parametrize("claimed", [24, 26, 100])
def test_an_incomplete_listing_is_an_error(client: MailchimpClient, server: ScriptedServer, claimed: int) -> None:
    server.answer_by(pages_of(25, claimed=claimed))  # type: ignore[arg-type]
    with pytest.raises(errors.UnexpectedReply, match=f"25 of {claimed}"):
        list(client.list_all("/lists/x/members", "members", page_size=10))


@pytest.mark.parametrize("reply", [{}, {"members": []}, {"total_items": 0}, {"members": None, "total_items": 0}])
def test_a_listing_of_another_shape_is_an_error(client: MailchimpClient, server: ScriptedServer, reply: object) -> None:
    server.say(json_reply(reply))
    with pytest.raises(errors.UnexpectedReply):
        list(client.list_all("/lists/x/members", "members"))


def test_create_batch_sends_the_text_as_it_is(client: MailchimpClient, server: ScriptedServer) -> None:
    server.say(json_reply(BATCH))
    operations = '[{"method":"PUT","path":"/x","operation_id":"1","body":"{\\"t\\":\\"ü\\"}"}]'.encode()
    batch = client.create_batch(operations)
    assert server.received[0].body == b'{"operations":' + operations + b"}"
    assert server.received[0].headers["Content-Type"] == "application/json"
    assert (batch.id, batch.status, batch.response_body_url) == ("5c1b7c0e7a", BatchPhase.PENDING, None)
    assert batch.submitted_at == datetime(2026, 11, 20, 10, tzinfo=UTC)
    assert batch.completed_at is None
    assert not batch.status.is_terminal


@pytest.mark.parametrize(
    "failure",
    [
        Reply(drop=True),
        SLOW,
        Reply(body=b'{"id":', cut=40),
        html_reply(504),
        problem_reply(500, "Internal Server Error"),
        html_reply(200),
        json_reply({"status": "pending"}),
        Reply(204),
    ],
    ids=["hang-up", "slow", "cut", "504", "500", "page", "no id", "nothing"],
)
def test_a_lost_reply_of_a_batch_is_not_repeated(
    client: MailchimpClient, server: ScriptedServer, failure: Reply
) -> None:
    server.say(failure)
    with pytest.raises(errors.BatchReplyLost) as caught:
        client.create_batch(b"[]")
    assert len(server.received) == 1
    assert isinstance(caught.value, errors.ConnectionFailed)


def test_a_refused_batch_is_repeated_or_reported(client: MailchimpClient, server: ScriptedServer) -> None:
    pending = problem_reply(400, "Bad Request", "You have more than 500 pending batches.")
    server.say(html_reply(403), pending, json_reply(BATCH))
    assert client.create_batch(b"[]").id == BATCH["id"]
    server.say(problem_reply(400, "Invalid Resource", errors=[{"field": "operations.item:0", "message": "object"}]))
    with pytest.raises(errors.Invalid, match=r"operations\.item:0"):
        client.create_batch(b"[[]]")


def test_a_batch_that_never_left_is_not_lost(session: requests.Session, unused_port: int) -> None:
    client = MailchimpClient(session, f"http://127.0.0.1:{unused_port}/3.0", retry=QUICK)
    with pytest.raises(errors.ConnectionFailed) as caught:
        client.create_batch(b"[]")
    assert not isinstance(caught.value, errors.BatchReplyLost)


def test_get_list_and_delete_batches(client: MailchimpClient, server: ScriptedServer) -> None:
    link = "https://storage.test/x?Signature=a%2Bb"
    server.say(json_reply({**BATCH, "status": "finished", "response_body_url": link, "errored_operations": 3}))
    batch = client.get_batch("5c1b7c0e7a")
    assert (batch.status.is_terminal, batch.response_body_url, batch.errored_operations) == (True, link, 3)
    assert "Signature" not in repr(batch)
    server.say(json_reply({"batches": [BATCH, {**BATCH, "id": "b2"}], "total_items": 2}))
    assert [found.id for found in client.list_batches(count=50)] == ["5c1b7c0e7a", "b2"]
    assert server.received[-1].query == {"count": "50", "offset": "0"}
    server.say(Reply(204))
    client.delete_batch("5c1b7c0e7a")
    assert (server.received[-1].method, server.received[-1].path) == ("DELETE", "/3.0/batches/5c1b7c0e7a")


def test_an_unknown_batch_status_is_an_error(client: MailchimpClient, server: ScriptedServer) -> None:
    server.say(json_reply({**BATCH, "status": "exploded"}))
    with pytest.raises(errors.UnexpectedReply, match="exploded"):
        client.get_batch("x")


def test_results_are_fetched_by_the_literal_link_without_credentials(
    client: MailchimpClient,
    server: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(netrc))
    target = "/bucket/5c1b%7E.tar.gz?Expires=1&Signature=a%2Bb%2Fc%3D"
    content = bytes(range(256)) * 4096
    server.say(Reply(body=content, content_type="application/x-gzip", headers={"Content-Encoding": "gzip"}))
    with caplog.at_level(logging.DEBUG), client.download_results(server.url + target) as stream:
        assert stream.read() == content
    assert server.received[0].raw_target == target
    assert "Authorization" not in server.received[0].headers
    assert "Signature" not in caplog.text
    assert client.metrics.bytes_received == len(content)


@pytest.mark.parametrize(
    ("reply", "kind", "calls"),
    [
        (Reply(403, b"<Error>Request has expired</Error>", "application/xml"), errors.ResultLinkExpired, 1),
        (Reply(404, b""), errors.ResultLinkExpired, 1),
        (Reply(body=b"x" * 1000, cut=10), errors.ArchiveTruncated, 5),
        (Reply(503, b""), errors.ServerError, 5),
        (Reply(drop=True), errors.ConnectionFailed, 5),
        (Reply(302, headers={"Location": "http://127.0.0.1:1/"}), errors.UnexpectedReply, 1),
    ],
)
def test_a_failed_download_has_a_type_and_no_link(
    client: MailchimpClient, server: ScriptedServer, reply: Reply, kind: type[errors.MailchimpError], calls: int
) -> None:
    server.say(reply)
    with pytest.raises(kind) as caught, client.download_results(server.url + "/x?Signature=abc"):
        pass
    assert len(server.received) == calls
    assert "Signature" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


def test_a_download_that_broke_starts_afresh(client: MailchimpClient, server: ScriptedServer) -> None:
    server.say(Reply(body=b"x" * 1000, cut=10), Reply(body=b"complete"))
    with client.download_results(server.url + "/x") as stream:
        assert stream.read() == b"complete"


def test_a_link_that_is_no_address(client: MailchimpClient) -> None:
    with pytest.raises(errors.UnexpectedReply), client.download_results("not a link"):
        pass
