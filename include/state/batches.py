"""Batches from intention to outcome: claiming records for one, noting its id, listing the open ones."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, text

from include.state.aliases import change_speakers, note_aliases
from include.state.database import SliceKey, lock_account
from include.state.ledger import Candidates
from include.state.rejected import Rejection, close_rejections, reject
from include.state.removals import drop, notice
from include.state.slices import Progress, advance
from include.state.stores import StoreRef


class ClaimConflict(RuntimeError):
    """Another process changed one of the records (or the slice) since they were compared; nothing was claimed."""


class NoFreeBatch(RuntimeError):
    """The account has as many open batches as it may have; nothing was claimed."""


@dataclass(frozen=True)
class OpenBatch:
    """A batch without an outcome: intended (`batch_id` None: maybe never posted) or posted.

    `maybe` are Mailchimp's ids of batches of which one may be it, once they have ended.
    """

    batch_ref: int
    store_ref: int
    slice: SliceKey
    token: str
    batch_id: str | None
    since: datetime
    operations: int
    maybe: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of a slice, and what is to be written about them in one transaction.

    Args:
        token: prefix of the batch's operation ids, from `new_token`.
        send: the records for the batch, in the order of their operations; none: no batch, only progress.
        methods: HTTP method of each of them.
        body_bytes: size of the request body.
        touched: records whose read is newer though their payload is unchanged.
        rejections: records not sent, and why.
        left_out: the shop's keys of rows that the settings leave out: they are rejected no more.
        unchanged: keys of unchanged rows whose records have other ids: what they yielded formerly is rejected no more.
        seen: ids of the records that rows read together with these do yield.
        progress: how far the slice gets by this; None leaves cursor and counters alone.
        retry: these records were attempted in this run before.
        children: per record to send, what it has inside ("lines/7", …) where it changes one that Mailchimp holds.
        aliases: (the shop's key, record id) of rows for which another row speaks.
        removable: whether what the rows no longer yield is to be deleted at Mailchimp.
    """

    token: str
    send: Candidates
    methods: Sequence[str]
    body_bytes: int
    touched: Candidates
    rejections: Sequence[Rejection] = ()
    left_out: Sequence[str] = ()
    unchanged: Sequence[str] = ()
    seen: Sequence[str] = ()
    progress: Progress | None = None
    retry: bool = field(default=False)
    children: Sequence[Sequence[str] | None] = ()
    aliases: Sequence[tuple[str, str]] = ()
    removable: bool = True


def new_token() -> str:
    """Return a fresh random batch token (16 hexadecimal digits)."""
    return secrets.token_hex(8)


_CLAIM = text("""
    WITH r AS (
        SELECT record_id, key, method, hash, n, children,
               timestamptz 'epoch' + updated_us * interval '1 microsecond' AS updated_at
        FROM unnest(CAST(:record_ids AS text[]), CAST(:keys AS text[]), CAST(:methods AS text[]),
                    CAST(:hashes AS bytea[]), CAST(:updated AS bigint[]), CAST(:children AS text[]))
            WITH ORDINALITY AS t(record_id, key, method, hash, updated_us, children, n)
    ), planned AS (
        INSERT INTO operation (batch_ref, seq, record_id, method, payload_hash, updated_at, children)
        SELECT :batch_ref, n - 1, record_id, method, hash, updated_at,
               CASE WHEN children IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text(children::jsonb)) END
        FROM r
    ), wanted_again AS (
        DELETE FROM removal x USING r
        WHERE (x.store_ref, x.entity, x.record_id) = (:store_ref, :entity, r.record_id)
    ), told_anew AS (
        DELETE FROM stale_child x USING r
        WHERE (x.store_ref, x.entity, x.record_id) = (:store_ref, :entity, r.record_id)
    )
    INSERT INTO ledger AS l (store_ref, entity, record_id, source_key, payload_hash, state, batch_ref, read_at,
                             updated_at, attempts)
    SELECT :store_ref, :entity, record_id, nullif(key, record_id), hash, 'pending', :batch_ref, :read_at, updated_at, 1
    FROM r
    ON CONFLICT (store_ref, entity, record_id) DO UPDATE
    -- What may have reached Mailchimp unheard stays unknown until Mailchimp answers: it may hold the record.
    SET state = CASE WHEN l.state = 'unknown' THEN l.state ELSE 'pending' END,
        batch_ref = excluded.batch_ref, payload_hash = excluded.payload_hash, source_key = excluded.source_key,
        updated_at = excluded.updated_at,
        read_at = greatest(l.read_at, excluded.read_at),
        attempts = CASE WHEN :retry THEN least(l.attempts, 30000) + 1 ELSE 1 END
    WHERE l.batch_ref IS NULL
      AND (l.read_at IS NULL OR l.read_at <= excluded.read_at OR l.payload_hash = excluded.payload_hash)
""")


def claim(
    connection: Connection, store: StoreRef, key: SliceKey, chunk: Chunk, *, max_open: int, dag_run_id: str
) -> int | None:
    """Write the intended batch, its operations, the rejections and the slice's progress, all or nothing.

    After the commit everything before the slice's cursor is in flight, rejected, or was unchanged: whatever crashes
    then, no record is forgotten, and nobody else sends the claimed ones.

    Args:
        connection: a transaction on the state tables.
        store: the store.
        key: the slice the records are from.
        chunk: the records.
        max_open: open batches the store's account may have, this one included.
        dag_run_id: the run, for the rejected records.

    Returns:
        The new batch's reference, None when there was nothing to send.

    Raises:
        NoFreeBatch: too many open batches.
        ClaimConflict: the comparison is out of date: read and compare again.
    """
    batch_ref = None
    lock_account(connection, store.account_id)
    if chunk.send.record_ids:
        if count_open(connection, store.account_id) >= max_open:
            raise NoFreeBatch(f"{max_open} batches of this Mailchimp account are open already.")
        batch_ref = _intend(connection, store, key, chunk)
    rejected_all = reject(
        connection,
        store.store_ref,
        key.entity,
        chunk.rejections,
        read_at=chunk.send.read_at,
        dag_run_id=dag_run_id,
    )
    if not rejected_all or not _touch(connection, store.store_ref, key.entity, chunk.touched):
        raise ClaimConflict(f"Records of slice {key.number} of {key.entity} are in other hands by now.")
    for keys, left_out in ((chunk.left_out, True), (chunk.unchanged, False)):
        reads = [chunk.send.read_at] * len(keys)
        close_rejections(connection, store.store_ref, key.entity, keys, reads, seen=chunk.seen, left_out=left_out)
    if chunk.removable:
        keys = [*chunk.left_out, *chunk.unchanged, *(chunk.send.keys if _renamed(chunk.send) else ())]
        notice(connection, store.store_ref, key.entity, keys, chunk.seen)
        drop(connection, store.store_ref, key.entity, chunk.seen)
    note_aliases(connection, store.store_ref, key.entity, chunk.aliases)
    if chunk.progress is not None and not advance(connection, key, chunk.progress):
        raise ClaimConflict(f"Another worker moved slice {key.number} of {key.entity}.")
    return batch_ref


def _renamed(sent: Candidates) -> bool:
    """Tell whether the records have other ids than the shop's rows: a row may then have yielded another one before."""
    return list(sent.record_ids) != list(sent.keys)


def _intend(connection: Connection, store: StoreRef, key: SliceKey, chunk: Chunk) -> int:
    if _renamed(chunk.send):
        change_speakers(connection, store.store_ref, key.entity, chunk.send.keys, chunk.send.record_ids)
    batch_ref: int = connection.execute(
        text("""
            INSERT INTO batch (store_ref, run_ref, entity, slice_number, token, operations, body_bytes)
            VALUES (:store_ref, :run_ref, :entity, :number, :token, :operations, :body_bytes)
            RETURNING batch_ref
        """),
        {
            "store_ref": store.store_ref,
            "run_ref": key.run_ref,
            "entity": key.entity,
            "number": key.number,
            "token": chunk.token,
            "operations": len(chunk.send.record_ids),
            "body_bytes": chunk.body_bytes,
        },
    ).scalar_one()
    claimed = connection.execute(
        _CLAIM,
        {
            "batch_ref": batch_ref,
            "store_ref": store.store_ref,
            "entity": key.entity,
            "record_ids": list(chunk.send.record_ids),
            "keys": list(chunk.send.keys),
            "methods": list(chunk.methods),
            "hashes": list(chunk.send.hashes),
            "updated": list(chunk.send.updated_at),
            "children": [None if one is None else json.dumps(one) for one in chunk.children]
            or [None] * len(chunk.send.record_ids),
            "read_at": chunk.send.read_at,
            "retry": chunk.retry,
        },
    )
    if claimed.rowcount != len(chunk.send.record_ids):
        raise ClaimConflict(f"Records of slice {key.number} of {key.entity} are in other hands by now.")
    return batch_ref


def _touch(connection: Connection, store_ref: int, entity: str, touched: Candidates) -> bool:
    if not touched.record_ids:
        return True
    if _renamed(touched):
        change_speakers(connection, store_ref, entity, touched.keys, touched.record_ids)
    written = connection.execute(
        text("""
            UPDATE ledger l
            SET read_at = greatest(l.read_at, :read_at), source_key = nullif(r.key, r.record_id),
                updated_at = timestamptz 'epoch' + r.updated_us * interval '1 microsecond'
            FROM (
                SELECT CAST(:store_ref AS smallint) AS store_ref, CAST(:entity AS text) AS entity, t.*
                FROM unnest(CAST(:record_ids AS text[]), CAST(:keys AS text[]), CAST(:hashes AS bytea[]),
                            CAST(:updated AS bigint[])) AS t(record_id, key, hash, updated_us) OFFSET 0
            ) AS r
            WHERE (l.store_ref, l.entity, l.record_id) = (r.store_ref, r.entity, r.record_id)
              AND l.batch_ref IS NULL AND l.payload_hash = r.hash
        """),
        {
            "store_ref": store_ref,
            "entity": entity,
            "record_ids": list(touched.record_ids),
            "keys": list(touched.keys),
            "hashes": list(touched.hashes),
            "updated": list(touched.updated_at),
            "read_at": touched.read_at,
        },
    )
    return written.rowcount == len(touched.record_ids)


def mark_posted(connection: Connection, batch_ref: int, batch_id: str) -> bool:
    """Note the id Mailchimp gave to a batch; False when the batch was released meanwhile (its records go elsewhere)."""
    noted = connection.execute(
        text("""
            UPDATE batch SET batch_id = :batch_id, state = 'posted', posted_at = clock_timestamp()
            WHERE batch_ref = :batch_ref AND state = 'intended'
        """),
        {"batch_ref": batch_ref, "batch_id": batch_id},
    )
    return noted.rowcount == 1


def count_open(connection: Connection, account_id: str) -> int:
    """Count the open batches of a Mailchimp account, over all stores."""
    return int(
        connection.execute(
            text("""
                SELECT count(*) FROM batch JOIN store USING (store_ref)
                WHERE batch.state IN ('intended', 'posted') AND store.account_id = :account_id
            """),
            {"account_id": account_id},
        ).scalar_one()
    )


_OPEN = text("""
    SELECT b.batch_ref, b.store_ref, b.run_ref, b.entity, b.slice_number, b.token, b.batch_id,
           coalesce(b.posted_at, b.created_at), b.operations
    FROM batch b JOIN store s USING (store_ref)
    WHERE b.state IN ('intended', 'posted') AND s.account_id = :account_id
    ORDER BY b.batch_ref
""")


def open_batches(connection: Connection, account_id: str) -> list[OpenBatch]:
    """Return the open batches of a Mailchimp account, oldest first."""
    rows = connection.execute(_OPEN, {"account_id": account_id})
    return [OpenBatch(row[0], row[1], SliceKey(row[2], row[3], row[4]), *row[5:]) for row in rows]


def sent_methods(connection: Connection, batch_ref: int) -> list[str]:
    """Return the HTTP methods of a batch's operations, in the order of their sequence numbers."""
    return list(
        connection.execute(
            text("SELECT method FROM operation WHERE batch_ref = :batch_ref ORDER BY seq"), {"batch_ref": batch_ref}
        ).scalars()
    )


def sent_children(connection: Connection, batch_ref: int) -> dict[int, frozenset[str]]:
    """Return what the updates in a batch had inside ("lines/7", …), by the sequence numbers of their operations."""
    rows = connection.execute(
        text("SELECT seq, children FROM operation WHERE batch_ref = :batch_ref AND children IS NOT NULL"),
        {"batch_ref": batch_ref},
    )
    return {row.seq: frozenset(row.children) for row in rows}


def sent_record(connection: Connection, batch_ref: int, sequence: int) -> str:
    """Return the id of the record that an operation is about."""
    statement = text("SELECT record_id FROM operation WHERE batch_ref = :batch_ref AND seq = :sequence")
    return str(connection.execute(statement, {"batch_ref": batch_ref, "sequence": sequence}).scalar_one())
