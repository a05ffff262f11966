"""Fixtures that every test may use: one embedded PostgreSQL server per session, one fresh database per test."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine

from include.embedded_postgres import EmbeddedPostgres
from include.sandbox.server import SandboxServer
from tests.pipeline import Pipeline, create_shop
from tests.server_folder import make_server_folder

# The same examples every time, however long one takes on a machine that is doing something else.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """One server for the whole session; it stops and leaves nothing behind when the session ends."""
    folder = make_server_folder("mailchimp-tests-")
    server = EmbeddedPostgres.start(folder / "postgres")
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fresh_database(postgres: EmbeddedPostgres, template: str = "template1") -> Iterator[Engine]:
    """A database that is dropped in the end."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    postgres.create_database(name, template)
    engine = postgres.engine(name)
    try:
        yield engine
    finally:
        engine.dispose()
        postgres.drop_database(name)


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    """A fresh, empty database of its own for one test."""
    with fresh_database(postgres) as engine:
        yield engine


@pytest.fixture(scope="session")
def reference_shop(postgres: EmbeddedPostgres) -> str:
    """Name of a database with the reference shop's tables and the state's, made once: copies are cheap."""
    name = "reference_shop"
    postgres.create_database(name)
    engine = postgres.engine(name)
    create_shop(engine)
    engine.dispose()
    return name


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """An empty Mailchimp on this machine, whose batches take no longer than their work."""
    with SandboxServer.start(seed=1, batch_seconds=0) as server:
        yield server


@pytest.fixture
def pipeline(postgres: EmbeddedPostgres, reference_shop: str, sandbox: SandboxServer) -> Iterator[Pipeline]:
    """The reference shop without any record, its state, and the sandbox."""
    with fresh_database(postgres, reference_shop) as engine:
        yield Pipeline(engine, sandbox)
