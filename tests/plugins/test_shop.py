from __future__ import annotations

import json
import traceback
from urllib.parse import quote

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from mailchimp_airflow.hooks.shop import shop_engine


def socket_folder(database: Engine) -> str:
    host = database.url.query.get("host") or database.url.host
    assert isinstance(host, str)
    return host


def test_every_form_of_connection_reaches_the_database(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, name = socket_folder(database), database.url.database
    fields = {"conn_type": "postgres", "login": "postgres", "schema": name}
    forms = [
        f"postgresql://postgres:@/{name}?host={folder}&sslmode=disable",
        f"postgresql://postgres@{quote(folder, safe='')}/{name}",
        json.dumps({**fields, "host": folder}),
        json.dumps({**fields, "host": folder, "port": 5432}),
        json.dumps({**fields, "extra": {"host": folder, "cursor": "dictcursor", "sslmode": "", "iam": {"a": 1}}}),
    ]
    for form in forms:
        monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", form)
        engine = shop_engine()
        with engine.connect() as connection:
            assert connection.scalar(text("select current_database()")) == name
            assert connection.scalar(text("show application_name")) == "mailchimp-airflow"
        assert engine.driver == "psycopg2"
        engine.dispose()


def test_a_server_over_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", "postgresql://reader:p%40ss%2F@db.internal:6543/shop?sslmode=require")
    url = shop_engine("shop_db").url
    assert (url.host, url.port, url.database, url.username, url.password) == (
        "db.internal",
        6543,
        "shop",
        "reader",
        "p@ss/",
    )
    assert url.query["sslmode"] == "require"


def test_errors_do_not_show_parameters(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"postgresql://postgres:@/{database.url.database}?host={socket_folder(database)}"
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", uri)
    engine = shop_engine()
    values = {"email": "ada@shop.de", "name": "Ada"}
    with engine.connect() as connection:
        connection.execute(text("create temp table person (email text unique, name text)"))
        connection.execute(text("insert into person values (:email, :name)"), values)
        for statement in (
            "select nothing from nowhere where email = :email",
            "insert into person values (:email, :name)",
            "select cast(:email as integer)",
        ):
            savepoint = connection.begin_nested()
            with pytest.raises(SQLAlchemyError) as caught:
                connection.execute(text(statement), values)
            savepoint.rollback()
            shown = "".join(traceback.format_exception(caught.value))
            assert "psycopg2.errors" in shown
            assert "ada@" not in shown
            assert "(Ada" not in shown
    engine.dispose()


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SHOP_DB", raising=False)
    with pytest.raises(AirflowNotFoundException, match="AIRFLOW_CONN_SHOP_DB"):
        shop_engine()
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", "mysql://root@db/shop")
    with pytest.raises(ValueError, match="must be PostgreSQL"):
        shop_engine()
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", "postgresql://reader@db")
    with pytest.raises(ValueError, match="names no database"):
        shop_engine()
