"""The planned slices of a run and how far each of them is worked off."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from include.state.database import SliceKey
from include.state.tables import batch, slice_


class KeyRange(Protocol):
    """A keyset range of one entity, both ends included."""

    @property
    def first_key(self) -> str: ...  # noqa: D102
    @property
    def last_key(self) -> str: ...  # noqa: D102
    @property
    def records(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Slice:
    """A slice as stored: a key range (`first_key` to `last_key`), or named records (`ids`, by the shop's keys).

    `cursor` is the last key that is dealt with: claimed, rejected or unchanged. None before the first chunk.
    """

    key: SliceKey
    first_key: str | None
    last_key: str | None
    ids: tuple[str, ...] | None
    planned: int
    cursor: str | None
    done: bool
    phase: str

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to read."""
        return self.planned == 0 or self.cursor == self.end

    @property
    def end(self) -> str | None:
        """The last key of the slice."""
        return self.last_key if self.ids is None else (self.ids[-1] if self.ids else None)

    def remaining_ids(self, limit: int) -> tuple[str, ...]:
        """Return up to `limit` of the named records that are not dealt with yet."""
        ids = self.ids or ()
        start = 0 if self.cursor is None else ids.index(self.cursor) + 1
        return ids[start : start + limit]


def save_slices(
    connection: Connection,
    run_ref: int,
    entity: str,
    ranges: Iterable[KeyRange],
    extra_ids: Sequence[str] = (),
    *,
    slice_records: int = 20_000,
    phase: str | None = None,
) -> list[tuple[int, int]]:
    """Store the plan of one entity of a run; a plan made before for the same phase is replaced.

    Args:
        connection: a transaction on the state tables.
        run_ref: the run.
        entity: name of the entity.
        ranges: keyset ranges, in order.
        extra_ids: the shop's keys of records to send besides (leftovers of earlier runs), cut into slices of their own.
        slice_records: the most ids in one such slice.
        phase: the part of the run that plans it; by default that of the entity itself.

    Returns:
        (number, planned records) of each slice: all that tasks need to hand to each other.
    """
    rows: list[dict[str, object]] = [
        {"first_key": part.first_key, "last_key": part.last_key, "ids": None, "planned": part.records}
        for part in ranges
    ]
    named = list(dict.fromkeys(extra_ids))
    for start in range(0, len(named), slice_records):
        ids = named[start : start + slice_records]
        rows.append({"first_key": None, "last_key": None, "ids": ids, "planned": len(ids)})
    name = phase or entity
    connection.execute(
        delete(slice_).where(slice_.c.run_ref == run_ref, slice_.c.entity == entity, slice_.c.phase == name)
    )
    first = _next_number(connection, run_ref, entity)
    for number, row in enumerate(rows, start=first):
        row.update(run_ref=run_ref, entity=entity, number=number, phase=name)
    if rows:
        connection.execute(insert(slice_), rows)
    return [(number, int(str(row["planned"]))) for number, row in enumerate(rows, start=first)]


def _next_number(connection: Connection, run_ref: int, entity: str) -> int:
    """Batches of a plan made before keep their slice numbers, so a new plan goes on behind them."""
    in_batches = select(func.max(batch.c.slice_number)).where(batch.c.run_ref == run_ref, batch.c.entity == entity)
    in_slices = select(func.max(slice_.c.number)).where(slice_.c.run_ref == run_ref, slice_.c.entity == entity)
    used = [connection.execute(statement).scalar_one() for statement in (in_batches, in_slices)]
    return max((number for number in used if number is not None), default=-1) + 1


def add_slice(connection: Connection, run_ref: int, entity: str, phase: str, ids: Sequence[str]) -> SliceKey:
    """Add a slice of named records to a run, beside those that were planned."""
    number = _next_number(connection, run_ref, entity)
    row = {"run_ref": run_ref, "entity": entity, "number": number, "phase": phase, "ids": list(ids)}
    connection.execute(insert(slice_).values(**row, planned=len(ids)))
    return SliceKey(run_ref, entity, number)


def slices_of(connection: Connection, run_ref: int, entity: str, phase: str) -> list[Slice]:
    """Return the slices of one entity that a phase planned."""
    rows = connection.execute(
        select(slice_)
        .where(slice_.c.run_ref == run_ref, slice_.c.entity == entity, slice_.c.phase == phase)
        .order_by(slice_.c.number)
    )
    return [_slice(row) for row in rows]


def load_slice(connection: Connection, key: SliceKey) -> Slice:
    """Return a slice as it stands.

    Raises:
        LookupError: the plan does not have this slice.
    """
    row = connection.execute(
        select(slice_).where(
            slice_.c.run_ref == key.run_ref, slice_.c.entity == key.entity, slice_.c.number == key.number
        )
    ).one_or_none()
    if row is None:
        raise LookupError(
            f"Slice {key.number} of {key.entity} is not in the plan of run {key.run_ref}; clear the plan task."
        )
    return _slice(row)


def _slice(row: Row[Any]) -> Slice:
    key = SliceKey(row.run_ref, row.entity, row.number)
    ids = None if row.ids is None else tuple(row.ids)
    return Slice(key, row.first_key, row.last_key, ids, row.planned, row.cursor, row.state == "done", row.phase)


@dataclass(frozen=True)
class Progress:
    """A step forward within a slice: records covered, by what became of those that needed no operation."""

    old_cursor: str | None
    new_cursor: str
    extracted: int
    unchanged: int
    rejected: int
    skipped: int = 0


def advance(connection: Connection, key: SliceKey, progress: Progress) -> bool:
    """Move a slice's cursor and add to its counters; False when somebody else moved the cursor meanwhile."""
    moved = connection.execute(
        update(slice_)
        .where(slice_.c.run_ref == key.run_ref, slice_.c.entity == key.entity, slice_.c.number == key.number)
        .where(slice_.c.cursor.is_not_distinct_from(progress.old_cursor))
        .values(
            cursor=progress.new_cursor,
            extracted=slice_.c.extracted + progress.extracted,
            skipped=slice_.c.skipped + progress.skipped,
            unchanged=slice_.c.unchanged + progress.unchanged,
            rejected=slice_.c.rejected + progress.rejected,
        )
    )
    return moved.rowcount == 1


def close_slice(connection: Connection, key: SliceKey, unknown: int) -> None:
    """Mark a slice as worked off, with the number of its records whose fate at Mailchimp is not known."""
    connection.execute(
        update(slice_)
        .where(slice_.c.run_ref == key.run_ref, slice_.c.entity == key.entity, slice_.c.number == key.number)
        .values(state="done", unknown=unknown)
    )


def open_slices(connection: Connection, run_ref: int) -> list[tuple[str, str]]:
    """Return the slices of a run that are not worked off: the phase that planned each, and its name ("orders 3")."""
    statement = select(slice_.c.phase, slice_.c.entity, slice_.c.number).where(
        slice_.c.run_ref == run_ref, slice_.c.state == "open"
    )
    rows = connection.execute(statement.order_by(slice_.c.entity, slice_.c.number))
    return [(row.phase, f"{row.entity} {row.number}") for row in rows]
