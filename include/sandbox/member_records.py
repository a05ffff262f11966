"""The members of an audience: stored ones, a crowd that is rendered on demand, and their order by time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from include.sandbox.records import Document, Journal, Record, Records, in_seconds, now, pack
from include.sandbox.timeline import Sequence, Timeline

if TYPE_CHECKING:
    from include.sandbox.crowd import Crowd

TimeField = Literal["created", "changed", "opt", "signup"]
VISIBLE = ""
"""In place of a status: everyone but the archived."""


def moment_of(field: TimeField, record: Record, document: Document) -> int:
    """Return a time of a stored member in seconds, 0 for none."""
    match field:
        case "created":
            return in_seconds(record.created_at)
        case "changed":
            return in_seconds(record.updated_at)
        case "opt":
            return in_seconds(document.get("timestamp_opt", ""))
        case "signup":
            return in_seconds(document.get("timestamp_signup", ""))


class Members(Records):
    """Members by the hash of their address. An order is made when it is first asked for and then kept in step."""

    def __init__(self, scope: str, journal: Journal) -> None:
        super().__init__("members", scope, journal)
        self.crowd: Crowd | None = None
        self._timelines: dict[TimeField, dict[str, Timeline]] = {}

    @property
    def version(self) -> int:
        """A number that is another one after each change."""
        return self._version

    def __len__(self) -> int:
        return len(self._rows) + (len(self.crowd) if self.crowd else 0)

    def __contains__(self, record_id: object) -> bool:
        return record_id in self._rows or (isinstance(record_id, str) and self._in_crowd(record_id) is not None)

    def __iter__(self) -> Iterator[str]:
        yield from self._rows
        if self.crowd:
            yield from self.crowd

    def stored(self) -> Iterator[str]:
        """Iterate over those that aren't of the crowd."""
        return iter(self._rows)

    def record(self, record_id: str) -> Record | None:
        """Return a member as it is or would be stored, or None."""
        number = self._in_crowd(record_id)
        if self.crowd is None or number is None:
            return self._rows.get(record_id)
        times = self.crowd.time("created", number), self.crowd.time("changed", number)
        return Record(pack(self.crowd.document(number)), *times)

    def get(self, record_id: str) -> Document | None:
        """Return a fresh copy of the document, or None."""
        number = self._in_crowd(record_id)
        return super().get(record_id) if self.crowd is None or number is None else self.crowd.document(number)

    def changed_at(self, record_id: str) -> str:
        """Return when a member was last changed, "" when there is none."""
        row, number = self._rows.get(record_id), self._in_crowd(record_id)
        if row is not None:
            return row.updated_at
        return "" if self.crowd is None or number is None else self.crowd.time("changed", number)

    def put(self, record_id: str, document: Document, at: str | None = None) -> None:
        """Insert or replace a member; one of the crowd leaves it."""
        moment = at or now()
        record = Record(pack(document), self._leave(record_id) or moment, moment)
        self.restore(record_id, record)
        self._journal.note(self.kind, self.scope, record_id)
        self._enter(record_id, record, document)

    def remove(self, record_id: str) -> None:
        """Delete a member that is there."""
        self._leave(record_id)
        self._rows.pop(record_id, None)
        self._version += 1
        self._journal.note(self.kind, self.scope, record_id)

    def join(self, crowd: Crowd, gone: Iterator[str]) -> None:
        """Take in a crowd, but none who is stored or left for good earlier."""
        for member_id in (*self._rows, *gone):
            number = crowd.find(member_id)
            if number is not None:
                crowd.take(number)
        self.crowd = crowd
        self._version += 1

    def timeline(self, field: TimeField, status: str) -> Timeline:
        """Return the stored members of a status (or ``VISIBLE``) in the order of a time."""
        if field not in self._timelines:
            entries: dict[str, list[tuple[int, str]]] = {}
            for member_id, record in self._rows.items():
                document = json.loads(record.body)
                entry = (moment_of(field, record, document), member_id)
                for name in _shelves(document):
                    entries.setdefault(name, []).append(entry)
            self._timelines[field] = {name: Timeline(listed) for name, listed in entries.items()}
        return self._timelines[field].setdefault(status, Timeline())

    def crowd_timeline(self, field: TimeField, status: str) -> Sequence:
        """Return the crowd's members of a status (or ``VISIBLE``) in the order of a time."""
        return self.crowd.timeline(field, status) if self.crowd else Timeline()

    def is_of_crowd(self, record_id: str) -> bool:
        """Tell whether a member is one of the crowd (still)."""
        return self._in_crowd(record_id) is not None

    def _in_crowd(self, record_id: str) -> int | None:
        return None if self.crowd is None or record_id in self._rows else self.crowd.find(record_id)

    def _leave(self, record_id: str) -> str | None:
        """Take a member out of the orders or the crowd and return when it was created, None for a new one."""
        number = self._in_crowd(record_id)
        if self.crowd is not None and number is not None:
            self.crowd.take(number)
            return self.crowd.time("created", number)
        record = self._rows.get(record_id)
        if record is None:
            return None
        if self._timelines:
            document = json.loads(record.body)
            for field, shelves in self._timelines.items():
                entry = (moment_of(field, record, document), record_id)
                for name in _shelves(document):
                    shelves[name].discard(entry)
        return record.created_at

    def _enter(self, record_id: str, record: Record, document: Document) -> None:
        for field, shelves in self._timelines.items():
            entry = (moment_of(field, record, document), record_id)
            for name in _shelves(document):
                shelves.setdefault(name, Timeline()).add(entry)


def _shelves(document: Document) -> tuple[str, ...]:
    status = document["status"]
    return (status,) if status == "archived" else (status, VISIBLE)
