"""A small shop of hostile data for the tests of extraction; its profile is in `profiles/bazaar`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from sqlalchemy import Connection, Engine, text

from include.extract.contract import CONTRACT
from include.extract.slices import Extractor, Window
from include.shops.profile import CheckedProfile, Profile, check_profile

EVERYTHING = Window(None, datetime(2030, 1, 1, tzinfo=UTC))
PROFILES = Path(__file__).parent / "profiles"

TABLES = """
CREATE TYPE mood AS ENUM ('1', '2');
CREATE DOMAIN login_name AS varchar(60);
CREATE TABLE wares (
    id uuid PRIMARY KEY, changed timestamp NOT NULL, title text, description text, price numeric, stock smallint,
    released date
);
CREATE TABLE pictures (ware_id uuid, n bigint, url text, shows uuid[]);
CREATE TABLE people (
    login login_name PRIMARY KEY, changed timestamp, mail text, first_name varchar(40), opted_in boolean, signup_ip inet
);
CREATE TABLE sales (
    number char(8) PRIMARY KEY, changed timestamp NOT NULL, login login_name, ordered_on timestamp, currency char(3),
    total numeric(12, 2), state mood
);
CREATE TABLE sale_lines (sale char(8), line integer, ware_id uuid, quantity integer, price numeric(12, 4));
"""


def ware_id(number: int) -> str:
    """The uuid of a ware."""
    return f"00000000-0000-4000-8000-{number:012d}"


def create(database: Engine) -> None:
    """Create the shop's tables, empty."""
    with database.begin() as connection:
        connection.execute(text(TABLES))


def add_wares(database: Engine, numbers: range, changed: str = "2026-01-01 12:00") -> None:
    """Add plain wares."""
    with database.begin() as connection:
        connection.execute(
            text("INSERT INTO wares (id, changed, title, price) VALUES (CAST(:id AS uuid), :changed, :title, 1.5)"),
            [{"id": ware_id(number), "changed": changed, "title": f"Ware {number}"} for number in numbers],
        )


def run(database: Engine, statement: str, **values: object) -> None:
    """Change the shop."""
    with database.begin() as connection:
        connection.execute(text(statement), values)


def checked_with(bazaar: CheckedProfile, connection: Connection, **sql: str) -> CheckedProfile:
    """The bazaar's profile with other SQL for some extracts."""
    profile = bazaar.profile
    changed = Profile(profile.name, profile.timezone, profile.statuses, {**profile.sql, **sql})
    return check_profile(changed, connection)


def read_all(extractor: Extractor, extract: str, window: Window, slice_records: int, limit: int) -> pd.DataFrame:
    """All rows of a window, the way a push reads them: slice by slice, chunk by chunk."""
    key = CONTRACT[extract].key
    assert key is not None
    frames = []
    for part in extractor.plan(extract, window, slice_records):
        after: str | None = None
        records = 0
        while True:
            frame = extractor.read_range(extract, after, part.last_key, limit, window, first=part.first_key)
            frames.append(frame)
            records += len(frame)
            if len(frame) < limit:
                break
            after = frame[key].iloc[-1]
        assert records == part.records
    return pd.concat(frames, ignore_index=True) if frames else extractor.read_ids(extract, [])
