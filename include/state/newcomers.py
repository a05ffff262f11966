"""Whom the audience knows already, and whom a run was given to bring to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from include.state.bookmarks import load_bookmarks

# The contacts of the mirror, those too that are gone from Mailchimp: they were no strangers to the audience.
_STANDINGS = text("""
    WITH wanted AS MATERIALIZED (
        SELECT CAST(:store_ref AS smallint) AS store_ref, CAST(:account_id AS text) AS account_id,
               CAST(:list_id AS text) AS list_id, record_id
        FROM unnest(CAST(:record_ids AS text[])) AS t(record_id)
    )
    SELECT w.record_id,
           (k.member_hash IS NOT NULL OR coalesce(m.on_mailchimp, false)
               OR coalesce(c.on_mailchimp, false)) AS is_contact,
           coalesce(m.state = 'rejected', false) AS is_rejected
    FROM wanted w
    LEFT JOIN member k ON (k.account_id, k.list_id, k.member_hash) = (w.account_id, w.list_id, w.record_id)
    LEFT JOIN ledger m ON (m.store_ref, m.entity, m.record_id) = (w.store_ref, 'members', w.record_id)
    LEFT JOIN ledger c ON (c.store_ref, c.entity, c.record_id) = (w.store_ref, 'customers', w.record_id)
""")


@dataclass(frozen=True)
class Standings:
    """Of some people, by the hash of their address: who is a contact, and whose subscription was rejected."""

    contacts: frozenset[str]
    rejected: frozenset[str]


def standings(
    connection: Connection, store_ref: int, account_id: str, list_id: str, record_ids: Sequence[str]
) -> Standings:
    """Look people up in the ledger, and in the mirror of the audience as far as a pull has filled it."""
    arguments = {
        "store_ref": store_ref,
        "account_id": account_id,
        "list_id": list_id,
        "record_ids": list(record_ids),
    }
    rows = connection.execute(_STANDINGS, arguments).all()
    return Standings(
        frozenset(row.record_id for row in rows if row.is_contact),
        frozenset(row.record_id for row in rows if row.is_rejected),
    )


def mirrored_at(connection: Connection, account_id: str, list_id: str) -> datetime | None:
    """Return when a pull has last read the audience's contacts to the end; None: never."""
    read = load_bookmarks(connection, account_id, list_id).get("members")
    return read.finished_at if read else None


def forget_given(connection: Connection, run_ref: int) -> None:
    """Take from a run what an earlier try of it was given."""
    connection.execute(text("DELETE FROM replay WHERE run_ref = :run_ref"), {"run_ref": run_ref})


def give(connection: Connection, store_ref: int, run_ref: int, people: Sequence[tuple[str, str]]) -> None:
    """Give people to a run, which finds them as it finds the records of a replay.

    Unlike those they are not owed to anybody: if the run is rejected, or dies before it claims them, no other run sends
    them in its place.

    Args:
        connection: a transaction on the state tables.
        store_ref: the store.
        run_ref: the run.
        people: (the hash of the address, the shop's key) of each.
    """
    if not people:
        return
    connection.execute(
        text("""
            INSERT INTO replay (run_ref, store_ref, entity, record_id, source_key, error_class)
            SELECT :run_ref, :store_ref, 'members', r.record_id, r.key, 'none'
            FROM unnest(CAST(:record_ids AS text[]), CAST(:keys AS text[])) AS r(record_id, key)
            ORDER BY r.record_id
            ON CONFLICT DO NOTHING
        """),
        {
            "run_ref": run_ref,
            "store_ref": store_ref,
            "record_ids": [record_id for record_id, _ in people],
            "keys": [key for _, key in people],
        },
    )
