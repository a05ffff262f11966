"""Settling: what Mailchimp answered to a batch becomes the state of its records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, text

from include.state.rejected import Rejection, close_rejections, write_rejections
from include.state.stores import learn_order_verb

MAX_ATTEMPTS = 3
"""How often a run sends a record whose outcome stays open, before it leaves it to the next run as unknown."""

GIVEN_UP = 1000
"""Attempts of a deletion inside a record that no repetition can mend."""

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

    `outcomes` are values of `include.load.outcomes.Outcome`. An operation without an answer is `unknown`. For updates,
    `surplus` has what Mailchimp's answer shows inside the record beside what was sent ("lines/7").
    """

    sequence: Sequence[int] = ()
    outcomes: Sequence[str] = ()
    status_codes: Sequence[int | None] = ()
    reasons: Mapping[int, Reason] = field(default_factory=dict)
    completed_at: datetime | None = None
    surplus: Mapping[int, Sequence[str]] = field(default_factory=dict)


_LOCKED = text("""
    SELECT b.batch_ref, b.store_ref, b.entity, r.dag_run_id, b.purpose FROM batch b JOIN run r USING (run_ref)
    WHERE b.batch_ref = :batch_ref AND b.state = :expected
    FOR UPDATE OF b SKIP LOCKED
""")


def lock(connection: Connection, batch_ref: int) -> bool:
    """Keep others from settling a posted batch until the transaction ends; False where somebody does or did."""
    return connection.execute(_LOCKED, {"batch_ref": batch_ref, "expected": "posted"}).one_or_none() is not None


def settle(
    connection: Connection,
    batch_ref: int,
    results: Results,
    *,
    final_state: Literal["settled", "lost"] = "settled",
    expected: Literal["posted", "intended"] = "posted",
) -> bool:
    """Write the outcomes of a batch: operations, ledger, rejected records, counters; all or nothing.

    Args:
        connection: a transaction on the state tables.
        batch_ref: the batch.
        results: its answers; none when the batch is gone, then all of it is unknown.
        final_state: `lost` for a batch without an archive.
        expected: the state it is in; `intended` for one that Mailchimp refused.

    Returns:
        False when the batch is settled already, or somebody else is just settling it: then nothing is written.
    """
    batch = connection.execute(_LOCKED, {"batch_ref": batch_ref, "expected": expected}).one_or_none()
    if batch is None:
        return False
    _write_outcomes(connection, batch_ref, results)
    if batch.purpose == "children":
        _write_children(connection, batch_ref)
    else:
        _write_ledger(connection, batch, results)
        _note_surplus(connection, batch, results)
    _close(connection, batch_ref, results.completed_at, final_state)
    if batch.entity == "orders":
        _learn_from(connection, batch)
    return True


def release(connection: Connection, batch_ref: int, *, surely_unsent: bool = True) -> bool:
    """Give back the records of a batch that was refused or isn't found at Mailchimp; they are sent again.

    The caller makes sure that nobody is just posting it, by the lock of its slice.

    Args:
        connection: a transaction on the state tables.
        batch_ref: the batch.
        surely_unsent: whether Mailchimp refused it. Otherwise it may have been worked off and be gone: the records are
            unknown, so that one which leaves the shop meanwhile is deleted at Mailchimp.

    Returns:
        False when the batch is no longer merely intended.
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
    connection.execute(_RELEASE_LEDGER, {"batch_ref": batch_ref, "surely_unsent": surely_unsent})
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
            state = CASE WHEN o.outcome = 'ok' AND o.method = 'DELETE' THEN 'deleted'
                         WHEN o.outcome = 'ok' THEN 'synced'
                         WHEN o.outcome = ANY (:final) THEN 'rejected'
                         WHEN o.outcome = 'missing' THEN 'pending'
                         WHEN o.outcome = 'unknown' OR l.state = 'unknown' OR l.attempts >= :max_attempts THEN 'unknown'
                         ELSE 'pending' END,
            on_mailchimp = CASE WHEN o.outcome = 'ok' AND o.method = 'DELETE' THEN false
                                WHEN o.outcome = 'ok' THEN o.status_code IS DISTINCT FROM 404
                                WHEN o.outcome = 'exists' THEN true
                                WHEN o.outcome = 'missing' THEN false
                                -- An earlier try was never answered: Mailchimp may hold the record, as it was then.
                                WHEN l.state = 'unknown' AND o.outcome = ANY (:final) THEN true
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
    UPDATE ledger l SET batch_ref = NULL, attempts = greatest(l.attempts - 1, 0),
        state = CASE WHEN :surely_unsent THEN l.state ELSE 'unknown' END
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


_REMOVED = text(f"""
    WITH o AS MATERIALIZED (SELECT * FROM {_OPERATIONS} WHERE o.method = 'DELETE'),
    done AS (
        DELETE FROM removal x USING o
        WHERE (x.store_ref, x.entity, x.record_id) = (o.store_ref, o.entity, o.record_id) AND o.outcome = 'ok'
    ), refused AS (
        UPDATE removal x SET kept_at = now() FROM o
        WHERE (x.store_ref, x.entity, x.record_id) = (o.store_ref, o.entity, o.record_id)
          AND o.outcome = ANY (:final)
    ), went_along AS (
        UPDATE ledger l SET state = 'deleted', on_mailchimp = false, payload_hash = NULL FROM o
        WHERE o.entity = 'promo_rules' AND o.outcome = 'ok' AND l.store_ref = o.store_ref AND l.entity = 'promo_codes'
          AND l.record_id >= o.record_id || '/' AND l.record_id < o.record_id || '0' AND l.batch_ref IS NULL
        RETURNING l.store_ref, l.entity, l.record_id
    )
    DELETE FROM removal x USING went_along w
    WHERE (x.store_ref, x.entity, x.record_id) = (w.store_ref, w.entity, w.record_id)
""")  # noqa: S608 - a constant


# A rule that Mailchimp turns out not to hold has taken its codes along.
_FORGET_CODES = text(f"""
    UPDATE ledger l SET on_mailchimp = false, payload_hash = NULL, state = 'pending', attempts = 0
    FROM (SELECT * FROM {_OPERATIONS} WHERE o.entity = 'promo_rules' AND o.outcome = 'missing') AS o
    WHERE l.store_ref = o.store_ref AND l.entity = 'promo_codes' AND l.batch_ref IS NULL AND l.state = 'synced'
      AND l.record_id >= o.record_id || '/' AND l.record_id < o.record_id || '0'
""")  # noqa: S608 - a constant


def _write_children(connection: Connection, batch_ref: int) -> None:
    """Let go of the records, and forget the children that are gone."""
    for statement in (
        f"""
        UPDATE ledger l SET batch_ref = NULL FROM {_OPERATIONS}
        WHERE (l.store_ref, l.entity, l.record_id) = (o.store_ref, o.entity, o.record_id) AND l.batch_ref = :batch_ref
        """,  # noqa: S608 - a constant, as the others
        f"""
        UPDATE stale_child x SET attempts = CASE WHEN o.outcome = ANY (:final) THEN {GIVEN_UP} ELSE x.attempts + 1 END
        FROM {_OPERATIONS}
        WHERE (x.store_ref, x.entity, x.record_id, x.child) = (o.store_ref, o.entity, o.record_id, o.child)
        """,  # noqa: S608
        f"""
        DELETE FROM stale_child x USING {_OPERATIONS}
        WHERE (x.store_ref, x.entity, x.record_id, x.child) = (o.store_ref, o.entity, o.record_id, o.child)
          AND o.outcome = 'ok'
        """,  # noqa: S608
    ):
        connection.execute(text(statement), {"batch_ref": batch_ref, "final": list(FINAL_OUTCOMES)})


def _note_surplus(connection: Connection, batch: Row[Any], results: Results) -> None:
    pairs = [(sequence, child) for sequence, children in results.surplus.items() for child in children]
    if pairs:
        connection.execute(
            text("""
                INSERT INTO stale_child (store_ref, entity, record_id, child)
                SELECT :store_ref, :entity, o.record_id, t.child
                FROM unnest(CAST(:sequence AS int[]), CAST(:children AS text[])) AS t(seq, child)
                JOIN operation o ON (o.batch_ref, o.seq) = (:batch_ref, t.seq)
                ON CONFLICT DO NOTHING
            """),
            {
                "store_ref": batch.store_ref,
                "entity": batch.entity,
                "batch_ref": batch.batch_ref,
                "sequence": [sequence for sequence, _ in pairs],
                "children": [child for _, child in pairs],
            },
        )


def _write_ledger(connection: Connection, batch: Row[Any], results: Results) -> None:
    failed = connection.execute(
        _SETTLE_LEDGER,
        {
            "batch_ref": batch.batch_ref,
            "final": list(FINAL_OUTCOMES),
            "max_attempts": MAX_ATTEMPTS,
        },
    ).all()
    connection.execute(_MENDED, {"batch_ref": batch.batch_ref})
    connection.execute(_FORGET_CODES, {"batch_ref": batch.batch_ref})
    if batch.purpose == "remove":
        connection.execute(_REMOVED, {"batch_ref": batch.batch_ref, "final": list(FINAL_OUTCOMES)})
        _reject(connection, batch, failed, results)
        return
    # What these rows of the shop formerly yielded under other ids (a customer with a broken address) is mended too.
    known = connection.execute(_IDENTIFIED, {"batch_ref": batch.batch_ref}).all()
    keys, reads = [row.source_key for row in known], [row.read_at for row in known]
    close_rejections(connection, batch.store_ref, batch.entity, keys, reads, seen=[row.record_id for row in known])
    _reject(connection, batch, failed, results)


def _reject(connection: Connection, batch: Row[Any], failed: Sequence[Row[Any]], results: Results) -> None:
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


def _learn_from(connection: Connection, batch: Row[Any]) -> None:
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
        SELECT b.store_ref, b.entity, b.purpose, o.record_id
        FROM batch b JOIN operation o USING (batch_ref)
        WHERE b.run_ref = :run_ref AND b.entity = :entity AND b.slice_number = :number
          AND b.state IN ('settled', 'lost') AND o.outcome IS DISTINCT FROM 'ok' OFFSET 0
    ) AS o
    JOIN ledger l USING (store_ref, entity, record_id)
    WHERE l.state IN ('pending', 'unknown') AND l.batch_ref IS NULL
      AND (o.purpose = 'remove' OR NOT EXISTS (SELECT FROM removal x WHERE (x.store_ref, x.entity, x.record_id)
                        = (l.store_ref, l.entity, l.record_id)))
    ORDER BY 2, 1
""")


def unfinished(connection: Connection, run_ref: int, entity: str, number: int) -> list[Unfinished]:
    """Return a slice's records that were claimed but have neither success nor a final refusal, and are not in flight.

    Those that were to be written and have left the shop since are up to the removal phase.

    Once only those with `MAX_ATTEMPTS` are left, the slice has done what it can.
    """
    rows = connection.execute(_UNFINISHED, {"run_ref": run_ref, "entity": entity, "number": number})
    return [Unfinished(*row) for row in rows]


def refused_for_campaign(connection: Connection, run_ref: int, entity: str, number: int) -> list[str]:
    """Return the shop's keys of a slice's records that Mailchimp refused only for their campaign."""
    rows = connection.execute(
        text("""
            SELECT DISTINCT coalesce(l.source_key, l.record_id)
            FROM (
                SELECT b.store_ref, b.entity, o.record_id
                FROM batch b JOIN operation o USING (batch_ref)
                WHERE b.run_ref = :run_ref AND b.entity = :entity AND b.slice_number = :number
                  AND o.outcome = 'campaign' OFFSET 0
            ) AS o
            JOIN ledger l USING (store_ref, entity, record_id)
            WHERE l.state IN ('pending', 'unknown') AND l.batch_ref IS NULL
        """),
        {"run_ref": run_ref, "entity": entity, "number": number},
    )
    return list(rows.scalars())
