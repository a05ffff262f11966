"""Every statement that an engine sends, with what PostgreSQL did for it: which tables it read, how, and how much."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event

_VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
_SCANS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Sample Scan", "Tid Scan")


@dataclass(frozen=True)
class Scan:
    """How one table was read.

    Attributes:
        table: its name.
        kind: as PostgreSQL calls it.
        searched: whether an index was searched; without, everything is read in some order.
        rows: how many rows were looked at, the ones among them that turned out not to be wanted too.
    """

    table: str
    kind: str
    searched: bool
    rows: float


@dataclass(frozen=True)
class Explained:
    """One execution of a statement.

    Attributes:
        statement: its text, in one line.
        asked: length of the longest list among its parameters: how many records it was asked about.
        scans: of tables.
        buffers: pages that were touched, in memory or not.
        milliseconds: it took.
    """

    statement: str
    asked: int
    scans: tuple[Scan, ...]
    buffers: int
    milliseconds: float


@contextmanager
def explained(engine: Engine) -> Iterator[list[Explained]]:
    """Explain all statements of an engine: each is executed twice, the first time with its real parameters and undone.

    Locks on names, and rows that are inserted literally, are left out: they read no table.
    """
    log: list[Explained] = []

    def explain(
        _connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, _executemany: bool
    ) -> None:
        verb = statement.split(None, 1)[0].upper()
        autocommit = cursor.connection.autocommit
        if verb in _VERBS and "advisory" not in statement and not context.executemany and not autocommit:
            log.append(_explain(cursor.connection, statement, parameters))

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield log
    finally:
        event.remove(engine, "before_cursor_execute", explain)


def _explain(connection: Any, statement: str, parameters: Any) -> Explained:
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT explained")
        try:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
            [(answer,)] = cursor.fetchall()
        finally:
            cursor.execute("ROLLBACK TO SAVEPOINT explained")
    [told] = json.loads(answer) if isinstance(answer, str) else answer
    plan = told["Plan"]
    return Explained(
        " ".join(statement.split()),
        max((len(value) for value in (parameters or {}).values() if isinstance(value, list)), default=0),
        tuple(_scans(plan)),
        plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0),
        told["Execution Time"],
    )


def _scans(node: dict[str, Any]) -> Iterator[Scan]:
    if node["Node Type"] in _SCANS and "Relation Name" in node:
        read = node["Actual Rows"] + sum(
            node.get(f"Rows Removed by {reason}", 0) for reason in ("Filter", "Index Recheck")
        )
        yield Scan(
            node["Relation Name"],
            node["Node Type"],
            any(condition in node for condition in ("Index Cond", "Recheck Cond", "TID Cond")),
            read * node["Actual Loops"],
        )
    for child in node.get("Plans", ()):
        yield from _scans(child)
