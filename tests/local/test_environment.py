"""A state folder: its settings agree with each other, its secrets last, and only one command uses it at a time."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg2
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from local.environment import PROJECT_ROOT, LocalEnvironment, LocalSetupError, Ports, local_environment


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEnvironment]:
    with local_environment(tmp_path_factory.mktemp("state"), Ports(api=18080, sandbox=18099)) as opened:
        yield opened


def test_airflow_reaches_its_database_both_ways(environment: LocalEnvironment) -> None:
    url = environment.variables()["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT current_database()")) == "airflow"
    engine.dispose()

    async def ask() -> str | None:
        # As Airflow derives it for the triggerer and the API server.
        engine = create_async_engine(url.replace("psycopg2", "asyncpg"))
        async with engine.connect() as connection:
            name: str | None = await connection.scalar(text("SELECT current_database()"))
        await engine.dispose()
        return name

    assert asyncio.run(ask()) == "airflow"


def test_the_shop_connection_leads_to_the_shop_database(environment: LocalEnvironment) -> None:
    fields = json.loads(environment.variables()["AIRFLOW_CONN_SHOP_DB"])
    for arguments in (
        {"dsn": environment.shop_url},
        {"host": fields["host"], "port": fields["port"], "user": fields["login"], "dbname": fields["schema"]},
    ):
        connection = psycopg2.connect(**arguments)
        assert connection.info.dbname == "shop"
        connection.close()


def test_every_address_agrees_with_the_ports(environment: LocalEnvironment) -> None:
    settings = environment.variables()
    assert settings["AIRFLOW__API__PORT"] == "18080"
    for name in ("AIRFLOW__API__BASE_URL", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL"):
        assert urlsplit(settings[name]).netloc == "127.0.0.1:18080"
    mailchimp = json.loads(settings["AIRFLOW_CONN_MAILCHIMP"])
    assert mailchimp["host"] == "http://127.0.0.1:18099/3.0"
    assert mailchimp["port"] == 18099
    assert settings["AIRFLOW__API__HOST"] == "127.0.0.1"


def test_inherited_airflow_settings_do_not_leak_in(
    environment: LocalEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW_CONN_MAILCHIMP", "mailchimp://:somebody@elsewhere")
    monkeypatch.setenv("STORES_FILE", "mine.yaml")
    settings = environment.variables(connections=False)
    assert settings["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert "AIRFLOW_CONN_MAILCHIMP" not in settings
    assert settings["STORES_FILE"] == "mine.yaml"
    assert settings["PYTHONPATH"] == str(PROJECT_ROOT)


def test_secrets_are_made_once_and_kept_private(environment: LocalEnvironment) -> None:
    again = LocalEnvironment(environment.state_dir, environment.ports, environment.postgres)
    environment.variables()
    assert again.variables() == environment.variables()
    assert (environment.state_dir / "secrets.json").stat().st_mode & 0o077 == 0


def test_a_second_command_on_the_same_folder_is_told_who_uses_it(environment: LocalEnvironment) -> None:
    with pytest.raises(LocalSetupError, match=r"in use by process \d+.*Stop that one first"):
        local_environment(environment.state_dir).__enter__()


def test_a_taken_port_is_told(environment: LocalEnvironment) -> None:
    code = (
        "import socket\n"
        "from local.services import require_free_ports\n"
        "with socket.socket() as taken:\n"
        "    taken.bind(('127.0.0.1', 0))\n"
        "    taken.listen()\n"
        "    require_free_ports(taken.getsockname()[1])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert "is taken" in result.stderr
    assert "API_PORT=" in result.stderr
