"""A crowd of contacts: small enough to hold, quick enough to page through, ordinary once it is touched."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from include.sandbox.account import DEFAULT_LIST
from include.sandbox.audiences import subscriber_hash
from include.sandbox.crowd import GROUPS, Crowd
from include.sandbox.people import change_address, unsubscribe
from include.sandbox.server import SandboxServer
from tests.include.sandbox.conftest import Api
from tests.include.sandbox.test_members import LIST, MEMBERS

PAGE_SECONDS = 0.05
START_SECONDS = 10


def who(number: int) -> str:
    return f"crowd{number}@crowd-demo.shop"


def test_it_is_the_same_in_every_run_and_has_some_of_each_status() -> None:
    one, two = Crowd(5000), Crowd(5000)
    assert [one.document(number) for number in range(5000)] == [two.document(number) for number in range(5000)]
    assert set(one.statuses()) == {"subscribed", "unsubscribed", "cleaned", "pending", "transactional", "archived"}
    assert all(one.statuses().values())
    assert sum(one.statuses().values()) == 5000
    assert one.statuses() == Counter(one.document(number)["status"] for number in range(5000))
    chosen = Counter(name for number in range(5000) for name in one.document(number)["interests"])
    assert one.chosen() == chosen
    seconds = Counter(one.time("changed", number) for number in range(5000))
    assert seconds.most_common(1)[0][1] == 1250
    assert len({moment[:4] for moment in seconds}) >= 8
    assert all(one.time("opt", number) <= one.time("changed", number) for number in range(5000))


@pytest.mark.parametrize("size", [0, 1, 3])
def test_a_tiny_crowd(size: int) -> None:
    with SandboxServer.start(crowd=size) as server:
        assert len(server.state.account.audience_for(DEFAULT_LIST).members) == size
        assert Api(server).ok("GET", MEMBERS)["total_items"] <= size


def test_members_are_found_by_hash_and_change_like_others() -> None:
    with SandboxServer.start(crowd=1000) as server:
        api = Api(server)
        account = server.state.account
        before = api.ok("GET", "/lists")["lists"][0]["stats"]
        subscribed = next(
            number
            for number in range(1000)
            if api.ok("GET", f"{MEMBERS}/{subscriber_hash(who(number))}")["status"] == "subscribed"
        )
        member = api.ok("GET", f"{MEMBERS}/{subscriber_hash(who(subscribed))}")
        assert (member["email_address"], set(member["interests"])) == (who(subscribed), set(GROUPS))
        unsubscribe(account, DEFAULT_LIST, who(subscribed), "Enough")
        after = api.ok("GET", f"{MEMBERS}/{member['id']}")
        changed = {"status": "unsubscribed", "unsubscribe_reason": "Enough", "last_changed": after["last_changed"]}
        assert after == {**member, **changed}
        stats = api.ok("GET", "/lists")["lists"][0]["stats"]
        assert stats["member_count"] == before["member_count"] - 1
        assert stats["unsubscribe_count"] == before["unsubscribe_count"] + 1
        assert stats["total_contacts"] == 1000
        assert stats["last_unsub_date"] == after["last_changed"] > before["last_unsub_date"]
        api.refused(404, "GET", f"{MEMBERS}/{'0' * 32}")
        api.refused(400, "POST", MEMBERS, {"email_address": who(5), "status": "subscribed"})
        api.ok("POST", f"{MEMBERS}/{who(6)}/tags", {"tags": [{"name": "vip", "status": "active"}]})
        assert api.ok("GET", f"{MEMBERS}/{who(6)}")["tags_count"] == 1
        interests = api.ok("GET", f"{LIST}/interest-categories/c0ffee0000/interests")["interests"]
        assert [one["subscriber_count"] for one in interests] == ["334", "334", "334"]


def test_who_left_the_crowd_stays_away_from_it_when_the_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "sandbox.sqlite"
    with SandboxServer.start(crowd=100, file=file) as server:
        unsubscribe(server.state.account, DEFAULT_LIST, who(1), "Enough")
        change_address(server.state.account, DEFAULT_LIST, who(2), "moved@kauf-demo.shop")
        Api(server).ok("POST", f"{MEMBERS}/{who(3)}/actions/delete-permanent")
        counts = server.state.overview()["lists"][DEFAULT_LIST]["members"]
    with SandboxServer.start(crowd=100, file=file) as server:
        api = Api(server)
        assert server.state.overview()["lists"][DEFAULT_LIST]["members"] == counts
        assert sum(counts.values()) == 99
        assert api.ok("GET", f"{MEMBERS}/{who(1)}")["unsubscribe_reason"] == "Enough"
        for number in (2, 3):
            api.refused(404, "GET", f"{MEMBERS}/{subscriber_hash(who(number))}")


def test_its_addresses_may_be_those_of_a_shop() -> None:
    with SandboxServer.start(crowd=20, crowd_address="Kunde.{number}@kauf-demo.shop") as server:
        assert Api(server).ok("GET", f"{MEMBERS}/kunde.7@kauf-demo.shop")["id"]


def page_seconds(server: SandboxServer, *offsets: int, **query: str) -> tuple[list[float], dict[str, Any]]:
    """Time on the processor for pages of a thousand (other work of the machine doesn't count), and the last page."""
    session, seconds = requests.Session(), []
    session.auth = ("any", server.api_key)
    sought = {"count": "1000", "sort_field": "last_changed", "sort_dir": "ASC", **query}
    for offset in offsets:
        begun = time.process_time()
        reply = session.get(f"{server.url}{MEMBERS}", params={**sought, "offset": str(offset)}, timeout=30)
        seconds.append(time.process_time() - begun)
        assert reply.status_code == 200
    page: dict[str, Any] = reply.json()
    return seconds, page


@pytest.mark.slow
def test_a_million_start_in_seconds_and_a_page_costs_what_it_costs_among_few(
    record_property: Callable[[str, object], None],
) -> None:
    with SandboxServer.start(crowd=3000) as server:
        few, _ = page_seconds(server, 0, 1000, 0, 1000, 0, 1000)
    begun = time.process_time()
    with SandboxServer.start(crowd=1_000_000) as server:
        started = time.process_time() - begun
        (first, *many), page = page_seconds(server, 0, 1000, 500_000, 900_000, 968_000, 969_500)
        assert (len(page["members"]), page["total_items"]) == (500, 970_000)
        imported = {
            "since_last_changed": "2021-03-15T11:59:59+00:00",
            "before_last_changed": "2021-03-15T12:00:01+00:00",
        }
        assert page_seconds(server, 0, **imported)[1]["total_items"] > 4000
    for name, value in (("start", started), ("first page", first), ("pages", many), ("among few", few)):
        record_property(name, value)
    assert started < START_SECONDS
    assert first < 100 * PAGE_SECONDS  # it makes the order
    assert min(many[:-1]) < 2 * min(few) + PAGE_SECONDS / 5
