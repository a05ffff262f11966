"""Keyset slices: cut an extract's window into ranges of its key, and read ranges, or rows by their ids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import psycopg2
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection

from include.extract.connection import begin_snapshot, cursor_of
from include.extract.contract import CONTRACT
from include.extract.describe import attempt
from include.extract.frames import ExtractFailed, empty_frame, sql_failure
from include.extract.pg_types import quoted
from include.extract.selects import Select, literal
from include.extract.windows import SliceBounds, Window
from include.shops.profile import CheckedProfile

__all__ = ["Extractor", "SliceBounds", "Window"]


class Extractor:
    """Reads a shop through a checked profile; everything it returns is of one snapshot.

    Frames have every column of the extract's contract, in its order, with the Arrow types of
    `include.extract.contract.ARROW_TYPES`; a column or extract that the shop lacks is all null or has no rows.

    Args:
        connection: of the shop database or a replica; not in a transaction, unless in one of another Extractor.
        profile: which SQL to run, and the columns it was found to have.
        extra: by extract, further columns to read as text: those that the setting `merge_fields` names beyond the
            contract. They follow the contract's columns in the frames.

    Raises:
        RuntimeError: the connection can't hold a snapshot (see `begin_snapshot`).
        ExtractFailed: the profile's SQL doesn't yield an extra column.
    """

    def __init__(
        self, connection: Connection, profile: CheckedProfile, extra: Mapping[str, Iterable[str]] | None = None
    ) -> None:
        self._profile = profile
        self._extra = {extract: _beyond_contract(extract, names, profile) for extract, names in (extra or {}).items()}
        #: When the snapshot was taken, aware UTC, by the database's clock.
        self.read_at = begin_snapshot(connection)
        self._connection = connection

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
        select = self._select(extract)
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
        select = self._select(extract)
        if not select.exists:
            return empty_frame(select.contract)
        with cursor_of(self._connection) as cursor:
            start = (">", after) if after is not None else (">=", first) if first is not None else None
            conditions = [select.in_window(cursor, window), select.compare(cursor, "<=", last)]
            if start is not None:
                conditions.append(select.compare(cursor, *start))
            tail = f"WHERE {' AND '.join(conditions)} ORDER BY extract.{quoted(select.key)} LIMIT {limit:d}"
            return select.read(cursor, tail)

    def read_ids(
        self,
        extract: str,
        ids: Sequence[str] | pd.Series,
        column: str | None = None,
        columns: Collection[str] | None = None,
    ) -> pd.DataFrame:
        """Read the rows of given ids: records by their own, children by that of their parent.

        Args:
            extract: any but `store`.
            ids: ids as text; null and repeated ones are left out.
            column: the column the ids are of, by default the extract's key.
            columns: read only these; the others are null. By default all.

        Returns:
            The rows that exist, in no particular order.

        Raises:
            ExtractFailed: the SQL failed, or an id can't be one of the column's type.
        """
        select = self._select(extract)
        wanted = _distinct(ids)
        if not select.exists or not len(wanted):
            return empty_frame(select.contract)
        with cursor_of(self._connection) as cursor:
            return select.read(cursor, select.join_ids(cursor, wanted, column), columns)

    def changed_keys(self, extract: str, window: Window) -> list[str]:
        """List the records in a window.

        Args:
            extract: one that has `updated_at`.
            window: which records.

        Returns:
            Their keys, in the order of the key.

        Raises:
            ExtractFailed: the SQL failed.
        """
        select = self._select(extract)
        if not select.exists:
            return []
        with cursor_of(self._connection) as cursor:
            tail = f"WHERE {select.in_window(cursor, window)} ORDER BY extract.{quoted(select.key)}"
            keys: list[str] = select.read(cursor, tail, [select.key])[select.key].dropna().tolist()
            return keys

    def read_all(self, extract: str) -> pd.DataFrame:
        """Read a whole extract: one that is known to be small.

        Args:
            extract: any; one that the shop lacks has no rows.

        Raises:
            ExtractFailed: the SQL failed.
        """
        select = self._select(extract)
        if not select.exists:
            return empty_frame(select.contract)
        with cursor_of(self._connection) as cursor:
            return select.read(cursor, "")

    def yields(self, extract: str, column: str) -> bool:
        """Tell whether the shop's SQL yields a column."""
        return column in self._profile.columns.get(extract, {})

    def existing(self, extract: str, keys: Sequence[str] | pd.Series) -> set[str]:
        """Tell which records the shop still has; what is missing has been deleted, without a trace maybe.

        Args:
            extract: any but `store`.
            keys: some thousands of keys, as an earlier run read them. One that can't be of the key's type any more
                (a shop may have changed it) exists no more.

        Raises:
            ExtractFailed: the SQL failed.
        """
        select = self._select(extract)
        wanted = _distinct(keys)
        if not select.exists or not len(wanted):
            return set()
        with cursor_of(self._connection) as cursor:
            statement = f"SELECT DISTINCT {select.key_text} FROM ({select.sql}) AS extract "  # noqa: S608
            try:
                try:
                    attempt(cursor, statement + select.join_ids(cursor, wanted))
                except psycopg2.DataError:
                    attempt(cursor, statement + select.join_ids(cursor, wanted, text=True))
            except psycopg2.Error as error:
                raise sql_failure(error, extract) from None
            return {key for (key,) in cursor.fetchall()}

    def deleted_keys(self, entity: str, window: Window) -> list[str]:
        """List the records that the shop's tombstones say were deleted in a window.

        Args:
            entity: as the extract `deleted` calls it: the name of an extract.
            window: when they were deleted.

        Returns:
            Their keys, in order, each once; none when the shop keeps no tombstones. A record may exist again.

        Raises:
            ExtractFailed: the SQL failed.
        """
        select = self._select("deleted")
        if not select.exists:
            return []
        with cursor_of(self._connection) as cursor:
            inside = select.in_window(cursor, window, "deleted_at")
            tail = f"WHERE extract.entity::text = {literal(cursor, entity)} AND {inside}"
            return sorted(set(select.read(cursor, tail, [select.key])[select.key].dropna()))

    def read_store(self) -> dict[str, Any]:
        """Read the one row that describes the store.

        Returns:
            A value for every column of the contract, None where there is none.

        Raises:
            ExtractFailed: the SQL failed, or yields no row or several.
        """
        select = self._select("store")
        with cursor_of(self._connection) as cursor:
            frame = select.read(cursor, "LIMIT 2")
        if len(frame) != 1:
            count = "no row" if frame.empty else "more than one row"
            raise ExtractFailed(f"store.sql yields {count}; it has to yield exactly one, describing the store.")
        return {str(name): None if pd.isna(value) else value for name, value in frame.iloc[0].items()}

    def _select(self, extract: str) -> Select:
        return Select(extract, self._profile, self._extra.get(extract, ()))


def _beyond_contract(extract: str, names: Iterable[str], profile: CheckedProfile) -> tuple[str, ...]:
    """Of the columns that `merge_fields` names, those that a frame doesn't have anyway."""
    beyond = tuple(name for name in dict.fromkeys(names) if name not in CONTRACT[extract].by_name)
    for name in beyond:
        if name not in profile.ignored.get(extract, ()):
            raise ExtractFailed(f"merge_fields names the column {name}, which {extract}.sql does not yield.")
    return beyond


def _distinct(ids: Sequence[str] | pd.Series) -> pa.StringArray:
    return pc.unique(pa.array(ids, pa.string(), from_pandas=True)).drop_null()


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
