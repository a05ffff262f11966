"""Where both sides are laid next to the ledger: temporary tables of one database session, gone when it ends.

Rows are a checksum and a few keys each, so that a comparison of millions of records takes disk, not memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, text

from include.state.database import StateDatabase, quoted

Item = TypeVar("Item")

_TABLES: Final = """
CREATE TEMP TABLE at_mailchimp (
    entity text COLLATE "C" NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    checksum bytea,
    status text,
    person text COLLATE "C",
    currency text,
    total numeric,
    moment timestamptz,
    PRIMARY KEY (entity, record_id)
);
CREATE TEMP TABLE in_shop (
    entity text COLLATE "C" NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    source_key text COLLATE "C" NOT NULL,
    checksum bytea,
    payload_hash bytea,
    opts_out boolean NOT NULL,
    person text COLLATE "C",
    currency text,
    total numeric,
    moment timestamptz,
    read_at timestamptz NOT NULL,
    updated_at timestamptz,
    PRIMARY KEY (entity, record_id)
);
CREATE TEMP TABLE referred (customer_id text COLLATE "C" PRIMARY KEY);
CREATE TEMP TABLE finding (
    entity text COLLATE "C" NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    status text NOT NULL,
    held boolean NOT NULL,
    yielded boolean NOT NULL,
    same boolean NOT NULL,
    ledger_state text,
    refused boolean NOT NULL,
    source_key text COLLATE "C",
    payload_hash bytea,
    read_at timestamptz,
    updated_at timestamptz,
    fields text[] NOT NULL DEFAULT '{}',
    action text NOT NULL DEFAULT 'none',
    PRIMARY KEY (entity, record_id)
)
"""

_TYPES: Final = {
    "checksum": "bytea",
    "payload_hash": "bytea",
    "opts_out": "boolean",
    "total": "numeric",
    "moment": "timestamptz",
    "read_at": "timestamptz",
    "updated_at": "timestamptz",
}


@dataclass(frozen=True)
class Staging:
    """The temporary tables, and the state tables behind them."""

    connection: Connection

    def execute(self, statement: str, **values: Any) -> Any:
        """Run one statement in a transaction of its own; returns its rows, or how many it touched."""
        with self.connection.begin():
            result = self.connection.execute(text(statement), values)
            return result.all() if result.returns_rows else result.rowcount

    def put(self, table: str, entity: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows to one side; of several with one id the first counts."""
        if not rows:
            return
        columns = list(rows[0])
        arrays = ", ".join(f"CAST(:{name} AS {_TYPES.get(name, 'text')}[])" for name in columns)
        self.execute(
            f"INSERT INTO {table} (entity, {', '.join(columns)}) "  # noqa: S608 - our own names
            f"SELECT :entity, * FROM unnest({arrays}) ON CONFLICT DO NOTHING",
            entity=entity,
            **{name: [row[name] for row in rows] for name in columns},
        )

    def refer(self, customer_ids: Sequence[str]) -> None:
        """Note customers that orders or carts at Mailchimp refer to."""
        self.execute(
            "INSERT INTO referred SELECT DISTINCT unnest(CAST(:ids AS text[])) ON CONFLICT DO NOTHING",
            ids=list(customer_ids),
        )

    def clear(self, table: str, entity: str) -> None:
        """Forget one side of an entity, to read it again."""
        self.execute(f"DELETE FROM {table} WHERE entity = :entity", entity=entity)  # noqa: S608

    def ids(self, table: str, entity: str) -> list[str]:
        """Return the ids of one side."""
        rows = self.execute(
            f"SELECT record_id FROM {table} WHERE entity = :entity ORDER BY record_id",  # noqa: S608
            entity=entity,
        )
        return [row[0] for row in rows]

    def analyze(self) -> None:
        """Let the planner know how much there is."""
        self.execute("ANALYZE at_mailchimp, in_shop, referred")


@contextmanager
def staging(state: StateDatabase) -> Iterator[Staging]:
    """Open a session of its own with empty tables; ending it removes them.

    Unlike everywhere else, the planner is left its freedom: whole tables are joined here, not lists of ids.
    """
    connection = state.engine.connect()
    try:
        connection.detach()  # it never goes back to the pool, so nothing of it is left behind
        with connection.begin():
            connection.exec_driver_sql(f"SET search_path TO {quoted(state.schema)}; SET jit = off")
            connection.exec_driver_sql(_TABLES)
        yield Staging(connection)
    finally:
        connection.close()


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Cut a stream into lists of at most `size`."""
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk
