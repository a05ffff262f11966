"""What a read covers: the window of time that records changed in, and slices of their keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Window:
    """Records whose `updated_at` is in [since, until), aware UTC; `since` None: all of them, undated ones too."""

    since: datetime | None
    until: datetime

    def __post_init__(self) -> None:
        for bound in (self.since, self.until):
            if bound is not None and bound.tzinfo is None:
                raise ValueError(f"a window needs aware times, {bound.isoformat()} has no time zone")


@dataclass(frozen=True)
class SliceBounds:
    """A range of keys, both ends included, numbered from 0, and how many records it held when it was planned."""

    number: int
    first_key: str
    last_key: str
    records: int
