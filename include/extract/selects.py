"""The wrapped SELECT of one extract: which columns are read, and conditions in the terms of the shop's own types.

The profile's SELECT is wrapped, never changed: `SELECT … FROM (<sql>) AS extract WHERE <key range> ORDER BY <key>`.
Columns stay bare in every predicate, and values are cast to the column's own type, so that the shop's indexes serve.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import encodings

from include.extract.contract import CONTRACT, Column, Kind
from include.extract.dated import date_by_parent
from include.extract.frames import copy_csv, parse_csv
from include.extract.pg_types import PgType, quoted, select_expression, window_bound
from include.extract.windows import Window
from include.shops.profile import CheckedProfile


class Select:
    """The SELECT of one extract, to be read with conditions.

    Args:
        extract: name in the contract.
        profile: which SQL to run, and the columns it was found to have.
        extra: columns beyond the contract that are read as text.
    """

    def __init__(self, extract: str, profile: CheckedProfile, extra: Sequence[str] = ()) -> None:
        contract = CONTRACT[extract]
        self.exists = extract in profile.profile.sql
        self.sql = f"\n{profile.profile.sql.get(extract, '')}\n"
        self.types = dict(profile.columns.get(extract, {}))
        self.timezone = profile.profile.timezone
        if self.exists and contract.dated_by is not None:
            self.sql, self.types = date_by_parent(contract, profile)
        self.contract = replace(contract, columns=(*contract.columns, *(Column(name, Kind.TEXT) for name in extra)))
        self._extra = tuple(extra)

    @property
    def key(self) -> str:
        """The column that the extract's rows are looked up by."""
        if self.contract.key is None:
            raise ValueError(f"{self.contract.name} has no key to read it by; use read_store")
        return self.contract.key

    @property
    def key_text(self) -> str:
        """SQL of the key as the text that frames have."""
        return select_expression(self.key, Kind.ID, self.types[self.key], None) + "::text"

    def read(self, cursor: Cursor, tail: str, columns: Collection[str] | None = None) -> pd.DataFrame:
        """Read rows.

        Args:
            cursor: on the shop database.
            tail: joins, conditions and order that select the rows.
            columns: read only these, which spares the shop's database the joins behind the others; by default all.
        """
        try:
            return self._read(cursor, tail, columns, guarded=False)
        except pa.ArrowInvalid:
            # Some value can't be held (NaN, infinity, …). One bad value must not cost the others: it becomes null.
            return self._read(cursor, tail, columns, guarded=True)

    def _read(self, cursor: Cursor, tail: str, columns: Collection[str] | None, *, guarded: bool) -> pd.DataFrame:
        timezone = literal(cursor, self.timezone) if self.timezone else None
        expressions = {
            name: select_expression(name, self.contract.by_name[name].kind, found, timezone, guarded=guarded)
            for name, found in self.types.items()
        }
        expressions |= {name: f"{quoted(name)}::text" for name in self._extra}
        wanted = [name for name in expressions if columns is None or name in columns]
        listed = ", ".join(expressions[name] for name in wanted)
        statement = f"SELECT {listed} FROM ({self.sql}) AS extract {tail}"  # noqa: S608 (a profile's SQL is code)
        return parse_csv(copy_csv(cursor, statement, self.contract.name), self.contract, wanted)

    def compare(self, cursor: Cursor, operator: str, value: str) -> str:
        """Condition on the key, in the terms of its own type."""
        return f"extract.{quoted(self.key)} {operator} {literal(cursor, value)}::{self.types[self.key].cast_name}"

    def join_ids(self, cursor: Cursor, ids: pa.StringArray, column: str | None = None, *, text: bool = False) -> str:
        """Join with given ids.

        Args:
            cursor: on the shop database.
            ids: without null.
            column: the column the ids are of, by default the key.
            text: compare as text, which no index serves, but which no id is refused by.
        """
        name = column or self.key
        cast, side = ("text", "::text") if text else (self.types[name].cast_name, "")
        array = f"{literal(cursor, _array_text(ids))}::{cast}[]"
        return f"JOIN unnest({array}) AS wanted (id) ON extract.{quoted(name)}{side} = wanted.id"

    def in_window(self, cursor: Cursor, window: Window, column: str = "updated_at") -> str:
        """Condition on the time of a row's change."""
        until = f"extract.{column} < {self._bound(cursor, window.until, self.types[column])}"
        if window.since is None:  # undated records belong to no window, but must not be lost
            return f"({until}) IS NOT FALSE"
        return f"extract.{column} >= {self._bound(cursor, window.since, self.types[column])} AND {until}"

    def _bound(self, cursor: Cursor, instant: datetime, found: PgType) -> str:
        timezone = literal(cursor, self.timezone) if self.timezone else None
        return window_bound(found, literal(cursor, instant.astimezone(UTC).isoformat()), timezone)


def literal(cursor: Cursor, value: str) -> str:
    """A value as an SQL literal, quoted by the driver."""
    text: bytes = cursor.mogrify("%s", (value,))
    return text.decode(encodings[cursor.connection.encoding])


def _array_text(values: pa.StringArray) -> str:
    """PostgreSQL's text form of an array, `{"a","b"}`: one literal, many times cheaper to parse than as many."""
    escaped = pc.replace_substring(pc.replace_substring(values, "\\", "\\\\"), '"', '\\"')
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(escaped)], pa.int32()), escaped), '","')
    return f'{{"{joined[0].as_py()}"}}'
