"""How far each reading of an audience has come, and who is reading it now.

A bookmark moves in the transaction that writes what was read, so a killed pull goes on with the page it was at.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

from include.state.database import StateDatabase

_BETWEEN_TRIES_SECONDS: Final = 0.5


class PullBusy(RuntimeError):
    """Another pull is reading the audience right now; another try may find it free."""


@dataclass(frozen=True)
class Bookmark:
    """Of one reading: everything that changed before `reached_at` is read; `finished_at` None: it is not at its end."""

    reached_at: datetime | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class Reading:
    """Which reading of which audience, and the run that does it."""

    account_id: str
    list_id: str
    kind: str
    dag_run_id: str


@contextmanager
def pull_lock(state: StateDatabase, account_id: str, list_id: str, patience: timedelta = timedelta()) -> Iterator[None]:
    """Own an audience's readings for the length of the block; dies with the database session.

    Args:
        state: the state tables.
        account_id: the Mailchimp account.
        list_id: the audience.
        patience: how long to wait for it.

    Raises:
        PullBusy: somebody else owns them.
    """
    until = time.monotonic() + patience.total_seconds()
    while True:
        with state.named_lock(_lock_name(account_id, list_id)) as free:
            if free:
                yield
                return
        if time.monotonic() >= until:
            raise PullBusy(f"Another pull is reading the audience {list_id!r}.")
        time.sleep(_BETWEEN_TRIES_SECONDS)


def no_pull_until_the_end(connection: Connection, account_id: str, list_id: str) -> bool:
    """Keep pulls from an audience until the transaction ends; tells whether there was none."""
    free: bool = connection.execute(
        text("SELECT pg_try_advisory_xact_lock(hashtextextended(current_schema() || '/' || :name, 0))"),
        {"name": _lock_name(account_id, list_id)},
    ).scalar_one()
    return free


def _lock_name(account_id: str, list_id: str) -> str:
    return f"pull/{account_id}/{list_id}"


def load_bookmarks(connection: Connection, account_id: str, list_id: str) -> dict[str, Bookmark]:
    """Return the bookmarks of an audience, by kind."""
    rows = connection.execute(
        text("""
            SELECT kind, reached_at, started_at, finished_at FROM pull_bookmark
            WHERE account_id = :account_id AND list_id = :list_id
        """),
        {"account_id": account_id, "list_id": list_id},
    )
    return {row.kind: Bookmark(row.reached_at, row.started_at, row.finished_at) for row in rows}


def begin_reading(connection: Connection, reading: Reading) -> datetime:
    """Begin a reading anew.

    Returns:
        When, by the database's clock.
    """
    started_at: datetime = connection.execute(
        text("""
            INSERT INTO pull_bookmark (account_id, list_id, kind, started_at, dag_run_id)
            VALUES (:account_id, :list_id, :kind, clock_timestamp(), :dag_run_id)
            ON CONFLICT (account_id, list_id, kind) DO UPDATE
            SET reached_at = NULL, started_at = excluded.started_at, finished_at = NULL,
                dag_run_id = excluded.dag_run_id
            RETURNING started_at
        """),
        vars(reading),
    ).scalar_one()
    return started_at


def move_bookmark(connection: Connection, reading: Reading, reached_at: datetime | None) -> None:
    """Note how far a reading has come; a bookmark never moves back."""
    _save(connection, reading, reached_at, finished=False)


def finish_reading(connection: Connection, reading: Reading, reached_at: datetime | None) -> None:
    """Note that a reading is at its end."""
    _save(connection, reading, reached_at, finished=True)


def _save(connection: Connection, reading: Reading, reached_at: datetime | None, *, finished: bool) -> None:
    connection.execute(
        text("""
            INSERT INTO pull_bookmark AS b (account_id, list_id, kind, reached_at, started_at, finished_at, dag_run_id)
            VALUES (:account_id, :list_id, :kind, :reached_at, clock_timestamp(),
                    CASE WHEN :finished THEN clock_timestamp() END, :dag_run_id)
            ON CONFLICT (account_id, list_id, kind) DO UPDATE
            SET reached_at = greatest(b.reached_at, excluded.reached_at), dag_run_id = excluded.dag_run_id,
                finished_at = coalesce(excluded.finished_at, b.finished_at)
        """),
        {**vars(reading), "reached_at": reached_at, "finished": finished},
    )
