"""Replays: which rejected records a run was asked to send once more, and what became of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, text

from include.state.database import lock_account
from include.state.stores import StoreRef


@dataclass(frozen=True)
class Selection:
    """Which rejected records are meant; what is empty doesn't confine.

    Attributes:
        error_classes: their classes.
        entities: whose records.
        seen: whether the window is about when a record was rejected first, or last.
        since: beginning of the window.
        until: its end, not part of it.
        ids: ids at Mailchimp, or the shop's keys.
        terminal: classes that count only if `error_classes` names them.
    """

    error_classes: Sequence[str] = ()
    entities: Sequence[str] = ()
    seen: Literal["first", "last"] = "last"
    since: datetime | None = None
    until: datetime | None = None
    ids: Sequence[str] = ()
    terminal: Sequence[str] = ()

    def replays(self, error_class: str) -> bool:
        """Tell whether records of a class that are selected otherwise are replayed."""
        return error_class in self.error_classes or error_class not in self.terminal


@dataclass(frozen=True)
class RejectedCount:
    """Rejected records of one entity and class."""

    entity: str
    error_class: str
    records: int
    first_seen_at: datetime
    last_seen_at: datetime


_SELECTED = """
    FROM rejected x JOIN ledger l USING (store_ref, entity, record_id)
    WHERE x.store_ref = :store_ref
      AND (cardinality(CAST(:entities AS text[])) = 0 OR x.entity = ANY (CAST(:entities AS text[])))
      AND (cardinality(CAST(:classes AS text[])) = 0 OR x.error_class = ANY (CAST(:classes AS text[])))
      AND (cardinality(CAST(:ids AS text[])) = 0 OR x.record_id = ANY (CAST(:ids AS text[]))
           OR l.source_key = ANY (CAST(:ids AS text[])))
      AND (CAST(:since AS timestamptz) IS NULL
           OR CASE :seen WHEN 'first' THEN x.first_seen_at ELSE x.last_seen_at END >= :since)
      AND (CAST(:until AS timestamptz) IS NULL
           OR CASE :seen WHEN 'first' THEN x.first_seen_at ELSE x.last_seen_at END < :until)
"""


def _arguments(store_ref: int, selection: Selection) -> dict[str, Any]:
    return {
        "store_ref": store_ref,
        "entities": list(selection.entities),
        "classes": list(selection.error_classes),
        "ids": list(selection.ids),
        "seen": selection.seen,
        "since": selection.since,
        "until": selection.until,
    }


def count_rejected(connection: Connection, store_ref: int, selection: Selection) -> list[RejectedCount]:
    """Count the rejected records that are selected, by entity and class; terminal ones too."""
    rows = connection.execute(
        text(f"""
            SELECT x.entity, x.error_class, count(*), min(x.first_seen_at), max(x.last_seen_at)
            {_SELECTED}
            GROUP BY x.entity, x.error_class ORDER BY x.entity, x.error_class
        """),
        _arguments(store_ref, selection),
    )
    return [RejectedCount(*row) for row in rows]


# A deletion that was refused is on the list of removals, but left alone for a while: not any more.
_OWE = """
    WITH again AS MATERIALIZED (
        SELECT store_ref, entity, record_id FROM replay WHERE run_ref = :run_ref
    ), delete_again AS (
        UPDATE removal r SET kept_at = NULL FROM again a
        WHERE (r.store_ref, r.entity, r.record_id) = (a.store_ref, a.entity, a.record_id)
    )
    UPDATE ledger l SET state = 'pending', payload_hash = NULL, attempts = 0
    FROM again a
    WHERE (l.store_ref, l.entity, l.record_id) = (a.store_ref, a.entity, a.record_id)
      AND l.state = 'rejected' AND l.batch_ref IS NULL
"""


def owe_again(connection: Connection, store: StoreRef, run_ref: int, selection: Selection) -> int:
    """Give rejected records to a run, and make them owed: whatever becomes of the run, somebody sends their rows.

    They stay on the list of rejected records until they are acknowledged. Repeated for the same run, what it was given
    before is chosen anew.

    Args:
        connection: a transaction on the state tables.
        store: the store.
        run_ref: the run.
        selection: which records.

    Returns:
        How many records they are.
    """
    lock_account(connection, store.account_id)
    connection.execute(text("DELETE FROM replay WHERE run_ref = :run_ref"), {"run_ref": run_ref})
    left_out = [name for name in selection.terminal if not selection.replays(name)]
    chosen = connection.execute(
        text(f"""
            INSERT INTO replay (run_ref, store_ref, entity, record_id, source_key, error_class)
            SELECT :run_ref, x.store_ref, x.entity, x.record_id, coalesce(l.source_key, l.record_id), x.error_class
            {_SELECTED} AND x.error_class <> ALL (CAST(:left_out AS text[]))
        """),
        _arguments(store.store_ref, selection) | {"run_ref": run_ref, "left_out": left_out},
    )
    connection.execute(text(_OWE), {"run_ref": run_ref})
    return chosen.rowcount


def replayed_keys(connection: Connection, run_ref: int, entity: str) -> list[str]:
    """Return the shop's keys of the records of an entity that a run was given."""
    rows = connection.execute(
        text("""
            SELECT DISTINCT source_key FROM replay WHERE run_ref = :run_ref AND entity = :entity ORDER BY source_key
        """),
        {"run_ref": run_ref, "entity": entity},
    )
    return list(rows.scalars())


@dataclass(frozen=True)
class ReplayCount:
    """What became of the records of one entity and (former) class.

    Attributes:
        entity: the entity.
        error_class: what they were rejected for before.
        records: how many they were.
        succeeded: acknowledged by Mailchimp, maybe under another id (an address that was corrected).
        gone: the shop doesn't yield them any more, so nothing is left to be sent.
        rejected: rejected by this run again.
        open: neither; the next run goes on with them.
    """

    entity: str
    error_class: str
    records: int
    succeeded: int
    gone: int
    rejected: int
    open: int


# A row may yield its record under another id by now; what it yields counts.
_OUTCOMES = text("""
    WITH given AS MATERIALIZED (
        SELECT p.*, r.dag_run_id FROM replay p JOIN run r USING (run_ref) WHERE p.run_ref = :run_ref
    ), fates AS (
        SELECT g.entity, g.error_class,
               CASE WHEN x.dag_run_id = g.dag_run_id OR other.rejected THEN 'rejected'
                    WHEN x.record_id IS NOT NULL THEN 'open'
                    WHEN l.state = 'synced' OR other.synced THEN 'succeeded'
                    WHEN l.state = 'deleted' THEN 'gone'
                    ELSE 'open' END AS fate
        FROM given g
        JOIN ledger l USING (store_ref, entity, record_id)
        LEFT JOIN rejected x USING (store_ref, entity, record_id)
        LEFT JOIN LATERAL (
            SELECT bool_or(o.state = 'synced') AS synced, bool_or(y.dag_run_id = g.dag_run_id) AS rejected
            FROM ledger o LEFT JOIN rejected y USING (store_ref, entity, record_id)
            WHERE (o.store_ref, o.entity, o.source_key) = (g.store_ref, g.entity, g.source_key)
              AND o.record_id <> g.record_id
        ) AS other ON true
    )
    SELECT entity, error_class, count(*), count(*) FILTER (WHERE fate = 'succeeded'),
           count(*) FILTER (WHERE fate = 'gone'), count(*) FILTER (WHERE fate = 'rejected'),
           count(*) FILTER (WHERE fate = 'open')
    FROM fates GROUP BY entity, error_class ORDER BY entity, error_class
""")


def replay_outcomes(connection: Connection, run_ref: int) -> list[ReplayCount]:
    """Return what became of the records that a run was given, by entity and the class they were rejected for."""
    return [ReplayCount(*row) for row in connection.execute(_OUTCOMES, {"run_ref": run_ref})]
