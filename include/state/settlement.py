"""Settling: what Mailchimp answered to a batch becomes the state of its records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, Row, text

from include.state.rejected import Rejection, close_rejections, write_rejections
from include.state.stores import learn_order_verb

MAX_ATTEMPTS = 3
"""How often a run sends a record whose outcome stays open, before it leaves it to the next run as unknown."""

FINAL_OUTCOMES = ("invalid", "compliance", "parent_missing")
"""Outcomes that no repetition of the same payload can mend."""


@dataclass(frozen=True)
class Reason:
    """What Mailchimp said about an operation that did not succeed; texts carry no personal data."""

    title: str
    detail: str
    field: str | None = None


_NO_ANSWER = Reason("No answer", "The batch ended without an answer to this operation; the next run sends it again.")


@dataclass(frozen=True)
class Results:
    """The answers found in a batch's archive, as parallel columns; `reasons` by sequence number.

    `outcomes` are values of `include.load.outcomes.Outcome`. An operation without an answer is `unknown`.
    """

    sequence: Sequence[int] = ()
    outcomes: Sequence[str] = ()
    status_codes: Sequence[int | None] = ()
    reasons: Mapping[int, Reason] = field(default_factory=dict)
    completed_at: datetime | None = None


def settle(
    connection: Connection, batch_ref: int, results: Results, *, final_state: Literal["settled", "lost"] = "settled"
) -> bool:
    """Write the outcomes of a posted batch: operations, ledger, rejected records, counters; all or nothing.

    Args:
        connection: a transaction on the state tables.
        batch_ref: the batch.
        results: its answers; none when the batch is gone, then all of it is unknown.
        final_state: `lost` for a batch without an archive.

    Returns:
        False when the batch is settled already, or somebody else is just settling it: then nothing is written.
    """
    batch = connection.execute(
        text("""
            SELECT b.batch_ref, b.store_ref, b.entity, r.dag_run_id FROM batch b JOIN run r USING (run_ref)
            WHERE b.batch_ref = :batch_ref AND b.state = 'posted'
            FOR UPDATE OF b SKIP LOCKED
        """),
        {"batch_ref": batch_ref},
    ).one_or_none()
    if batch is None:
        return False
    _write_outcomes(connection, batch_ref, results)
    _write_ledger(connection, batch, results)
    _close(connection, batch_ref, results.completed_at, final_state)
    if batch.entity == "orders":
        _learn_from(connection, batch)
    return True


def release(connection: Connection, batch_ref: int) -> bool:
    """Give back the records of a batch that was never (provably) posted; they are pending again.

    The caller makes sure that nobody is just posting it, by the lock of its slice. Returns False when the batch is no
    longer merely intended.
    """
    batch = connection.execute(
        text("""
            UPDATE batch SET state = 'lost', settled_at = clock_timestamp()
            WHERE batch_ref = :batch_ref AND state = 'intended'
            RETURNING batch_ref
        """),
        {"batch_ref": batch_ref},
    ).one_or_none()
    if batch is None:
        return False
    connection.execute(_RELEASE_LEDGER, {"batch_ref": batch_ref})
    return True


def _write_outcomes(connection: Connection, batch_ref: int, results: Results) -> None:
    answers = dict(zip(results.sequence, zip(results.outcomes, results.status_codes, strict=True), strict=True))
    aligned = [answers.get(sequence, ("unknown", None)) for sequence in range(max(answers, default=-1) + 1)]
    connection.execute(
        text("""
            UPDATE operation
            SET outcome = coalesce((CAST(:outcomes AS text[]))[seq + 1], 'unknown'),
                status_code = (CAST(:codes AS smallint[]))[seq + 1]
            WHERE batch_ref = :batch_ref
        """),
        {
            "batch_ref": batch_ref,
            "outcomes": [outcome for outcome, _ in aligned],
            "codes": [code for _, code in aligned],
        },
    )


# A batch's operations with the key of their ledger rows.
_OPERATIONS = """(
            SELECT b.store_ref, b.entity, o.* FROM batch b JOIN operation o USING (batch_ref)
            WHERE b.batch_ref = :batch_ref OFFSET 0
        ) AS o"""

# The ledger row is ours to change only while it points to this batch. A parent that is missing is no property of the
# payload, so the hash goes: the same payload may be sent again once the parent is there.
_SETTLE_LEDGER = text(f"""
    WITH answered AS (
        UPDATE ledger l
        SET batch_ref = NULL,
            state = CASE WHEN o.outcome = 'ok' THEN 'synced'
                         WHEN o.outcome = ANY (:final) THEN 'rejected'
                         WHEN o.outcome = 'unknown' OR l.attempts >= :max_attempts THEN 'unknown'
                         ELSE 'pending' END,
            on_mailchimp = CASE WHEN o.outcome IN ('ok', 'exists') THEN true
                                WHEN o.outcome = 'missing' THEN false
                                ELSE l.on_mailchimp END,
            payload_hash = CASE WHEN o.outcome = 'parent_missing' THEN NULL ELSE l.payload_hash END,
            acknowledged_at = CASE WHEN o.outcome = 'ok' THEN now() ELSE l.acknowledged_at END,
            attempts = CASE WHEN o.outcome = 'ok' OR o.outcome = ANY (:final) THEN 0 ELSE l.attempts END
        FROM {_OPERATIONS}
        WHERE (l.store_ref, l.entity, l.record_id) = (o.store_ref, o.entity, o.record_id)
          AND l.batch_ref = :batch_ref
        RETURNING l.record_id, l.source_key, l.state, o.seq, o.method, o.outcome, l.attempts
    )
    SELECT record_id, source_key, seq, method, outcome
    FROM answered
    WHERE state = 'rejected' OR (outcome <> 'ok' AND attempts >= :max_attempts)
""")  # noqa: S608 - a constant

_RELEASE_LEDGER = text(f"""
    UPDATE ledger l SET batch_ref = NULL, attempts = greatest(l.attempts - 1, 0)
    FROM {_OPERATIONS}
    WHERE (l.store_ref, l.entity, l.record_id) = (o.store_ref, o.entity, o.record_id) AND l.batch_ref = :batch_ref
""")  # noqa: S608 - a constant

_MENDED = text(f"""
    DELETE FROM rejected x USING {_OPERATIONS}
    WHERE (x.store_ref, x.entity, x.record_id) = (o.store_ref, o.entity, o.record_id) AND o.outcome = 'ok'
""")  # noqa: S608 - a constant


_IDENTIFIED = text(f"""
    SELECT l.record_id, l.source_key, l.read_at
    FROM {_OPERATIONS}
    JOIN ledger l USING (store_ref, entity, record_id)
    WHERE o.outcome = 'ok' AND l.source_key IS NOT NULL AND l.batch_ref IS NULL AND l.state = 'synced'
""")  # noqa: S608 - a constant


def _write_ledger(connection: Connection, batch: Row[tuple[int, int, str, str]], results: Results) -> None:
    failed = connection.execute(
        _SETTLE_LEDGER,
        {
            "batch_ref": batch.batch_ref,
            "final": list(FINAL_OUTCOMES),
            "max_attempts": MAX_ATTEMPTS,
        },
    ).all()
    connection.execute(_MENDED, {"batch_ref": batch.batch_ref})
    # What these rows of the shop formerly yielded under other ids (a customer with a broken address) is mended too.
    known = connection.execute(_IDENTIFIED, {"batch_ref": batch.batch_ref}).all()
    keys, reads = [row.source_key for row in known], [row.read_at for row in known]
    close_rejections(connection, batch.store_ref, batch.entity, keys, reads, seen=[row.record_id for row in known])
    reasons = [results.reasons.get(row.seq, _NO_ANSWER) for row in failed]
    rejections = [
        Rejection(
            record_id=row.record_id,
            source_key=row.source_key or row.record_id,
            error_class=row.outcome,
            title=reason.title,
            detail=reason.detail,
            operation=row.method,
            field=reason.field,
        )
        for row, reason in zip(failed, reasons, strict=True)
    ]
    write_rejections(connection, batch.store_ref, batch.entity, rejections, dag_run_id=batch.dag_run_id)


def _close(connection: Connection, batch_ref: int, completed_at: datetime | None, final_state: str) -> None:
    connection.execute(
        text("""
            UPDATE batch
            SET state = :final_state, completed_at = :completed_at, settled_at = clock_timestamp(),
                succeeded = counted.succeeded, failed = counted.failed, rejected = counted.rejected
            FROM (
                SELECT count(*) FILTER (WHERE outcome = 'ok') AS succeeded,
                       count(*) FILTER (WHERE outcome <> 'ok') AS failed,
                       count(*) FILTER (WHERE outcome = ANY (:final)) AS rejected
                FROM operation WHERE batch_ref = :batch_ref
            ) AS counted
            WHERE batch.batch_ref = :batch_ref
        """),
        {
            "batch_ref": batch_ref,
            "final_state": final_state,
            "completed_at": completed_at,
            "final": list(FINAL_OUTCOMES),
        },
    )


def _learn_from(connection: Connection, batch: Row[tuple[int, int, str, str]]) -> None:
    answers = connection.execute(
        text("""
            SELECT count(*) FILTER (WHERE outcome = 'ok') AS accepted,
                   count(*) FILTER (WHERE outcome = 'unsupported') AS refused
            FROM operation WHERE batch_ref = :batch_ref AND method = 'PUT'
        """),
        {"batch_ref": batch.batch_ref},
    ).one()
    learn_order_verb(connection, batch.store_ref, put_accepted=answers.accepted, put_refused=answers.refused)


@dataclass(frozen=True)
class Unfinished:
    """A record of a slice without a final outcome: the shop's key, and how often it was sent in this run."""

    source_key: str
    attempts: int


_UNFINISHED = text("""
    SELECT DISTINCT coalesce(l.source_key, l.record_id), l.attempts
    FROM (
        SELECT b.store_ref, b.entity, o.record_id
        FROM batch b JOIN operation o USING (batch_ref)
        WHERE b.run_ref = :run_ref AND b.entity = :entity AND b.slice_number = :number
          AND b.state IN ('settled', 'lost') AND o.outcome IS DISTINCT FROM 'ok' OFFSET 0
    ) AS o
    JOIN ledger l USING (store_ref, entity, record_id)
    WHERE l.state IN ('pending', 'unknown') AND l.batch_ref IS NULL
    ORDER BY 2, 1
""")


def unfinished(connection: Connection, run_ref: int, entity: str, number: int) -> list[Unfinished]:
    """Return a slice's records that were claimed but have neither success nor a final refusal, and are not in flight.

    Once only those with `MAX_ATTEMPTS` are left, the slice has done what it can.
    """
    rows = connection.execute(_UNFINISHED, {"run_ref": run_ref, "entity": entity, "number": number})
    return [Unfinished(*row) for row in rows]
