"""`python -m include.explain`: finds its connection as Airflow does, and says what is wrong where it can't."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import make_url

from include.explain.__main__ import main
from include.explain.connections import ConnectionMissing, engine_for
from tests.pipeline import SETTINGS, Pipeline


@pytest.fixture
def command(shop: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pipeline:
    """The shop's connection in the environment, in Airflow's JSON form, and a settings file."""
    url = shop.engine.url
    stored = {"conn_type": "postgres", "host": url.query["host"], "login": url.username, "schema": url.database}
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", json.dumps(stored))
    settings = tmp_path / "stores.yaml"
    settings.write_text(json.dumps({"stores": [SETTINGS]}), encoding="utf-8")  # JSON is YAML
    monkeypatch.setenv("STORES_FILE", str(settings))
    return shop


def test_it_prints_the_explanation(command: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "customers", "c1@mail.little.shop"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("customers 1: at Mailchimp, acknowledged\n")
    assert "mail.little.shop" not in printed
    assert main(["demo", "customers", "1", "--json", "--private"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"][0]["values"]["email"] == "c1@mail.little.shop"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dmeo", "orders", "1"], "no store has the key 'dmeo'"),
        (["demo", "order", "1"], "There is no entity 'order'; there are products"),
    ],
)
def test_wrong_arguments_are_told(
    command: Pipeline, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(arguments) == 1
    assert words in capsys.readouterr().err


def test_a_missing_connection_is_told(
    command: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SHOP_DB")
    assert main(["demo", "orders", "1"]) == 1
    assert "set AIRFLOW_CONN_SHOP_DB" in capsys.readouterr().err


@pytest.mark.parametrize(
    "stored",
    [
        "postgresql://reader:p%40ss@db.internal:5433/shop?sslmode=require",
        "postgres://reader:p%40ss@db.internal:5433/shop?sslmode=require",
        '{"conn_type": "postgres", "host": "db.internal", "port": 5433, "login": "reader", "password": "p@ss", '
        '"schema": "shop", "extra": {"sslmode": "require"}}',
        '{"conn_type": "postgres", "host": "db.internal", "port": 5433, "login": "reader", "password": "p@ss", '
        '"schema": "shop", "extra": "{\\"sslmode\\": \\"require\\"}"}',
    ],
)
def test_connections_are_read_in_all_of_airflows_forms(stored: str) -> None:
    url = engine_for("shop_db", {"AIRFLOW_CONN_SHOP_DB": stored}).url
    expected = make_url("postgresql+psycopg2://reader:p%40ss@db.internal:5433/shop")
    assert (url.host, url.port, url.database, url.username, url.password) == (
        expected.host,
        expected.port,
        expected.database,
        expected.username,
        "p@ss",
    )
    assert url.query["sslmode"] == "require"


def test_what_a_connection_holds_is_never_repeated() -> None:
    for stored in ('{"password": "s3cret"', "mysql://me:s3cret@host/db", '{"port": "s3cret"}'):
        with pytest.raises(ValueError, match="can't be read") as refusal:
            engine_for("shop_db", {"AIRFLOW_CONN_SHOP_DB": stored})
        assert "s3cret" not in str(refusal.value)
    with pytest.raises(ConnectionMissing):
        engine_for("shop_db", {})
