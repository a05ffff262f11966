"""A full sync whose worker is killed three times ends like one that nobody disturbed, and repeats nothing.

The workers are processes, ended by SIGKILL: no handler, no `finally` and no open transaction survives. What they were
about to do they have written down before; so the next worker knows what Mailchimp has acknowledged, asks for the
outcome of batches that it knows the id of, finds those that it doesn't, and sends only what never arrived.
"""

from __future__ import annotations

import multiprocessing
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine

from include.config.stores import StoreSettings
from include.demo.loading import load_shop
from include.demo.planted import planted_rejects
from include.demo.scale import SCALES, Scale
from include.embedded_postgres import EmbeddedPostgres
from include.sandbox.server import SandboxServer
from tests.faults.watched_sync import Result, WatchedSync, random_moments, table
from tests.pipeline import SETTINGS

RUN = "the full sync"
NEXT_RUN = "the next full sync"


@dataclass
class Shop:
    """A sample shop, how it is synchronised, and what that comes to when nobody disturbs it."""

    engine: Engine
    uri: str
    settings: StoreSettings
    memory: Path

    def sync(self, schema: str, sandbox: SandboxServer) -> WatchedSync:
        """A full sync of this shop into a store of its own."""
        return WatchedSync(self.engine, self.uri, schema, sandbox, self.settings, self.memory / schema)

    def undisturbed(self) -> tuple[Result, int]:
        """The result of a sync that is left alone, and how many batches it takes."""
        with SandboxServer.start(seed=1, batch_seconds=0) as sandbox:
            sync = self.sync("undisturbed", sandbox)
            assert sync.run(RUN)["summarise"]["failure"] is None
            assert set(sync.executed().values()) == {1}
            return sync.result(), sync.batches_posted


@contextmanager
def sample_shop(postgres: EmbeddedPostgres, memory: Path, scale: Scale, **settings: int) -> Iterator[Shop]:
    name = f"killed_{scale.name}_{uuid.uuid4().hex[:8]}"
    postgres.create_database(name)
    engine = postgres.engine(name)
    try:
        load_shop(engine, scale)
        yield Shop(engine, postgres.uri(name), StoreSettings(**SETTINGS | settings), memory)
    finally:
        engine.dispose()
        postgres.drop_database(name)


@pytest.fixture(scope="module")
def shop(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """2,000 orders in batches so small that there are many moments to die at."""
    memory = tmp_path_factory.mktemp("killed")
    with sample_shop(postgres, memory, SCALES["small"], batch_operations=50, slice_records=400) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def undisturbed(shop: Shop) -> tuple[Result, int]:
    return shop.undisturbed()


def assert_three_kills_change_nothing(
    sync: WatchedSync, expected: Result, batches: int, seed: int, most_seconds: float
) -> None:
    kills = [sync.kill(RUN, moment) for moment in random_moments(seed, batches, most_seconds)]
    outcome = sync.run(RUN)["summarise"]
    executed = sync.executed()
    print(f"seed {seed}, {executed.total()} operations\n{table(kills, executed)}")

    # The kills hit work in progress; one of the others may fall between two phases, when nothing is open.
    assert any(kill.slices_open and kill.batches_open for kill in kills)

    # Mailchimp and the ledger end up as they would have; the plan was made once, and every row was dealt with once.
    result = sync.result()
    assert outcome["failure"] is None
    assert result.held == expected.held
    assert result.ledger == expected.ledger
    assert result.slices == expected.slices
    rejected = {
        record_id for entity, record_id, state, *_ in result.ledger if (entity, state) == ("orders", "rejected")
    }
    assert rejected == {planted.record_id for planted in planted_rejects() if planted.entity == "orders"}
    assert {state for _, _, state, *_ in result.ledger} == {"synced", "rejected"}
    assert sync.rows("SELECT FROM batch WHERE state IN ('intended', 'posted')") == []

    # Nothing was executed twice, though there were batches at Mailchimp that nobody had noted the id of.
    assert any(kill.unknown for kill in kills)
    assert set(executed.values()) == {1}

    # Nothing is owed: the next full sync compares everything and sends nothing.
    sync.run(NEXT_RUN)
    assert sync.executed() == executed
    assert sync.result().held == expected.held


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_full_sync_killed_three_times_ends_like_an_undisturbed_one(
    shop: Shop, undisturbed: tuple[Result, int], sandbox: SandboxServer, seed: int
) -> None:
    expected, batches = undisturbed
    assert_three_kills_change_nothing(shop.sync(f"killed_{seed}", sandbox), expected, batches, seed, 0.15)


@pytest.mark.slow
@pytest.mark.timeout(900)  # takes two minutes of a core that has nothing else to do
def test_a_full_sync_of_100_000_orders_killed_three_times_ends_like_an_undisturbed_one(
    postgres: EmbeddedPostgres, sandbox: SandboxServer, tmp_path: Path
) -> None:
    scale = Scale(
        "many",
        highest_household=2_500,
        best_sellers=1_000,
        orders=100_000,
        lines_per_order=2,
        unsold_products=20,
    )
    with sample_shop(postgres, tmp_path, scale) as shop:
        expected, batches = shop.undisturbed()
        sync = shop.sync("killed", sandbox)
        assert_three_kills_change_nothing(sync, expected, batches, seed=1, most_seconds=1)


@pytest.fixture(autouse=True)
def no_process_stays_behind() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []
