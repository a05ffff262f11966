"""The one thing that is ever written into a shop's own tables: consent that people made known to Mailchimp.

A profile says how, by one statement of its own: `consent_write_back` in profile.yaml. It finds the changes in a
relation `consent_changes`, which is there for it alone:

    customer_id text            the shop's, as customers.sql yields it
    opted_in    boolean         false; true only where the store has two_way_sync
    recorded_at timestamptz     when it happened at Mailchimp; an opt-out is never before an opt-in that the shop has
    state       text            unsubscribed, cleaned (the address is dead), archived, or subscribed
    source      text            "mailchimp: " and the state
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values
from sqlalchemy import Connection

from include.extract.connection import cursor_of
from include.extract.describe import attempt, refusal
from include.shops.profile import Profile, ProfileError

_WHERE = "profile.yaml: consent_write_back"
_RELATION = """
CREATE TEMPORARY TABLE consent_changes (
    customer_id text NOT NULL, opted_in boolean NOT NULL, recorded_at timestamptz NOT NULL, state text NOT NULL,
    source text NOT NULL
) ON COMMIT DROP
"""
# The state tables' own, which make the planner look up a few keys one by one: not what a shop's statement needs.
_PLANNER = (
    "jit",
    "enable_hashjoin",
    "enable_mergejoin",
    "enable_material",
    "enable_seqscan",
    "random_page_cost",
    "max_parallel_workers_per_gather",
)
_LOCK_SECONDS = 30


class WriteBackFailed(RuntimeError):
    """The profile's statement failed; nothing of the page was written, and the next try begins with it."""


@dataclass(frozen=True)
class ConsentChange:
    """A row of `consent_changes`."""

    customer_id: str
    recorded_at: datetime
    state: str

    @property
    def opted_in(self) -> bool:
        """Whether it is an opt-in."""
        return self.state == "subscribed"

    @property
    def source(self) -> str:
        """What the shop can tell its customer."""
        return f"mailchimp: {self.state}"


def check_write_back(profile: Profile, connection: Connection, *, both_ways: bool = False) -> None:
    """Check a profile's statement against the shop's database, without running it.

    Args:
        profile: of the shop; one without the statement is fine.
        connection: of the shop's database, not of a replica; nothing remains of what is done with it.
        both_ways: whether opt-ins will be written too.

    Raises:
        ProfileError: the database refuses the statement, or the temporary table that it needs; or the statement is not
            one that can tell an opt-in from an opt-out.
    """
    if both_ways and profile.consent_write_back is None:
        raise ProfileError(
            profile.name, [f"{_WHERE} is missing, but two_way_sync needs it: write it, or switch two_way_sync off"]
        )
    if both_ways and not re.search(r"\bopted_in\b", profile.consent_write_back or ""):
        raise ProfileError(
            profile.name,
            [
                f"{_WHERE} doesn't read the column opted_in of consent_changes, but two_way_sync brings opt-ins too; "
                "let it write that column, or switch two_way_sync off"
            ],
        )
    if profile.consent_write_back is None:
        return
    with cursor_of(connection) as cursor:
        try:
            attempt(cursor, _RELATION)
            attempt(cursor, f"EXPLAIN\n{profile.consent_write_back}")
        except psycopg2.Error as error:
            raise ProfileError(profile.name, [f"{_WHERE}{refusal(error)}"]) from None
        finally:
            connection.rollback()


def write_back(connection: Connection, profile: Profile, changes: Sequence[ConsentChange]) -> None:
    """Write changes of consent into the shop's own tables.

    Args:
        connection: a transaction on the state tables, which are in the shop's database.
        profile: of the shop, with the statement.
        changes: at most one per customer.

    Raises:
        WriteBackFailed: the database refuses them.
    """
    rows = [(one.customer_id, one.opted_in, one.recorded_at, one.state, one.source) for one in changes]
    with cursor_of(connection) as cursor:
        cursor.execute(_RELATION)
        execute_values(cursor, "INSERT INTO consent_changes VALUES %s", rows, page_size=1000)
        cursor.execute("ANALYZE pg_temp.consent_changes")
        with _as_the_shop(cursor):
            try:
                cursor.execute(f"-- {_WHERE}\n{profile.consent_write_back}")
            except psycopg2.errors.LockNotAvailable:
                raise WriteBackFailed(
                    f"{_WHERE}: somebody else has locked the shop's table or rows for more than {_LOCK_SECONDS} seconds"
                ) from None
            except psycopg2.Error as error:
                raise WriteBackFailed(f"{_WHERE}{refusal(error, of_data=True)}") from None
        cursor.execute("DROP TABLE pg_temp.consent_changes")


@contextmanager
def _as_the_shop(cursor: Cursor) -> Iterator[None]:
    """Let statements see the shop's names, plan as the database is configured, and wait for no lock for long.

    After an error nothing is put back: the transaction is over.
    """
    ours = ("search_path", *_PLANNER)
    cursor.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in ours))
    values = cursor.fetchone() or ()
    cursor.execute(";".join(f"SET LOCAL {name} TO DEFAULT" for name in ours))
    cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
    yield
    cursor.execute("SET LOCAL lock_timeout TO DEFAULT")
    cursor.execute("SELECT " + ", ".join(f"set_config('{name}', %s, true)" for name in ours), values)
