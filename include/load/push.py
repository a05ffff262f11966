"""Pushes one slice: read, build, compare, claim, post, and settle what Mailchimp has finished.

Everything a step needs is in the state tables. A retry, a task resumed after waiting and a cleared task all do the
same: look after the slice's open batches, then go on behind its cursor. Whatever line a worker dies at, the records
before the cursor are claimed, rejected or unchanged, and claimed ones are found again through their batch.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import pandas as pd
import pyarrow as pa
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from include.config.stores import StoreSettings
from include.documents.encoder import to_arrow
from include.extract.slices import Extractor, Window
from include.load.parents import force_parents
from include.load.send import Position, Sender
from include.load.settle import Settler, batch_ids, utc_now
from include.load.triage import Limits, Triage, triage
from include.mailchimp.client import ClientMetrics, MailchimpClient
from include.shops.profile import CheckedProfile
from include.state import settlement
from include.state.batches import ClaimConflict, NoFreeBatch, OpenBatch, open_batches
from include.state.database import SliceBusy, SliceKey, StateDatabase
from include.state.ledger import retire
from include.state.runs import Run, add_run_metrics, load_run, run_summary
from include.state.slices import Slice, close_slice, load_slice
from include.state.stores import OrderVerb, StoreRef, learned_order_verb
from include.transform.entities import Entity
from include.transform.records import BuildContext, Built

log = logging.getLogger(__name__)

_MOST_ROWS = 10_000  # per chunk, when there is little to send
_MOST_CONFLICTS = 20


@dataclass(frozen=True)
class Waiting:
    """The slice goes on when these batches (Mailchimp's ids) have ended; none: look again in a while."""

    batch_ids: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """The slice is worked off; `counts` of its records, named as in `include.state.runs.EntitySummary`."""

    counts: dict[str, int]


@dataclass(frozen=True)
class _Chunk:
    """Rows read in one snapshot, and their payloads."""

    frame: pd.DataFrame
    keys: pa.StringArray
    built: Built
    read_at: datetime


@dataclass
class SlicePush:
    """The work on one slice of one entity.

    Args:
        state: the state tables.
        shop: engine of the shop's database, or of a replica.
        profile: the checked shop profile.
        client: speaks for the store's Mailchimp account.
        store: the store.
        settings: its settings.
        entity: what is pushed.
        context: what the entity's transform needs to know.
        slice_key: which slice.
        clock: current time, aware UTC.
    """

    state: StateDatabase
    shop: Engine
    profile: CheckedProfile
    client: MailchimpClient
    store: StoreRef
    settings: StoreSettings
    entity: Entity
    context: BuildContext
    slice_key: SliceKey
    clock: Callable[[], datetime] = utc_now

    def __post_init__(self) -> None:
        timeout = timedelta(minutes=self.settings.batch_timeout_minutes)
        self._settler = Settler(self.state, self.client, timeout, self.clock)
        self._limits = Limits(self.settings.batch_operations, self.settings.batch_bytes)
        self._collection = self.entity.path(self.store.store_id)
        self._rows = 0  # rows of the next chunk; 0: as many as free batches take
        self._not_before: datetime | None = None
        self._conflicts = 0

    def step(self) -> Waiting | Done:
        """Work until Mailchimp has to be waited for, or the slice is done. May be called any number of times.

        Raises:
            SliceBusy: another worker is at this slice.
            BatchRefused: Mailchimp refuses a whole batch.
            MailchimpError: Mailchimp cannot be reached or does not answer as it should; try again later.
        """
        with self.state.slice_lock(self.slice_key) as free:
            if not free:
                raise SliceBusy(
                    f"Another worker is pushing slice {self.slice_key.number} of {self.entity.name}; "
                    "try again when it has ended."
                )
            before = self.client.metrics
            try:
                return self._work()
            finally:
                self._count_spent(before)

    def _count_spent(self, before: ClientMetrics) -> None:
        """Add to the run what talking to Mailchimp took; without it nothing is lost, so it fails no step."""
        spent = self.client.metrics
        try:
            with self.state.begin() as connection:
                add_run_metrics(
                    connection,
                    self.slice_key.run_ref,
                    http_calls=spent.calls - before.calls,
                    bytes_sent=spent.bytes_sent - before.bytes_sent,
                    wait_seconds=spent.wait_seconds - before.wait_seconds,
                )
        except SQLAlchemyError as error:
            log.warning("The calls of this step are missing from the run's counters: %s", error)

    def _work(self) -> Waiting | Done:
        with self.state.begin() as connection:
            run = load_run(connection, self.slice_key.run_ref)
        sender = Sender(self.state, self.client, self.store, self.settings, self.slice_key, run.dag_run_id)
        self._settler.settle(self._own_open(), held=self.slice_key)
        while True:
            with self.state.begin() as connection:
                current = load_slice(connection, self.slice_key)
            if current.done:
                return Done(self._counts())
            if current.exhausted:
                break
            waiting = self._push_chunk(run, current, sender)
            if waiting is not None:
                return waiting
        return self._finish(run, current, sender)

    def _push_chunk(self, run: Run, current: Slice, sender: Sender) -> Waiting | None:
        """Deal with the next rows of the slice; None when it made headway."""
        own, free = self._own_open(), self._free_batches()
        probing = self._probing()
        if own and (probing or not free):
            return Waiting(batch_ids(own))
        operations = self.settings.batch_operations
        rows = max(self._rows, operations if probing else max(free, 1) * operations)
        if current.ids is None:
            chunk = self._read(lambda extractor: self._read_range(extractor, run, current, rows))
            position = Position.in_range(current, exhausted=len(chunk.frame) < rows)
        else:
            ids = current.remaining_ids(operations)
            chunk = self._read_named(ids)
            self._retire(run, ids, chunk.built)
            position = Position.among_ids(current, ids)
        waiting, sent = self._send(chunk, position, sender, at_most=1 if probing else None)
        # A chunk without operations costs little: read on in larger ones.
        self._rows = 0 if sent else min(2 * rows, max(_MOST_ROWS, operations))
        return waiting

    def _finish(self, run: Run, current: Slice, sender: Sender) -> Waiting | Done:
        """Repeat what may still succeed, then close the slice."""
        before: list[str] = []
        while True:
            own = self._own_open()
            if own:
                return Waiting(batch_ids(own))
            force_parents(self.state, self.store, self.slice_key, self._build_named, self._limits.operations)
            with self.state.begin() as connection:
                unfinished = settlement.unfinished(
                    connection, self.slice_key.run_ref, self.entity.name, self.slice_key.number
                )
            again = [one.source_key for one in unfinished if one.attempts < settlement.MAX_ATTEMPTS]
            if not again:
                with self.state.begin() as connection:
                    close_slice(connection, self.slice_key, len(unfinished))
                return Done(self._counts())
            if again == before:
                self._note_conflict()
            before, ids = again, again[: self.settings.batch_operations]
            chunk = self._read_named(ids)
            self._retire(run, ids, chunk.built)
            waiting, _ = self._send(chunk, Position.repeating(current), sender)
            if waiting is not None:
                return waiting

    def _send(
        self, chunk: _Chunk, position: Position, sender: Sender, at_most: int | None = None
    ) -> tuple[Waiting | None, bool]:
        """Sort a chunk and send what is to be sent; (why to wait, whether anything was sent)."""
        verb = self._order_verb()
        with self.state.begin() as connection:
            sorted_ = triage(
                connection,
                self.store,
                self.entity.name,
                self._collection,
                chunk.built,
                chunk.keys,
                verb,
                self._limits,
                chunk.read_at,
            )
        if sorted_.stale_read_at is not None:
            # What is read from now on is newer than that read, whatever the clocks say.
            self._not_before = max(sorted_.stale_read_at, self._not_before or sorted_.stale_read_at)
            self._note_conflict()
            return None, True
        segments = sorted_.segments(self._limits)[:at_most]
        try:
            for segment in segments:
                sender.send(sorted_, segment, position, self._collection, chunk.read_at)
        except NoFreeBatch:
            return self._wait_for_free_batch(), True
        except ClaimConflict:
            self._note_conflict()
            return None, True
        if not sorted_.complete:
            return self._wait_for(sorted_), True
        self._conflicts = 0
        return None, len(sorted_.sends) > 0

    def _read(self, rows: Callable[[Extractor], pd.DataFrame]) -> _Chunk:
        with self.shop.connect() as connection:
            extractor = Extractor(connection, self.profile)
            frame = rows(extractor)
            built = self.entity.build(extractor, frame, self.context)
            connection.rollback()
        read_at = max(built.read_at, self._not_before or built.read_at)
        return _Chunk(frame, to_arrow(frame[self.entity.key]), built, read_at)

    def _read_named(self, ids: Sequence[str]) -> _Chunk:
        return self._read(lambda extractor: extractor.read_ids(self.entity.extract, ids))

    def _build_named(self, ids: Sequence[str]) -> Built:
        return self._read_named(ids).built

    def _read_range(self, extractor: Extractor, run: Run, current: Slice, rows: int) -> pd.DataFrame:
        window = Window(run.window_start, run.window_end)
        last = current.last_key or ""
        return extractor.read_range(self.entity.extract, current.cursor, last, rows, window, first=current.first_key)

    def _retire(self, run: Run, keys: Sequence[str], built: Built) -> None:
        """Close records owed under keys that yield another record by now, or none."""
        seen = built.record_ids.to_pylist() + [record.record_id for record in built.rejected]
        with self.state.begin() as connection:
            retire(connection, self.store.store_ref, self.entity.name, keys=keys, seen=seen, dag_run_id=run.dag_run_id)

    def _wait_for(self, sorted_: Triage) -> Waiting | None:
        """Wait for the batches that hold records of this chunk, unless they have ended already."""
        blocking = [batch for batch in self._open() if batch.batch_ref in sorted_.blocked_by]
        still_open = self._settler.settle(blocking, held=self.slice_key)
        if len(still_open) < len(sorted_.blocked_by):
            self._note_conflict()  # at least one of them has ended meanwhile
            return None
        return Waiting(batch_ids([*self._own_open(), *still_open]))

    def _wait_for_free_batch(self) -> Waiting | None:
        """Wait for a place among the account's open batches, unless settling finished ones makes room."""
        batches = self._open()
        still_open = self._settler.settle(batches, held=self.slice_key)
        if len(still_open) < self.settings.max_open_batches:
            return None
        own = [batch for batch in still_open if batch.slice == self.slice_key]
        # Mailchimp works off an account's batches one at a time, the oldest first.
        return Waiting(batch_ids(own) or batch_ids(still_open)[:1])

    def _note_conflict(self) -> None:
        self._conflicts += 1
        if self._conflicts > _MOST_CONFLICTS:
            raise ClaimConflict(
                f"Other runs keep changing the records of slice {self.slice_key.number} of {self.entity.name}; "
                "let them end, then clear this task."
            )

    def _order_verb(self) -> OrderVerb | None:
        if self.settings.order_upsert != "auto":
            return self.settings.order_upsert
        with self.state.begin() as connection:
            return learned_order_verb(connection, self.store.store_ref)

    def _probing(self) -> bool:
        """Whether the next batch has to show which method Mailchimp accepts for orders."""
        return self.entity.name == "orders" and self._order_verb() is None

    def _free_batches(self) -> int:
        return max(self.settings.max_open_batches - len(self._open()), 0)

    def _open(self) -> list[OpenBatch]:
        with self.state.begin() as connection:
            return open_batches(connection, self.store.account_id)

    def _own_open(self) -> list[OpenBatch]:
        return [batch for batch in self._open() if batch.slice == self.slice_key]

    def _counts(self) -> dict[str, int]:
        with self.state.begin() as connection:
            key = self.slice_key
            summary = next(iter(run_summary(connection, key.run_ref, key.entity, key.number)))
        return {name: count for name, count in asdict(summary).items() if name != "entity"}
