"""One run of a push from its plan to its summary; the slices in between are the work of `include.load.push`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection

from include.config.stores import StoreSettings
from include.load.errors import RunStopped, TooManyRejected
from include.load.phases import PHASES
from include.state.database import StateDatabase
from include.state.rejected import top_error_classes
from include.state.runs import (
    QUIET_REPLAY,
    EntitySummary,
    Run,
    acknowledged_until,
    advance_watermark,
    confirm,
    end_dead_runs,
    finish_run,
    keep_audience,
    newly_rejected,
    planned_phases,
    quiet_runs,
    run_summary,
    start_run,
)
from include.state.slices import open_slices
from include.transform.audience import Audience
from include.transform.entities import ENTITIES

# Longer ago than this, an order is no news to its buyer.
_NEWS = timedelta(days=1)


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

    def without_ecommerce(self) -> RunRequest:
        """Return the request for a store that only keeps an audience."""
        return replace(self, entities=tuple(entity for entity in self.entities if entity == "members"))


def begin_run(
    state: StateDatabase,
    store_ref: int,
    request: RunRequest,
    settings: StoreSettings,
    now: datetime,
    audience: Audience | None = None,
) -> Run:
    """Fix a run's window and record the run; a run that was tried before begins anew.

    A scheduled run reaches back to the oldest point that isn't acknowledged, so that failed or skipped runs leave no
    gap, and overlaps its predecessor, so that transactions that committed late aren't missed; the ledger makes the
    overlap free. A backfill covers exactly its interval, a manual run what it was asked for.

    A run that is cleared, or reprocessed by a backfill, looks again at everything it covers, as it is now: nothing that
    an earlier try has planned or sent makes it a no-op, but the ledger, which knows what Mailchimp has.

    Args:
        state: the state tables.
        store_ref: the store.
        request: what was asked for.
        settings: the store's settings.
        now: the shop database's time, aware UTC.
        audience: the rules of the store's audience, to be followed by all of the run.
    """
    # What is read now can't cover later changes, whatever was asked for; on a replica, now is what it has replayed.
    until = min(request.until or now, now)
    with state.begin() as connection:
        # Carts have a window of their own: they are only sent once everything else is there.
        marked = [entity for entity in request.entities if entity != "carts"]
        marks = [acknowledged_until(connection, store_ref, entity) for entity in marked]
        since = _window_start(request, marks, timedelta(minutes=settings.window_overlap_minutes))
        loaded = acknowledged_until(connection, store_ref, "orders") is not None
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
            quiet=_is_quiet(request, since, until, loaded=loaded),
            reset=True,
        )
        if audience is not None:
            keep_audience(connection, run.run_ref, audience.to_json())
        if run.kind != "backfill":  # the DAG has one active run besides backfills, and that is this one
            end_dead_runs(connection, store_ref, request.dag_id, besides=run.run_ref)
        return run


def _window_start(request: RunRequest, marks: Sequence[datetime | None], overlap: timedelta) -> datetime | None:
    scheduled = request.kind == "scheduled"
    if request.mode is Mode.IDS or (request.mode is Mode.FULL and scheduled):
        return None  # a scheduled full sync compares everything: its interval says when, not what
    if request.mode is Mode.FULL or (request.since is not None and not scheduled):
        return request.since
    oldest = [mark for mark in marks if mark is not None]
    if len(oldest) < len(marks) or not marks:  # an entity was never pushed to the end: everything is new
        return None
    return min([*oldest, request.since] if request.since else oldest) - overlap


def _is_quiet(request: RunRequest, since: datetime | None, until: datetime, *, loaded: bool) -> bool:
    """Tell whether a run may bring old records: into a store that isn't filled yet, of the past, or much at once."""
    if request.mode is Mode.FULL or request.kind in {"backfill", QUIET_REPLAY}:
        return True
    if request.mode is Mode.IDS:
        return not loaded
    return since is None or not loaded or until - since > _NEWS


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
        incomplete = _confirm(connection, run)
        done = {summary.entity: summary for summary in run_summary(connection, run.run_ref)}
        summaries = tuple(done[entity] for entity in ENTITIES if entity in done)
        failure = _incomplete(incomplete) or _too_many_rejected(
            summaries,
            newly_rejected(connection, run.run_ref),
            settings.max_rejected_percent,
            top_error_classes(connection, run.store_ref, run.dag_run_id),
        )
        finish_run(connection, run.run_ref, "failed" if failure else "success")
    return Conclusion(summaries, failure)


def _confirm(connection: Connection, run: Run) -> list[str]:
    """Move the watermarks of the entities that are done; returns the phases that aren't.

    A watermark moves only where the run's window joins what was acknowledged before, or begins the history.
    """
    planned = set(planned_phases(connection, run.run_ref))
    still_open = {phase for phase, _ in open_slices(connection, run.run_ref)}
    incomplete = [
        name
        for name in PHASES
        if _concerns(run, name) and (planned.isdisjoint({name, left_out(name)}) or name in still_open)
    ]
    for entity in run.entities:
        if entity in incomplete:
            continue
        confirm(connection, run.run_ref, entity)
        mark = acknowledged_until(connection, run.store_ref, entity)
        since, _ = run.window(entity)
        # A first load that is confined by date stays so: what lies before it isn't owed.
        begins = run.mode == Mode.FULL and run.kind != "backfill"
        joins = since is None or (begins if mark is None else since <= mark)
        if entity == "carts":  # they look back on their own
            joins = "carts" in planned
        if run.mode != Mode.IDS and joins:
            advance_watermark(connection, run.store_ref, entity, run.window_end)
    return incomplete


def sends_carts(connection: Connection, run: Run) -> bool:
    """Tell whether a run sends carts.

    Not before the store's first load, not those of the past, and not while another run keeps the store quiet: nobody
    would ever be reminded of them.
    """
    loads = "orders" in run.entities and run.mode != Mode.IDS and (run.window_start is None or run.mode == Mode.FULL)
    loaded = loads or acknowledged_until(connection, run.store_ref, "orders") is not None
    quiet = quiet_runs(connection, run.store_ref, besides=run.run_ref)
    return "carts" in run.entities and loaded and run.kind != "backfill" and not quiet


def left_out(phase: str) -> str:
    """Name a phase that a run leaves to the next one, among its planned phases."""
    return f"{phase} (left out)"


def _concerns(run: Run, phase: str) -> bool:
    return any(entity in run.entities for entity in PHASES[phase].entities)


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
    names = ("extracted", "skipped", "operations", "acknowledged", "deleted", "rejected", "unchanged", "unknown")
    lines = [f"{'entity':<12}" + "".join(f"{name:>14}" for name in names)]
    lines += [
        f"{summary.entity:<12}" + "".join(f"{getattr(summary, name):>14,}" for name in names) for summary in summaries
    ]
    return "\n".join(lines)
