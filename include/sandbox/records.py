"""Where the sandbox keeps what it was sent: JSON documents by id, as bytes, with a journal for the file."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

Document = dict[str, Any]

#: An address of which nothing is known: the API shows empty text where there is no value.
NO_PLACE: Document = {
    "address1": "",
    "address2": "",
    "city": "",
    "province": "",
    "province_code": "",
    "postal_code": "",
    "country": "",
    "country_code": "",
}

# Mailchimp attributes orders to campaigns on its own, so these two never compare equal for long.
_ATTRIBUTED = ("campaign_id", "outreach")


class Record(NamedTuple):
    """A stored document (compact JSON) and when it was created and last changed (ISO 8601, UTC)."""

    body: bytes
    created_at: str
    updated_at: str


class Journal:
    """Which records changed since the last write to the file: (kind, scope, id)."""

    def __init__(self) -> None:
        self.enabled = False
        self.changes: set[tuple[str, str, str]] = set()

    def note(self, kind: str, scope: str, record_id: str) -> None:
        """Remember a change, when there is a file to write it to."""
        if self.enabled:
            self.changes.add((kind, scope, record_id))

    def take(self) -> set[tuple[str, str, str]]:
        """Return the changes so far and start anew."""
        changes, self.changes = self.changes, set()
        return changes


class Records:
    """The records of one kind in one scope, for example the orders of a store, in the order of their creation."""

    def __init__(self, kind: str, scope: str, journal: Journal) -> None:
        self.kind = kind
        self.scope = scope
        self._journal = journal
        self._rows: dict[str, Record] = {}
        self._version = 0
        self._digest: tuple[int, str] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, record_id: object) -> bool:
        return record_id in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def record(self, record_id: str) -> Record | None:
        """Return the stored record, or None."""
        return self._rows.get(record_id)

    def get(self, record_id: str) -> Document | None:
        """Return a fresh copy of the document, or None."""
        row = self._rows.get(record_id)
        return None if row is None else json.loads(row.body)

    def put(self, record_id: str, document: Document, at: str | None = None) -> None:
        """Insert or replace a document; ``at``: when it was changed (None: now)."""
        moment = at or now()
        known = self._rows.get(record_id)
        self.restore(record_id, Record(pack(document), known.created_at if known else moment, moment))
        self._journal.note(self.kind, self.scope, record_id)

    def restore(self, record_id: str, record: Record) -> None:
        """Take a record as it is (from the file)."""
        self._rows[record_id] = record
        self._version += 1

    def remove(self, record_id: str) -> None:
        """Delete a document that is there."""
        del self._rows[record_id]
        self._version += 1
        self._journal.note(self.kind, self.scope, record_id)

    def digest(self) -> str:
        """Return sha256 over all documents, whatever the order of their arrival and of their children (hex)."""
        if self._digest is None or self._digest[0] != self._version:
            version = self._version
            rows = sorted(self._rows.items())
            total = hashlib.sha256()
            for record_id, row in rows:
                total.update(json.dumps([record_id, _comparable(json.loads(row.body))], sort_keys=True).encode())
            self._digest = (version, total.hexdigest())
        return self._digest[1]


def pack(document: Document) -> bytes:
    """Render compact JSON; the bytes of a document that was parsed from JSON are always valid UTF-8."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def now() -> str:
    """Return the present in Mailchimp's notation, for example 2026-11-20T10:00:00+00:00."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def in_words(moment: int) -> str:
    """Return a second since 1970 in Mailchimp's notation, "" for none (0)."""
    if not moment:
        return ""
    day, second = divmod(moment, 86400)
    return f"{_day(day)}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}+00:00"


@lru_cache(maxsize=10_000)
def _day(number: int) -> str:
    """Return the date of a day since 1970; a page of a thousand members has only so many."""
    return (date(1970, 1, 1) + timedelta(days=number)).isoformat()


def in_seconds(text: str) -> int:
    """Return the second of a time in ISO 8601 (UTC where it has no offset), 0 for none or what isn't a time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0
    return int(moment.timestamp() if moment.tzinfo else moment.replace(tzinfo=UTC).timestamp())


def _comparable(document: Document) -> Document:
    """Return what two equal records have in common: to Mailchimp an empty value and none at all are the same."""
    kept = {name: value for name, value in document.items() if name not in _ATTRIBUTED}
    for name in ("lines", "variants", "images"):
        if name in kept:
            kept[name] = sorted(kept[name], key=lambda child: child["id"])
    filled: Document = _filled(kept)
    return filled


def _filled(value: Any) -> Any:
    """Leave out what is empty ("", 0, [], {}), at any depth; false is a value of its own."""
    if isinstance(value, dict):
        items = ((name, _filled(item) if isinstance(item, (dict, list)) else item) for name, item in value.items())
        return {name: item for name, item in items if item or item is False}
    return [_filled(item) for item in value] if isinstance(value, list) else value
