"""Whatever goes wrong, and wherever workers are killed, the next run finishes the work: 30 seeds of it.

A seed is a shop in business with a Mailchimp of its own. Some runs push its changes while there are more of them; six
faults are committed by Mailchimp, and workers are killed. Then nothing goes wrong any more, and all has to be as if
nothing ever had (DESIGN, "Invariants"): Mailchimp holds what one full sync of the final shop brings to an empty store,
the ledger owes nothing, nobody's consent was raised, nobody got a mail twice, or for an order that nobody touched.

One seed again, exactly: ``pytest "tests/faults/test_fault_suite.py::test_…[seed 17]"``. The table at the end of a
session adds up what happened (`conftest.py`).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import pytest

from include.embedded_postgres import EmbeddedPostgres
from include.load.runs import Mode
from include.sandbox.carts import REMINDER
from include.sandbox.faults import CALL_FAULTS, Fault, heal, inject, inject_at_random
from include.sandbox.records import _comparable
from include.sandbox.server import SandboxServer
from include.state.migrate import migrate
from tests.conftest import fresh_database
from tests.consent.firewall import opted_out
from tests.faults.conftest import KILLED, Damage
from tests.faults.errand import Outcome
from tests.faults.town import LIST, ORDERS, Town, stock
from tests.pipeline import Pipeline
from tests.replaying import run_replay

SEEDS: Final = range(30)
FAULTS: Final = tuple(Fault)
FAULTS_OF_A_SEED: Final = 6
RUNS: Final = 2
SETTINGS: Final = {
    "batch_operations": 25,
    "slice_records": 50,
    "max_rejected_percent": 100,
}

_MOST_RUNS = 4  # until a fault has found its occasion, and until all is well again


@pytest.fixture(scope="module")
def stocked_shop(postgres: EmbeddedPostgres, reference_shop: str) -> str:
    """Name of a database with a shop that has just opened: copies are cheap."""
    name = "stocked_shop"
    postgres.create_database(name, reference_shop)
    engine = postgres.engine(name)
    with SandboxServer.start() as sandbox:
        stock(Pipeline(engine, sandbox))
    engine.dispose()
    return name


@contextmanager
def founded(postgres: EmbeddedPostgres, template: str, seed: int) -> Iterator[Town]:
    with SandboxServer.start(seed=1, batch_seconds=0) as sandbox, fresh_database(postgres, template) as engine:
        shop = Pipeline(engine, sandbox)
        shop.configure(**SETTINGS)
        yield Town(shop, postgres.uri(str(engine.url.database)), seed)


@pytest.fixture
def town(postgres: EmbeddedPostgres, stocked_shop: str, seed: int) -> Iterator[Town]:
    with founded(postgres, stocked_shop, seed) as built:
        yield built


def faults_of(seed: int) -> list[Fault]:
    """Each fault in turn, so that all come equally often, in ever different company."""
    first = FAULTS_OF_A_SEED * seed
    return [FAULTS[(first + 5 * number) % len(FAULTS)] for number in range(FAULTS_OF_A_SEED)]


@dataclass
class Troubles:
    """The disturbed part of a seed's life; `log` has its runs."""

    town: Town
    seed: int
    chance: Random = field(init=False)
    log: list[tuple[str, Outcome | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = Random(f"troubles {self.seed}")

    def live(self) -> None:
        state = self.town.shop.sandbox.state
        for number, fault in enumerate(faults_of(self.seed)):
            inject(state, fault, at=1 + self.chance.randrange(3), seed=100 * self.seed + number)
        self._run(Mode.FULL if self.chance.random() < 0.4 else Mode.INCREMENTAL)
        inject_at_random(state, self.seed, self._rates())
        for _ in range(RUNS - 1):
            self._between_runs()
            self._run(self._mode())
        self._make_sure_of_all()
        while not self.town.kills:
            self._run(Mode.INCREMENTAL, dies_at=self.chance.randrange(10, 200))

    def _make_sure_of_all(self) -> None:
        """Commit the faults that chance has spared so far."""
        state = self.town.shop.sandbox.state
        for _ in range(_MOST_RUNS):
            spared = [fault for fault in faults_of(self.seed) if not state.faults.committed[fault]]
            if not spared:
                return
            heal(state)
            self.town.let_a_day_pass()
            for number, fault in enumerate(spared):
                inject(state, fault, at=1 + number // 2, seed=self.seed)
            for _ in range(6):
                self.town.business.goods()
            self._run(Mode.INCREMENTAL, mortal=False)
        raise AssertionError(f"{spared} find no occasion")

    def _rates(self) -> dict[Fault, float]:
        return {fault: 0.04 if fault in CALL_FAULTS else 0.2 for fault in faults_of(self.seed)}

    def _mode(self) -> Mode:
        return self.chance.choices((Mode.INCREMENTAL, Mode.FULL, Mode.IDS), (6, 2, 2))[0]

    def _between_runs(self) -> None:
        for _ in range(self.chance.randrange(4)):
            self.town.business.people()
        for _ in range(self.chance.randrange(6)):
            self.town.business.goods()
        if self.log[-1][1] is not None and self.log[-1][1].stopped == "Stuck":
            self.town.let_a_day_pass()

    def _run(self, mode: Mode, *, mortal: bool = True, dies_at: int | None = None) -> None:
        if mortal and dies_at is None and self.chance.random() < 0.6:
            dies_at = int(math.exp(self.chance.uniform(math.log(5), math.log(2_500))))
        failed = bool(self.log) and (self.log[-1][1] is None or self.log[-1][1].stopped is not None)
        again = failed and self.chance.random() < 0.5
        told: dict[str, Any] = {"mode": mode}
        if mode is Mode.IDS:
            told |= {"entities": ("orders",), "ids": tuple(map(str, ORDERS))}
        outcome = self.town.run(changes=self.chance.randrange(6), again=again, dies_at=dies_at, **told)
        self.log.append((f"{mode}{' again' if again else ''}, dies at {dies_at}", outcome))


def recover(town: Town, mode: Mode) -> None:
    """Let nothing go wrong any more, let time pass for what can only be given up, and run until a run gets through."""
    heal(town.shop.sandbox.state)
    town.let_a_day_pass()
    for _ in range(_MOST_RUNS):
        outcome = town.run(mode=mode)
        if outcome is not None and outcome.stopped is None:
            return
    raise AssertionError(f"runs do not recover: {outcome}")


def owed(shop: Pipeline) -> list[tuple[Any, ...]]:
    return shop.sql(
        "SELECT entity, record_id, state, batch_ref FROM mailchimp.ledger "
        "WHERE state IN ('pending', 'unknown') OR batch_ref IS NOT NULL"
    )


def held(shop: Pipeline) -> dict[tuple[str, str], Any]:
    """All records that Mailchimp holds in the store, in comparable form, and who is in the audience."""
    account = shop.sandbox.state.account
    with account.lock:
        store = account.store_for("demo-shop")
        records = {
            (entity, record_id): _comparable(found.get(record_id) or {})
            for entity, found in store.records.items()
            for record_id in found
        }
        members = account.audience_for(LIST).members
        return records | {("members", member_id): None for member_id in members}


def undisturbed(town: Town) -> dict[tuple[str, str], Any]:
    """What one full sync brings of the same shop to an empty Mailchimp."""
    with SandboxServer.start(seed=1, batch_seconds=0) as sandbox:
        shop = Pipeline(town.shop.engine, sandbox)
        shop.state = migrate(shop.engine, "undisturbed")
        assert shop.full_sync().failure is None
        return held(shop)


def repeated_mails(shop: Pipeline) -> int:
    """Mails about an order or cart that were sent before."""
    mails = Counter((mail["kind"], mail["record_id"]) for mail in shop.sandbox.state.account.mails)
    return sum(times - 1 for times in mails.values())


def sent_again(shop: Pipeline) -> int:
    """Operations whose payload Mailchimp had been sent before: nobody could know its outcome."""
    [(again,)] = shop.sql("""
        SELECT coalesce(sum(times - 1), 0) FROM (
            SELECT count(*) AS times FROM mailchimp.batch JOIN mailchimp.operation USING (batch_ref)
            WHERE batch_id IS NOT NULL AND payload_hash IS NOT NULL
            GROUP BY store_ref, entity, record_id, method, payload_hash
        ) AS sent
    """)
    return int(again)


def assert_nobody_is_subscribed_who_said_no(town: Town) -> None:
    accounts, statuses = town.accounts(), town.statuses()
    for one in accounts:
        having = [other for other in accounts if other.member_id == one.member_id]
        if one.customer_id in town.business.left or opted_out(having):
            assert statuses.get(one.member_id) not in {"subscribed", "pending"}, one.customer_id


def assert_mails_were_due(town: Town) -> None:
    shop = town.shop
    shop.sandbox.remind()
    mails = {(mail["kind"], mail["record_id"]) for mail in shop.sandbox.state.account.mails}
    open_carts = {str(cart) for (cart,) in shop.sql("SELECT cart_id FROM carts WHERE is_open")}
    assert {record for kind, record in mails if kind == REMINDER} <= open_carts
    assert {record for kind, record in mails if kind != REMINDER} <= town.business.touched
    assert repeated_mails(shop) == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed {seed}")
def test_whatever_goes_wrong_the_next_runs_finish_the_work(
    town: Town, seed: int, record_property: Callable[[str, object], None]
) -> None:
    shop, faults = town.shop, town.shop.sandbox.state.faults
    troubles = Troubles(town, seed)
    print(f"seed {seed}: {', '.join(faults_of(seed))}")
    try:
        troubles.live()
    finally:
        print("\n".join(f"  {name}: {outcome or 'killed'}" for name, outcome in troubles.log))

    # The next run finishes the work, and what Mailchimp refused is listed with its reason and can be replayed.
    recover(town, Mode.INCREMENTAL if seed % 2 else Mode.FULL)
    assert owed(shop) == []
    refused = shop.rejected()
    # (Of a batch of one record nobody can tell whether the record is to blame.)
    assert not refused or faults.committed[Fault.BATCH_REFUSED] or faults.committed[Fault.BATCHES_REFUSED]
    if refused:
        run_replay(shop, dag_run_id="replay")
        assert shop.rejected() == {}

    # An order line points to the placeholder once its product is deleted: that's up to full syncs.
    if seed % 2:
        recover(town, Mode.FULL)
    further = town.run(mode=Mode.FULL)
    expected, found = undisturbed(town), held(shop)
    lost = {key for key, record in expected.items() if key not in found or found[key] != record}
    extra = {key for key in found.keys() - expected.keys() if key[0] != "members"}  # former addresses stay contacts
    damage = Damage(
        injected={**{fault.name: faults.committed[fault] for fault in Fault}, KILLED: town.kills},
        affected={
            **{fault.name: faults.affected[fault] for fault in Fault if fault not in CALL_FAULTS},
            KILLED: town.in_flight,
        },
        lost=len(lost),
        duplicated=len(extra) + repeated_mails(shop),
        sent_again=sent_again(shop),
    )
    record_property("damage", json.dumps(damage.to_json()))

    assert lost == set()
    assert extra == set()
    assert owed(shop) == []
    assert further is not None
    assert (further.operations, further.stopped) == (0, None)
    assert not shop.sandbox.state.overview(digests=False)["stores"]["demo-shop"]["is_syncing"]
    assert_nobody_is_subscribed_who_said_no(town)
    assert_mails_were_due(town)


@pytest.mark.slow
def test_the_same_seed_does_the_same_again(postgres: EmbeddedPostgres, stocked_shop: str) -> None:
    lives = []
    for _ in range(2):
        with founded(postgres, stocked_shop, seed=7) as town:
            troubles = Troubles(town, seed=7)
            troubles.live()
            lives.append((troubles.log, town.shop.sandbox.state.faults.committed, town.in_flight))
    assert lives[0] == lives[1]
