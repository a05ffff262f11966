"""Rows of the shop that are one record at Mailchimp, and records that rows have left: people with several addresses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text


def note_aliases(connection: Connection, store_ref: int, entity: str, aliases: Sequence[tuple[str, str]]) -> None:
    """Record that another row speaks for these rows.

    Args:
        connection: a transaction on the state tables.
        store_ref: the store.
        entity: name of the entity.
        aliases: (the shop's key, id of the record that it is part of), keys distinct.
    """
    if not aliases:
        return
    connection.execute(
        text("""
            INSERT INTO alias (store_ref, entity, source_key, record_id)
            SELECT :store_ref, :entity, * FROM unnest(CAST(:keys AS text[]), CAST(:ids AS text[]))
            ON CONFLICT (store_ref, entity, source_key) DO UPDATE SET record_id = excluded.record_id
            WHERE alias.record_id <> excluded.record_id
        """),
        {
            "store_ref": store_ref,
            "entity": entity,
            "keys": [key for key, _ in aliases],
            "ids": [record_id for _, record_id in aliases],
        },
    )


def change_speakers(
    connection: Connection, store_ref: int, entity: str, keys: Sequence[str], record_ids: Sequence[str]
) -> None:
    """Before rows claim their records: who spoke for a record until now becomes an alias, who speaks is none."""
    connection.execute(
        text("""
            WITH speaking AS MATERIALIZED (
                SELECT CAST(:store_ref AS smallint) AS store_ref, CAST(:entity AS text) AS entity, t.*
                FROM unnest(CAST(:keys AS text[]), CAST(:ids AS text[])) AS t(key, record_id)
            ), speak_for_themselves AS (
                DELETE FROM alias a USING speaking s
                WHERE (a.store_ref, a.entity, a.source_key) = (s.store_ref, s.entity, s.key)
            )
            INSERT INTO alias (store_ref, entity, source_key, record_id)
            -- A row that spoke for two records, formerly and lately, is part of the one it was read for last.
            SELECT DISTINCT ON (l.source_key) l.store_ref, l.entity, l.source_key, l.record_id
            FROM speaking s JOIN ledger l USING (store_ref, entity, record_id)
            WHERE l.source_key <> s.key AND l.source_key <> ALL (CAST(:keys AS text[]))
            ORDER BY l.source_key, l.read_at DESC NULLS LAST, l.record_id
            ON CONFLICT (store_ref, entity, source_key) DO UPDATE SET record_id = excluded.record_id
        """),
        {"store_ref": store_ref, "entity": entity, "keys": list(keys), "ids": list(record_ids)},
    )


def alias_keys(connection: Connection, store_ref: int, entity: str, record_ids: Sequence[str]) -> list[str]:
    """Return the shop's keys of other rows that were found to be part of these records."""
    if not record_ids:
        return []
    rows = connection.execute(
        text("""
            SELECT a.source_key
            FROM (SELECT CAST(:store_ref AS smallint) AS store_ref, CAST(:entity AS text) AS entity, record_id
                  FROM unnest(CAST(:ids AS text[])) AS t(record_id) OFFSET 0) AS r
            JOIN alias a USING (store_ref, entity, record_id)
            ORDER BY 1
        """),
        {"store_ref": store_ref, "entity": entity, "ids": list(record_ids)},
    )
    return list(rows.scalars())


def hand_over(connection: Connection, store_ref: int, entity: str, speakers: Mapping[str, str]) -> None:
    """Let other rows speak for records whose speaker is gone; the records are owed until they are sent as these rows.

    Args:
        connection: a transaction on the state tables.
        store_ref: the store.
        entity: name of the entity.
        speakers: the shop's key of the row that speaks from now on, by id of the record.
    """
    if not speakers:
        return
    ids, keys = list(speakers), list(speakers.values())
    change_speakers(connection, store_ref, entity, keys, ids)
    connection.execute(
        text("""
            UPDATE ledger l
            SET source_key = r.key, updated_at = NULL, payload_hash = NULL, attempts = 0,
                state = CASE WHEN l.state = 'unknown' THEN l.state ELSE 'pending' END
            FROM (
                SELECT CAST(:store_ref AS smallint) AS store_ref, CAST(:entity AS text) AS entity, t.*
                FROM unnest(CAST(:ids AS text[]), CAST(:keys AS text[])) AS t(record_id, key) OFFSET 0
            ) AS r
            WHERE (l.store_ref, l.entity, l.record_id) = (r.store_ref, r.entity, r.record_id) AND l.batch_ref IS NULL
        """),
        {"store_ref": store_ref, "entity": entity, "ids": ids, "keys": keys},
    )


@dataclass(frozen=True)
class Former:
    """A contact whose customer has a new address: the old and the new id (hashes), and the customer's key."""

    record_id: str
    new_id: str
    source_key: str


def formers(connection: Connection, store_ref: int, keys: Sequence[str], record_ids: Sequence[str]) -> list[Former]:
    """Return the contacts that customers have left for another address and that nobody else uses.

    Args:
        connection: a transaction on the state tables.
        store_ref: the store.
        keys: the shop's keys of customers.
        record_ids: who they are now.
    """
    rows = connection.execute(
        text("""
            WITH named AS MATERIALIZED (
                SELECT CAST(:store_ref AS smallint) AS store_ref, t.*
                FROM unnest(CAST(:keys AS text[]), CAST(:ids AS text[])) AS t(key, new_id)
            )
            SELECT DISTINCT l.record_id, n.new_id, n.key
            FROM named n
            CROSS JOIN (VALUES ('customers'), ('members')) AS e(entity)
            JOIN ledger l ON (l.store_ref, l.entity, l.source_key) = (n.store_ref, e.entity, n.key)
            WHERE l.record_id <> n.new_id
              -- A contact outlives its customer: an account that was closed, a store that was deleted at Mailchimp.
              AND (l.on_mailchimp OR NOT EXISTS (SELECT FROM carried_contact c WHERE (c.store_ref, c.record_id)
                                                   = (l.store_ref, l.record_id)))
              AND l.record_id <> ALL (CAST(:ids AS text[]))
              -- In either entity: a guest may be a member without being sent as a customer.
              AND NOT EXISTS (SELECT FROM alias a WHERE (a.store_ref, a.record_id) = (l.store_ref, l.record_id)
                                AND a.entity IN ('customers', 'members') AND a.source_key <> n.key)
              AND NOT EXISTS (SELECT FROM carried_contact c WHERE (c.store_ref, c.record_id)
                                = (l.store_ref, l.record_id) AND c.carried_to = n.new_id)
            ORDER BY 1
        """),
        {"store_ref": store_ref, "keys": list(keys), "ids": list(record_ids)},
    )
    return [Former(*row) for row in rows]


def shared_formers(
    connection: Connection, store_ref: int, keys: Sequence[str], record_ids: Sequence[str]
) -> list[Former]:
    """Return the contacts that customers have left for another address while others still use them.

    Args: as for `formers`.
    """
    rows = connection.execute(
        text("""
            WITH named AS MATERIALIZED (
                SELECT CAST(:store_ref AS smallint) AS store_ref, t.*
                FROM unnest(CAST(:keys AS text[]), CAST(:ids AS text[])) AS t(key, new_id)
            ), known AS (
                SELECT l.record_id, n.new_id, n.key FROM named n JOIN ledger l
                  ON (l.store_ref, l.source_key) = (n.store_ref, n.key) AND l.entity IN ('customers', 'members')
                UNION
                SELECT a.record_id, n.new_id, n.key FROM named n JOIN alias a
                  ON (a.store_ref, a.source_key) = (n.store_ref, n.key) AND a.entity IN ('customers', 'members')
            )
            SELECT DISTINCT k.record_id, k.new_id, k.key FROM known k
            WHERE k.record_id <> k.new_id
              AND (k.record_id = ANY (CAST(:ids AS text[]))
                   OR EXISTS (SELECT FROM alias a WHERE (a.store_ref, a.record_id) = (:store_ref, k.record_id)
                                AND a.entity IN ('customers', 'members') AND a.source_key <> k.key)
                   OR EXISTS (SELECT FROM ledger l WHERE (l.store_ref, l.record_id) = (:store_ref, k.record_id)
                                AND l.entity IN ('customers', 'members') AND l.source_key <> k.key))
              AND NOT EXISTS (SELECT FROM ledger l WHERE (l.store_ref, l.record_id) = (:store_ref, k.new_id)
                                AND l.entity IN ('customers', 'members') AND l.on_mailchimp)
            ORDER BY 1
        """),
        {"store_ref": store_ref, "keys": list(keys), "ids": list(record_ids)},
    )
    return [Former(*row) for row in rows]


def note_carried(connection: Connection, store_ref: int, former: Former) -> None:
    """Record that a contact's address was changed at Mailchimp, or that there is nothing to change."""
    connection.execute(
        text("""
            INSERT INTO carried_contact (store_ref, record_id, carried_to) VALUES (:store_ref, :old, :new)
            ON CONFLICT (store_ref, record_id) DO UPDATE SET carried_to = excluded.carried_to, carried_at = now()
        """),
        {"store_ref": store_ref, "old": former.record_id, "new": former.new_id},
    )
    # It may come back and leave again.
    connection.execute(
        text("DELETE FROM carried_contact WHERE store_ref = :store_ref AND record_id = :new"),
        {"store_ref": store_ref, "new": former.new_id},
    )
    # The contact is known under its new address from now on, whatever the ledger said about the old one.
    connection.execute(
        text("""
            UPDATE ledger SET on_mailchimp = false, state = 'deleted', payload_hash = NULL
            WHERE store_ref = :store_ref AND entity = 'members' AND record_id = :old AND batch_ref IS NULL
        """),
        {"store_ref": store_ref, "old": former.record_id},
    )
