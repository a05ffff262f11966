"""Records that cannot be sent as they are, each with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from include.state.aliases import hand_over
from include.state.removals import notice

PARENT_MISSING = "parent_missing"


@dataclass(frozen=True)
class Rejection:
    """Why one record was not sent. Texts carry no personal data.

    `waits_for` names a parent as "<entity>:<record id or shop's key>": the record is sent once that is acknowledged.
    Where it has the shop's key, `parent_id` may add the record id.
    """

    record_id: str
    source_key: str
    error_class: str
    title: str
    detail: str
    operation: str | None = None
    field: str | None = None
    waits_for: str | None = None
    parent_id: str | None = None


_MARK = text("""
    INSERT INTO ledger AS l (store_ref, entity, record_id, source_key, state, read_at)
    SELECT :store_ref, :entity, record_id, nullif(key, record_id), 'rejected', :read_at
    FROM unnest(CAST(:record_ids AS text[]), CAST(:keys AS text[])) AS r(record_id, key)
    ON CONFLICT (store_ref, entity, record_id) DO UPDATE
    SET state = 'rejected', payload_hash = NULL, source_key = excluded.source_key, attempts = 0,
        -- Sent before and never answered: Mailchimp may hold it, as it was then.
        on_mailchimp = l.on_mailchimp OR l.state = 'unknown',
        read_at = greatest(l.read_at, excluded.read_at)
    WHERE l.batch_ref IS NULL AND (l.read_at IS NULL OR l.read_at <= excluded.read_at)
""")

_WRITE = text("""
    INSERT INTO rejected AS x (store_ref, entity, record_id, operation, error_class, title, detail, field, waits_for,
                               parent_id, dag_run_id)
    SELECT :store_ref, :entity, r.*, :dag_run_id
    FROM unnest(
        CAST(:record_ids AS text[]), CAST(:operations AS text[]), CAST(:classes AS text[]), CAST(:titles AS text[]),
        CAST(:details AS text[]), CAST(:fields AS text[]), CAST(:waits AS text[]),
        CAST(:parents AS text[])
    ) AS r
    ON CONFLICT (store_ref, entity, record_id) DO UPDATE
    SET operation = excluded.operation, error_class = excluded.error_class, title = excluded.title,
        detail = excluded.detail, field = excluded.field, waits_for = excluded.waits_for,
        parent_id = excluded.parent_id, attempts = x.attempts + (x.dag_run_id <> excluded.dag_run_id)::int,
        last_seen_at = now(), dag_run_id = excluded.dag_run_id
""")


def reject(
    connection: Connection,
    store_ref: int,
    entity: str,
    rejections: Sequence[Rejection],
    *,
    read_at: datetime,
    dag_run_id: str,
) -> bool:
    """Record that these records (distinct ids) are not sent; a later change of the record gets a new chance.

    Args:
        connection: a transaction on the state tables.
        store_ref: the store.
        entity: name of the entity.
        rejections: the records and reasons.
        read_at: snapshot the records were read from.
        dag_run_id: the run that says so.

    Returns:
        False when one of them is in flight or was read later by somebody else: nothing about it may be changed now, so
        the caller rolls back and compares again.
    """
    if not rejections:
        return True
    marked = connection.execute(
        _MARK,
        {
            "store_ref": store_ref,
            "entity": entity,
            "read_at": read_at,
            "record_ids": [rejection.record_id for rejection in rejections],
            "keys": [rejection.source_key for rejection in rejections],
        },
    )
    write_rejections(connection, store_ref, entity, rejections, dag_run_id=dag_run_id)
    return marked.rowcount == len(rejections)


def write_rejections(
    connection: Connection, store_ref: int, entity: str, rejections: Sequence[Rejection], *, dag_run_id: str
) -> None:
    """Make rejected records (distinct ids) visible; one that is known already counts one attempt more in each run."""
    if not rejections:
        return
    connection.execute(
        _WRITE,
        {
            "store_ref": store_ref,
            "entity": entity,
            "dag_run_id": dag_run_id,
            "record_ids": [rejection.record_id for rejection in rejections],
            "operations": [rejection.operation for rejection in rejections],
            "classes": [rejection.error_class for rejection in rejections],
            "titles": [rejection.title for rejection in rejections],
            "details": [rejection.detail for rejection in rejections],
            "fields": [rejection.field for rejection in rejections],
            "waits": [rejection.waits_for for rejection in rejections],
            "parents": [rejection.parent_id for rejection in rejections],
        },
    )


# Rows that somebody is just changing are skipped: what becomes of them is said there, and nobody waits for anybody.
_CLOSE = text("""
    WITH named AS MATERIALIZED (
        SELECT CAST(:store_ref AS smallint) AS store_ref, CAST(:entity AS text) AS entity, t.*
        FROM unnest(CAST(:keys AS text[]), CAST(:reads AS timestamptz[])) AS t(key, read_at)
        WHERE EXISTS (SELECT FROM rejected WHERE store_ref = :store_ref AND entity = :entity)
    ), found AS MATERIALIZED (
        SELECT n.store_ref, n.entity, l.record_id, n.read_at
        FROM named n
        JOIN ledger l ON (l.store_ref, l.entity, l.record_id) = (n.store_ref, n.entity, n.key)
        WHERE l.source_key IS NULL
        UNION ALL
        SELECT n.store_ref, n.entity, l.record_id, n.read_at
        FROM named n
        JOIN ledger l ON (l.store_ref, l.entity, l.source_key) = (n.store_ref, n.entity, n.key)
    ), closing AS MATERIALIZED (
        SELECT l.store_ref, l.entity, l.record_id
        FROM found f JOIN ledger l USING (store_ref, entity, record_id)
        WHERE l.state = 'rejected' AND l.batch_ref IS NULL AND (l.read_at IS NULL OR l.read_at <= f.read_at)
          AND l.record_id <> ALL (CAST(:seen AS text[]))
          AND (:left_out OR NOT l.on_mailchimp)
        FOR UPDATE OF l SKIP LOCKED
    ), closed AS (
        UPDATE ledger l
        SET state = CASE WHEN l.on_mailchimp THEN l.state ELSE 'deleted' END, payload_hash = NULL, attempts = 0
        FROM closing
        WHERE (l.store_ref, l.entity, l.record_id) = (closing.store_ref, closing.entity, closing.record_id)
    )
    DELETE FROM rejected x USING closing
    WHERE (x.store_ref, x.entity, x.record_id) = (closing.store_ref, closing.entity, closing.record_id)
""")


def close_rejections(
    connection: Connection,
    store_ref: int,
    entity: str,
    keys: Sequence[str],
    reads: Sequence[datetime],
    *,
    seen: Sequence[str],
    left_out: bool = False,
) -> None:
    """Let go of rejected records that the shop's rows yield no more.

    Their ledger rows become deleted, so that the same payload gets a new chance should it return.

    Args:
        connection: a transaction on the state tables.
        store_ref: the store.
        entity: name of the entity.
        keys: the shop's keys of the rows.
        reads: per key, the snapshot in which the row yielded something else; later rejections stay.
        seen: ids of records the rows do yield: they stay.
        left_out: the rows yield nothing any more. Then a record Mailchimp holds is let go of too (its ledger row stays
            until it is removed there). Otherwise the rows yield records with other ids; what Mailchimp holds under the
            former ones stays listed.
    """
    if keys:
        arguments = {"store_ref": store_ref, "entity": entity, "left_out": left_out, "seen": list(seen)}
        connection.execute(_CLOSE, arguments | {"keys": list(keys), "reads": list(reads)})


def rejected_page(connection: Connection, store_ref: int, entity: str, after: str, limit: int) -> list[tuple[str, str]]:
    """Return the next rejected records that aren't in flight, as (record id, the shop's key), in order of the id.

    Args:
        connection: a transaction on the state tables.
        store_ref: the store.
        entity: name of the entity.
        after: the last record id of the page before; "" to begin.
        limit: how many at most.
    """
    rows = connection.execute(
        text("""
            SELECT l.record_id, coalesce(l.source_key, l.record_id)
            FROM (
                SELECT store_ref, entity, record_id FROM rejected
                WHERE store_ref = :store_ref AND entity = :entity AND record_id > :after OFFSET 0
            ) AS x
            JOIN ledger l USING (store_ref, entity, record_id)
            WHERE l.state = 'rejected' AND l.batch_ref IS NULL
            ORDER BY l.record_id LIMIT :limit
        """),
        {"store_ref": store_ref, "entity": entity, "after": after, "limit": limit},
    )
    return [(row[0], row[1]) for row in rows]


def let_go(
    connection: Connection,
    store_ref: int,
    entity: str,
    gone: Sequence[tuple[str, str]],
    read_at: datetime,
    *,
    removable: bool = True,
) -> None:
    """Let go of rejected records whose rows the shop doesn't have any more.

    What another row of the shop yields too is owed as that row; what Mailchimp holds is put on the list of removals.

    Args:
        connection: a transaction on the state tables.
        store_ref: the store.
        entity: name of the entity.
        gone: (record id, the shop's key) of the records.
        read_at: the snapshot that didn't have the rows.
        removable: whether records of this entity are ever deleted at Mailchimp.
    """
    if not gone:
        return
    keys = [key for _, key in gone]
    heirs = connection.execute(
        text("""
            SELECT a.record_id, min(a.source_key)
            FROM (SELECT CAST(:store_ref AS smallint) AS store_ref, CAST(:entity AS text) AS entity, record_id
                  FROM unnest(CAST(:ids AS text[])) AS t(record_id) OFFSET 0) AS r
            JOIN alias a USING (store_ref, entity, record_id)
            WHERE a.source_key <> ALL (CAST(:keys AS text[]))
            GROUP BY a.record_id
        """),
        {"store_ref": store_ref, "entity": entity, "ids": [record_id for record_id, _ in gone], "keys": keys},
    )
    inherited = {row[0]: row[1] for row in heirs}
    hand_over(connection, store_ref, entity, inherited)
    if removable:
        notice(connection, store_ref, entity, keys, list(inherited))
    close_rejections(connection, store_ref, entity, keys, [read_at] * len(keys), seen=list(inherited), left_out=True)


@dataclass(frozen=True)
class Orphan:
    """A record that Mailchimp refused because a parent is missing there, although the ledger knows the parent."""

    record_id: str
    source_key: str


_ORPHANS = text("""
    SELECT DISTINCT o.record_id, coalesce(l.source_key, l.record_id)
    FROM (
        SELECT b.store_ref, b.entity, o.record_id
        FROM batch b JOIN operation o USING (batch_ref)
        WHERE b.run_ref = :run_ref AND b.entity = :entity AND b.slice_number = :number
          AND o.outcome = 'parent_missing' OFFSET 0
    ) AS o
    JOIN rejected r USING (store_ref, entity, record_id)
    JOIN ledger l USING (store_ref, entity, record_id)
    WHERE r.error_class = 'parent_missing' AND r.waits_for IS NULL
      AND r.attempts < :max_attempts AND l.state = 'rejected' AND l.batch_ref IS NULL
    ORDER BY 1
    LIMIT :limit
""")


def orphans(
    connection: Connection, run_ref: int, entity: str, number: int, *, max_attempts: int, limit: int
) -> list[Orphan]:
    """Return a slice's records refused for a missing parent, as long as they were not refused too often."""
    arguments = {"run_ref": run_ref, "entity": entity, "number": number}
    rows = connection.execute(_ORPHANS, arguments | {"max_attempts": max_attempts, "limit": limit})
    return [Orphan(*row) for row in rows]


def wait_for_parents(
    connection: Connection, store_ref: int, entity: str, record_ids: Sequence[str], parents: Sequence[str]
) -> None:
    """Let rejected records wait for a parent each ("<entity>:<record id>", "" for none known)."""
    connection.execute(
        text("""
            UPDATE rejected x SET waits_for = r.parent
            FROM (
                SELECT CAST(:store_ref AS smallint) AS store_ref, CAST(:entity AS text) AS entity, t.*
                FROM unnest(CAST(:record_ids AS text[]), CAST(:parents AS text[])) AS t(record_id, parent) OFFSET 0
            ) AS r
            WHERE (x.store_ref, x.entity, x.record_id) = (r.store_ref, r.entity, r.record_id)
              AND x.error_class = 'parent_missing'
        """),
        {
            "store_ref": store_ref,
            "entity": entity,
            "record_ids": list(record_ids),
            "parents": list(parents),
        },
    )


def top_error_classes(connection: Connection, store_ref: int, dag_run_id: str, limit: int = 5) -> list[str]:
    """Return the reasons of a run's rejections, most frequent first: "<entity>: <title> (12 records)"."""
    rows = connection.execute(
        text("""
            SELECT entity, title, count(*) FROM rejected
            WHERE store_ref = :store_ref AND dag_run_id = :dag_run_id
            GROUP BY entity, title ORDER BY count(*) DESC, entity, title LIMIT :limit
        """),
        {"store_ref": store_ref, "dag_run_id": dag_run_id, "limit": limit},
    )
    return [f"{entity}: {title} ({count} records)" for entity, title, count in rows]
