"""Sorts the records of one chunk: which are sent, which are not and why, how far it can be dealt with now."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection

from include.load.operations import methods_for, operation_sizes, split
from include.state.ledger import Candidates, Comparison, Verdict, acknowledged, compare
from include.state.rejected import PARENT_MISSING, Rejection
from include.state.stores import OrderVerb, StoreRef
from include.transform.records import Built, ParentLinks

_REQUEST_BYTES = 32  # what surrounds the operations in the request's body


class Fate(IntEnum):
    """What becomes of one extracted row."""

    SKIPPED = 0  # the settings leave it out
    SEND = 1
    UNCHANGED = 2
    STILL_REJECTED = 3
    REJECT = 4


@dataclass(frozen=True)
class Limits:
    """What fits into one batch."""

    operations: int
    bytes: int


@dataclass(frozen=True)
class Segment:
    """Rows [start, end) of a chunk that are dealt with in one transaction; `sends` are the operations of its batch."""

    start: int
    end: int
    sends: slice


@dataclass(frozen=True)
class Triage:
    """A sorted chunk. Positions count the rows that were read.

    Attributes:
        built: the payloads.
        keys: the shop's key of each row.
        fates: what becomes of each row (`Fate` values).
        renamed: which rows yield a record whose id is not the row's key.
        ids: of all records the rows yield, sent or not.
        sends: indices into `built` of the records to send, in the order of their positions.
        send_positions: their positions.
        methods: their HTTP methods.
        sizes: bytes of their operations.
        touched: indices into `built` of records to note as read, by position.
        rejections: records not to be sent, by position.
        rows: how many rows can be dealt with now; the row at this position, if any, is blocked.
        blocked_by: open batches that hold records of this chunk.
        stale_read_at: set when a record was read later by another run: read the chunk again.
    """

    built: Built
    keys: list[str]
    fates: np.ndarray
    renamed: np.ndarray
    ids: list[str]
    sends: np.ndarray
    send_positions: np.ndarray
    methods: list[str]
    sizes: np.ndarray
    touched: dict[int, int]
    rejections: dict[int, Rejection]
    rows: int
    blocked_by: frozenset[int]
    stale_read_at: datetime | None

    def left_out(self, segment: Segment) -> list[str]:
        """Return the shop's keys of a segment's rows that yield no record of their own."""
        skipped = np.flatnonzero(self.fates[segment.start : segment.end] == Fate.SKIPPED)
        return [self.keys[segment.start + offset] for offset in skipped.tolist()]

    def unchanged_elsewhere(self, segment: Segment) -> list[str]:
        """Return the shop's keys of a segment's unchanged rows whose records have other ids than the rows."""
        rows = slice(segment.start, segment.end)
        unchanged = np.flatnonzero((self.fates[rows] == Fate.UNCHANGED) & self.renamed[rows])
        return [self.keys[segment.start + offset] for offset in unchanged.tolist()]

    @property
    def complete(self) -> bool:
        """Whether the whole chunk can be dealt with."""
        return self.rows == len(self.keys)

    def count(self, fates: tuple[Fate, ...], start: int, end: int) -> int:
        """Count rows in [start, end) with one of the given fates."""
        return int(np.isin(self.fates[start:end], fates).sum())

    def segments(self, limits: Limits) -> list[Segment]:
        """Cut the rows that can be dealt with into one segment per batch; a chunk without operations is one segment."""
        sendable = int(np.searchsorted(self.send_positions, self.rows))
        batches = split(self.sizes[:sendable], limits.operations, limits.bytes - _REQUEST_BYTES)
        if not batches:
            return [Segment(0, self.rows, slice(0, 0))] if self.rows or self.complete else []
        ends = [int(self.send_positions[last - 1]) + 1 for _, last in batches[:-1]] + [self.rows]
        starts = [0, *ends[:-1]]
        return [Segment(start, end, slice(*batch)) for start, end, batch in zip(starts, ends, batches, strict=True)]


def triage(
    connection: Connection,
    store: StoreRef,
    entity: str,
    collection: str,
    built: Built,
    row_keys: pa.StringArray,
    verb: OrderVerb | None,
    limits: Limits,
    read_at: datetime,
) -> Triage:
    """Sort the records of a chunk by comparing them with the ledger.

    Args:
        connection: a transaction on the state tables.
        store: the store.
        entity: name of the entity.
        collection: path of the entity's collection.
        built: the chunk's payloads and the rows its transform turned down.
        row_keys: the shop's key of every row that was read, in order.
        verb: how orders are written.
        limits: size of a batch.
        read_at: when the rows were read.

    Returns:
        The sorted chunk; nothing is written.
    """
    sorting = _Sorting(built, row_keys)
    compared = sorting.kept
    comparison = compare(connection, store.store_ref, entity, sorting.candidates(compared, read_at))
    sorting.judge(compared, comparison)
    for links in built.parents:
        _reject_orphans(connection, store.store_ref, sorting, links)
    sizes = operation_sizes(collection, built.record_ids, built.bodies)
    _reject_oversized(sorting, sizes, limits)
    sends = sorting.to_send()
    on_mailchimp = np.zeros(len(sorting.ids), dtype=bool)
    on_mailchimp[compared] = comparison.on_mailchimp
    return Triage(
        built=built,
        keys=row_keys.to_pylist(),
        fates=sorting.fates,
        renamed=sorting.renamed,
        ids=sorting.ids,
        sends=sends,
        send_positions=sorting.positions[sends],
        methods=methods_for(entity, verb, on_mailchimp[sends].tolist()),
        sizes=sizes[sends],
        touched=sorting.touched,
        rejections=sorting.rejections,
        rows=sorting.rows,
        blocked_by=frozenset(sorting.blocked_by),
        stale_read_at=comparison.newest_read_at,
    )


class _Sorting:
    """Records (built ones first, then those the transform turned down) and what is decided about their rows so far."""

    def __init__(self, built: Built, row_keys: pa.StringArray) -> None:
        turned_down = built.rejected
        self.built = built
        self.ids: list[str] = built.record_ids.to_pylist() + [record.record_id or record.key for record in turned_down]
        self.keys: list[str] = built.keys.to_pylist() + [record.key for record in turned_down]
        self.hashes: list[bytes | None] = [*built.hashes, *([None] * len(turned_down))]
        updated = built.updated_at.cast(pa.int64()).to_pylist()
        self.updated: list[int | None] = [*updated, *([None] * len(turned_down))]
        found = pc.index_in(pa.array(self.keys, pa.string()), value_set=row_keys)
        self.positions = pc.fill_null(found, 0).to_numpy(zero_copy_only=False).astype(np.int64)
        self.rows = len(row_keys)
        self.fates = np.full(self.rows, Fate.SKIPPED, dtype=np.int8)
        self.renamed = np.zeros(self.rows, dtype=bool)
        self.renamed[self.positions] = np.array(self.ids, dtype=object) != np.array(self.keys, dtype=object)
        self.rejections: dict[int, Rejection] = {}
        self.touched: dict[int, int] = {}
        self.blocked_by: set[int] = set()
        self.kept = self._newest_of_each()

    def _newest_of_each(self) -> list[int]:
        """Where several rows yield the same record, the one changed last speaks for it (the first of equals)."""
        newest: dict[str, int] = {}
        for index, record_id in enumerate(self.ids):
            other = newest.setdefault(record_id, index)
            if other != index:
                if (self.updated[index] or 0) > (self.updated[other] or 0):
                    newest[record_id] = index
                self.fates[self.positions[[index, other]]] = Fate.UNCHANGED
        return sorted(newest.values())

    def candidates(self, indices: Sequence[int], read_at: datetime) -> Candidates:
        return Candidates(
            record_ids=[self.ids[index] for index in indices],
            keys=[self.keys[index] for index in indices],
            hashes=[self.hashes[index] for index in indices],
            updated_at=[self.updated[index] for index in indices],
            read_at=read_at,
        )

    def judge(self, indices: Sequence[int], comparison: Comparison) -> None:
        """Turn the ledger's verdicts into fates; the first blocked row ends what can be dealt with."""
        built = len(self.built.hashes)
        for index, verdict, batch_ref, touch in zip(
            indices, comparison.verdicts, comparison.batch_refs, comparison.touch, strict=True
        ):
            position = int(self.positions[index])
            if verdict is Verdict.BLOCKED and batch_ref is not None:
                self.blocked_by.add(batch_ref)
                self.rows = min(self.rows, position)
            elif verdict in {Verdict.UNCHANGED, Verdict.ALIAS}:
                self.fates[position] = Fate.UNCHANGED
            elif verdict is Verdict.STILL_REJECTED:
                self.fates[position] = Fate.STILL_REJECTED
            elif index < built:
                self.fates[position] = Fate.SEND
            else:
                record = self.built.rejected[index - built]
                self.reject(index, record.error_class, record.title, record.detail, record.field, record.waits_for)
            if touch:
                self.touched[position] = index

    def reject(
        self,
        index: int,
        error_class: str,
        title: str,
        detail: str,
        field: str | None,
        waits_for: str | None = None,
        parent_id: str | None = None,
    ) -> None:
        position = int(self.positions[index])
        self.fates[position] = Fate.REJECT
        self.rejections[position] = Rejection(
            record_id=self.ids[index],
            source_key=self.keys[index],
            error_class=str(error_class),
            title=title,
            detail=detail,
            field=field,
            waits_for=waits_for,
            parent_id=parent_id,
        )

    def to_send(self) -> np.ndarray:
        """Indices of the built records to send, by position."""
        chosen = np.array([index for index in self.kept if index < len(self.built.hashes)], dtype=int)
        positions = self.positions[chosen]
        chosen = chosen[self.fates[positions] == Fate.SEND]
        return chosen[np.argsort(self.positions[chosen], kind="stable")]


def _reject_orphans(connection: Connection, store_ref: int, sorting: _Sorting, links: ParentLinks) -> None:
    """Hold back records whose parents Mailchimp does not hold; they are sent once it does."""
    sending = np.zeros(len(sorting.built.hashes), dtype=bool)
    sending[sorting.to_send()] = True
    relevant = sending[links.positions]
    children = np.asarray(links.positions)[relevant]
    parents = links.parent_ids.filter(pa.array(relevant))
    wanted = pc.unique(parents).drop_null().to_pylist()
    held = acknowledged(connection, store_ref, links.entity, wanted)
    if len(held) == len(wanted):
        return
    missing = np.invert(pc.is_in(parents, value_set=pa.array(list(held), pa.string())).to_numpy(zero_copy_only=False))
    missing &= parents.is_valid().to_numpy(zero_copy_only=False)
    orphans, first = np.unique(children[missing], return_index=True)
    lacking = np.flatnonzero(missing)[first]
    ids = parents.take(pa.array(lacking)).to_pylist()
    keys = ids
    if links.parent_keys is not None:
        keys = links.parent_keys.filter(pa.array(relevant)).take(pa.array(lacking)).to_pylist()
    for index, parent_id, key in zip(orphans.tolist(), ids, keys, strict=True):
        parent = f"{links.entity}:{key}"
        sorting.reject(
            index,
            PARENT_MISSING,
            "Parent not at Mailchimp yet",
            f"refers to {parent}, which Mailchimp has not acknowledged; it is sent as soon as that is. "
            "Look for the parent in rejected_records.",
            links.field,
            waits_for=parent,
            parent_id=None if key == parent_id else parent_id,
        )


def _reject_oversized(sorting: _Sorting, sizes: np.ndarray, limits: Limits) -> None:
    for index in sorting.to_send():
        if sizes[index] > limits.bytes - _REQUEST_BYTES:
            sorting.reject(
                int(index),
                "too_large",
                "Record too large",
                f"its operation takes {sizes[index]} bytes, a batch may have {limits.bytes}; shorten its texts or "
                "raise batch_bytes.",
                None,
            )
