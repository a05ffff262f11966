"""The list of records that the shop no longer yields.

Whatever notices one only puts it on the list; the removal phase reads the shop once more before anything is deleted. So
a record that came back meanwhile stays, and a crash loses nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

# How long a record that something at Mailchimp still refers to is left alone before it is looked at again.
_KEPT_FOR = "30 days"

# The records known under the keys, as their own or as an alias that was found to be part of them.
_FOUND = """WITH named AS MATERIALIZED (
    SELECT CAST(:store_ref AS smallint) AS store_ref, CAST(:entity AS text) AS entity, key
    FROM unnest(CAST(:keys AS text[])) AS t(key)
), found AS (
    SELECT l.* FROM named n
    JOIN ledger l ON (l.store_ref, l.entity, l.record_id) = (n.store_ref, n.entity, n.key)
    WHERE l.source_key IS NULL
    UNION ALL
    SELECT l.* FROM named n
    JOIN ledger l ON (l.store_ref, l.entity, l.source_key) = (n.store_ref, n.entity, n.key)
    UNION ALL
    SELECT l.* FROM named n
    JOIN alias a ON (a.store_ref, a.entity, a.source_key) = (n.store_ref, n.entity, n.key)
    JOIN ledger l ON (l.store_ref, l.entity, l.record_id) = (a.store_ref, a.entity, a.record_id)
)"""


@dataclass(frozen=True)
class Removal:
    """A record on the list: its id at Mailchimp and the shop's key under which it was known."""

    record_id: str
    source_key: str


def notice(connection: Connection, store_ref: int, entity: str, keys: Sequence[str], seen: Sequence[str] = ()) -> None:
    """Put what Mailchimp may hold of the shop's `keys` on the list, except the records `seen` (ids) there now."""
    if not keys:
        return
    connection.execute(
        text(f"""
            {_FOUND}
            INSERT INTO removal (store_ref, entity, record_id)
            SELECT DISTINCT store_ref, entity, record_id FROM found
            WHERE (on_mailchimp OR state IN ('pending', 'unknown')) AND record_id <> ALL (CAST(:seen AS text[]))
            ON CONFLICT DO NOTHING
        """),  # noqa: S608 - a constant
        {"store_ref": store_ref, "entity": entity, "keys": list(keys), "seen": list(seen)},
    )


def due(connection: Connection, store_ref: int, entity: str) -> list[Removal]:
    """Return the records of an entity that are to be deleted, as far as is known."""
    rows = connection.execute(
        text(f"""
            SELECT r.record_id, coalesce(l.source_key, l.record_id)
            FROM (SELECT * FROM removal WHERE store_ref = :store_ref AND entity = :entity
                    AND (kept_at IS NULL OR kept_at < now() - interval '{_KEPT_FOR}') OFFSET 0) AS r
            JOIN ledger l USING (store_ref, entity, record_id)
            ORDER BY r.record_id
        """),  # noqa: S608 - a constant
        {"store_ref": store_ref, "entity": entity},
    )
    return [Removal(*row) for row in rows]


def held_under(connection: Connection, store_ref: int, entity: str, keys: Sequence[str]) -> list[Removal]:
    """Return the records that Mailchimp may hold under the shop's keys, and that are not in flight."""
    rows = connection.execute(
        text(f"""
            {_FOUND}
            SELECT DISTINCT record_id, coalesce(source_key, record_id) FROM found
            WHERE (on_mailchimp OR state IN ('pending', 'unknown')) AND batch_ref IS NULL
            ORDER BY 1
        """),  # noqa: S608 - a constant
        {"store_ref": store_ref, "entity": entity, "keys": list(keys)},
    )
    return [Removal(*row) for row in rows]


def in_flight(connection: Connection, store_ref: int, entity: str, keys: Sequence[str]) -> list[int]:
    """Return the open batches that hold records of the shop's keys."""
    rows = connection.execute(
        text("""
            SELECT DISTINCT batch_ref FROM ledger
            WHERE store_ref = :store_ref AND entity = :entity AND batch_ref IS NOT NULL
              AND (record_id = ANY (CAST(:keys AS text[])) OR source_key = ANY (CAST(:keys AS text[])))
        """),
        {"store_ref": store_ref, "entity": entity, "keys": list(keys)},
    )
    return list(rows.scalars())


def drop(connection: Connection, store_ref: int, entity: str, record_ids: Sequence[str]) -> None:
    """Take records off the list: the shop yields them again."""
    _apply(connection, "DELETE FROM removal", store_ref, entity, record_ids)


def keep(connection: Connection, store_ref: int, entity: str, record_ids: Sequence[str]) -> None:
    """Leave records at Mailchimp for now, because something there refers to them; so nothing is owed of them."""
    _apply(connection, "UPDATE removal SET kept_at = now()", store_ref, entity, record_ids)
    held = "UPDATE ledger SET state = 'synced', on_mailchimp = true, payload_hash = NULL"
    _apply(connection, held, store_ref, entity, record_ids, "AND state IN ('pending', 'unknown') AND batch_ref IS NULL")


def _apply(
    connection: Connection, verb: str, store_ref: int, entity: str, record_ids: Sequence[str], further: str = ""
) -> None:
    if record_ids:
        connection.execute(
            text(f"{verb} WHERE store_ref = :store_ref AND entity = :entity AND record_id = ANY (:ids) {further}"),
            {"store_ref": store_ref, "entity": entity, "ids": list(record_ids)},
        )
