"""What every step on a slice has in common: its lock, the chunks it reads, and the waiting for batches.

Everything a step needs is in the state tables. A retry, a task resumed after waiting and a cleared task all do the
same: look after the slice's open batches, then go on behind its cursor. Whatever line a worker dies at, the records
before the cursor are claimed, rejected or unchanged, and claimed ones are found again through their batch.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

import pandas as pd
import pyarrow as pa
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from include.config.stores import StoreSettings
from include.documents.encoder import to_arrow
from include.extract.slices import Extractor, Window
from include.load.newcomers import only_with_evidence
from include.load.operations import Endpoint
from include.load.settle import Settler, batch_ids, utc_now
from include.mailchimp.client import ClientMetrics, MailchimpClient
from include.mailchimp.errors import TooManyPendingBatches
from include.shops.profile import CheckedProfile
from include.state.batches import ClaimConflict, OpenBatch
from include.state.campaigns import refused_campaigns
from include.state.database import SliceBusy, SliceKey, StateDatabase
from include.state.hand_off import put_off_since
from include.state.members import ArchivedContacts
from include.state.pace import lane, slow_down
from include.state.runs import SUBSCRIBERS, Run, add_run_metrics, load_run, run_summary
from include.state.slices import Slice, load_slice
from include.state.stores import StoreRef
from include.transform.audience import Audience
from include.transform.entities import Entity, extra_columns
from include.transform.records import BuildContext, Built

log = logging.getLogger(__name__)

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
class RowChunk:
    """Rows read in one snapshot, and their payloads."""

    frame: pd.DataFrame
    keys: pa.StringArray
    built: Built
    read_at: datetime


@dataclass
class SliceStep(ABC):
    """The work on one slice of one entity.

    Args:
        state: the state tables.
        shop: engine of the shop's database, or of a replica.
        profile: the checked shop profile.
        client: speaks for the store's Mailchimp account.
        store: the store.
        settings: its settings.
        entity: what is pushed.
        context: what the entity's transform needs to know; what the run knows is added.
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
        self._endpoint = Endpoint.of(self.entity, self.settings)
        self._not_before: datetime | None = None
        self._conflicts = 0
        self._only_with_evidence = False

    def step(self) -> Waiting | Done:
        """Work until Mailchimp has to be waited for, or the slice is done. May be called any number of times.

        Raises:
            SliceBusy: another worker is at this slice.
            BatchRefused: Mailchimp refuses batches, whatever is in them.
            MailchimpError: Mailchimp cannot be reached or does not answer as it should; try again later.
        """
        with self.state.slice_lock(self.slice_key) as free:
            if not free:
                raise SliceBusy(
                    f"Another worker is pushing slice {self.slice_key.number} of {self.entity.name}; "
                    "try again when it has ended."
                )
            with lane(self.state, self.store.account_id, self.settings.max_connections) as has_place:
                return self._advance() if has_place else Waiting(())

    def _advance(self) -> Waiting | Done:
        before = self.client.metrics
        try:
            with self.state.begin() as connection:
                run = load_run(connection, self.slice_key.run_ref)
                refused = refused_campaigns(connection, self.store.store_ref)
            audience = Audience.from_json(run.audience) if run.audience else self.context.audience
            archived = ArchivedContacts(self.state, self.store.account_id, self.settings.list_id)
            self.context = replace(self.context, audience=audience, refused_campaigns=refused, archived_among=archived)
            self._only_with_evidence = run.kind == SUBSCRIBERS
            self._settler.settle(self._own_open(), held=self.slice_key)
            try:
                return self._work(run)
            except TooManyPendingBatches as refusal:
                return self._wait_for_room(refusal)
        finally:
            self._count_spent(before)

    @abstractmethod
    def _work(self, run: Run) -> Waiting | Done:
        """Go on with the slice; its finished batches are settled."""

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
                if spent.throttled > before.throttled:
                    slow_down(connection, self.store.account_id)
        except SQLAlchemyError as error:
            log.warning("The calls of this step are missing from the run's counters: %s", error)

    def _read(self, rows: Callable[[Extractor], pd.DataFrame]) -> RowChunk:
        with self.shop.connect() as connection:
            extractor = Extractor(connection, self.profile, extra=extra_columns(self.settings))
            frame = rows(extractor)
            if self._only_with_evidence:
                frame = only_with_evidence(extractor, frame, self.context)
            built = self.entity.build(extractor, frame, self.context)
            connection.rollback()
        read_at = max(built.read_at, self._not_before or built.read_at)
        return RowChunk(frame, to_arrow(frame[self.entity.key]), built, read_at)

    def _read_named(self, ids: Sequence[str]) -> RowChunk:
        return self._read(lambda extractor: extractor.read_ids(self.entity.extract, ids))

    def _read_next(self, run: Run, current: Slice, rows: int) -> RowChunk:
        """Read the next rows of a slice that is a range of keys."""
        window = Window(*run.window(self.entity.name))
        after, first, last = current.cursor, current.first_key, current.last_key or ""
        return self._read(
            lambda extractor: extractor.read_range(self.entity.extract, after, last, rows, window, first=first)
        )

    def _load_slice(self) -> Slice:
        with self.state.begin() as connection:
            return load_slice(connection, self.slice_key)

    def _wait_for(self, batch_refs: Iterable[int]) -> Waiting | None:
        """Wait for batches that hold records of this slice, unless one of them has ended already."""
        wanted = set(batch_refs)
        blocking = [batch for batch in self._open() if batch.batch_ref in wanted]
        still_open = self._settler.settle(blocking, held=self.slice_key)
        if len(still_open) < len(wanted):
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

    def _wait_for_room(self, refusal: TooManyPendingBatches) -> Waiting:
        """Wait until the account, which has all the batches Mailchimp allows, has worked one off: whoever's it is.

        Raises:
            TooManyPendingBatches: that takes longer than a batch may.
        """
        with self.state.begin() as connection:
            since = put_off_since(connection, self.slice_key)
        if since is not None and self.clock() - since > timedelta(minutes=self.settings.batch_timeout_minutes):
            raise refusal
        log.warning("Mailchimp takes no more batches for now: %s", refusal)
        own = batch_ids(self._own_open())
        return Waiting(own or self._oldest_unfinished())

    def _oldest_unfinished(self) -> tuple[str, ...]:
        submitted_since = self.clock() - timedelta(minutes=self.settings.batch_timeout_minutes)
        listed = self.client.batches_since(submitted_since)
        moments = {one.id: one.submitted_at for one in listed if one.submitted_at and not one.status.is_terminal}
        return (min(moments, key=lambda one: moments[one]),) if moments else ()

    def _note_conflict(self) -> None:
        self._conflicts += 1
        if self._conflicts > _MOST_CONFLICTS:
            raise ClaimConflict(
                f"Other runs keep changing the records of slice {self.slice_key.number} of {self.entity.name}; "
                "let them end, then clear this task."
            )

    def _free_batches(self) -> int:
        return max(self.settings.max_open_batches - len(self._open()), 0)

    def _open(self) -> list[OpenBatch]:
        return self._settler.open_batches(self.store.account_id)

    def _own_open(self) -> list[OpenBatch]:
        return [batch for batch in self._open() if batch.slice == self.slice_key]

    def _counts(self) -> dict[str, int]:
        with self.state.begin() as connection:
            key = self.slice_key
            summary = next(iter(run_summary(connection, key.run_ref, key.entity, key.number)))
        return {name: count for name, count in asdict(summary).items() if name != "entity"}
