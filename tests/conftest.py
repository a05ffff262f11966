"""Fixtures that every test may use: one embedded PostgreSQL server per session, one fresh database per test."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from include.embedded_postgres import EmbeddedPostgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """One server for the whole session; it stops and leaves nothing behind when the session ends."""
    # Not pytest's tmp_path: its long names exceed what a Unix socket's path may have.
    folder = Path(tempfile.mkdtemp(prefix="mailchimp-tests-"))
    server = EmbeddedPostgres.start(folder / "postgres")
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    """A fresh, empty database of its own for one test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    postgres.create_database(name)
    engine = postgres.engine(name)
    try:
        yield engine
    finally:
        engine.dispose()
        postgres.drop_database(name)
