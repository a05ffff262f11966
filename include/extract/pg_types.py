"""Which PostgreSQL types can carry which kind of value, and how a column of such a type is selected for reading.

Columns are read as text (`COPY … CSV`), so a type needs SQL around it only where its text isn't what the kind means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from include.extract.contract import Kind

#: Separates the ids of a list on the way from the database; a control character that no id contains.
LIST_SEPARATOR: Final = "\x1f"

_TEXTS = frozenset({"text", "character varying", "character", "name", "citext"})
_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_IDS = _TEXTS | _INTEGERS | {"uuid", "numeric"}
_ADDRESSES = frozenset({"inet", "cidr"})
_NAIVE_TIMES = frozenset({"timestamp without time zone", "date"})
_FLOATS = frozenset({"real", "double precision"})

_MONEY_DECIMALS = 8  # of decimal128(24, 8), the type that money is read as


@dataclass(frozen=True, slots=True)
class PgType:
    """The type of a result column, domains resolved to what they are based on.

    `name` is the type without length or precision, as `format_type` writes it and a cast accepts it; `scale` is the
    number of decimals of a `numeric` that has one declared.
    """

    name: str
    is_enum: bool = False
    is_array: bool = False
    scale: int | None = None

    @property
    def cast_name(self) -> str:
        """The type to cast a literal to for comparing it with the column."""
        # "character" alone means character(1) and would cut the literal.
        return "bpchar" if self.name == "character" else self.name

    def __str__(self) -> str:
        return self.name


def fault(kind: Kind, found: PgType, timezone: str | None) -> str | None:
    """Say why a column of type `found` can't be read as `kind`.

    Args:
        kind: what the contract expects.
        found: what the profile's SQL yields.
        timezone: the profile's time zone for naive times, if it declares one.

    Returns:
        Found type and remedy as half a sentence, or None if the type is fine.
    """
    match kind:
        case Kind.ID if not (found.name in _IDS or found.is_enum):
            remedy = "cast it to text, or select a column of type bigint, uuid or text"
        case Kind.TEXT if not (found.name in _IDS | _ADDRESSES or found.is_enum):
            remedy = "cast it with ::text"
        case Kind.MONEY if found.name in _FLOATS:
            remedy = "use numeric, floats lose cents: round(value::numeric, 2)"
        case Kind.MONEY if found.name in _INTEGERS:
            remedy = (
                "integers may be minor units: write value / 100.0 if they are cents, value::numeric if they are not"
            )
        case Kind.MONEY if found.name != "numeric":
            remedy = "cast it with ::numeric"
        case Kind.INTEGER if found.name not in _INTEGERS:
            remedy = "cast it with ::bigint (round a fraction first, Mailchimp takes whole numbers only)"
        case Kind.BOOLEAN if found.name != "boolean":
            remedy = "write a condition such as (value = 1), or cast it with ::boolean"
        case Kind.TIME if found.name in _NAIVE_TIMES and timezone is None:
            remedy = "name the shop's time zone under `timezone` in profile.yaml (such as Europe/Berlin), or convert it"
        case Kind.TIME if found.name not in _NAIVE_TIMES | {"timestamp with time zone"}:
            remedy = "cast it with ::timestamptz"
        case Kind.ID_LIST if not found.is_array:
            remedy = "select an array, such as array_agg(id) or ARRAY[id]"
        case _:
            return None
    return f"found {found}; {remedy}"


def quoted(name: str) -> str:
    """A column name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def select_expression(name: str, kind: Kind, found: PgType, timezone: str | None, *, guarded: bool = False) -> str:
    """SQL that yields a column's value as text which the CSV reader understands.

    Args:
        name: the column.
        kind: what it means.
        found: its type, one that :func:`fault` has nothing against.
        timezone: SQL literal (quoted) of the time zone that naive times are in.
        guarded: turn values that Arrow can't hold (NaN, infinity, years beyond 9999, sums of 10¹⁵) into NULL. Costs
            time per value, so it is only asked for once an unguarded read has failed.

    Returns:
        An expression without alias.
    """
    column = quoted(name)
    if kind is Kind.MONEY:
        exact = column if found.scale is not None and 0 <= found.scale <= _MONEY_DECIMALS else f"round({column}, 8)"
        return f"CASE WHEN {column} > -1e15 AND {column} < 1e15 THEN {exact} END" if guarded else exact
    if kind is Kind.TIME:
        instant = column if found.name not in _NAIVE_TIMES else f"({column}::timestamp AT TIME ZONE {timezone})"
        usable = f"{column} > '0001-01-02' AND {column} < '9999-12-31'"
        return f"CASE WHEN {usable} THEN {instant} END" if guarded else instant
    if kind is Kind.ID_LIST:
        return f"nullif(array_to_string({column}, E'\\x1f'), '')"
    if found.name == "character":  # padded with blanks, which belong to no value
        return f"{column}::text"
    if found.name in _ADDRESSES:  # without the network mask
        return f"host({column})"
    return column


def window_bound(found: PgType, instant: str, timezone: str | None) -> str:
    """SQL of an instant in the terms of a time column, so that the column itself stays bare and its index usable.

    When clocks are put back, naive times of the repeated hour are ambiguous; a change from its first pass may then be
    found by the windows of the second pass, up to an hour late, but is never left out.

    Args:
        found: the column's type.
        instant: SQL literal (quoted) of the instant, with its offset.
        timezone: SQL literal (quoted) of the time zone that naive times are in.
    """
    aware = f"{instant}::timestamptz"
    return aware if found.name not in _NAIVE_TIMES else f"({aware} AT TIME ZONE {timezone})"
