"""Connections to the shop database: opening, probing, and the snapshot that all reads of one run see."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NoReturn

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import parse_dsn
from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

CONNECT_TIMEOUT_SECONDS: Final = 10

# For the length of the transaction only, so that a pooled connection goes back as it was.
# jit and parallel workers cost more than they bring for slices of some 10,000 rows; with the stock random_page_cost
# the planner hash-joins whole tables for every slice instead of using the index (measured: three times the CPU).
_READ_SETTINGS: Final = """
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO, YMD';
SET LOCAL jit = off;
SET LOCAL random_page_cost = 1.1;
SET LOCAL max_parallel_workers_per_gather = 0
"""


class ShopUnreachable(RuntimeError):
    """The shop database can't be connected to; the message says which one, why, and what to do."""


def open_engine(database: str | URL) -> Engine:
    """Make an engine for a shop database; nothing is connected yet.

    Args:
        database: a libpq URL or key=value string, or a SQLAlchemy URL (of an Airflow connection, say).

    Raises:
        ValueError: the text is no connection string; its contents are not repeated, it may hold a password.
    """
    url = database if isinstance(database, URL) else _parse(database)
    # A URL's own settings win over these.
    defaults = {
        "connect_timeout": str(CONNECT_TIMEOUT_SECONDS),
        "application_name": "mailchimp-airflow",
        "client_encoding": "utf8",
    }
    query = {**defaults, **url.query}
    return create_engine(url.set(drivername="postgresql+psycopg2", query=query))


def _parse(text: str) -> URL:
    scheme, separator, rest = text.partition("://")
    try:
        if separator:
            return make_url(f"postgresql+psycopg2://{rest}") if scheme.startswith("postgres") else _refuse()
        fields = parse_dsn(text)
        known = {name: fields.pop(name, None) for name in ("user", "password", "host", "port", "dbname")}
        return URL.create(
            "postgresql+psycopg2",
            username=known["user"],
            password=known["password"],
            host=known["host"],
            port=int(known["port"]) if known["port"] else None,
            database=known["dbname"],
            query=fields,
        )
    except (ArgumentError, ValueError, psycopg2.ProgrammingError):
        _refuse()


def _refuse() -> NoReturn:
    raise ValueError(
        "The connection string of the shop database can't be read. Write it like "
        "postgresql://user:password@host:5432/database, with special characters of the password percent-encoded."
    ) from None


def check_reachable(engine: Engine, conn_id: str | None = None) -> None:
    """Connect once and run a trivial query.

    Args:
        engine: of the shop database.
        conn_id: the Airflow connection it was made from, if it was, to be named in the error.

    Raises:
        ShopUnreachable: it doesn't work.
    """
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
    except DBAPIError as error:
        host = engine.url.host or engine.url.query.get("host") or "the local socket"
        reason = " ".join(str(error.orig).split())
        named = f"connection {conn_id!r}, " if conn_id else ""
        place = f" (in Airflow: Admin → Connections, or the variable AIRFLOW_CONN_{conn_id.upper()})" if conn_id else ""
        raise ShopUnreachable(
            f"The shop database can't be reached: {named}host {host}, port {engine.url.port or 5432}, "
            f"database {engine.url.database!r}: {reason}. Check that the server is running and reachable from this "
            f"machine, and that host, port, database, user and password are right{place}."
        ) from None


def begin_snapshot(connection: Connection) -> datetime:
    """Begin a read-only transaction in which every query sees the same state of the shop.

    A connection that is in such a transaction already is left as it is. On a hot standby the snapshot is as old as the
    last transaction that the standby has replayed.

    Args:
        connection: of the shop database, not in a transaction of another kind.

    Returns:
        The time of the snapshot, aware UTC, by the database's clock.

    Raises:
        RuntimeError: the connection is in another transaction, or in autocommit mode, and can't hold a snapshot.
    """
    with cursor_of(connection, begin=_READ_SETTINGS) as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM CASE WHEN pg_is_in_recovery()"
            " THEN least(transaction_timestamp(), pg_last_xact_replay_timestamp())"
            " ELSE transaction_timestamp() END)::text,"
            " current_setting('transaction_isolation'), current_setting('transaction_read_only')"
        )
        row = cursor.fetchone()
    if row is None or row[1:] != ("repeatable read", "on"):
        raise RuntimeError(
            "Reading a shop needs a REPEATABLE READ, READ ONLY transaction, but this connection is in another one. "
            "Pass a fresh connection that is neither in a transaction nor in autocommit mode."
        )
    return datetime.fromtimestamp(float(row[0]), tz=UTC)


def cursor_of(connection: Connection, begin: str | None = None) -> Cursor:
    """A psycopg2 cursor on a SQLAlchemy connection, for COPY and for SQL whose `%` are meant literally.

    Args:
        connection: begins a transaction if it is in none, so that SQLAlchemy rolls back what the cursor did.
        begin: statements to run first in a transaction that this call begins.
    """
    fresh = not connection.in_transaction()
    if fresh:
        connection.begin()
    cursor: Cursor = connection.connection.cursor()
    if fresh and begin:
        cursor.execute(begin)
    return cursor
