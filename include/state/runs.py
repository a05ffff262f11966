"""Runs (one per DAG run and store), their totals, and how far each entity is acknowledged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from include.state.tables import run, slice_, watermark

RunState = Literal["running", "success", "failed"]


# What a full sync can be confined to by date.
_DATED = ("orders", "carts")
_FOREVER = datetime(9999, 1, 1, tzinfo=UTC)

QUIET_REPLAY = "replay"
"""The kind of a run that sends rejected records once more, which may be old ones."""

SUBSCRIBERS = "subscribers"
"""The kind of a run that subscribes people whom only the shop knows, and nobody without a proven opt-in."""


@dataclass(frozen=True)
class Run:
    """One DAG run for one store; the window is [start, end) on the shop's `updated_at`, start None = from the first."""

    run_ref: int
    store_ref: int
    dag_run_id: str
    kind: str
    mode: str
    entities: tuple[str, ...]
    window_start: datetime | None
    window_end: datetime
    audience: Mapping[str, Any] | None = None
    is_quiet: bool = False
    """Whether it brings old records to Mailchimp, which must not make its automations write to people."""

    def window(self, entity: str) -> tuple[datetime | None, datetime]:
        """Return the window of an entity.

        The dates of a full sync confine the history: orders and carts. What these refer to is compared completely.
        """
        if self.mode == "full" and entity not in _DATED:
            return None, _FOREVER
        return self.window_start, self.window_end


@dataclass(frozen=True)
class EntitySummary:
    """What a run did with one entity, in records (operations: in batch operations, repeats included).

    `extracted` were read from the shop; `skipped` of these are not sent by the store's settings (a status, a guest) or
    because they are deleted. `deleted` were deleted at Mailchimp.
    """

    entity: str
    extracted: int
    skipped: int
    operations: int
    acknowledged: int
    rejected: int
    unchanged: int
    unknown: int
    deleted: int = 0


def start_run(
    connection: Connection,
    store_ref: int,
    dag_id: str,
    dag_run_id: str,
    kind: str,
    mode: str,
    window_start: datetime | None,
    window_end: datetime,
    *,
    entities: Sequence[str] = (),
    quiet: bool = False,
    reset: bool = False,
) -> Run:
    """Register a DAG run, or find it again.

    With `reset`, a run that exists already begins anew, as if it had never been tried: a backfill that reprocesses a
    run, and a person who clears it, keep the DAG run's id, but may have changed its kind and its params. What the
    earlier try planned is forgotten, so that it can neither pass for this try's work nor be missing from it; its
    batches are settled like those of any other run.
    """
    values = {
        "store_ref": store_ref,
        "dag_id": dag_id,
        "dag_run_id": dag_run_id,
        "kind": kind,
        "mode": mode,
        "entities": list(entities),
        "window_start": window_start,
        "window_end": window_end,
        "quiet": quiet,
    }
    again: dict[str, object] = {"state": "running", "finished_at": None, "confirmed": [], "planned": []}
    if reset:
        again |= values | {"started_at": func.clock_timestamp(), "http_calls": 0, "bytes_sent": 0, "wait_seconds": 0}
    row = connection.execute(
        insert(run)
        .values(values)
        .on_conflict_do_update(index_elements=["store_ref", "dag_id", "dag_run_id"], set_=again)
        .returning(run)
    ).one()
    if reset:
        connection.execute(delete(slice_).where(slice_.c.run_ref == row.run_ref))
    return _run(row)


def load_run(connection: Connection, run_ref: int) -> Run:
    """Return a registered run.

    Raises:
        LookupError: there is no such run in the state tables.
    """
    row = connection.execute(select(run).where(run.c.run_ref == run_ref)).one_or_none()
    if row is None:
        raise LookupError(f"Run {run_ref} is not in the state tables; clear the run's first task to register it.")
    return _run(row)


def find_run(connection: Connection, dag_id: str, dag_run_id: str) -> Run | None:
    """Return the newest registered run of a DAG run; None when it never got so far."""
    row = connection.execute(
        select(run)
        .where(run.c.dag_id == dag_id, run.c.dag_run_id == dag_run_id)
        .order_by(run.c.run_ref.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else _run(row)


def _run(row: Row[Any]) -> Run:
    return Run(
        row.run_ref,
        row.store_ref,
        row.dag_run_id,
        row.kind,
        row.mode,
        tuple(row.entities),
        row.window_start,
        row.window_end,
        row.audience,
        row.quiet,
    )


def reopen_run(connection: Connection, run_ref: int) -> bool:
    """Note that a run which has ended goes on, because somebody cleared one of its tasks; returns whether it had."""
    reopened = connection.execute(
        update(run).where(run.c.run_ref == run_ref, run.c.state != "running").values(state="running", finished_at=None)
    )
    return reopened.rowcount == 1


def end_dead_runs(connection: Connection, store_ref: int, dag_id: str, besides: int) -> None:
    """Close the runs of a DAG that never ended, except backfills; only for a DAG that runs one at a time."""
    connection.execute(
        update(run)
        .where(run.c.store_ref == store_ref, run.c.dag_id == dag_id, run.c.kind != "backfill")
        .where(run.c.state == "running", run.c.run_ref != besides)
        .values(state="failed", finished_at=func.clock_timestamp())
    )


def keep_audience(connection: Connection, run_ref: int, audience: Mapping[str, Any]) -> None:
    """Keep the audience's rules with the run, so that all of its tasks follow the same."""
    connection.execute(update(run).where(run.c.run_ref == run_ref).values(audience=dict(audience)))


def note_planned(connection: Connection, run_ref: int, phase: str) -> None:
    """Record that a phase is planned: what it has to do is known."""
    without = func.array_remove(run.c.planned, phase)
    connection.execute(update(run).where(run.c.run_ref == run_ref).values(planned=func.array_append(without, phase)))


def planned_phases(connection: Connection, run_ref: int) -> list[str]:
    """Return the phases of a run that are planned."""
    return list(connection.execute(select(run.c.planned).where(run.c.run_ref == run_ref)).scalar_one())


def confirm(connection: Connection, run_ref: int, entity: str) -> None:
    """Record that a run has done an entity."""
    without = func.array_remove(run.c.confirmed, entity)
    connection.execute(update(run).where(run.c.run_ref == run_ref).values(confirmed=func.array_append(without, entity)))


def newly_rejected(connection: Connection, run_ref: int) -> dict[str, int]:
    """Return how many records a run rejected that were fine, or unknown, before it, by entity.

    Coupons that Mailchimp can't express are left out by the store's own choice; they don't count.
    """
    rows = connection.execute(
        text("""
            SELECT x.entity, count(*) AS records FROM run r
            JOIN rejected x ON x.store_ref = r.store_ref AND x.dag_run_id = r.dag_run_id
            WHERE r.run_ref = :run_ref AND x.first_seen_at >= r.started_at AND x.error_class <> 'not_expressible'
            GROUP BY x.entity
        """),
        {"run_ref": run_ref},
    )
    return {row.entity: row.records for row in rows}


def finish_run(connection: Connection, run_ref: int, state: Literal["success", "failed"]) -> None:
    """Record how a run ended."""
    connection.execute(
        update(run).where(run.c.run_ref == run_ref).values(state=state, finished_at=func.clock_timestamp())
    )


def quiet_runs(connection: Connection, store_ref: int, besides: int) -> list[str]:
    """Return the DAG run ids of the runs that are filling a store, other than `besides`.

    A run that has neither begun nor sent anything for a day counts as dead.
    """
    rows = connection.execute(
        text("""
            SELECT dag_run_id FROM run
            WHERE store_ref = :store_ref AND state = 'running' AND run_ref <> :besides AND quiet
              AND (started_at > now() - interval '1 day' OR EXISTS (
                  SELECT FROM batch
                  WHERE batch.run_ref = run.run_ref AND coalesce(settled_at, created_at) > now() - interval '1 day'))
            ORDER BY run_ref
        """),
        {"store_ref": store_ref, "besides": besides},
    )
    return list(rows.scalars())


def add_run_metrics(
    connection: Connection, run_ref: int, *, http_calls: int, bytes_sent: int, wait_seconds: float
) -> None:
    """Add one step's traffic (calls, request bytes, seconds waited for a connection or after a refusal) to a run."""
    connection.execute(
        update(run)
        .where(run.c.run_ref == run_ref)
        .values(
            http_calls=run.c.http_calls + http_calls,
            bytes_sent=run.c.bytes_sent + bytes_sent,
            wait_seconds=run.c.wait_seconds + wait_seconds,
        )
    )


_SUMMARY = text("""
    SELECT entity, sum(extracted)::int AS extracted, sum(skipped)::int AS skipped,
           sum(operations)::int AS operations, sum(acknowledged)::int AS acknowledged, sum(rejected)::int AS rejected,
           sum(unchanged)::int AS unchanged, sum(unknown)::int AS unknown, sum(deleted)::int AS deleted
    FROM (
        SELECT entity, extracted, skipped, 0 AS operations, 0 AS acknowledged, rejected, unchanged, unknown,
               0 AS deleted
        FROM slice WHERE run_ref = :run_ref AND (CAST(:number AS int) IS NULL OR number = :number)
        UNION ALL
        SELECT entity, 0, 0, operations, CASE purpose WHEN 'write' THEN succeeded ELSE 0 END, rejected, 0, 0,
               CASE purpose WHEN 'remove' THEN succeeded ELSE 0 END
        FROM batch WHERE run_ref = :run_ref AND batch_id IS NOT NULL
            AND (CAST(:number AS int) IS NULL OR slice_number = :number)
            AND EXISTS (SELECT FROM slice WHERE (slice.run_ref, slice.entity, slice.number)
                            = (batch.run_ref, batch.entity, batch.slice_number))
    ) AS parts
    WHERE CAST(:entity AS text) IS NULL OR entity = :entity
    GROUP BY entity
    ORDER BY entity
""")


def run_summary(
    connection: Connection, run_ref: int, entity: str | None = None, slice_number: int | None = None
) -> list[EntitySummary]:
    """Return what a run did per entity; optionally of one entity or one slice only."""
    rows = connection.execute(_SUMMARY, {"run_ref": run_ref, "entity": entity, "number": slice_number})
    return [EntitySummary(**row) for row in rows.mappings()]


def acknowledged_until(connection: Connection, store_ref: int, entity: str) -> datetime | None:
    """Return the point up to which all changes of an entity went through completed runs; None before the first."""
    return connection.execute(
        select(watermark.c.acknowledged_until).where(watermark.c.store_ref == store_ref, watermark.c.entity == entity)
    ).scalar_one_or_none()


def advance_watermark(connection: Connection, store_ref: int, entity: str, until: datetime) -> None:
    """Move an entity's watermark forward to `until`; it never moves backwards."""
    statement = insert(watermark).values(store_ref=store_ref, entity=entity, acknowledged_until=until)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["store_ref", "entity"],
            set_={
                "acknowledged_until": func.greatest(
                    watermark.c.acknowledged_until, statement.excluded.acknowledged_until
                )
            },
        )
    )
