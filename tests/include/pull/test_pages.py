"""Reading forward by time passes nobody over, whatever moves meanwhile and however the server counts a second."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from include.mailchimp.errors import UnexpectedReply
from include.pull.pages import MemberListing, moment

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class Restless:
    """A listing as Mailchimp's, of which some members change between two requests and go to its end."""

    def __init__(self, chance: Random, *, inclusive: bool, movers: int, stops_after: int) -> None:
        self.chance = chance
        self.inclusive = inclusive
        self.movers = movers
        self.stops_after = stops_after
        self.calls = 0
        self.clock = 1_000
        spread = chance.choice((1, 3, 50, 1_000))
        self.changed = {f"m{number:04}": chance.randrange(spread) for number in range(chance.randint(1, 400))}

    def get(self, path: str, *, params: Mapping[str, Any]) -> dict[str, Any]:
        self.calls += 1
        if self.calls <= self.stops_after:
            for name in self.chance.sample(sorted(self.changed), min(self.movers, len(self.changed))):
                self.clock += self.chance.choice((0, 1))
                self.changed[name] = self.clock
        since = moment(params["since_last_changed"])
        least = -10 if since is None else int((since - BEGINNING).total_seconds()) + (not self.inclusive)
        rows = sorted((second, name) for name, second in self.changed.items() if second >= least)
        page = rows[params["offset"] : params["offset"] + params["count"]]
        members = [{"id": name, "last_changed": _text(second), "status": "subscribed"} for second, name in page]
        return {"members": members, "total_items": len(rows)}


def _text(second: int) -> str:
    return (BEGINNING + timedelta(seconds=second)).isoformat()


def listing(server: Restless, connections: int = 1) -> MemberListing:
    client: Any = server
    return MemberListing(client, "list", connections=connections, per_page=30)


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("movers", [0, 1, 4, 40])
@pytest.mark.parametrize("seed", range(10))
def test_everybody_is_read_as_they_are_in_the_end(seed: int, movers: int, inclusive: bool) -> None:
    server = Restless(Random(seed), inclusive=inclusive, movers=movers, stops_after=12)
    read: dict[str, str] = {}
    for page in listing(server).pages(None):
        read |= {member["id"]: member["last_changed"] for member in page.members}
        assert page.reached_at == moment(page.members[-1]["last_changed"])
    assert read == {name: _text(second) for name, second in server.changed.items()}


def test_pages_of_a_quiet_listing_are_fetched_together_and_none_in_vain() -> None:
    server = Restless(Random(1), inclusive=False, movers=0, stops_after=0)
    server.changed = {f"m{number:04}": number // 7 for number in range(505)}
    members = [member["id"] for page in listing(server, connections=4).pages(None) for member in page.members]
    assert sorted(set(members)) == sorted(server.changed)
    assert server.calls <= 22


def test_it_begins_with_the_second_it_is_told() -> None:
    server = Restless(Random(1), inclusive=False, movers=0, stops_after=0)
    server.changed = {f"m{number:02}": number for number in range(20)}
    pages = list(listing(server).pages(BEGINNING + timedelta(seconds=17)))
    assert [member["id"] for page in pages for member in page.members] == ["m17", "m18", "m19"]
    assert server.calls == 1


def test_a_listing_that_never_settles_is_given_up() -> None:
    server = Restless(Random(3), inclusive=False, movers=0, stops_after=0)
    server.changed = dict.fromkeys((f"m{number:04}" for number in range(300)), 5)
    get = server.get

    def shuffled(path: str, *, params: Mapping[str, Any]) -> dict[str, Any]:
        reply = get(path, params=params)
        for member in reply["members"]:
            member["id"] += f"-{server.calls}"
        return reply

    server.get = shuffled  # type: ignore[method-assign]
    with pytest.raises(UnexpectedReply, match="Restless listing"):
        list(listing(server).pages(None))


def test_a_page_that_is_not_full_although_more_is_left_is_not_taken_for_the_end() -> None:
    server = Restless(Random(1), inclusive=False, movers=0, stops_after=0)
    server.changed = {f"m{number:03}": number for number in range(100)}
    get = server.get

    def sparing(path: str, *, params: Mapping[str, Any]) -> dict[str, Any]:
        return get(path, params={**params, "count": 10})

    server.get = sparing  # type: ignore[method-assign]
    with pytest.raises(UnexpectedReply, match="Incomplete listing"):
        list(listing(server).pages(None))
