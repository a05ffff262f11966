from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from include.sandbox.server import SandboxServer
from include.state.migrate import migrate
from tests.include.load.shop import TinyShop


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer.start(seed=1, batch_seconds=0.02) as server:
        yield server


@pytest.fixture
def shop(database: Engine, sandbox: SandboxServer) -> TinyShop:
    return TinyShop(database, migrate(database), sandbox)
