from __future__ import annotations

import pytest
from sqlalchemy import Engine, make_url, text

from include.embedded_postgres import EmbeddedPostgres
from include.extract.connection import ShopUnreachable, check_reachable, open_engine

SECRET = "hunter2-secret"


def test_every_form_of_address_reaches_the_database(postgres: EmbeddedPostgres, database: Engine) -> None:
    name = database.url.database
    assert name is not None
    uri = postgres.uri(name)
    folder = uri.partition("host=")[2]
    forms = [
        uri,
        uri.replace("postgresql://", "postgres://"),
        uri.replace("postgresql://", "postgresql+psycopg2://"),
        f"host={folder} dbname={name} user=postgres",
        make_url(uri),
    ]
    for form in forms:
        engine = open_engine(form)
        check_reachable(engine, "shop_db")
        with engine.connect() as connection:
            assert connection.execute(text("SELECT current_database()")).scalar_one() == name
            assert connection.execute(text("SHOW application_name")).scalar_one() == "mailchimp-airflow"
        engine.dispose()


def test_settings_in_the_url_win() -> None:
    assert open_engine("postgresql://h/d?connect_timeout=3").url.query["connect_timeout"] == "3"


@pytest.mark.parametrize("dsn", [f"mysql://me:{SECRET}@h/d", f"host {SECRET}", f"postgresql://me:{SECRET}@h:port/d"])
def test_what_is_no_address_is_refused_without_repeating_it(dsn: str) -> None:
    with pytest.raises(ValueError, match="postgresql://user:password@host:5432/database") as refused:
        open_engine(dsn)
    assert SECRET not in str(refused.value)
    assert refused.value.__suppress_context__


def test_an_unreachable_shop_is_told_with_what_to_do() -> None:
    engine = open_engine(f"postgresql://me:{SECRET}@127.0.0.1:1/shop")
    with pytest.raises(ShopUnreachable) as unreachable:
        check_reachable(engine, "shop_db")
    told = str(unreachable.value)
    for part in ("'shop_db'", "127.0.0.1", "'shop'", "port 1", "AIRFLOW_CONN_SHOP_DB", "Connection refused"):
        assert part in told
    assert SECRET not in told


def test_a_database_that_does_not_exist_is_told(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(ShopUnreachable, match='"nowhere" does not exist'):
        check_reachable(open_engine(postgres.uri("nowhere")))
