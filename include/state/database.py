"""Connections to the state tables: the right schema, short transactions, and locks that die with their owner."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text
from sqlalchemy.dialects.postgresql import dialect as postgresql_dialect

DEFAULT_SCHEMA = "mailchimp"

# Every statement here looks up a list of records by key. During a first load the planner's statistics lag far behind
# the ledger, and it would join a million rows to find two thousand (measured: 500 ms in place of 30). So: nested loops
# over the list. In the statements `OFFSET 0` fences the list off, so that the planner cannot begin with the ledger.
PLANNER_SETTINGS = """
SET LOCAL jit = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_material = off;
SET LOCAL enable_seqscan = off;
SET LOCAL random_page_cost = 1.1;
SET LOCAL max_parallel_workers_per_gather = 0
"""


# The server's side: it ends the session of a vanished host, which says no goodbye, after a minute, not after two hours.
_KEEPALIVE = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"

# An advisory lock on a 64-bit number is listed in two halves.
_IS_LOCKED = """
SELECT EXISTS (
  SELECT FROM pg_locks
  WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32) | objid::bigint = hashtextextended(:name, 0)
)
"""


class SliceBusy(RuntimeError):
    """Another process is working on the slice right now."""


@dataclass(frozen=True)
class SliceKey:
    """Names one slice: `number` counts the slices of one entity in one run."""

    run_ref: int
    entity: str
    number: int


@dataclass(frozen=True)
class StateDatabase:
    """The state of all stores: a schema in a PostgreSQL database (normally the shop's own).

    Args:
        engine: SQLAlchemy engine with the psycopg2 driver. One step of a push holds up to three connections.
        schema: the schema of the state tables; `include.state.migrate.migrate` creates it.
    """

    engine: Engine
    schema: str = DEFAULT_SCHEMA

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction on the state tables; commits at the end of the block, rolls back on an exception."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL search_path TO {quoted(self.schema)};{PLANNER_SETTINGS}")
            yield connection

    @contextmanager
    def slice_lock(self, key: SliceKey) -> Iterator[bool]:
        """Try to own a slice for the length of the block; yields whether it was free.

        The lock lives in the database session, so a killed worker gives it up the moment its connection breaks, and one
        whose host vanished within a minute.
        """
        with self.named_lock(_lock_name(key)) as free:
            yield free

    def is_owned(self, key: SliceKey) -> bool:
        """Tell whether somebody owns a slice; only looks, so that nobody who wants it finds it taken by this."""
        with self.begin() as connection:
            return bool(connection.scalar(text(_IS_LOCKED), {"name": f"{self.schema}/{_lock_name(key)}"}))

    @contextmanager
    def named_lock(self, name: str) -> Iterator[bool]:
        """Try to own whatever `name` stands for in this schema, as `slice_lock` does; yields whether it was free."""
        name = f"{self.schema}/{name}"
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(_KEEPALIVE)
            arguments = {"name": name}
            free = connection.scalar(text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))"), arguments)
            try:
                yield bool(free)
            finally:
                if free:
                    _unlock(connection, name)


def _lock_name(key: SliceKey) -> str:
    return f"slice/{key.run_ref}/{key.entity}/{key.number}"


def open_state(engine: Engine, schema: str = DEFAULT_SCHEMA) -> StateDatabase:
    """Return the state kept in `schema`; does not touch the database (see `include.state.migrate.migrate`)."""
    return StateDatabase(engine, schema)


def quoted(name: str) -> str:
    """Return `name` quoted as an SQL identifier."""
    return postgresql_dialect().identifier_preparer.quote_identifier(name)


def lock_account(connection: Connection, account_id: str) -> None:
    """Let only one transaction at a time claim records for a Mailchimp account (until its end).

    Both the limit on open batches and the order of row locks in the ledger rest on it.
    """
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '/account/' || :account, 0))"),
        {"account": account_id},
    )


def lock_automations(connection: Connection, store_ref: int) -> None:
    """Let only one transaction at a time pause or resume a store's automations (until its end).

    Otherwise a run that ends might take away the quiet that another one has just asked for.
    """
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '/automations/' || :store, 0))"),
        {"store": str(store_ref)},
    )


def lock_creation(connection: Connection, account_id: str, store_id: str) -> None:
    """Let only one transaction at a time create a store at Mailchimp (until its end)."""
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '/creation/' || :store, 0))"),
        {"store": f"{account_id}/{store_id}"},
    )


def _unlock(connection: Connection, name: str) -> None:
    try:
        connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": name})
    except Exception:
        # The session may still hold the lock: it must not go back to the pool.
        connection.invalidate()
        raise
