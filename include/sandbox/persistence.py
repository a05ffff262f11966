"""Keeps the sandbox's documents and batches in an SQLite file (counters and the log of mails are not kept)."""

import sqlite3
import threading
from pathlib import Path

from include.sandbox.account import Account
from include.sandbox.batches import Batch
from include.sandbox.records import Record, Records

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    kind TEXT NOT NULL, scope TEXT NOT NULL, id TEXT NOT NULL,
    body BLOB NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
    PRIMARY KEY (kind, scope, id)
);
CREATE TABLE IF NOT EXISTS batch (
    id TEXT PRIMARY KEY, submitted_at TEXT NOT NULL, request BLOB NOT NULL, status TEXT NOT NULL,
    total INTEGER NOT NULL, finished INTEGER NOT NULL, errored INTEGER NOT NULL,
    completed_at TEXT NOT NULL, archive BLOB NOT NULL
);
"""
_UPSERT_RECORD = """
INSERT INTO record (kind, scope, id, body, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (kind, scope, id) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at
"""
_UPSERT_BATCH = """
INSERT INTO batch (id, submitted_at, request, status, total, finished, errored, completed_at, archive)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET request = excluded.request, status = excluded.status, total = excluded.total,
    finished = excluded.finished, errored = excluded.errored, completed_at = excluded.completed_at,
    archive = excluded.archive
"""


class StateFile:
    """The file of one sandbox: read once at the start, written after each changing call and each batch."""

    def __init__(self, path: Path, account: Account) -> None:
        self._account = account
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False)
        # A sandbox may lose its last moments with the machine, not with the process.
        self._connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;" + _SCHEMA)
        account.journal.enabled = True

    def load(self) -> list[Batch]:
        """Fill the account and return the batches."""
        rows = self._connection.execute(
            "SELECT kind, scope, id, body, created_at, updated_at FROM record ORDER BY rowid"
        )
        for kind, scope, record_id, body, created_at, updated_at in rows:
            self._records(kind, scope).restore(record_id, Record(body, created_at, updated_at))
        self._account.rebuild_indexes()
        columns = "id, submitted_at, request, status, total, finished, errored, completed_at, archive"
        return [Batch(*row) for row in self._connection.execute(f"SELECT {columns} FROM batch ORDER BY rowid")]  # noqa: S608 - constant text

    def save_changes(self) -> None:
        """Write what changed since the last time."""
        # The account's lock first, everywhere: a call that saves its batch has taken it already.
        with self._account.lock, self._lock:
            changes = self._account.journal.take()
            rows = [(change, self._records(change[0], change[1]).record(change[2])) for change in changes]
            if not rows:
                return
            kept = [(*change, *row) for change, row in rows if row is not None]
            gone = [change for change, row in rows if row is None]
            with self._connection:
                self._connection.executemany(_UPSERT_RECORD, kept)
                self._connection.executemany("DELETE FROM record WHERE kind = ? AND scope = ? AND id = ?", gone)

    def save_batch(self, batch: Batch) -> None:
        """Write a batch together with the changes it made, or delete one that was stopped or expired."""
        self.save_changes()
        with self._lock, self._connection:
            if batch.stopped.is_set():
                self._connection.execute("DELETE FROM batch WHERE id = ?", (batch.id,))
                return
            status = "finished" if batch.archive else "pending"
            counts = (batch.total, batch.finished, batch.errored)
            values = (batch.id, batch.submitted_at, batch.request, status, *counts, batch.completed_at, batch.archive)
            self._connection.execute(_UPSERT_BATCH, values)

    def close(self) -> None:
        """Write the rest and close the file."""
        self.save_changes()
        self._connection.close()

    def _records(self, kind: str, scope: str) -> Records:
        try:
            return self._account.records(kind, scope)
        except KeyError:
            newer = f"the state file holds records of an unknown kind {kind!r}: it is from a newer version"
            raise ValueError(newer) from None
