"""Pulls that are killed at random points: no event is lost, none is told twice, and the shop hears of each once.

The workers are processes, ended by SIGKILL before or after a statement, a commit or a request (`pull_errand`). People
at Mailchimp do something between the pulls, so what has to be in the trail in the end is known exactly.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from signal import SIGKILL
from typing import Any

import pytest

from include.embedded_postgres import EmbeddedPostgres
from include.sandbox import people
from include.sandbox.audiences import subscriber_hash
from include.sandbox.server import SandboxServer
from tests.conftest import fresh_database
from tests.faults.pull_errand import PullErrand, work
from tests.include.pull.pulling import Puller
from tests.pipeline import Pipeline

SEEDS = range(30)
CONTACTS = range(40)
PER_PAGE = 12
_PATIENCE_SECONDS = 60

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([work.__module__])


def address(number: int) -> str:
    return f"p{number}@mail.little.shop"


class Town:
    """Contacts who are customers of the shop, every second of them; what they do is the truth to compare with."""

    def __init__(self, shop: Pipeline, chance: Random) -> None:
        self.puller = Puller(shop)
        self.chance = chance
        self.trail: dict[str, list[str]] = {}
        self.opted_out: set[int] = set()
        self.clock = datetime.now(UTC).replace(microsecond=0) - timedelta(days=40)
        for number in CONTACTS:
            if number % 2:
                shop.add_customer(number, address(number), opted_in=True)
        shop.sql("UPDATE newsletter_consents SET recorded_at = '2020-01-01T00:00:00Z'")
        self.puller.import_contacts(*map(address, CONTACTS), at=self.clock)  # all in one second
        for number in CONTACTS:
            self.trail[subscriber_hash(address(number))] = ["subscribed"]

    def live(self) -> None:
        """Some contacts do something, each at most one thing; several in the same second."""
        self.clock = max(self.clock, datetime.now(UTC).replace(microsecond=0))
        for number in self.chance.sample(CONTACTS, 15):
            trail = self.trail[subscriber_hash(address(number))]
            if trail[-1] == "deleted":
                continue
            self.clock += timedelta(seconds=self.chance.choice((0, 0, 1, 60)))
            deed, status = self._choose(trail[-1])
            options: dict[str, Any] = {} if deed is people.delete else {"at": self.clock}
            self.puller.do(deed, address(number), **options)
            trail.append(status)
            if status in {"unsubscribed", "cleaned", "archived"} and number % 2:
                self.opted_out.add(number)

    def _choose(self, status: str) -> tuple[Callable[..., None], str]:
        if status != "subscribed":
            return people.subscribe, "subscribed"
        return self.chance.choice(
            [
                (people.unsubscribe, "unsubscribed"),
                (people.unsubscribe, "unsubscribed"),
                (people.bounce, "cleaned"),
                (people.archive, "archived"),
                (people.delete, "deleted"),
            ]
        )


def pull(town: Town, name: str, *, full: bool) -> int:
    """Let workers try until one lives long enough; returns how many were killed."""
    shop, killed = town.puller.pipeline, 0
    longest = 60
    while True:
        dies_at = town.chance.randint(1, longest) if killed < 4 else None
        errand = PullErrand(
            name, shop.engine.url.render_as_string(hide_password=False).replace("+psycopg2", ""), shop.sandbox.url,
            shop.sandbox.api_key, town.puller.account_id, shop.settings, full, PER_PAGE, dies_at,
        )  # fmt: skip
        received, sent = _PROCESSES.Pipe(duplex=False)
        worker = _PROCESSES.Process(target=work, args=(errand, sent))
        worker.start()
        sent.close()
        worker.join(_PATIENCE_SECONDS)
        if worker.exitcode == 0:
            assert received.poll(0)
            return killed
        assert worker.exitcode == -SIGKILL
        killed += 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_no_event_is_lost_and_none_is_told_twice(
    postgres: EmbeddedPostgres, reference_shop: str, sandbox: SandboxServer, seed: int
) -> None:
    with fresh_database(postgres, reference_shop) as engine:
        shop = Pipeline(engine, sandbox)
        town = Town(shop, Random(seed))
        killed = pull(town, "first", full=False)
        for number in range(3):
            town.live()
            # Who was deleted is noticed by a full compare only.
            killed += pull(town, f"pull {number}", full=number == 2 or town.chance.random() < 0.5)
        assert killed, "the seed kills nobody"
        trail: dict[str, list[str]] = {}
        known: dict[str, str | None] = {}
        rows = shop.sql("SELECT member_hash, from_status, to_status FROM mailchimp.consent_event ORDER BY event_id")
        for member_hash, before, after in rows:
            assert known.get(member_hash) == before
            known[member_hash] = after
            trail.setdefault(member_hash, []).append(after)
        assert trail == town.trail
        told = Counter(
            shop.sql("SELECT customer_id, recorded_at FROM newsletter_consents WHERE source LIKE 'mailchimp: %'")
        )
        assert set(told.values()) <= {1}
        assert {customer_id for customer_id, _ in told} == town.opted_out
        [(written,)] = shop.sql("SELECT sum(written_back) FROM mailchimp.consent_event")
        assert (written or 0) == len(told)
        assert town.puller.mirror() == town.puller.at_mailchimp()
