"""One world for all tests of this folder: lives begin anew in it, which is cheaper than a new one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from include.embedded_postgres import EmbeddedPostgres
from include.sandbox.server import SandboxServer
from tests.consent.world import World


@pytest.fixture(scope="session")
def world(postgres: EmbeddedPostgres, reference_shop: str) -> Iterator[World]:
    postgres.create_database("consent", reference_shop)
    engine = postgres.engine("consent")
    with SandboxServer.start(seed=1, batch_seconds=0) as sandbox:
        yield World(engine, sandbox)
    engine.dispose()
    postgres.drop_database("consent")
