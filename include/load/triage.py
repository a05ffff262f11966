"""Sorts the records of one chunk: which are sent, which are not and why, how far it can be dealt with now."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection

from include.load.operations import Endpoint, methods_for, operation_sizes, split
from include.state.ledger import Candidates, Comparison, Verdict, acknowledged, compare
from include.state.rejected import PARENT_MISSING, Rejection
from include.state.stores import OrderVerb, StoreRef
from include.transform.consent import may_subscribe
from include.transform.entities import Entity
from include.transform.records import Built, ParentLinks

OWNER = "customer"
"""How a record's customer is named among what the record has inside."""

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
        bodies: their payloads, escaped for embedding; those that change a record spell out emptied values.
        sizes: bytes of their operations.
        children: for those that change a record, what they hold inside ("lines/7", …).
        aliases: (the shop's key, record id) of rows for which another row speaks.
        missing: ids of parents that Mailchimp does not hold, by entity.
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
    bodies: pa.StringArray
    sizes: np.ndarray
    children: list[list[str] | None]
    aliases: list[tuple[str, str]]
    missing: dict[str, frozenset[str]]
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
    entity: Entity,
    endpoint: Endpoint,
    built: Built,
    row_keys: pa.StringArray,
    verb: OrderVerb | None,
    limits: Limits,
    read_at: datetime,
    stuck: Collection[str] = (),
) -> Triage:
    """Sort the records of a chunk by comparing them with the ledger.

    Args:
        connection: a transaction on the state tables.
        store: the store.
        entity: the entity.
        endpoint: where its records live.
        built: the chunk's payloads and the rows its transform turned down.
        row_keys: the shop's key of every row that was read, in order.
        verb: how orders are written.
        limits: size of a batch.
        read_at: when the rows were read.
        stuck: ids of people whose contact could not be taken along to their new address.

    Returns:
        The sorted chunk; nothing is written.
    """
    sorting = _Sorting(built, row_keys)
    comparison = compare(connection, store.store_ref, entity.name, sorting.candidates(sorting.kept, read_at))
    sorting.judge(sorting.kept, comparison)
    _reject_stuck(sorting, stuck)
    missing = {links.entity: _reject_orphans(connection, store.store_ref, sorting, links) for links in built.parents}
    bodies, sizes = _as_sent(entity, endpoint, sorting)
    _reject_oversized(sorting, sizes, limits)
    sends = sorting.to_send()
    held = sorting.on_mailchimp[sends]
    asked, chosen = built.methods(), methods_for(entity, verb, held.tolist())
    return Triage(
        built=built,
        keys=row_keys.to_pylist(),
        fates=sorting.fates,
        renamed=sorting.renamed,
        ids=sorting.ids,
        sends=sends,
        send_positions=sorting.positions[sends],
        methods=[asked[index] or method for index, method in zip(sends.tolist(), chosen, strict=True)],
        bodies=bodies.take(pa.array(sends)),
        sizes=sizes[sends],
        children=_children(entity, built, sends, held | sorting.uncertain[sends]),
        aliases=sorting.aliases,
        missing=missing,
        touched=sorting.touched,
        rejections=sorting.rejections,
        rows=sorting.rows,
        blocked_by=frozenset(sorting.blocked_by),
        stale_read_at=comparison.newest_read_at,
    )


def _as_sent(entity: Entity, endpoint: Endpoint, sorting: _Sorting) -> tuple[pa.StringArray, np.ndarray]:
    """Return the payloads as they go out, and the bytes of their operations."""
    built, sends = sorting.built, sorting.to_send()
    bodies = built.bodies
    changing = sends[sorting.on_mailchimp[sends]]
    if entity.clears and len(changing):
        mask = np.zeros(len(bodies), dtype=bool)
        mask[changing] = True
        bodies = pc.replace_with_mask(bodies, pa.array(mask), built.clearing_bodies(np.sort(changing)))
    return bodies, operation_sizes(endpoint, built.record_ids, bodies)


def _children(entity: Entity, built: Built, sends: np.ndarray, changed: np.ndarray) -> list[list[str] | None]:
    """Name what every record that is changed, or may be, has inside; None for new records."""
    inside: list[list[str] | None] = [None] * len(sends)
    changing = np.flatnonzero(changed)
    if not len(changing):
        return inside
    for name, (frame, column) in entity.children.items():
        for place, ids in zip(changing.tolist(), built.child_ids(frame, column, sends[changing]), strict=True):
            inside[place] = (inside[place] or []) + [f"{name}/{child}" for child in ids]
    if entity.owner is not None:
        owners = built.source.frame[entity.owner].take(sends[changing])
        for place, customer_id in zip(changing.tolist(), owners.tolist(), strict=True):
            inside[place] = [*(inside[place] or []), f"{OWNER}/{customer_id}"]
    return inside


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
        self.aliases: list[tuple[str, str]] = list(built.aliases)
        self.on_mailchimp = np.zeros(len(self.ids), dtype=bool)
        self.uncertain = np.zeros(len(self.ids), dtype=bool)
        self.if_held = [*built.if_held(), *([False] * len(turned_down))]
        self.kept = self._newest_of_each()

    def _newest_of_each(self) -> list[int]:
        """Where several rows yield the same record, the one changed last speaks for it (the first of equals)."""
        newest: dict[str, int] = {}
        for index, record_id in enumerate(self.ids):
            other = newest.setdefault(record_id, index)
            if other != index:
                if (self.updated[index] or 0) > (self.updated[other] or 0):
                    newest[record_id] = index
                    self.aliases.append((self.keys[other], record_id))
                else:
                    self.aliases.append((self.keys[index], record_id))
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
        self.on_mailchimp[list(indices)] = comparison.on_mailchimp
        self.uncertain[list(indices)] = comparison.uncertain
        for index, verdict, batch_ref, touch in zip(
            indices, comparison.verdicts, comparison.batch_refs, comparison.touch, strict=True
        ):
            position = int(self.positions[index])
            if verdict is Verdict.BLOCKED and batch_ref is not None:
                self.blocked_by.add(batch_ref)
                self.rows = min(self.rows, position)
            elif verdict in {Verdict.UNCHANGED, Verdict.ALIAS}:
                self.fates[position] = Fate.UNCHANGED
                if verdict is Verdict.ALIAS:
                    self.aliases.append((self.keys[index], self.ids[index]))
            elif verdict is Verdict.STILL_REJECTED:
                self.fates[position] = Fate.STILL_REJECTED
            elif index < built:
                wanted = self.on_mailchimp[index] or not self.if_held[index]
                self.fates[position] = Fate.SEND if wanted else Fate.SKIPPED
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


def _reject_orphans(connection: Connection, store_ref: int, sorting: _Sorting, links: ParentLinks) -> frozenset[str]:
    """Hold back records whose parents Mailchimp does not hold; they are sent once it does. Returns these parents."""
    sending = np.zeros(len(sorting.built.hashes), dtype=bool)
    sending[sorting.to_send()] = True
    relevant = sending[links.positions]
    children = np.asarray(links.positions)[relevant]
    parents = links.parent_ids.filter(pa.array(relevant))
    wanted = pc.unique(parents).drop_null().to_pylist()
    held = acknowledged(connection, store_ref, links.entity, wanted)
    if len(held) == len(wanted):
        return frozenset()
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
    return frozenset(wanted) - held


def _reject_stuck(sorting: _Sorting, stuck: Collection[str]) -> None:
    if not stuck:
        return
    subscribing = may_subscribe(sorting.built.source.frame).to_numpy(dtype=bool, na_value=False)
    for index in sorting.to_send().tolist():
        if sorting.ids[index] in stuck and subscribing[index]:
            sorting.reject(
                index,
                "compliance",
                "Contact can't follow its new address",
                "the person opted out under the former address, or Mailchimp refuses to change it, and that can't be "
                "carried over to the new one; change the address in Mailchimp, then save the customer in the shop "
                "again.",
                "email_address",
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
