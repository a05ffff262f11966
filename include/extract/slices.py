"""Keyset slices: cut an extract's window into ranges of its key, and read ranges, or rows by their ids.

The profile's SELECT is wrapped, never changed: `SELECT … FROM (<sql>) AS extract WHERE <key range> ORDER BY <key>`.
Columns stay bare in every predicate, and values are cast to the column's own type, so that the shop's indexes serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import psycopg2
import pyarrow as pa
import pyarrow.compute as pc
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import encodings
from sqlalchemy import Connection

from include.extract.connection import begin_snapshot, cursor_of
from include.extract.contract import CONTRACT, ExtractContract
from include.extract.frames import ExtractFailed, copy_csv, empty_frame, parse_csv, sql_failure
from include.extract.pg_types import quoted, select_expression, window_bound
from include.shops.profile import CheckedProfile


@dataclass(frozen=True)
class Window:
    """Records whose `updated_at` is in [since, until), aware UTC; `since` None: all of them, undated ones too."""

    since: datetime | None
    until: datetime

    def __post_init__(self) -> None:
        for bound in (self.since, self.until):
            if bound is not None and bound.tzinfo is None:
                raise ValueError(f"a window needs aware times, {bound.isoformat()} has no time zone")


@dataclass(frozen=True)
class SliceBounds:
    """A range of keys, both ends included, numbered from 0, and how many records it held when it was planned."""

    number: int
    first_key: str
    last_key: str
    records: int


class Extractor:
    """Reads a shop through a checked profile; everything it returns is of one snapshot.

    Frames have every column of the extract's contract, in its order, with the Arrow types of
    `include.extract.contract.ARROW_TYPES`; a column or extract that the shop lacks is all null or has no rows.

    Args:
        connection: of the shop database or a replica; not in a transaction, unless in one of another Extractor.
        profile: which SQL to run, and the columns it was found to have.

    Raises:
        RuntimeError: the connection can't hold a snapshot (see `begin_snapshot`).
    """

    def __init__(self, connection: Connection, profile: CheckedProfile) -> None:
        #: When the snapshot was taken, aware UTC, by the database's clock.
        self.read_at = begin_snapshot(connection)
        self._connection = connection
        self._profile = profile

    def plan(self, extract: str, window: Window, slice_records: int) -> list[SliceBounds]:
        """Cut the records in a window into slices of about equal size.

        Args:
            extract: one that has `updated_at`.
            window: which records.
            slice_records: records per slice; the last slice may have fewer.

        Returns:
            Slices in the order of the key, without gap or overlap; none when there are no records.

        Raises:
            ExtractFailed: the SQL failed, or yields a record without id or several of the same id.
        """
        select = _Select(CONTRACT[extract], self._profile)
        if not select.exists:
            return []
        with cursor_of(self._connection) as cursor:
            key = select.key
            statement = f"""
                SELECT position, key::text, next_key IS NULL, key = next_key
                FROM (
                    SELECT key, row_number() OVER by_key AS position, lead(key) OVER by_key AS next_key
                    FROM (
                        SELECT {quoted(key)} AS key
                        FROM ({select.sql}) AS extract
                        WHERE {select.in_window(cursor, window)}
                    ) AS records
                    WINDOW by_key AS (ORDER BY key)
                ) AS numbered
                WHERE position % {slice_records:d} IN (0, 1) OR next_key IS NULL OR key = next_key OR key IS NULL
                ORDER BY position
            """  # noqa: S608 (a profile's SQL is code; values are bound)
            try:
                cursor.execute(statement)
            except psycopg2.Error as error:
                raise sql_failure(error, extract) from None
            return _fold(cursor.fetchall(), slice_records, extract, key)

    def read_range(
        self,
        extract: str,
        after: str | None,
        last: str,
        limit: int,
        window: Window,
        first: str | None = None,
    ) -> pd.DataFrame:
        """Read the next rows of a slice.

        Args:
            extract: one that has `updated_at`.
            after: the last key already read; None to begin.
            last: the slice's last key.
            limit: how many rows at most.
            window: the window that the slice was planned for.
            first: the slice's first key; without effect once `after` is given.

        Returns:
            At most `limit` rows in the order of the key; fewer mean that the slice ends here.

        Raises:
            ExtractFailed: the SQL failed.
        """
        select = _Select(CONTRACT[extract], self._profile)
        if not select.exists:
            return empty_frame(select.contract)
        with cursor_of(self._connection) as cursor:
            start = (">", after) if after is not None else (">=", first) if first is not None else None
            conditions = [select.in_window(cursor, window), select.compare(cursor, "<=", last)]
            if start is not None:
                conditions.append(select.compare(cursor, *start))
            tail = f"WHERE {' AND '.join(conditions)} ORDER BY extract.{quoted(select.key)} LIMIT {limit:d}"
            return select.read(cursor, tail)

    def read_ids(self, extract: str, ids: Sequence[str] | pd.Series, column: str | None = None) -> pd.DataFrame:
        """Read the rows of given ids: records by their own, children by that of their parent.

        Args:
            extract: any but `store`.
            ids: ids as text; null and repeated ones are left out.
            column: the column the ids are of, by default the extract's key.

        Returns:
            The rows that exist, in no particular order.

        Raises:
            ExtractFailed: the SQL failed, or an id can't be one of the column's type.
        """
        select = _Select(CONTRACT[extract], self._profile)
        wanted = pc.unique(pa.array(ids, pa.string(), from_pandas=True)).drop_null()
        if not select.exists or not len(wanted):
            return empty_frame(select.contract)
        name = column or select.key
        with cursor_of(self._connection) as cursor:
            literal = _literal(cursor, _array_text(wanted))
            array = f"{literal}::{select.types[name].cast_name}[]"
            return select.read(cursor, f"JOIN unnest({array}) AS wanted (id) ON extract.{quoted(name)} = wanted.id")

    def read_store(self) -> dict[str, Any]:
        """Read the one row that describes the store.

        Returns:
            A value for every column of the contract, None where there is none.

        Raises:
            ExtractFailed: the SQL failed, or yields no row or several.
        """
        select = _Select(CONTRACT["store"], self._profile)
        with cursor_of(self._connection) as cursor:
            frame = select.read(cursor, "LIMIT 2")
        if len(frame) != 1:
            count = "no row" if frame.empty else "more than one row"
            raise ExtractFailed(f"store.sql yields {count}; it has to yield exactly one, describing the store.")
        return {str(name): None if pd.isna(value) else value for name, value in frame.iloc[0].items()}


class _Select:
    """The wrapped SELECT of one extract."""

    def __init__(self, contract: ExtractContract, profile: CheckedProfile) -> None:
        self.contract = contract
        self.types = profile.columns.get(contract.name, {})
        self.exists = contract.name in profile.profile.sql
        self.sql = f"\n{profile.profile.sql.get(contract.name, '')}\n"
        self.timezone = profile.profile.timezone

    @property
    def key(self) -> str:
        if self.contract.key is None:
            raise ValueError(f"{self.contract.name} has no key to read it by; use read_store")
        return self.contract.key

    def read(self, cursor: Cursor, tail: str) -> pd.DataFrame:
        """Read all columns of the rows that `tail` (joins, conditions, order) selects."""
        try:
            return self._read(cursor, tail, guarded=False)
        except pa.ArrowInvalid:
            # Some value can't be held (NaN, infinity, …). One bad value must not cost the others: it becomes null.
            return self._read(cursor, tail, guarded=True)

    def _read(self, cursor: Cursor, tail: str, *, guarded: bool) -> pd.DataFrame:
        timezone = _literal(cursor, self.timezone) if self.timezone else None
        expressions = [
            select_expression(name, self.contract.by_name[name].kind, found, timezone, guarded=guarded)
            for name, found in self.types.items()
        ]
        statement = f"SELECT {', '.join(expressions)} FROM ({self.sql}) AS extract {tail}"  # noqa: S608
        return parse_csv(copy_csv(cursor, statement, self.contract.name), self.contract, list(self.types))

    def compare(self, cursor: Cursor, operator: str, value: str) -> str:
        """Condition on the key, in the terms of its own type."""
        return f"extract.{quoted(self.key)} {operator} {_literal(cursor, value)}::{self.types[self.key].cast_name}"

    def in_window(self, cursor: Cursor, window: Window) -> str:
        """Condition on `updated_at`."""
        until = f"extract.updated_at < {self._bound(cursor, window.until)}"
        if window.since is None:  # undated records belong to no window, but must not be lost
            return f"({until}) IS NOT FALSE"
        return f"extract.updated_at >= {self._bound(cursor, window.since)} AND {until}"

    def _bound(self, cursor: Cursor, instant: datetime) -> str:
        timezone = _literal(cursor, self.timezone) if self.timezone else None
        text = instant.astimezone(UTC).isoformat()
        return window_bound(self.types["updated_at"], _literal(cursor, text), timezone)


def _fold(rows: list[tuple[Any, ...]], slice_records: int, extract: str, key: str) -> list[SliceBounds]:
    """Pair the first and last rows of slices; rows are (position, key, is last, equals the next one's)."""
    slices: list[SliceBounds] = []
    first: tuple[int, str] = (0, "")
    for position, value, is_last, repeats in rows:
        if value is None:
            raise ExtractFailed(f"{extract}.sql yields records without {key}; leave them out or give them one.")
        if repeats:
            raise ExtractFailed(
                f"{extract}.sql yields several rows of the same {key}; it has to yield one row per record. "
                "Look for a join that multiplies rows."
            )
        if (position - 1) % slice_records == 0:
            first = (position, value)
        if position % slice_records == 0 or is_last:
            slices.append(SliceBounds(len(slices), first[1], value, position - first[0] + 1))
    return slices


def _literal(cursor: Cursor, value: str) -> str:
    """A value as an SQL literal, quoted by the driver."""
    text: bytes = cursor.mogrify("%s", (value,))
    return text.decode(encodings[cursor.connection.encoding])


def _array_text(values: pa.StringArray) -> str:
    """PostgreSQL's text form of an array, `{"a","b"}`: one literal, many times cheaper to parse than as many."""
    escaped = pc.replace_substring(pc.replace_substring(values, "\\", "\\\\"), '"', '\\"')
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(escaped)], pa.int32()), escaped), '","')
    return f'{{"{joined[0].as_py()}"}}'
