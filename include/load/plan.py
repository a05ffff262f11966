"""Plans the phases of a run: which records each has to look at, cut into slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from include.config.stores import StoreSettings
from include.extract.slices import Extractor, SliceBounds, Window
from include.load.errors import TooManyDeletions
from include.load.phases import CLOSED_CARTS, Phase
from include.load.runs import Mode, left_out, sends_carts
from include.state import removals
from include.state.database import StateDatabase
from include.state.deletions import forgive_children
from include.state.ledger import count_held, held_records, leftovers
from include.state.rejected import let_go, rejected_page
from include.state.replays import replayed_keys
from include.state.runs import Run, acknowledged_until, note_planned
from include.state.slices import save_slices
from include.transform.entities import ENTITIES
from include.transform.products import PLACEHOLDER_ID

_PAGE = 10_000  # records of the ledger that are looked up in the shop at a time
_ALWAYS_ALLOWED = 10  # deletions, however small the shop is


@dataclass(frozen=True)
class PlannedSlice:
    """A slice: its entity, its number among the entity's slices in the run, and how many records it has."""

    entity: str
    number: int
    records: int


def plan_phase(
    state: StateDatabase,
    extractor: Extractor,
    run: Run,
    phase: Phase,
    settings: StoreSettings,
    ids: Sequence[str] = (),
    *,
    allow_deletes: bool = False,
) -> list[PlannedSlice]:
    """Cut what a phase has to do into slices.

    Args:
        state: the state tables.
        extractor: reads the shop.
        run: the run.
        phase: what to plan.
        settings: the store's settings.
        ids: the shop's ids to look at in a run of mode `ids`.
        allow_deletes: delete more than the store's settings allow.

    Returns:
        The slices, none for a phase whose entities the run leaves out; keys and ids stay in the state tables.

    Raises:
        TooManyDeletions: the phase would delete more than the settings allow; it deletes nothing.
    """
    planner = _Planner(state, extractor, run, settings, tuple(ids))
    slices = [
        part
        for entity in phase.entities
        if entity in run.entities
        for part in planner.plan(phase, entity, allow_deletes)
    ]
    with state.begin() as connection:
        note_planned(connection, run.run_ref, left_out(phase.name) if planner.left_out else phase.name)
    return slices


@dataclass
class _Planner:
    state: StateDatabase
    extractor: Extractor
    run: Run
    settings: StoreSettings
    ids: tuple[str, ...]
    left_out: bool = False

    def plan(self, phase: Phase, entity: str, allow_deletes: bool) -> Iterator[PlannedSlice]:
        """Plan one entity of a phase."""
        with self.state.begin() as connection:
            forgive_children(connection, self.run.store_ref, entity)
            given = self._given(connection, entity)
        if phase.name == entity and self.run.mode != Mode.IDS:
            self._let_go(entity)
            self._notice_deleted(entity)
        ranges: Sequence[SliceBounds] = ()
        named: list[str] = []
        if entity == "carts" and not phase.removes:
            self.left_out = not self._wants_carts()
        if self.left_out:
            named = []
        elif self.run.mode == Mode.IDS:
            named = given if self.ids or not phase.removes else self._due_among(entity, given, allow_deletes)
        elif phase.name == CLOSED_CARTS:
            # All that Mailchimp holds: also what happened to buyers and settings may forbid to remind of a cart.
            named = list(dict.fromkeys([*self._held(entity), *self._leftovers(entity)]))
        elif phase.removes:
            named = self._gone(entity, allow_deletes)
        elif entity == "carts":
            named = [*self._changed_carts(), *self._leftovers(entity)]
        else:
            window = Window(*self.run.window(entity))
            ranges = self.extractor.plan(ENTITIES[entity].extract, window, self.settings.slice_records)
            # A window without a start covers the leftovers too.
            named = [] if window.since is None else self._leftovers(entity)
        with self.state.begin() as connection:
            saved = save_slices(
                connection,
                self.run.run_ref,
                entity,
                ranges,
                named,
                slice_records=self.settings.slice_records,
                phase=phase.name,
            )
        yield from (PlannedSlice(entity, number, records) for number, records in saved)

    def _given(self, connection: Connection, entity: str) -> list[str]:
        """Return the keys that the run was given by name; those of a replay are in the state tables."""
        if self.run.mode != Mode.IDS or self.ids:
            return list(self.ids)
        return replayed_keys(connection, self.run.run_ref, entity)

    def _due_among(self, entity: str, given: Sequence[str], allow_deletes: bool) -> list[str]:
        """Return those of a replay's records that the shop turned out not to have, if they aren't too many."""
        due = set(self._due(entity, allow_deletes)) if given else set()
        return list(given) if entity == "carts" else [key for key in given if key in due]

    def _let_go(self, entity: str) -> None:
        """Take records off the list of rejected ones whose rows are gone from the shop without a trace.

        An incremental run looks at so many of them that it costs next to nothing, a full sync at all. Most of them gone
        at once may as well be a profile's broken SQL: that is left to a full sync, which reads everything again anyway.
        """
        extract, removable, after = ENTITIES[entity].extract, ENTITIES[entity].deletes, ""
        while True:
            with self.state.begin() as connection:
                page = rejected_page(connection, self.run.store_ref, entity, after, _PAGE)
            if not page:
                return
            there = self.extractor.existing(extract, [key for _, key in page])
            gone = [one for one in page if one[1] not in there]
            if self.run.mode != Mode.FULL and len(gone) > max(_ALWAYS_ALLOWED, len(page) // 2):
                return
            with self.state.begin() as connection:
                let_go(connection, self.run.store_ref, entity, gone, self.extractor.read_at, removable=removable)
            if self.run.mode != Mode.FULL:
                return
            after = page[-1][0]

    def _leftovers(self, entity: str) -> list[str]:
        with self.state.begin() as connection:
            return leftovers(connection, self.run.store_ref, entity)

    def _wants_carts(self) -> bool:
        with self.state.begin() as connection:
            return sends_carts(connection, self.run)

    def _changed_carts(self) -> list[str]:
        """Return the carts that changed, those that nobody has touched for long enough, and those that are too old."""
        idle = timedelta(minutes=self.settings.cart_idle_minutes)
        longest = timedelta(days=self.settings.cart_max_age_days)
        until = self.run.window_end
        with self.state.begin() as connection:
            mark = acknowledged_until(connection, self.run.store_ref, "carts")
        starts = [moment for moment in (mark, self.run.window_start) if moment is not None]
        overlap = timedelta(minutes=self.settings.window_overlap_minutes)
        # A run that looks at everything looks at all open carts; no others are younger than the limit.
        since = min(starts) - overlap if mark and self.run.window_start is not None else until - longest
        windows = (
            Window(max(since, until - longest), until),
            Window(since - idle, until - idle),
            Window(since - longest, until - longest),
        )
        keys = [key for window in windows for key in self.extractor.changed_keys("carts", window)]
        return list(dict.fromkeys(keys))

    def _held(self, entity: str) -> list[str]:
        return [key for page in self._pages(entity) for key in page]

    def _gone(self, entity: str, allow_deletes: bool) -> list[str]:
        """Return the keys of all that is on the list of removals; a full sync looks first for what vanished."""
        if self.run.mode == Mode.FULL:
            extract = ENTITIES[entity].extract
            for keys in self._pages(entity):
                there = self.extractor.existing(extract, keys)
                self._notice(entity, [key for key in keys if key not in there])
        return self._due(entity, allow_deletes)

    def _due(self, entity: str, allow_deletes: bool) -> list[str]:
        """Return the keys of all that is on the list of removals, if they aren't too many."""
        with self.state.begin() as connection:
            due = removals.due(connection, self.run.store_ref, entity)
            held = count_held(connection, self.run.store_ref, entity) if len(due) > _ALWAYS_ALLOWED else 0
        if not allow_deletes and entity != "carts":
            self._check_brake(entity, len(due), held)
        return list(dict.fromkeys(record.source_key for record in due))

    def _check_brake(self, entity: str, wanted: int, held: int) -> None:
        most = min(self.settings.max_deletes, int(held * self.settings.max_deletes_percent / 100))
        most = max(most, _ALWAYS_ALLOWED)
        if wanted > most:
            raise TooManyDeletions(
                f"The shop no longer has {wanted} of the {held} {entity} at Mailchimp; a run may delete {most} "
                f"(max_deletes {self.settings.max_deletes}, max_deletes_percent "
                f"{self.settings.max_deletes_percent:g}). Nothing was deleted. If that is right, run the DAG again "
                "with 'Delete whatever is gone' switched on; if not, look at the shop's tables and the profile's SQL."
            )

    def _notice_deleted(self, entity: str) -> None:
        """Put what the shop says it has deleted on the list of removals.

        It belongs to the entity's own phase, whose end moves the watermark beyond these deletions; the removals come
        last, and may fail or be stopped by the brake any number of times.
        """
        if not ENTITIES[entity].deletes:
            return
        start = self.run.window_start
        with self.state.begin() as connection:
            mark = acknowledged_until(connection, self.run.store_ref, entity)
        if mark is not None and (start is not None or self.run.mode == Mode.FULL):
            mark -= timedelta(minutes=self.settings.window_overlap_minutes)
            start = min(start or mark, mark)
        self._notice(entity, self.extractor.deleted_keys(entity, Window(start, self.run.window_end)))

    def _notice(self, entity: str, keys: Sequence[str]) -> None:
        with self.state.begin() as connection:
            removals.notice(connection, self.run.store_ref, entity, keys)

    def _pages(self, entity: str) -> Iterator[list[str]]:
        """Yield the shop's keys of all that Mailchimp may hold, page by page."""
        after = ""
        while True:
            with self.state.begin() as connection:
                page = held_records(connection, self.run.store_ref, entity, after, _PAGE)
            if not page:
                return
            after = page[-1][0]
            yield [key for record_id, key in page if record_id != PLACEHOLDER_ID]
