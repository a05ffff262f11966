from __future__ import annotations

import psycopg2
import pytest
from sqlalchemy import Engine, text

from include.embedded_postgres import EmbeddedPostgres


def test_uri_and_engine_reach_the_same_database(postgres: EmbeddedPostgres, database: Engine) -> None:
    name = database.url.database
    assert name is not None
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE seen (n int)"))
    connection = psycopg2.connect(postgres.uri(name))
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM seen")
        assert cursor.fetchone() == (0,)
    connection.close()


def test_database_is_dropped_although_somebody_is_connected(postgres: EmbeddedPostgres) -> None:
    postgres.create_database("short-lived")
    assert postgres.has_database("short-lived")
    left_open = psycopg2.connect(postgres.uri("short-lived"))
    postgres.drop_database("short-lived")
    assert not postgres.has_database("short-lived")
    left_open.close()
    postgres.drop_database("short-lived")  # a second time is no error


def test_creating_a_database_twice_is_an_error(postgres: EmbeddedPostgres) -> None:
    postgres.create_database("twice")
    try:
        with pytest.raises(psycopg2.errors.DuplicateDatabase):
            postgres.create_database("twice")
    finally:
        postgres.drop_database("twice")


def test_starting_again_in_the_same_directory_joins_the_running_server(postgres: EmbeddedPostgres) -> None:
    again = EmbeddedPostgres.start(postgres._server.pgdata)
    assert again.uri() == postgres.uri()


def test_throwaway_settings_are_in_force(postgres: EmbeddedPostgres) -> None:
    engine = postgres.engine()
    with engine.connect() as connection:
        assert connection.execute(text("SHOW fsync")).scalar_one() == "off"
    engine.dispose()
