"""State tables of a rehearsal's own: copies that only one database session sees, gone when it ends.

The engine writes to them as it does to the real ones. That it can't reach the real ones is the server's guarantee, not
ours: the session's search path has nothing but its temporary tables, and its transactions are read-only, which
PostgreSQL takes to mean that temporary tables alone may be written to. No lock of a real run is taken or waited for.

What is copied is what a run looks at: the store's ledger, lists and watermarks, runs that are going on, and batches
whose outcome is open. History stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine, Table, text
from sqlalchemy.schema import CreateIndex, CreateTable

from include.state import pull_tables, tables
from include.state.campaign_tables import campaign_metadata
from include.state.database import PLANNER_SETTINGS, StateDatabase, quoted
from include.state.migrate import is_migrated
from include.state.stores import NamesStore

# Which rows of a table are copied, where it isn't all that the store has. Tables that belong to no store stay empty.
_ROWS: Final = {
    "store": "store_key = :store_key",
    "audience": "account_id = :account_id",
    "audience_group": "account_id = :account_id",
    "batch": "store_ref = :store_ref AND state IN ('intended', 'posted')",
    "run": "store_ref = :store_ref AND (state = 'running' OR run_ref IN (SELECT run_ref FROM {schema}.batch "
    "WHERE store_ref = :store_ref AND state IN ('intended', 'posted')))",
    "operation": "batch_ref IN (SELECT batch_ref FROM {schema}.batch "
    "WHERE store_ref = :store_ref AND state IN ('intended', 'posted'))",
    "slice": "false",
    "member": "account_id = :account_id AND status = 'archived'",
}

# Whose orders are whose after what was sent; null: deleted. Mailchimp's own answer is that of before.
_ORDERED_BY: Final = 'CREATE TABLE ordered_by (order_id text COLLATE "C" PRIMARY KEY, customer_id text COLLATE "C")'


@dataclass(frozen=True)
class Sent:
    """One operation of a batch, as the state tables have it.

    Attributes:
        entity: the entity.
        record_id: the record's id at Mailchimp.
        child: of a deletion inside the record: "lines/7".
        may_hold: whether Mailchimp may hold the record, so that it may have lost children.
        holds: whether Mailchimp was known to hold the record before.
        again: whether this run has sent the record before.
    """

    entity: str
    record_id: str
    child: str | None
    may_hold: bool
    holds: bool
    again: bool


@dataclass(frozen=True)
class PrivateState(StateDatabase):
    """State tables that nobody else sees; `private_state` makes them.

    Args:
        connection: the session that has them.
    """

    connection: Connection = field(kw_only=True)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction on the private tables; one inside another is a savepoint of it."""
        if self.connection.in_transaction():
            with self.connection.begin_nested():
                yield self.connection
        else:
            with self.connection.begin():
                self.connection.exec_driver_sql(PLANNER_SETTINGS)
                yield self.connection

    @contextmanager
    def named_lock(self, name: str) -> Iterator[bool]:
        """Everything is free: nobody else is at these slices."""
        yield True

    def sent(self, token: str) -> list[Sent]:
        """Return the operations of a batch, in order."""
        with self.begin() as connection:
            rows = connection.execute(
                text("""
                    SELECT b.entity, o.record_id, o.child, o.children IS NOT NULL, coalesce(l.on_mailchimp, false),
                           o.method <> 'DELETE' AND coalesce(l.attempts, 0) > 1
                    FROM batch b JOIN operation o USING (batch_ref)
                    LEFT JOIN ledger l USING (store_ref, entity, record_id)
                    WHERE b.token = :token ORDER BY o.seq
                """),
                {"token": token},
            )
            return [Sent(*row) for row in rows]

    def posted(self, batch_id: str) -> tuple[datetime, list[tuple[str, str]]] | None:
        """Return since when a copied batch has been waited for, and (id, method) of its operations."""
        with self.begin() as connection:
            rows = connection.execute(
                text("""
                    SELECT coalesce(b.posted_at, b.created_at), b.token || '-' || o.seq, o.method
                    FROM batch b JOIN operation o USING (batch_ref) WHERE b.batch_id = :batch_id
                """),
                {"batch_id": batch_id},
            ).all()
        return (rows[0][0], [(row[1], row[2]) for row in rows]) if rows else None

    def note_orders(self, orders: Sequence[tuple[str, str | None]]) -> None:
        """Note whose orders are whose from now on: (order id, customer's id or None for a deleted order)."""
        with self.begin() as connection:
            connection.execute(
                text("""
                    INSERT INTO ordered_by SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:customers AS text[]))
                    ON CONFLICT (order_id) DO UPDATE SET customer_id = excluded.customer_id
                """),
                {"ids": [one for one, _ in orders], "customers": [customer for _, customer in orders]},
            )

    def orders_of(self, customer_id: str, before: Sequence[str]) -> list[str]:
        """Return the ids of a customer's orders, given those that Mailchimp had `before`."""
        with self.begin() as connection:
            found = connection.execute(
                text("""
                    SELECT order_id FROM unnest(CAST(:before AS text[])) AS t(order_id)
                    WHERE NOT EXISTS (SELECT FROM ordered_by o WHERE o.order_id = t.order_id)
                    UNION ALL SELECT order_id FROM ordered_by WHERE customer_id = :customer_id
                """),
                {"before": list(before), "customer_id": customer_id},
            )
            return list(found.scalars())


@contextmanager
def private_state(engine: Engine, schema: str, store: NamesStore, account_id: str) -> Iterator[PrivateState]:
    """Copy the state of one store into temporary tables.

    Args:
        engine: the database with the state tables.
        schema: their schema; where it doesn't exist, the copies are empty.
        store: whose state.
        account_id: the Mailchimp account.

    Raises:
        StateOutdated: the tables belong to another version of this project.
    """
    migrated = is_migrated(engine, schema)
    with engine.connect() as connection:
        connection.detach()  # its temporary tables never get to anybody else
        with connection.begin():
            # One snapshot for all copies; planner's defaults, since they are read whole.
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.exec_driver_sql("SET search_path = pg_temp; SET temp_buffers = '64MB'")
            _create_tables(connection)
            if migrated:
                _copy(connection, quoted(schema), store, account_id)
            for table in tables.metadata.sorted_tables:
                for index in table.indexes:
                    connection.execute(CreateIndex(index))
            connection.exec_driver_sql("ANALYZE ledger")
            connection.exec_driver_sql("SET default_transaction_read_only = on")
        yield PrivateState(engine, schema, connection=connection)


def _create_tables(connection: Connection) -> None:
    # Of what was pulled little is looked at, but people who are erased would be erased from it too.
    pulled = [*pull_tables.pull_metadata.sorted_tables, *campaign_metadata.sorted_tables]
    for table in [*tables.metadata.sorted_tables, *pulled]:
        # Of the foreign keys only those that delete along: checking the others would double the time of a copy.
        acting = [one for one in table.foreign_key_constraints if one.ondelete]
        connection.execute(CreateTable(table, include_foreign_key_constraints=acting))
    connection.exec_driver_sql(_ORDERED_BY)


def _copy(connection: Connection, schema: str, store: NamesStore, account_id: str) -> None:
    arguments: dict[str, object] = {"store_key": store.key, "store_id": store.store_id, "account_id": account_id}
    store_ref = connection.scalar(
        text(f"SELECT store_ref FROM {schema}.store WHERE (store_key, account_id, store_id) "  # noqa: S608 - quoted
             "= (:store_key, :account_id, :store_id)"),
        arguments,
    )  # fmt: skip
    _copy_rows(connection, schema, pull_tables.member, arguments)  # who is archived is subscribed by no run
    for table in tables.metadata.sorted_tables:
        _copy_rows(connection, schema, table, arguments | {"store_ref": store_ref})
        for column in table.columns:
            if column.identity is not None:
                _go_on_counting(connection, schema, table.name, column.name)


def _copy_rows(connection: Connection, schema: str, table: Table, arguments: dict[str, object]) -> None:
    names = ", ".join(quoted(column.name) for column in table.columns)
    otherwise = "store_ref = :store_ref" if "store_ref" in table.columns else "false"
    rows = _ROWS.get(table.name, otherwise).format(schema=schema)
    connection.execute(
        text(f"INSERT INTO {table.name} ({names}) OVERRIDING SYSTEM VALUE "  # noqa: S608 - our own names
             f"SELECT {names} FROM {schema}.{table.name} WHERE {rows}"),
        arguments,
    )  # fmt: skip


def _go_on_counting(connection: Connection, schema: str, table: str, column: str) -> None:
    highest = connection.scalar(text(f"SELECT max({column}) FROM {schema}.{table}")) or 0  # noqa: S608 - our own names
    connection.exec_driver_sql(f"ALTER TABLE {table} ALTER COLUMN {column} RESTART WITH {highest + 1}")


def recent_batches(
    engine: Engine, schema: str, store: NamesStore, most: int = 50
) -> list[tuple[int, datetime, datetime]]:
    """Return (operations, posted at, completed at) of the store's last settled batches, newest first."""
    if not is_migrated(engine, schema):
        return []
    with engine.connect() as connection:
        rows = connection.execute(
            text(f"SELECT operations, posted_at, completed_at FROM {quoted(schema)}.batch "  # noqa: S608 - quoted
                 f"JOIN {quoted(schema)}.store USING (store_ref) WHERE (store_key, store_id) = (:store_key, :store_id) "
                 "AND state = 'settled' AND posted_at IS NOT NULL AND completed_at IS NOT NULL "
                 "ORDER BY batch_ref DESC LIMIT :most"),
            {"store_key": store.key, "store_id": store.store_id, "most": most},
        )  # fmt: skip
        return [(row[0], row[1], row[2]) for row in rows]
