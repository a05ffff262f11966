"""The ledger: what Mailchimp was last told about each record, and what it answered.

All functions are set-based: lists of ids travel as arrays, one statement does the work for all of them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, text

from include.state.database import lock_account
from include.state.stores import StoreRef


class Verdict(StrEnum):
    """What is to be done with an extracted record."""

    SEND = "send"
    UNCHANGED = "unchanged"  # Mailchimp acknowledged exactly this payload
    ALIAS = "alias"  # another, newer row of the shop yields the same Mailchimp record
    STILL_REJECTED = "still_rejected"  # exactly this payload was refused before
    BLOCKED = "blocked"  # in flight in an open batch; its outcome must be known first
    STALE = "stale"  # the ledger knows a newer read than ours: read again


@dataclass(frozen=True)
class Candidates:
    """Extracted records as parallel columns; `record_ids` are distinct.

    `hashes` holds None for a record that cannot be sent (it is about to be rejected), `updated_at` microseconds since
    the epoch (UTC) or None. `read_at` is the snapshot all of them were read from.
    """

    record_ids: Sequence[str]
    keys: Sequence[str]
    hashes: Sequence[bytes | None]
    updated_at: Sequence[int | None]
    read_at: datetime


@dataclass(frozen=True)
class Comparison:
    """The ledger's view of candidates, as parallel columns in their order.

    `uncertain` marks records that were sent before without an answer: Mailchimp may hold an older payload of them.
    `touch` marks records that changed in the shop without changing their payload; the claim notes the newer read, so
    that an older snapshot of the record can no longer be sent after it.
    """

    verdicts: list[Verdict]
    batch_refs: list[int | None]
    on_mailchimp: list[bool]
    uncertain: list[bool]
    touch: list[bool]
    newest_read_at: datetime | None


# A record that two rows of the shop yield (one e-mail address, two customers) follows the row changed last.
_COMPARE = text("""
    SELECT CASE
             WHEN l.record_id IS NULL THEN 'send'
             WHEN l.batch_ref IS NOT NULL THEN 'blocked'
             WHEN coalesce(l.source_key, l.record_id) <> r.key AND l.state IN ('synced', 'pending', 'unknown')
                  AND l.updated_at >= timestamptz 'epoch' + r.updated_us * interval '1 microsecond' THEN 'alias'
             WHEN l.payload_hash = r.hash AND l.state = 'synced' THEN 'unchanged'
             WHEN l.payload_hash = r.hash AND l.state = 'rejected' THEN 'still_rejected'
             WHEN l.read_at > :read_at AND l.payload_hash IS DISTINCT FROM r.hash THEN 'stale'
             ELSE 'send'
           END,
           l.batch_ref,
           coalesce(l.on_mailchimp, false),
           l.payload_hash = r.hash AND l.state IN ('synced', 'rejected')
               AND l.updated_at IS DISTINCT FROM timestamptz 'epoch' + r.updated_us * interval '1 microsecond',
           l.read_at,
           coalesce(l.state IN ('pending', 'unknown') AND NOT l.on_mailchimp, false)
    FROM unnest(CAST(:record_ids AS text[]), CAST(:keys AS text[]), CAST(:hashes AS bytea[]),
                CAST(:updated AS bigint[])) WITH ORDINALITY AS r(record_id, key, hash, updated_us, n)
    LEFT JOIN ledger l ON l.store_ref = :store_ref AND l.entity = :entity AND l.record_id = r.record_id
    ORDER BY r.n
""")


def compare(connection: Connection, store_ref: int, entity: str, candidates: Candidates) -> Comparison:
    """Compare extracted records with the ledger: one verdict each (one query)."""
    rows = connection.execute(
        _COMPARE,
        {
            "store_ref": store_ref,
            "entity": entity,
            "record_ids": list(candidates.record_ids),
            "keys": list(candidates.keys),
            "hashes": list(candidates.hashes),
            "updated": list(candidates.updated_at),
            "read_at": candidates.read_at,
        },
    ).all()
    verdicts = [Verdict(row[0]) for row in rows]
    stale_reads = [row[4] for row, verdict in zip(rows, verdicts, strict=True) if verdict is Verdict.STALE]
    return Comparison(
        verdicts=verdicts,
        batch_refs=[row[1] for row in rows],
        on_mailchimp=[row[2] for row in rows],
        uncertain=[row[5] for row in rows],
        touch=[bool(row[3]) and verdict is not Verdict.ALIAS for row, verdict in zip(rows, verdicts, strict=True)],
        newest_read_at=max(stale_reads, default=None),
    )


def acknowledged(connection: Connection, store_ref: int, entity: str, record_ids: Sequence[str]) -> set[str]:
    """Return those of `record_ids` that Mailchimp is known to hold."""
    if not record_ids:
        return set()
    rows = connection.execute(
        text("""
            SELECT l.record_id
            FROM (
                SELECT CAST(:store_ref AS smallint) AS store_ref, CAST(:entity AS text) AS entity, record_id
                FROM unnest(CAST(:record_ids AS text[])) AS t(record_id) OFFSET 0
            ) AS r
            JOIN ledger l USING (store_ref, entity, record_id)
            WHERE l.on_mailchimp
        """),
        {"store_ref": store_ref, "entity": entity, "record_ids": list(record_ids)},
    )
    return set(rows.scalars())


# A parent is waited for by its id, by its key in the shop (a customer's id changes with the e-mail address), or by
# both: several rows of the shop may yield the parent, and the ledger names one of them. What is found by the key may be
# what the row yielded formerly: while the row is rejected as it is now, the waiting record cannot be sent either.
_LEFTOVERS = text("""
    WITH waiting AS MATERIALIZED (
        SELECT r.store_ref, coalesce(l.source_key, l.record_id) AS key, r.parent_id,
               split_part(r.waits_for, ':', 1) AS parent_entity,
               substr(r.waits_for, strpos(r.waits_for, ':') + 1) AS parent_key
        FROM (
            SELECT store_ref, entity, record_id, waits_for, parent_id FROM rejected
            WHERE store_ref = :store_ref AND entity = :entity AND waits_for IS NOT NULL OFFSET 0
        ) AS r
        JOIN ledger l USING (store_ref, entity, record_id)
        WHERE l.state = 'rejected' AND l.batch_ref IS NULL
    )
    SELECT coalesce(l.source_key, l.record_id)
    FROM ledger l
    WHERE l.store_ref = :store_ref AND l.entity = :entity AND l.state IN ('pending', 'unknown')
      AND l.batch_ref IS NULL
    UNION
    SELECT coalesce(l.source_key, l.record_id)
    FROM (SELECT DISTINCT store_ref, entity, record_id FROM stale_child
          WHERE store_ref = :store_ref AND entity = :entity AND attempts < 3 OFFSET 0) AS c
    JOIN ledger l USING (store_ref, entity, record_id)
    UNION
    SELECT w.key
    FROM waiting w
    JOIN ledger parent ON (parent.store_ref, parent.entity) = (w.store_ref, w.parent_entity)
        AND parent.record_id = coalesce(w.parent_id, w.parent_key)
    WHERE parent.on_mailchimp
    UNION
    SELECT w.key
    FROM waiting w
    JOIN ledger parent ON (parent.store_ref, parent.entity, parent.source_key)
        = (w.store_ref, w.parent_entity, w.parent_key)
    WHERE parent.on_mailchimp
      AND NOT EXISTS (
          SELECT FROM ledger broken
          WHERE (broken.store_ref, broken.entity, broken.record_id) = (w.store_ref, w.parent_entity, w.parent_key)
            AND broken.state = 'rejected' AND NOT broken.on_mailchimp)
      AND NOT EXISTS (
          SELECT FROM ledger broken
          WHERE (broken.store_ref, broken.entity, broken.source_key) = (w.store_ref, w.parent_entity, w.parent_key)
            AND broken.state = 'rejected' AND NOT broken.on_mailchimp)
    ORDER BY 1
""")


def leftovers(connection: Connection, store_ref: int, entity: str) -> list[str]:
    """Return the shop's keys of records that earlier runs owe.

    These are the ones claimed but not acknowledged (and not in flight), those that waited for a parent which Mailchimp
    holds by now, and those of which Mailchimp still holds lines, variants … that are to be deleted.
    """
    return list(connection.execute(_LEFTOVERS, {"store_ref": store_ref, "entity": entity}).scalars())


_RETIRE = text("""
    WITH owed AS MATERIALIZED (
        SELECT store_ref, entity, record_id FROM ledger
        WHERE store_ref = :store_ref AND entity = :entity AND state IN ('pending', 'unknown')
          AND coalesce(source_key, record_id) = ANY (CAST(:keys AS text[]))
        UNION
        SELECT store_ref, entity, record_id FROM rejected
        WHERE store_ref = :store_ref AND entity = :entity AND waits_for IS NOT NULL
    ), gone AS MATERIALIZED (
        SELECT l.store_ref, l.entity, l.record_id, :removable AND (l.on_mailchimp OR l.state = 'unknown') AS may_be_held
        FROM owed JOIN ledger l USING (store_ref, entity, record_id)
        WHERE l.batch_ref IS NULL AND l.state IN ('pending', 'unknown', 'rejected')
          AND coalesce(l.source_key, l.record_id) = ANY (CAST(:keys AS text[]))
          AND l.record_id <> ALL (CAST(:seen AS text[]))
        FOR UPDATE OF l SKIP LOCKED
    ), closed AS (
        UPDATE ledger l
        SET state = CASE WHEN gone.may_be_held THEN l.state ELSE 'deleted' END, payload_hash = NULL, attempts = 0
        FROM gone
        WHERE (l.store_ref, l.entity, l.record_id) = (gone.store_ref, gone.entity, gone.record_id)
    ), forgotten AS (
        DELETE FROM rejected r USING gone
        WHERE (r.store_ref, r.entity, r.record_id) = (gone.store_ref, gone.entity, gone.record_id)
          AND NOT gone.may_be_held
    )
    INSERT INTO removal (store_ref, entity, record_id)
    SELECT store_ref, entity, record_id FROM gone WHERE may_be_held
    ON CONFLICT DO NOTHING
""")


def retire(
    connection: Connection,
    store_ref: int,
    entity: str,
    *,
    keys: Sequence[str],
    seen: Collection[str],
    removable: bool = True,
) -> None:
    """Give up records that were owed under the shop's `keys` but that the shop no longer yields.

    A record Mailchimp never held is closed as deleted; one it may hold is put on the list of removals.

    Args:
        connection: a transaction on the state tables.
        store_ref: the store.
        entity: name of the entity.
        keys: the shop's keys that were just read.
        seen: ids of the records they yielded (sent or rejected).
        removable: whether records of this entity are ever deleted at Mailchimp.
    """
    arguments = {"store_ref": store_ref, "entity": entity, "removable": removable}
    connection.execute(_RETIRE, arguments | {"keys": list(keys), "seen": list(seen)})


def demote(connection: Connection, store: StoreRef, entity: str, record_ids: Sequence[str]) -> None:
    """Forget that Mailchimp holds these records, because it says it does not; the next run sends them again."""
    lock_account(connection, store.account_id)
    connection.execute(
        text("""
            UPDATE ledger l SET on_mailchimp = false, payload_hash = NULL, attempts = 0,
                state = CASE WHEN l.state = 'synced' THEN 'pending' ELSE l.state END
            FROM (
                SELECT CAST(:store_ref AS smallint) AS store_ref, CAST(:entity AS text) AS entity, record_id
                FROM unnest(CAST(:record_ids AS text[])) AS t(record_id) OFFSET 0
            ) AS r
            WHERE (l.store_ref, l.entity, l.record_id) = (r.store_ref, r.entity, r.record_id)
              AND l.batch_ref IS NULL AND l.on_mailchimp
        """),
        {"store_ref": store.store_ref, "entity": entity, "record_ids": list(record_ids)},
    )


def held_records(connection: Connection, store_ref: int, entity: str, after: str, limit: int) -> list[tuple[str, str]]:
    """Return the next records that Mailchimp may hold, as (record id, the shop's key), in byte order of the id.

    Args:
        connection: a transaction on the state tables.
        store_ref: the store.
        entity: name of the entity.
        after: the last record id of the page before; "" to begin.
        limit: how many at most.
    """
    rows = connection.execute(
        text("""
            SELECT record_id, coalesce(source_key, record_id) FROM ledger
            WHERE store_ref = :store_ref AND entity = :entity AND record_id > :after
              AND (on_mailchimp OR state IN ('pending', 'unknown'))
            ORDER BY record_id LIMIT :limit
        """),
        {"store_ref": store_ref, "entity": entity, "after": after, "limit": limit},
    )
    return [(row[0], row[1]) for row in rows]


def count_held(connection: Connection, store_ref: int, entity: str) -> int:
    """Count the records of an entity that Mailchimp is known to hold; reads the entity's part of the ledger."""
    return int(
        connection.execute(
            text("SELECT count(*) FROM ledger WHERE store_ref = :store_ref AND entity = :entity AND on_mailchimp"),
            {"store_ref": store_ref, "entity": entity},
        ).scalar_one()
    )


def record_held(connection: Connection, store_ref: int, entity: str, record_id: str) -> None:
    """Record that Mailchimp holds something that no row of the shop yields."""
    connection.execute(
        text("""
            INSERT INTO ledger (store_ref, entity, record_id, state, on_mailchimp, acknowledged_at)
            VALUES (:store_ref, :entity, :record_id, 'synced', true, now())
            ON CONFLICT (store_ref, entity, record_id) DO UPDATE
            SET state = 'synced', on_mailchimp = true, acknowledged_at = now()
        """),
        {"store_ref": store_ref, "entity": entity, "record_id": record_id},
    )


def record_gone(connection: Connection, store_ref: int, entity: str, record_id: str) -> None:
    """Record that a record was deleted at Mailchimp by a direct call."""
    connection.execute(
        text("""
            UPDATE ledger SET state = 'deleted', on_mailchimp = false, payload_hash = NULL, acknowledged_at = now()
            WHERE store_ref = :store_ref AND entity = :entity AND record_id = :record_id AND batch_ref IS NULL
        """),
        {"store_ref": store_ref, "entity": entity, "record_id": record_id},
    )
