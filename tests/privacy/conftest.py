"""The pipeline on the engine that tasks use, with everything it says recorded; the stage of the DAGs' tests."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from include.embedded_postgres import EmbeddedPostgres
from include.sandbox.server import SandboxServer
from tests.conftest import fresh_database
from tests.dags.conftest import airflow_database, stage
from tests.pipeline import Pipeline
from tests.privacy.canaries import QuietPipeline, Recorder

__all__ = ["airflow_database", "stage"]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Everything that any logger says, at DEBUG, and every address that is asked for."""
    with Recorder.listening(monkeypatch) as recorder:
        yield recorder


@pytest.fixture
def pipeline(
    postgres: EmbeddedPostgres, reference_shop: str, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pipeline]:
    """The reference shop, opened as a task opens it."""
    from mailchimp_airflow.hooks.shop import shop_engine

    with fresh_database(postgres, reference_shop) as database:
        monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", connection_to(database))
        engine = shop_engine()
        yield QuietPipeline(engine, sandbox)
        engine.dispose()


def connection_to(database: Engine) -> str:
    """Airflow's connection to a database of the tests."""
    url = database.url
    fields = {"conn_type": "postgres", "login": "postgres", "schema": url.database}
    return json.dumps({**fields, "host": url.query.get("host") or url.host})
