"""One run of a push from its plan to its summary; the slices in between are the work of `include.load.push`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from include.config.stores import StoreSettings
from include.extract.slices import Extractor, Window
from include.load.errors import RunStopped, TooManyRejected
from include.state.database import StateDatabase
from include.state.ledger import leftovers
from include.state.rejected import top_error_classes
from include.state.runs import (
    EntitySummary,
    Run,
    acknowledged_until,
    advance_watermark,
    confirm,
    end_dead_runs,
    finish_run,
    newly_rejected,
    run_summary,
    start_run,
    unconfirmed,
)
from include.state.slices import open_slices, save_slices
from include.transform.entities import ENTITIES


class Mode(StrEnum):
    """Which records a run looks at; which of them it sends is the ledger's answer."""

    INCREMENTAL = "incremental"
    FULL = "full"
    IDS = "ids"


@dataclass(frozen=True)
class RunRequest:
    """What Airflow knows of a run.

    Attributes:
        dag_id: the DAG.
        dag_run_id: its run.
        kind: `scheduled`, `backfill` or `manual`.
        mode: which records to look at.
        since: start of the window on `updated_at`; None: from the oldest change not acknowledged yet.
        until: end of the window; None: now.
        entities: what to push.
    """

    dag_id: str
    dag_run_id: str
    kind: str
    mode: Mode
    since: datetime | None
    until: datetime | None
    entities: tuple[str, ...]


def begin_run(state: StateDatabase, store_ref: int, request: RunRequest, settings: StoreSettings, now: datetime) -> Run:
    """Fix a run's window and record the run; a retry finds the window as it was.

    A scheduled run reaches back to the oldest point that isn't acknowledged, so that failed or skipped runs leave no
    gap, and overlaps its predecessor, so that transactions that committed late aren't missed; the ledger makes the
    overlap free. A backfill covers exactly its interval, a manual run what it was asked for.

    Args:
        state: the state tables.
        store_ref: the store.
        request: what was asked for.
        settings: the store's settings.
        now: the shop database's time, aware UTC.
    """
    # What is read now can't cover later changes, whatever was asked for; on a replica, now is what it has replayed.
    until = min(request.until or now, now)
    with state.begin() as connection:
        marks = [acknowledged_until(connection, store_ref, entity) for entity in request.entities]
        since = _window_start(request, marks, timedelta(minutes=settings.window_overlap_minutes))
        run = start_run(
            connection,
            store_ref,
            request.dag_id,
            request.dag_run_id,
            request.kind,
            request.mode,
            since,
            until,
            entities=request.entities,
        )
        if run.kind != "backfill":  # the DAG has one active run besides backfills, and that is this one
            end_dead_runs(connection, store_ref, request.dag_id, besides=run.run_ref)
        return run


def _window_start(request: RunRequest, marks: Sequence[datetime | None], overlap: timedelta) -> datetime | None:
    if request.mode is not Mode.INCREMENTAL:
        return None
    if request.since is not None and request.kind != "scheduled":
        return request.since
    oldest = [mark for mark in marks if mark is not None]
    if len(oldest) < len(marks):  # an entity was never pushed to the end: everything is new
        return None
    return min([*oldest, request.since] if request.since else oldest) - overlap


def plan_entity(
    state: StateDatabase, extractor: Extractor, run: Run, entity: str, settings: StoreSettings, ids: Sequence[str] = ()
) -> list[tuple[int, int]]:
    """Cut the records of one entity into slices.

    Records that an earlier run left unfinished, or that waited for a parent which has arrived since, are added to
    the window.

    Args:
        state: the state tables.
        extractor: reads the shop.
        run: the run.
        entity: what to plan.
        settings: the store's settings.
        ids: the shop's ids to send in a run of mode `ids`.

    Returns:
        Number and record count of every slice, none for an entity that the run leaves out; keys and ids stay in the
        state tables.
    """
    if entity not in run.entities:
        return []
    ranges = []
    if run.mode != Mode.IDS:
        window = Window(run.window_start, run.window_end)
        ranges = extractor.plan(ENTITIES[entity].extract, window, settings.slice_records)
    with state.begin() as connection:
        if run.mode == Mode.IDS:
            named = list(ids)
        else:  # a window without a start covers the leftovers too
            named = [] if run.window_start is None else leftovers(connection, run.store_ref, entity)
        return save_slices(connection, run.run_ref, entity, ranges, named, slice_records=settings.slice_records)


def confirm_entity(state: StateDatabase, run: Run, entity: str) -> EntitySummary | None:
    """Close an entity's phase: check that every slice is worked off, and move the watermark.

    The watermark moves only where the run's window joins what was acknowledged before.

    Args:
        state: the state tables.
        run: the run.
        entity: the entity whose slices are done.

    Returns:
        What was done with the entity; None when the run leaves it out, or it had no records.

    Raises:
        RuntimeError: a slice isn't finished.
    """
    if entity not in run.entities:
        return None
    with state.begin() as connection:
        unfinished = open_slices(connection, run.run_ref, entity)
        if unfinished:
            raise RuntimeError(f"These slices are not finished: {', '.join(unfinished)}; clear their push tasks.")
        mark = acknowledged_until(connection, run.store_ref, entity)
        joins = run.window_start is None or (mark is not None and run.window_start <= mark)
        if run.mode != Mode.IDS and joins:
            advance_watermark(connection, run.store_ref, entity, run.window_end)
        confirm(connection, run.run_ref, entity)
        return next(iter(run_summary(connection, run.run_ref, entity)), None)


@dataclass(frozen=True)
class Conclusion:
    """How a run ended: what it did per entity (parents first), and why it counts as failed, if it does."""

    summaries: tuple[EntitySummary, ...]
    failure: RunStopped | None


def conclude_run(state: StateDatabase, run: Run, settings: StoreSettings) -> Conclusion:
    """Close a run and sum it up.

    It counts as failed when a phase is not finished, or when more than `max_rejected_percent` of an entity's records
    were rejected that weren't before; a record that is known to be bad doesn't fail run after run.

    Args:
        state: the state tables.
        run: the run.
        settings: the store's settings.
    """
    with state.begin() as connection:
        done = {summary.entity: summary for summary in run_summary(connection, run.run_ref)}
        summaries = tuple(done[entity] for entity in ENTITIES if entity in done)
        failure = _incomplete(unconfirmed(connection, run.run_ref)) or _too_many_rejected(
            summaries,
            newly_rejected(connection, run.run_ref),
            settings.max_rejected_percent,
            top_error_classes(connection, run.store_ref, run.dag_run_id),
        )
        finish_run(connection, run.run_ref, "failed" if failure else "success")
    return Conclusion(summaries, failure)


def _incomplete(unfinished: Sequence[str]) -> RunStopped | None:
    if not unfinished:
        return None
    return RunStopped(
        f"The run is incomplete, {', '.join(unfinished)} did not get through. Look at its failed tasks and clear them; "
        "they go on where they stopped."
    )


def _too_many_rejected(
    summaries: Sequence[EntitySummary], rejected: Mapping[str, int], most_percent: float, reasons: Sequence[str]
) -> RunStopped | None:
    told = [
        f"{summary.entity} {100 * count / summary.extracted:.1f} % ({count} of {summary.extracted})"
        for summary in summaries
        if (count := rejected.get(summary.entity, 0)) and count > summary.extracted * most_percent / 100
    ]
    if not told:
        return None
    return TooManyRejected(
        f"Too many records were rejected: {'; '.join(told)}; allowed are {most_percent:g} % (max_rejected_percent). "
        f"Most frequent: {'; '.join(reasons)}. See the view rejected_records; the other records were sent."
    )


def summary_table(summaries: Sequence[EntitySummary]) -> str:
    """Lay a run's summary out as a text table."""
    names = ("extracted", "skipped", "operations", "acknowledged", "rejected", "unchanged", "unknown")
    lines = [f"{'entity':<12}" + "".join(f"{name:>14}" for name in names)]
    lines += [
        f"{summary.entity:<12}" + "".join(f"{getattr(summary, name):>14,}" for name in names) for summary in summaries
    ]
    return "\n".join(lines)
