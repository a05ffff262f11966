"""Asks PostgreSQL what a SELECT yields, without running it."""

from __future__ import annotations

import psycopg2
import psycopg2.errors
from psycopg2.extensions import cursor as Cursor

from include.extract.pg_types import PgType


def describe(cursor: Cursor, select: str) -> list[tuple[str, PgType]]:
    """Names and types of a SELECT's columns, in order.

    Args:
        cursor: in a transaction, which stays usable whatever happens.
        select: SQL of a profile.

    Raises:
        psycopg2.Error: PostgreSQL refuses the SELECT; see :func:`refusal`.
    """
    attempt(cursor, f"SELECT * FROM (\n{select}\n) AS extract LIMIT 0")  # noqa: S608 (a profile's SQL is code)
    described = list(cursor.description or ())
    cursor.execute(
        "SELECT oid, format_type(oid, NULL), typtype = 'e', typcategory = 'A' FROM pg_type WHERE oid = ANY(%s::oid[])",
        ([column.type_code for column in described],),
    )
    types = {oid: (name, is_enum, is_array) for oid, name, is_enum, is_array in cursor.fetchall()}
    return [(column.name, PgType(*types[column.type_code], scale=column.scale)) for column in described]


def attempt(cursor: Cursor, statement: str, *values: object) -> None:
    """Execute a statement; when it fails, the transaction stays usable.

    Args:
        cursor: in a transaction.
        statement: SQL; `%` is a placeholder only when there are values.
        values: what to bind.

    Raises:
        psycopg2.Error: it failed.
    """
    cursor.execute("SAVEPOINT attempt")
    try:
        cursor.execute(statement, values or None)
    except psycopg2.Error:
        cursor.connection.cursor().execute("ROLLBACK TO SAVEPOINT attempt")
        raise


def refusal(error: psycopg2.Error, *, of_data: bool = False) -> str:
    """Line and message of an error that PostgreSQL found in a profile's SELECT, to be appended to the file's name.

    Args:
        error: raised by a statement whose second line is the first of the file.
        of_data: the statement has read rows. PostgreSQL's message about a value quotes the value, which may be a
            customer's name: only the kind of error is told.
    """
    message = error.diag.message_primary or " ".join(str(error).split())
    if of_data and isinstance(error, (psycopg2.DataError, psycopg2.errors.RaiseException)):
        message = f"a value raises {type(error).__name__} (SQLSTATE {error.pgcode})"
    position = error.diag.statement_position
    query = (error.cursor.query if error.cursor else None) or b""
    line = query.decode("utf-8", "replace")[: int(position) - 1].count("\n") if position else 0
    hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
    return f"{f', line {line}' if line else ''}: PostgreSQL refuses it: {message}{hint}"
