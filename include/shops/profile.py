"""Shop profiles: how one shop's tables become the result sets of the extraction contract.

A profile is a folder with `profile.yaml` and one `<extract>.sql` per extract. It is checked in two steps, both before
anything is sent: :func:`load_profile` reads the files, :func:`check_profile` describes every SELECT in a database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import psycopg2
from psycopg2.extensions import cursor as Cursor
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from sqlalchemy import Connection

from include.config.yaml_file import YamlUnreadable, did_you_mean, read_yaml
from include.extract.connection import begin_snapshot, cursor_of
from include.extract.contract import CONTRACT, Column, ExtractContract
from include.extract.describe import attempt, describe, refusal
from include.extract.pg_types import PgType, fault

PROFILES_FOLDER: Final = Path(__file__).parent
_SETTINGS_FILE: Final = "profile.yaml"
_STATUSES_NAMED: Final = 20
#: How alike a file's name has to be to that of an extract to be taken for it, from 0 to 1.
_MISSPELT: Final = 0.85


class ProfileError(ValueError):
    """A shop profile is wrong. One error lists every problem found; `problems` has them one by one."""

    def __init__(self, profile: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "a problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n  - ".join([f"Shop profile {profile!r} has {count}:", *self.problems]))


@dataclass(frozen=True)
class OrderStatus:
    """What one of the shop's order statuses means: Mailchimp's two statuses, and whether the order counts as placed.

    `financial` and `fulfillment` are Mailchimp's `financial_status` and `fulfillment_status`; None leaves it out.
    """

    financial: str | None
    fulfillment: str | None
    completed: bool


@dataclass(frozen=True)
class Profile:
    """A shop profile as its files say.

    `timezone` is the time zone of the shop's naive times, `statuses` maps the shop's order statuses, `sql` has the
    SELECT of every extract that the shop has. `consent_write_back` writes opt-outs into the shop's own tables
    (`include.shops.write_back`); None: they stay in the state tables.
    """

    name: str
    timezone: str | None
    statuses: Mapping[str, OrderStatus]
    sql: Mapping[str, str]
    consent_write_back: str | None = None


@dataclass(frozen=True)
class CheckedProfile:
    """A profile that was checked against a database.

    `columns` has, per extract, the contract's columns that its SQL yields, in the contract's order, with their types;
    `ignored` the columns it yields beside them.
    """

    profile: Profile
    columns: Mapping[str, Mapping[str, PgType]]
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class _StatusEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    financial: str | None = None
    fulfillment: str | None = None
    completed: bool


def _status_name(value: Any) -> Any:
    """Some shops number their statuses."""
    return str(value) if isinstance(value, int) else value


class _ProfileFile(BaseModel):
    """`profile.yaml`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    dialect: Literal["postgresql"] = "postgresql"
    timezone: str | None = None
    missing_extracts: list[str] = []
    consent_write_back: str | None = Field(default=None, min_length=1)
    order_statuses: dict[Annotated[str, BeforeValidator(_status_name)], _StatusEntry] = Field(min_length=1)


def load_profile(name: str, folder: Path | None = None) -> Profile:
    """Read a profile's files.

    Args:
        name: the profile, which is the name of its folder.
        folder: where profiles are; by default include/shops.

    Raises:
        ProfileError: an unknown profile, a wrong key in profile.yaml, or a missing `.sql` file.
    """
    parent = folder or PROFILES_FOLDER
    home = parent / name
    if not (home / _SETTINGS_FILE).is_file():
        known = [file.parent.name for file in parent.glob(f"*/{_SETTINGS_FILE}")]
        raise ProfileError(name, [f"there is no {home / _SETTINGS_FILE}; {did_you_mean(name, known)}"])
    try:
        settings = _ProfileFile.model_validate(read_yaml(home / _SETTINGS_FILE))
    except YamlUnreadable as error:
        raise ProfileError(name, [str(error)]) from error
    except ValidationError as error:
        raise ProfileError(name, [_settings_problem(dict(details)) for details in error.errors()]) from None
    sql = {extract: text for extract in CONTRACT if (text := _read_select(home / f"{extract}.sql"))}
    problems = list(_file_problems(settings.missing_extracts, sql, {file.stem for file in home.glob("*.sql")}))
    if problems:
        raise ProfileError(name, problems)
    statuses = {
        status: OrderStatus(entry.financial, entry.fulfillment, entry.completed)
        for status, entry in settings.order_statuses.items()
    }
    writes = (settings.consent_write_back or "").strip().removesuffix(";") or None
    return Profile(name, settings.timezone, statuses, sql, writes)


def _read_select(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip().removesuffix(";") if file.is_file() else ""


def _settings_problem(details: dict[str, Any]) -> str:
    location = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        known = _StatusEntry.model_fields if "." in location else _ProfileFile.model_fields
        return f"{_SETTINGS_FILE}: there is no key {location!r}; {did_you_mean(details['loc'][-1], known)}"
    if details["type"] == "missing":
        return f"{_SETTINGS_FILE}: {location!r} is missing"
    return f"{_SETTINGS_FILE}: {location!r}: {details['msg']}, found {details['input']!r}"


def _file_problems(declared_missing: Sequence[str], sql: Mapping[str, str], files: set[str]) -> Iterator[str]:
    declaration = f"{_SETTINGS_FILE}: missing_extracts"
    for extract in declared_missing:
        if extract not in CONTRACT:
            yield f"{declaration}: there is no extract {extract!r}; {did_you_mean(extract, CONTRACT)}"
        elif extract == "store":
            yield f"{declaration}: every shop has to describe its store; write store.sql"
        elif extract in sql:
            yield f"{declaration} names {extract}, but there is a {extract}.sql; remove one of them"
    unknown = files - set(CONTRACT)
    for extract, contract in CONTRACT.items():
        for needed in contract.needs:
            if extract in sql and needed not in sql:
                yield f"{extract}.sql: needs {needed}.sql beside it; write it, or remove {extract}.sql"
        if extract in sql or extract in declared_missing or contract.optional:
            continue
        if extract in files:
            yield f"{extract}.sql: is empty; write one SELECT"
            continue
        similar = f" ({did_you_mean(extract, unknown)})" if unknown else ""
        yield f"{extract}.sql: is missing{similar}; write it, or name {extract} under missing_extracts in profile.yaml"
    yield from _misspelt(unknown, {*sql, *declared_missing})


def _misspelt(files: set[str], accounted: set[str]) -> Iterator[str]:
    """An optional extract is missed by nobody, so a file that is called nearly like one has to be told."""
    absent = [name for name, contract in CONTRACT.items() if contract.optional and name not in accounted]
    for file in sorted(files):
        if meant := get_close_matches(file, absent, n=1, cutoff=_MISSPELT):
            yield f"{file}.sql: there is no such extract; rename it to {meant[0]}.sql, or remove it"


def check_profile(profile: Profile, connection: Connection, *, statuses: bool = True) -> CheckedProfile:
    """Check a profile against a database, without reading any record except the distinct order statuses.

    Args:
        profile: what to check.
        connection: of the shop database; when it is in no transaction yet, it is in none afterwards.
        statuses: also look for unmapped order statuses, which reads all orders; once per run is enough.

    Raises:
        ProfileError: lists every problem: SQL that doesn't run, a missing required column, a column of a wrong type,
            a naive time without a time zone, an order status that is not mapped.
    """
    alone = not connection.in_transaction()
    begin_snapshot(connection)
    try:
        with cursor_of(connection) as cursor:
            return _check(profile, cursor, statuses)
    finally:
        if alone:
            connection.rollback()


def _check(profile: Profile, cursor: Cursor, statuses: bool) -> CheckedProfile:
    problems: list[str] = []
    columns: dict[str, Mapping[str, PgType]] = {}
    ignored: dict[str, tuple[str, ...]] = {}
    if profile.timezone is not None and not _knows_timezone(cursor, profile.timezone):
        problems.append(
            f"{_SETTINGS_FILE}: PostgreSQL doesn't know the timezone {profile.timezone!r}; write it like Europe/Berlin"
        )
    for extract, select in profile.sql.items():
        try:
            described = describe(cursor, select)
        except psycopg2.Error as error:
            problems.append(f"{extract}.sql{refusal(error)}")
            continue
        contract = CONTRACT[extract]
        names = [name for name, _ in described]
        found = dict(described)
        own = {column.name: found[column.name] for column in contract.own_columns if column.name in found}
        columns[extract] = own
        ignored[extract] = tuple(name for name in names if name not in own)
        problems += _column_problems(contract, names, found, profile.timezone)
    if statuses and "status" in columns.get("orders", {}):
        problems += _status_problems(profile, cursor)
    if problems:
        raise ProfileError(profile.name, problems)
    return CheckedProfile(profile, columns, ignored)


def _knows_timezone(cursor: Cursor, timezone: str) -> bool:
    try:
        attempt(cursor, "SELECT now() AT TIME ZONE %s", timezone)
    except psycopg2.DataError:
        return False
    return True


def _column_problems(
    contract: ExtractContract, names: Sequence[str], found: Mapping[str, PgType], timezone: str | None
) -> Iterator[str]:
    file = f"{contract.name}.sql"
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{file}: yields {count} columns named {name}; rename or remove all but one"
    for column in contract.own_columns:
        if column.name not in found:
            if column.required:
                yield _missing(file, column, set(names) - set(contract.by_name))
        elif reason := fault(column.kind, found[column.name], timezone):
            yield f"{file}: column {column.name} should be {column.kind}: {reason}"
    for group in contract.one_of:
        if not any(name in found for name in group):
            yield f"{file}: needs at least one of the columns {', '.join(group)}; add one"


def _missing(file: str, column: Column, unknown: set[str]) -> str:
    similar = f" ({did_you_mean(column.name, unknown)})" if unknown else ""
    return f"{file}: column {column.name} ({column.kind}) is missing; select it, AS {column.name}{similar}"


def _status_problems(profile: Profile, cursor: Cursor) -> Iterator[str]:
    try:
        attempt(cursor, f"SELECT DISTINCT status::text FROM (\n{profile.sql['orders']}\n) AS extract")  # noqa: S608
    except psycopg2.Error as error:
        yield f"orders.sql: reading the order statuses failed{refusal(error, of_data=True)}"
        return
    unmapped = sorted({status for (status,) in cursor.fetchall() if status is not None} - set(profile.statuses))
    if unmapped:
        named = ", ".join(repr(status) for status in unmapped[:_STATUSES_NAMED])
        more = f" and {len(unmapped) - _STATUSES_NAMED} more" if len(unmapped) > _STATUSES_NAMED else ""
        yield (
            f"orders.sql: column status has values that order_statuses in profile.yaml doesn't map: {named}{more}; "
            "add each with financial, fulfillment and completed"
        )
