"""What the state tables know about one record: its ledger row, rejection, operations, and what surrounds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class LedgerEntry:
    """A row of the ledger; `key` is the shop's key."""

    record_id: str
    key: str
    state: str
    on_mailchimp: bool
    batch_ref: int | None
    payload_hash: bytes | None
    read_at: datetime | None
    updated_at: datetime | None
    acknowledged_at: datetime | None
    attempts: int


@dataclass(frozen=True)
class RejectedEntry:
    """A row of the list of rejected records; `operation` is None where it was never sent."""

    record_id: str
    operation: str | None
    error_class: str
    title: str
    detail: str
    field: str | None
    waits_for: str | None
    attempts: int
    first_seen_at: datetime
    last_seen_at: datetime
    dag_run_id: str


@dataclass(frozen=True)
class OperationEntry:
    """An operation about a record, with its batch and run; `batch_id` is None while it isn't known to be posted."""

    method: str
    outcome: str | None
    status_code: int | None
    child: str | None
    batch_ref: int
    batch_id: str | None
    batch_state: str
    posted_at: datetime | None
    settled_at: datetime | None
    dag_id: str
    dag_run_id: str


@dataclass(frozen=True)
class Known:
    """What is known of the store: which row of the state tables it is, and how far its runs got."""

    store_ref: int
    account_id: str
    audience: Mapping[str, Any] | None
    refused_campaigns: frozenset[str]


def known_store(connection: Connection, store_key: str, store_id: str) -> Known | None:
    """Return the current state of a store; None before its first run."""
    store = connection.execute(
        text("""
            SELECT store_ref, account_id FROM store WHERE store_key = :key AND store_id = :id AND is_current
            ORDER BY store_ref DESC LIMIT 1
        """),
        {"key": store_key, "id": store_id},
    ).one_or_none()
    if store is None:
        return None
    arguments = {"store_ref": store.store_ref}
    audience = connection.scalar(
        text("""
            SELECT audience FROM run WHERE store_ref = :store_ref AND audience IS NOT NULL
            ORDER BY run_ref DESC LIMIT 1
        """),
        arguments,
    )
    campaigns = connection.execute(
        text("SELECT campaign_id FROM refused_campaign WHERE store_ref = :store_ref"), arguments
    ).scalars()
    return Known(store.store_ref, store.account_id, audience, frozenset(campaigns))


def ledger_entries(connection: Connection, store_ref: int, entity: str, names: Sequence[str]) -> list[LedgerEntry]:
    """Return the ledger's rows with one of the given ids, at Mailchimp or in the shop; the latest first."""
    rows = connection.execute(
        text("""
            SELECT record_id, coalesce(source_key, record_id), state, on_mailchimp, batch_ref, payload_hash, read_at,
                   updated_at, acknowledged_at, attempts
            FROM (
                SELECT * FROM ledger
                WHERE store_ref = :store_ref AND entity = :entity AND record_id = ANY (CAST(:names AS text[]))
                UNION
                SELECT * FROM ledger
                WHERE store_ref = :store_ref AND entity = :entity AND source_key = ANY (CAST(:names AS text[]))
            ) AS found
            ORDER BY read_at DESC NULLS LAST, record_id
        """),
        {"store_ref": store_ref, "entity": entity, "names": list(names)},
    )
    return [
        LedgerEntry(row[0], row[1], row[2], row[3], row[4], None if row[5] is None else bytes(row[5]), *row[6:])
        for row in rows
    ]


def rejection(connection: Connection, store_ref: int, entity: str, record_id: str) -> RejectedEntry | None:
    """Return why a record is on the list of rejected ones; None if it isn't."""
    row = connection.execute(
        text("""
            SELECT record_id, operation, error_class, title, detail, field, waits_for, attempts, first_seen_at,
                   last_seen_at, dag_run_id
            FROM rejected WHERE store_ref = :store_ref AND entity = :entity AND record_id = :record_id
        """),
        {"store_ref": store_ref, "entity": entity, "record_id": record_id},
    ).one_or_none()
    return None if row is None else RejectedEntry(*row)


# Operations have no index by record. The batches that can be meant are few: the one it is in, those settled right when
# it was acknowledged, those of the run that rejected it, and the latest ones.
_OPERATIONS = text("""
    WITH meant AS MATERIALIZED (
        SELECT batch_ref FROM batch
        WHERE store_ref = :store_ref AND entity = :entity
          AND (batch_ref = :in_flight OR settled_at BETWEEN :acknowledged_at
                   AND CAST(:acknowledged_at AS timestamptz) + interval '10 minutes')
        UNION
        (SELECT batch_ref FROM batch WHERE store_ref = :store_ref AND entity = :entity
         ORDER BY batch_ref DESC LIMIT 100)
        UNION
        SELECT b.batch_ref FROM run r JOIN batch b USING (run_ref)
        WHERE r.store_ref = :store_ref AND r.dag_run_id = :rejected_by AND b.entity = :entity
    )
    SELECT o.method, o.outcome, o.status_code, o.child, b.batch_ref, b.batch_id, b.state, b.posted_at, b.settled_at,
           r.dag_id, r.dag_run_id
    FROM meant JOIN batch b USING (batch_ref) JOIN operation o USING (batch_ref) JOIN run r USING (run_ref)
    WHERE o.record_id = :record_id
    ORDER BY b.batch_ref DESC, o.seq LIMIT 10
""")


def operations(
    connection: Connection, store_ref: int, entity: str, entry: LedgerEntry, rejected: RejectedEntry | None
) -> list[OperationEntry]:
    """Return the operations about a record that can be found without reading all of them, the latest first."""
    rows = connection.execute(
        _OPERATIONS,
        {
            "store_ref": store_ref,
            "entity": entity,
            "record_id": entry.record_id,
            "in_flight": entry.batch_ref,
            "acknowledged_at": entry.acknowledged_at,
            "rejected_by": rejected.dag_run_id if rejected else None,
        },
    )
    return [OperationEntry(*row) for row in rows]


def alias_of(connection: Connection, store_ref: int, entity: str, key: str) -> str | None:
    """Return the id of the record that a row of the shop is part of, for which another row speaks."""
    found: str | None = connection.scalar(
        text("""
            SELECT record_id FROM alias WHERE store_ref = :store_ref AND entity = :entity AND source_key = :key
        """),
        {"store_ref": store_ref, "entity": entity, "key": key},
    )
    return found


def removal(connection: Connection, store_ref: int, entity: str, record_id: str) -> tuple[datetime, bool] | None:
    """Tell since when a record is to be deleted, and whether it is kept because something refers to it."""
    row = connection.execute(
        text("""
            SELECT noticed_at, kept_at IS NOT NULL FROM removal
            WHERE store_ref = :store_ref AND entity = :entity AND record_id = :record_id
        """),
        {"store_ref": store_ref, "entity": entity, "record_id": record_id},
    ).one_or_none()
    return None if row is None else (row[0], row[1])
