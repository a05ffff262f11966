"""Batches that delete: whole records, and lines, variants or images that a record has lost."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from include.state.batches import ClaimConflict, NoFreeBatch, count_open
from include.state.database import SliceKey, lock_account
from include.state.removals import Removal
from include.state.settlement import GIVEN_UP, MAX_ATTEMPTS
from include.state.stores import StoreRef


def claim_removals(
    connection: Connection, store: StoreRef, key: SliceKey, records: Sequence[Removal], token: str, size: int, most: int
) -> int:
    """Write the intended batch that deletes records.

    Args:
        connection: a transaction on the state tables.
        store: the store.
        key: the slice that deletes them.
        records: what to delete, in the order of the operations.
        token: the batch's token.
        size: bytes of the request.
        most: open batches that the account may have.

    Returns:
        The batch.

    Raises:
        NoFreeBatch: too many open batches.
        ClaimConflict: one of the records is in other hands by now.
    """
    batch_ref = _intend(connection, store, key, "remove", len(records), token, size, most)
    ids = [record.record_id for record in records]
    claimed = connection.execute(
        text("""
            WITH r AS (
                SELECT record_id, n FROM unnest(CAST(:ids AS text[])) WITH ORDINALITY AS t(record_id, n)
            ), planned AS (
                INSERT INTO operation (batch_ref, seq, record_id, method)
                SELECT :batch_ref, n - 1, record_id, 'DELETE' FROM r
            ), noted AS (
                INSERT INTO removal (store_ref, entity, record_id) SELECT :store_ref, :entity, record_id FROM r
                ON CONFLICT DO NOTHING
            )
            UPDATE ledger l
            SET state = CASE WHEN l.state = 'unknown' THEN l.state ELSE 'pending' END,
                batch_ref = :batch_ref, payload_hash = NULL, attempts = least(l.attempts, 30000) + 1
            FROM (SELECT CAST(:store_ref AS smallint) AS store_ref, CAST(:entity AS text) AS entity, record_id
                  FROM r OFFSET 0) AS r
            WHERE (l.store_ref, l.entity, l.record_id) = (r.store_ref, r.entity, r.record_id) AND l.batch_ref IS NULL
        """),
        {"store_ref": store.store_ref, "entity": key.entity, "batch_ref": batch_ref, "ids": ids},
    )
    if claimed.rowcount != len(records):
        raise ClaimConflict(f"Records of slice {key.number} of {key.entity} are in other hands by now.")
    return batch_ref


@dataclass(frozen=True)
class StaleChild:
    """Something inside a record that has to go: the record's id, and the child as "lines/7"."""

    record_id: str
    child: str


def stale_children(connection: Connection, store_ref: int, entity: str, limit: int) -> list[StaleChild]:
    """Return children to delete whose records are not in flight."""
    rows = connection.execute(
        text("""
            SELECT c.record_id, c.child
            FROM (SELECT * FROM stale_child WHERE store_ref = :store_ref AND entity = :entity AND attempts < :most
                  OFFSET 0) AS c
            JOIN ledger l USING (store_ref, entity, record_id)
            WHERE l.batch_ref IS NULL
            ORDER BY c.record_id, c.child LIMIT :limit
        """),
        {"store_ref": store_ref, "entity": entity, "most": MAX_ATTEMPTS, "limit": limit},
    )
    return [StaleChild(*row) for row in rows]


def forgive_children(connection: Connection, store_ref: int, entity: str) -> None:
    """Let a new run try again what failed on the way in earlier ones."""
    connection.execute(
        text("""
            UPDATE stale_child SET attempts = 0
            WHERE store_ref = :store_ref AND entity = :entity AND attempts > 0 AND attempts < :given_up
        """),
        {"store_ref": store_ref, "entity": entity, "given_up": GIVEN_UP},
    )


def claim_children(
    connection: Connection,
    store: StoreRef,
    key: SliceKey,
    children: Sequence[StaleChild],
    token: str,
    size: int,
    most: int,
) -> int:
    """Write the intended batch that deletes children; their records count as in flight meanwhile.

    Args and errors as in `claim_removals`.
    """
    batch_ref = _intend(connection, store, key, "children", len(children), token, size, most)
    connection.execute(
        text("""
            INSERT INTO operation (batch_ref, seq, record_id, method, child)
            SELECT :batch_ref, n - 1, record_id, 'DELETE', child
            FROM unnest(CAST(:ids AS text[]), CAST(:children AS text[])) WITH ORDINALITY AS t(record_id, child, n)
        """),
        {
            "batch_ref": batch_ref,
            "ids": [one.record_id for one in children],
            "children": [one.child for one in children],
        },
    )
    ids = sorted({one.record_id for one in children})
    claimed = connection.execute(
        text("""
            UPDATE ledger SET batch_ref = :batch_ref
            WHERE store_ref = :store_ref AND entity = :entity AND record_id = ANY (:ids) AND batch_ref IS NULL
        """),
        {"store_ref": store.store_ref, "entity": key.entity, "batch_ref": batch_ref, "ids": ids},
    )
    if claimed.rowcount != len(ids):
        raise ClaimConflict(f"Records of slice {key.number} of {key.entity} are in other hands by now.")
    return batch_ref


def _intend(
    connection: Connection,
    store: StoreRef,
    key: SliceKey,
    purpose: str,
    operations: int,
    token: str,
    size: int,
    most: int,
) -> int:
    lock_account(connection, store.account_id)
    if count_open(connection, store.account_id) >= most:
        raise NoFreeBatch(f"{most} batches of this Mailchimp account are open already.")
    batch_ref: int = connection.execute(
        text("""
            INSERT INTO batch (store_ref, run_ref, entity, slice_number, token, operations, body_bytes, purpose)
            VALUES (:store_ref, :run_ref, :entity, :number, :token, :operations, :size, :purpose)
            RETURNING batch_ref
        """),
        {
            "store_ref": store.store_ref,
            "run_ref": key.run_ref,
            "entity": key.entity,
            "number": key.number,
            "token": token,
            "operations": operations,
            "size": size,
            "purpose": purpose,
        },
    ).scalar_one()
    return batch_ref
