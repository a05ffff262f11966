"""Webhooks of an audience: made, verified, and really delivered over HTTP."""

import hashlib
import hmac
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from include.sandbox import deliveries
from include.sandbox.account import DEFAULT_LIST
from include.sandbox.deliveries import Deliveries
from include.sandbox.people import (
    add_groups,
    archive,
    bounce,
    change_address,
    change_profile,
    choose_groups,
    complain,
    delete,
    import_contacts,
    mark_vip,
    subscribe,
    unsubscribe,
    unsubscribe_by_marketer,
)
from include.sandbox.server import SandboxServer
from include.sandbox.webhooks import tell_campaign
from tests.include.sandbox.conftest import Api, add_store
from tests.include.sandbox.receiver import Received, Receiver
from tests.include.sandbox.test_members import EMAIL, LIST, OTHER, path, put

HOOKS = f"{LIST}/webhooks"
ALL = {"user": True, "admin": True, "api": True}


@pytest.fixture
def api() -> Iterator[Api]:
    """A sandbox that tries again soon."""
    with SandboxServer.start(batch_seconds=0, webhook_retry_seconds=0.01) as server:
        yield Api(server)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def queue(api: Api) -> Deliveries:
    return api.server.state.deliveries


def told(api: Api, receiver: Receiver) -> list[tuple[str, ...]]:
    """Type, action and reason of what arrived, by the time of its making (two at once may change places)."""
    assert queue(api).settle(30)
    events = [(one["type"], one.get("data[action]", ""), one.get("data[reason]", "")) for one in receiver.told()]
    receiver.received.clear()
    return [tuple(part for part in event if part) for event in events]


def until_told(receiver: Receiver) -> None:
    deadline = time.monotonic() + 30
    while not receiver.told():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def hook(api: Api, receiver: Receiver, **values: Any) -> dict[str, Any]:
    made: dict[str, Any] = api.ok("POST", HOOKS, {"url": f"{receiver.url}/hook", **values})
    return made


def test_a_webhook_lives_and_dies(api: Api, receiver: Receiver) -> None:
    made = hook(api, receiver, events={"subscribe": True}, sources={"user": True, "api": False})
    asked = receiver.received[0]
    assert (asked.method, asked.path) == ("GET", "/hook")
    assert asked.headers["user-agent"] == "MailChimp.com WebHook Validator"
    assert made["events"]["subscribe"] is True
    assert made["events"]["profile"] is False
    assert made["sources"] == {"user": True, "admin": False, "api": False}
    secret = made.pop("signing_secret")
    assert len(secret) == 32
    assert api.ok("GET", f"{HOOKS}/{made['id']}") == made
    assert api.ok("GET", HOOKS) == {"webhooks": [made], "list_id": DEFAULT_LIST, "total_items": 1}
    changed = api.ok("PATCH", f"{HOOKS}/{made['id']}", {"events": {"profile": True}})
    assert (changed["events"]["subscribe"], changed["events"]["profile"]) == (True, True)
    assert len(receiver.received) == 1
    api.ok("PATCH", f"{HOOKS}/{made['id']}", {"url": f"{receiver.url}/other"})
    assert receiver.received[1].path == "/other"
    api.ok("DELETE", f"{HOOKS}/{made['id']}")
    for verb in ("GET", "PATCH", "DELETE"):
        api.refused(404, verb, f"{HOOKS}/{made['id']}", {} if verb == "PATCH" else None)
    api.refused(404, "POST", "/lists/none/webhooks", {"url": receiver.url})


def test_a_url_that_does_not_answer_is_refused(api: Api, receiver: Receiver) -> None:
    receiver.answer = lambda request: 404
    problem = api.refused(400, "POST", HOOKS, {"url": receiver.url})
    assert problem["errors"] == [
        {
            "field": "url",
            "message": "We couldn't verify the URL is working. Please double check and try again. HTTP Code: 404",
        }
    ]
    for url in ("http://127.0.0.1:1/x", "no url", "ftp://x/y"):
        assert api.refused(400, "POST", HOOKS, {"url": url})["errors"][0]["message"].endswith("HTTP Code: 0")
    api.refused(400, "POST", HOOKS, {"events": {}})
    assert api.ok("GET", HOOKS)["total_items"] == 0


def test_one_url_has_one_webhook_whatever_its_query(api: Api, receiver: Receiver) -> None:
    hook(api, receiver)
    api.refused(400, "POST", HOOKS, {"url": f"{receiver.url}/hook?secret=1"})
    other = api.ok("POST", HOOKS, {"url": f"{receiver.url}/other"})
    api.refused(400, "PATCH", f"{HOOKS}/{other['id']}", {"url": f"{receiver.url}/hook"})
    api.ok("PATCH", f"{HOOKS}/{other['id']}", {"url": f"{receiver.url}/other?secret=2"})


def test_what_contacts_and_marketers_do_is_told(api: Api, receiver: Receiver) -> None:
    account = api.server.state.account
    hook(api, receiver)
    subscribe(account, DEFAULT_LIST, EMAIL)
    assert told(api, receiver) == [("subscribe",)]
    change_profile(account, DEFAULT_LIST, EMAIL, {"FNAME": "Ada"})
    assert told(api, receiver) == [("profile",)]
    mark_vip(account, DEFAULT_LIST, EMAIL)
    assert told(api, receiver) == []
    unsubscribe(account, DEFAULT_LIST, EMAIL)
    assert told(api, receiver) == [("unsubscribe", "unsub", "manual")]
    subscribe(account, DEFAULT_LIST, EMAIL)
    unsubscribe_by_marketer(account, DEFAULT_LIST, EMAIL)
    assert sorted(told(api, receiver)) == [("subscribe",), ("unsubscribe", "unsub", "manual")]
    subscribe(account, DEFAULT_LIST, EMAIL)
    complain(account, DEFAULT_LIST, EMAIL)
    assert sorted(told(api, receiver)) == [("subscribe",), ("unsubscribe", "unsub", "abuse")]
    subscribe(account, DEFAULT_LIST, EMAIL)
    bounce(account, DEFAULT_LIST, EMAIL)
    assert sorted(told(api, receiver)) == [("cleaned", "hard"), ("subscribe",)]
    change_address(account, DEFAULT_LIST, EMAIL, OTHER)
    assert told(api, receiver) == [("upemail",)]
    subscribe(account, DEFAULT_LIST, OTHER)
    archive(account, DEFAULT_LIST, OTHER)
    assert sorted(told(api, receiver)) == [("subscribe",), ("unsubscribe", "delete", "manual")]
    subscribe(account, DEFAULT_LIST, OTHER)
    delete(account, DEFAULT_LIST, OTHER)
    assert sorted(told(api, receiver)) == [("subscribe",), ("unsubscribe", "delete", "manual")]
    tell_campaign(account, queue(api), DEFAULT_LIST, "0123456789", "Hello")
    assert told(api, receiver) == [("campaign",)]


def test_a_delivery_is_a_signed_form(api: Api, receiver: Receiver) -> None:
    account = api.server.state.account
    made = add_groups(account, DEFAULT_LIST, {"Newsletter": ["Offers", "News"]})["Newsletter"]
    subscribe(account, DEFAULT_LIST, EMAIL)
    secret = hook(api, receiver)["signing_secret"]
    choose_groups(account, DEFAULT_LIST, EMAIL, dict.fromkeys(made.values(), True))
    assert queue(api).settle(30)
    request = receiver.received[-1]
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    moment, _, mac = request.headers["x-mailchimp-signature"].removeprefix("t=").partition(",v1=")
    assert abs(int(moment) - time.time()) < 300
    assert mac == hmac.new(secret.encode(), f"{moment}.".encode() + request.body, hashlib.sha256).hexdigest()
    form = request.form
    category = api.ok("GET", f"{LIST}/interest-categories")["categories"][0]["id"]
    assert len(form.pop("fired_at")) == len("2026-11-20 10:00:00")
    assert form == {
        "type": "profile",
        "data[id]": api.ok("GET", path())["unique_email_id"],
        "data[list_id]": DEFAULT_LIST,
        "data[email]": EMAIL,
        "data[email_type]": "html",
        "data[ip_opt]": "",
        "data[ip_signup]": "",
        "data[merges][EMAIL]": EMAIL,
        **{f"data[merges][{tag}]": "" for tag in ("FNAME", "LNAME", "ADDRESS", "PHONE", "BIRTHDAY")},
        "data[merges][INTERESTS]": "Offers, News",
        "data[merges][GROUPINGS][0][id]": "1",
        "data[merges][GROUPINGS][0][unique_id]": category,
        "data[merges][GROUPINGS][0][name]": "Newsletter",
        "data[merges][GROUPINGS][0][groups]": "Offers, News",
    }


def test_only_the_chosen_events_and_sources_are_told(api: Api, receiver: Receiver) -> None:
    account = api.server.state.account
    made = hook(api, receiver, events={"subscribe": True, "unsubscribe": True}, sources={"admin": True})
    subscribe(account, DEFAULT_LIST, EMAIL)
    put(api, OTHER)
    change_profile(account, DEFAULT_LIST, EMAIL, {"FNAME": "Ada"})
    unsubscribe_by_marketer(account, DEFAULT_LIST, EMAIL)
    assert told(api, receiver) == [("unsubscribe", "unsub", "manual")]
    api.ok("PATCH", f"{HOOKS}/{made['id']}", {"sources": {"api": True, "admin": False}})
    put(api, OTHER, status="unsubscribed")
    add_store(api)
    api.ok(
        "PUT", "/ecommerce/stores/demo/customers/c9", {"id": "c9", "email_address": "c9@x.shop", "opt_in_status": True}
    )
    assert sorted(told(api, receiver)) == [("subscribe",), ("unsubscribe", "unsub", "manual")]


def test_the_echo_of_our_own_writes_is_off_by_default(api: Api, receiver: Receiver) -> None:
    assert hook(api, receiver)["sources"] == {"user": True, "admin": True, "api": False}
    put(api)
    put(api, status="unsubscribed")
    assert told(api, receiver) == []


def test_a_failed_delivery_is_tried_again_until_it_is_given_up(api: Api, receiver: Receiver) -> None:
    hook(api, receiver)
    answers = iter([500, 404, 200])
    receiver.answer = lambda request: next(answers)
    subscribe(api.server.state.account, DEFAULT_LIST, EMAIL)
    assert queue(api).settle(30)
    assert len(receiver.told()) == 3
    log = api.own("webhooks")["log"]
    assert [(one["status"], one["attempts"], one["http_status"]) for one in log] == [("delivered", 3, 200)]
    receiver.answer = lambda request: 500
    unsubscribe(api.server.state.account, DEFAULT_LIST, EMAIL)
    assert queue(api).settle(30)
    overview = api.own("webhooks")
    assert (overview["delivered"], overview["failed"], overview["waiting"]) == (1, 1, 0)
    assert overview["log"][-1]["attempts"] == 7
    assert EMAIL not in str(overview)
    assert "Webhook deliveries" in requests.get(f"{api.server.origin}/", timeout=10).text


def test_an_event_may_arrive_twice(api: Api, receiver: Receiver) -> None:
    hook(api, receiver)
    queue(api).copies = 2
    subscribe(api.server.state.account, DEFAULT_LIST, EMAIL)
    assert told(api, receiver) == [("subscribe",), ("subscribe",)]


def test_a_slow_receiver_slows_nobody_down(api: Api, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "MAX_WAITING", 50)
    monkeypatch.setattr(deliveries, "_TIMEOUT_SECONDS", 60)  # no second attempt
    hook(api, receiver)
    release = threading.Event()

    def wait(request: Received) -> int:
        release.wait(30)
        return 200

    receiver.answer = wait
    lines = [{"email_address": f"file{number}@kauf-demo.shop"} for number in range(300)]
    begun = time.monotonic()
    import_contacts(api.server.state.account, DEFAULT_LIST, lines)
    assert api.ok("GET", f"{LIST}/members", status="subscribed")["total_items"] == 300
    assert time.monotonic() - begun < 20  # the receiver answers after 30
    overview = api.own("webhooks")
    assert (overview["waiting"], overview["dropped"]) == (50, 250)
    release.set()
    assert queue(api).settle(30)
    assert len(receiver.told()) == 50


def test_a_receiver_may_call_the_sandbox_while_it_is_asked(api: Api, receiver: Receiver) -> None:
    """As one does that reads the contact first; the sandbox must not be waiting for itself."""
    calls: list[int] = []

    def look(request: Received) -> int:
        calls.append(Api(api.server).ok("GET", LIST)["stats"]["member_count"])
        return 200

    receiver.answer = look
    hook(api, receiver)
    subscribe(api.server.state.account, DEFAULT_LIST, EMAIL)
    assert queue(api).settle(30)
    assert calls == [0, 1]


def test_what_waits_for_a_deleted_webhook_is_not_delivered(api: Api, receiver: Receiver) -> None:
    made = hook(api, receiver)
    deleted = threading.Event()
    receiver.answer = lambda request: 500 if deleted.wait(30) else 200
    subscribe(api.server.state.account, DEFAULT_LIST, EMAIL)
    until_told(receiver)
    api.ok("DELETE", f"{HOOKS}/{made['id']}")
    deleted.set()
    assert queue(api).settle(30)
    assert len(receiver.told()) == 1
    assert api.own("webhooks")["gone"] == 1


def test_webhooks_are_kept_in_the_file_and_the_end_waits_for_nobody(tmp_path: Path, receiver: Receiver) -> None:
    file = tmp_path / "sandbox.sqlite"
    with SandboxServer.start(file=file) as server:
        hook(Api(server), receiver)
        receiver.answer = lambda request: 500
        subscribe(server.state.account, DEFAULT_LIST, EMAIL)
        until_told(receiver)  # nothing of this one is under way any more when the other sandbox starts
        begun = time.monotonic()
    assert time.monotonic() - begun < 30  # the next attempt comes after a minute
    receiver.answer = lambda request: 200
    receiver.received.clear()
    with SandboxServer.start(file=file) as server:
        unsubscribe(server.state.account, DEFAULT_LIST, EMAIL)
        assert told(Api(server), receiver) == [("unsubscribe", "unsub", "manual")]
