"""Makes the ledger honest again, from what a comparison has found. It sends nothing: the next push sends what is owed.

A record that is in flight by now, or that Mailchimp has acknowledged since the comparison began, is left alone: what
was found about it is history. Deletions go through the list of removals, so they are looked up in the shop once more,
and the brake (`max_deletes`, `max_deletes_percent`) holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from include.reconcile.report import Action, Kind
from include.state.database import StateDatabase, lock_account
from include.state.stores import load_store
from include.transform.entities import ENTITIES

_CHUNK: Final = 10_000  # records that are repaired in one transaction: claims wait for it

# Records of one action that are still as they were found; every change below begins with these.
_NEXT: Final = """
    CREATE TEMP TABLE mending ON COMMIT DROP AS
    SELECT d.entity, d.kind, d.record_id, d.held, d.source_key, d.payload_hash, d.read_at, d.updated_at,
           l.record_id IS NOT NULL AS known,
           l.batch_ref IS NULL AND (l.acknowledged_at IS NULL OR l.acknowledged_at < c.started_at)
               AND (l.read_at IS NULL OR d.read_at IS NULL OR l.read_at <= d.read_at) AS as_found
    FROM reconciliation c
    JOIN drifted d USING (reconciliation_ref)
    LEFT JOIN ledger l ON (l.store_ref, l.entity, l.record_id) = (c.store_ref, d.entity, d.record_id)
    WHERE c.reconciliation_ref = :ref AND d.action = :action AND d.repaired_at IS NULL
      AND (d.entity, d.kind, d.record_id) > (:entity, :kind, :record_id)
    ORDER BY d.entity, d.kind, d.record_id LIMIT :limit
"""

_UPSERT: Final = """
    INSERT INTO ledger AS l (store_ref, entity, record_id, source_key, payload_hash, state, on_mailchimp, read_at,
                             updated_at, acknowledged_at)
    SELECT :store_ref, entity, record_id, nullif(source_key, record_id), {hash}, {state}, {held}, {read_at}, {updated},
           {acknowledged}
    FROM mending WHERE as_found
    ON CONFLICT (store_ref, entity, record_id) DO UPDATE
    SET state = {change}, on_mailchimp = excluded.on_mailchimp, attempts = 0,
        payload_hash = {kept_hash}, source_key = excluded.source_key, read_at = coalesce(excluded.read_at, l.read_at),
        updated_at = coalesce(excluded.updated_at, l.updated_at),
        acknowledged_at = coalesce(excluded.acknowledged_at, l.acknowledged_at)
    WHERE l.batch_ref IS NULL
"""


def _upsert(
    state: str, held: str, *, change: str = "excluded.state", told: bool = False, payload_hash: str = "excluded"
) -> str:
    """Write the statement that tells the ledger about records.

    Args:
        state: of a record that it doesn't know.
        held: whether Mailchimp has it.
        change: the state of a known one.
        told: whether Mailchimp is known to have exactly the shop's payload.
        payload_hash: whose hash a known one has afterwards: `l`, its own, or `excluded`, the payload's if it is `told`.
    """
    return _UPSERT.format(
        state=f"'{state}'",
        held=held,
        change=change,
        hash="payload_hash" if told else "CAST(NULL AS bytea)",
        read_at="read_at" if told else "CAST(NULL AS timestamptz)",
        updated="updated_at" if told else "CAST(NULL AS timestamptz)",
        acknowledged="now()" if told else "CAST(NULL AS timestamptz)",
        kept_hash=f"{payload_hash}.payload_hash",
    )


def _delete(table: str) -> str:
    return f"""
        DELETE FROM {table} x USING mending m
        WHERE (x.store_ref, x.entity, x.record_id) = (:store_ref, m.entity, m.record_id) AND m.as_found
    """  # noqa: S608 - our own names


_ON_LIST: Final = """
    INSERT INTO removal (store_ref, entity, record_id)
    SELECT :store_ref, entity, record_id FROM mending WHERE as_found
    ON CONFLICT (store_ref, entity, record_id) DO UPDATE SET kept_at = NULL
"""

_STATEMENTS: Final[Mapping[Action, tuple[str, ...]]] = {
    Action.ACKNOWLEDGE: (_upsert("synced", "held", told=True), _delete("rejected"), _delete("removal")),
    Action.OWE: (_upsert("pending", "held"), _delete("removal")),
    Action.REMOVE: (_upsert("synced", "true"), _delete("rejected"), _ON_LIST),
    Action.FORGET: (
        _upsert("deleted", "false", change="CASE WHEN l.state = 'rejected' THEN l.state ELSE 'deleted' END"),
        _delete("removal"),
    ),
    Action.HOLD: (_upsert("rejected", "true", change="l.state", payload_hash="l"),),
}

_DONE: Final = """
    UPDATE drifted d SET repaired_at = now() FROM mending m
    WHERE d.reconciliation_ref = :ref AND (d.entity, d.kind, d.record_id) = (m.entity, m.kind, m.record_id)
      AND m.as_found
"""

# Revenue is right again once all orders that made it wrong are dealt with.
_REVENUE: Final = """
    UPDATE drifted r SET repaired_at = now()
    WHERE r.reconciliation_ref = :ref AND r.kind = :revenue AND NOT EXISTS (
        SELECT FROM drifted d WHERE d.reconciliation_ref = :ref AND d.entity = 'orders' AND d.kind <> :revenue
          AND d.repaired_at IS NULL)
"""


@dataclass(frozen=True)
class Repaired:
    """What a repair has done.

    Attributes:
        counts: records by action.
        to_send: entities of which the next push has something to send or to delete, parents first.
    """

    counts: Mapping[str, int]
    to_send: tuple[str, ...]


def repair(state: StateDatabase, reconciliation_ref: int) -> Repaired:
    """Repair the ledger. May be called again after a crash: what is repaired stays repaired.

    Args:
        state: the state tables.
        reconciliation_ref: the comparison.
    """
    with state.begin() as connection:
        store_ref = connection.execute(
            text("SELECT store_ref FROM reconciliation WHERE reconciliation_ref = :ref"), {"ref": reconciliation_ref}
        ).scalar_one()
        account_id = load_store(connection, store_ref).account_id
    for action in _STATEMENTS:
        after: tuple[str, str, str] | None = ("", "", "")
        while after is not None:
            with state.begin() as connection:
                lock_account(connection, account_id)
                after = _mend(connection, store_ref, reconciliation_ref, action, after)
    with state.begin() as connection:
        connection.execute(text(_REVENUE), {"ref": reconciliation_ref, "revenue": Kind.REVENUE})
        connection.execute(
            text("UPDATE reconciliation SET repaired_at = now() WHERE reconciliation_ref = :ref"),
            {"ref": reconciliation_ref},
        )
        return _repaired(connection, reconciliation_ref)


def _mend(
    connection: Connection, store_ref: int, reconciliation_ref: int, action: Action, after: tuple[str, str, str]
) -> tuple[str, str, str] | None:
    """Do what one action says about the next records; returns the last of them, None when there are no more."""
    entity, kind, record_id = after
    arguments = {"store_ref": store_ref, "ref": reconciliation_ref, "action": action}
    place = {"entity": entity, "kind": kind, "record_id": record_id, "limit": _CHUNK}
    connection.execute(text(_NEXT), arguments | place)
    last = connection.execute(
        text("SELECT entity, kind, record_id FROM mending ORDER BY entity DESC, kind DESC, record_id DESC LIMIT 1")
    ).one_or_none()
    if last is None:
        return None
    for statement in (*_STATEMENTS[action], _DONE):
        connection.execute(text(statement), arguments)
    return last.entity, last.kind, last.record_id


def _repaired(connection: Connection, reconciliation_ref: int) -> Repaired:
    rows = connection.execute(
        text("""
            SELECT entity, action, count(*) FROM drifted
            WHERE reconciliation_ref = :ref AND repaired_at IS NOT NULL AND action <> 'none' GROUP BY entity, action
        """),
        {"ref": reconciliation_ref},
    ).all()
    counts: dict[str, int] = {}
    for _, action, count in rows:
        counts[action] = counts.get(action, 0) + count
    sending = {entity for entity, action, _ in rows if action in {Action.OWE, Action.REMOVE}}
    return Repaired(counts, tuple(entity for entity in ENTITIES if entity in sending))
