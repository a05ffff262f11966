from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from include.sandbox.server import SandboxServer
from include.state.migrate import migrate
from tests.include.load.shop import MortalClient, TinyShop
from tests.pipeline import QUICK, Pipeline


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer.start(seed=1, batch_seconds=0.02) as server:
        yield server


@pytest.fixture
def shop(database: Engine, sandbox: SandboxServer) -> TinyShop:
    return TinyShop(database, migrate(database), sandbox)


@pytest.fixture
def mortal(pipeline: Pipeline) -> MortalClient:
    """The client of `pipeline`'s runs, which can be made to die around a POST."""
    client = MortalClient(pipeline.client._session, pipeline.client.base_url, retry=QUICK)
    pipeline.client = client
    return client


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    """Three products and three customers that were sent."""
    for number in (1, 2, 3):
        pipeline.add_product(number)
        pipeline.add_customer(number)
    pipeline.push()
    return pipeline
