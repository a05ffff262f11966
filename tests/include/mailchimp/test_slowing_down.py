"""What the client does when Mailchimp is short of connections or of room for batches, and how it counts the waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import requests

from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import TooManyPendingBatches, UnexpectedReply
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

QUICK = RetryPolicy(attempts=5, total_seconds=60, first_wait_seconds=0.01, longest_wait_seconds=0.02)
MOMENT = datetime(2026, 11, 20, 10, tzinfo=UTC)


def client_of(server: ScriptedServer, throttle: Throttle) -> MailchimpClient:
    return MailchimpClient(requests.Session(), server.base_url, throttle=throttle, timeout=(5, 10), retry=QUICK)


@pytest.mark.parametrize("reply", [problem_reply(429, "Too Many Requests"), html_reply(403), html_reply(503)])
def test_a_throttled_reply_lowers_the_number_of_requests_in_flight(server: ScriptedServer, reply: Reply) -> None:
    throttle = Throttle(4)
    server.say(reply, json_reply({}))
    client_of(server, throttle).get("/ping")
    assert throttle.limit == 2


@pytest.mark.parametrize("reply", [problem_reply(500, "Internal Server Error"), html_reply(502), Reply(drop=True)])
def test_other_failures_do_not(server: ScriptedServer, reply: Reply) -> None:
    throttle = Throttle(4)
    server.say(reply, json_reply({}))
    client_of(server, throttle).get("/ping")
    assert throttle.limit == 4


def test_after_a_refusal_fewer_requests_arrive_at_a_time(server: ScriptedServer) -> None:
    refused = threading.Event()

    def answer(_: Received) -> Reply:
        if not refused.is_set():
            refused.set()
            return problem_reply(429, "Too Many Requests")
        return Reply(delay=0.2)

    server.answer_by(answer)
    throttle = Throttle(4)
    client = client_of(server, throttle)
    client.get("/first")
    threads = [threading.Thread(target=client.get, args=("/ping",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.most_at_once == 2


def test_waits_before_repeats_are_counted_with_those_for_downloads(server: ScriptedServer) -> None:
    client = client_of(server, Throttle(4))
    server.say(html_reply(503), json_reply({}))
    client.get("/ping")
    before = client.metrics.wait_seconds
    assert before > 0
    server.say(Reply(503, b""), Reply(body=b"archive"))
    with client.download_results(server.url + "/x"):
        pass
    assert client.metrics.wait_seconds > before


def test_an_account_full_of_batches_is_asked_a_few_times_and_is_no_reason_to_slow_down(server: ScriptedServer) -> None:
    throttle = Throttle(4)
    server.say(problem_reply(400, "Bad Request", "You have more than 500 pending batches."))
    with pytest.raises(TooManyPendingBatches):
        client_of(server, throttle).create_batch(b"[]")
    assert len(server.received) == 3
    assert throttle.limit == 4


def listing(batches: int, incomplete_reads: int = 0) -> Callable[[Received], Reply]:
    """A listing of batches, one per minute, newest first; the first reads miss one, because it changes meanwhile."""
    reads: list[int] = []

    def answer(request: Received) -> Reply:
        offset, count = int(request.query["offset"]), int(request.query["count"])
        if offset == 0:
            reads.append(1)
        held = range(batches - (len(reads) <= incomplete_reads))
        page = [
            {"id": f"b{number}", "status": "pending", "submitted_at": (MOMENT - timedelta(minutes=number)).isoformat()}
            for number in held[offset : offset + count]
        ]
        return json_reply({"batches": page, "total_items": batches})

    return answer


def test_all_pages_of_the_list_of_batches_are_read(server: ScriptedServer) -> None:
    server.answer_by(listing(2300))
    found = client_of(server, Throttle(4)).batches_since(MOMENT - timedelta(minutes=2200))
    assert [batch.id for batch in found] == [f"b{number}" for number in range(2201)]
    assert [request.query["offset"] for request in server.received] == ["0", "1000", "2000"]


def test_a_list_of_batches_that_changed_meanwhile_is_read_again(server: ScriptedServer) -> None:
    server.answer_by(listing(1003, incomplete_reads=2))
    assert len(client_of(server, Throttle(4)).batches_since(MOMENT - timedelta(days=30))) == 1003


def test_a_list_of_batches_that_keeps_changing_is_an_error(server: ScriptedServer) -> None:
    server.answer_by(listing(1003, incomplete_reads=3))
    with pytest.raises(UnexpectedReply, match="changed while it was read"):
        client_of(server, Throttle(4)).batches_since(MOMENT - timedelta(days=30))
