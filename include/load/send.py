"""Sends segments of a sorted chunk: first the intention is written, then the batch is posted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import TypeVar

import pyarrow as pa

from include.config.stores import StoreSettings
from include.load.operations import Endpoint, batch_body
from include.load.post import Poster
from include.load.triage import Fate, Segment, Triage
from include.mailchimp.client import MailchimpClient
from include.state.batches import Chunk, claim, new_token
from include.state.database import SliceKey, StateDatabase
from include.state.ledger import Candidates
from include.state.slices import Progress, Slice
from include.state.stores import StoreRef

Value = TypeVar("Value")


class _Kind(Enum):
    RANGE = auto()
    IDS = auto()
    REPEAT = auto()


@dataclass
class Position:
    """Where a chunk lies in its slice, and so how far each of its segments moves the slice's cursor.

    Rows of a key range come in the order of the cursor: every segment moves it. Named records come in any order: the
    cursor moves behind all of them at once, with the last segment; should that never come, the earlier segments'
    records are found in flight or unchanged when the chunk is read again. Repeated records lie behind the cursor.
    """

    kind: _Kind
    cursor: str | None
    end: str | None

    @classmethod
    def in_range(cls, current: Slice, *, exhausted: bool) -> "Position":
        """Rows read behind the cursor of a key range; `exhausted`: the slice has no more."""
        return cls(_Kind.RANGE, current.cursor, current.end if exhausted else None)

    @classmethod
    def among_ids(cls, current: Slice, ids: Sequence[str]) -> "Position":
        """Rows of named records."""
        return cls(_Kind.IDS, current.cursor, ids[-1])

    @classmethod
    def repeating(cls, current: Slice) -> "Position":
        """Rows of records that are sent once more."""
        return cls(_Kind.REPEAT, current.cursor, current.cursor)

    def progress(self, sorted_: Triage, segment: Segment) -> Progress | None:
        """Return what the slice gains by a segment; None when that is to be told later."""
        final = segment.end == len(sorted_.keys)
        start = segment.start
        if self.kind is _Kind.IDS:
            if not final:
                return None
            start = 0
        if self.kind is _Kind.RANGE and not (final and self.end is not None):
            cursor = sorted_.keys[segment.end - 1]
        else:
            cursor = self.end or ""
        repeated = self.kind is _Kind.REPEAT
        return Progress(
            old_cursor=self.cursor,
            new_cursor=cursor,
            extracted=0 if repeated else segment.end - start,
            skipped=0 if repeated else sorted_.count((Fate.SKIPPED,), start, segment.end),
            unchanged=0 if repeated else sorted_.count((Fate.UNCHANGED,), start, segment.end),
            rejected=sorted_.count((Fate.STILL_REJECTED, Fate.REJECT), start, segment.end),
        )


class Sender:
    """Posts batches for one slice."""

    def __init__(
        self,
        state: StateDatabase,
        client: MailchimpClient,
        store: StoreRef,
        settings: StoreSettings,
        slice_key: SliceKey,
        dag_run_id: str,
        *,
        removable: bool = True,
    ) -> None:
        self._removable = removable
        self._state = state
        self._store = store
        self._settings = settings
        self._key = slice_key
        self._dag_run_id = dag_run_id
        self._poster = Poster(state, client, store, slice_key, settings.max_open_batches)

    def send(
        self, sorted_: Triage, segment: Segment, position: Position, endpoint: Endpoint, read_at: datetime
    ) -> None:
        """Deal with one segment of a chunk: claim its records, reject others, advance the slice; then post the batch.

        Args:
            sorted_: the chunk.
            segment: which of its rows.
            position: where the chunk lies; its cursor moves along.
            endpoint: where the records live.
            read_at: when the rows were read.

        Raises:
            NoFreeBatch: too many batches are open; nothing was done.
            ClaimConflict: others changed something meanwhile; nothing was done.
            BatchRefused: Mailchimp refuses batches, whatever is in them; the records are free again.
            MailchimpError: the batch could not be posted. Its records are free again, or will be with the next step.
        """
        indices = sorted_.sends[segment.sends]
        token, methods = new_token(), sorted_.methods[segment.sends]
        body = b""
        if len(indices):
            taken = pa.array(indices)
            bodies = sorted_.bodies[segment.sends.start : segment.sends.stop]
            body = batch_body(token, methods, endpoint, sorted_.built.record_ids.take(taken), bodies)
        progress = position.progress(sorted_, segment)
        chunk = Chunk(
            token=token,
            send=_candidates(sorted_, indices.tolist(), read_at),
            methods=methods,
            body_bytes=len(body),
            touched=_candidates(sorted_, _within(sorted_.touched, segment), read_at),
            rejections=_within(sorted_.rejections, segment),
            left_out=sorted_.left_out(segment),
            unchanged=sorted_.unchanged_elsewhere(segment),
            seen=sorted_.ids,
            progress=progress,
            retry=position.kind is _Kind.REPEAT,
            children=sorted_.children[segment.sends],
            aliases=sorted_.aliases,
            removable=self._removable,
        )
        with self._state.begin() as connection:
            batch_ref = claim(
                connection,
                self._store,
                self._key,
                chunk,
                max_open=self._settings.max_open_batches,
                dag_run_id=self._dag_run_id,
            )
        if progress is not None:
            position.cursor = progress.new_cursor
        if batch_ref is not None:
            self.post(batch_ref, body)

    def post(self, batch_ref: int, body: bytes) -> None:
        """Post an intended batch; see `Poster.post`."""
        self._poster.post(batch_ref, body)


def _within(by_position: dict[int, Value], segment: Segment) -> list[Value]:
    return [value for position, value in by_position.items() if segment.start <= position < segment.end]


def _candidates(sorted_: Triage, indices: Sequence[int], read_at: datetime) -> Candidates:
    taken = pa.array(indices, pa.int64())
    built = sorted_.built
    return Candidates(
        record_ids=built.record_ids.take(taken).to_pylist(),
        keys=built.keys.take(taken).to_pylist(),
        hashes=[built.hashes[index] for index in indices],
        updated_at=built.updated_at.take(taken).cast(pa.int64()).to_pylist(),
        read_at=read_at,
    )
