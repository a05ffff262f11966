"""What Mailchimp's webhooks said of contacts, until a run has asked Mailchimp about them.

A row is one contact of one call. Nothing is known of a call but its type, its times and its signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

from include.state.database import StateDatabase

#: How long events are kept after they were worked off.
KEPT_FOR: Final = timedelta(days=7)


class StoreNotRegistered(RuntimeError):
    """No run has registered the store with this audience yet; its pull does so."""


@dataclass(frozen=True)
class ReceivedEvent:
    """What is kept of a call.

    Attributes:
        type: one of Mailchimp's.
        fired_at: by Mailchimp's clock.
        member_hashes: the contacts.
        signature: of the call; no other call has it.
    """

    type: str
    fired_at: datetime
    member_hashes: Sequence[str]
    signature: str


@dataclass(frozen=True)
class WaitingContact:
    """A contact that something was said of, and by which events."""

    member_hash: str
    event_ids: Sequence[int]


def store_event(state: StateDatabase, store_key: str, list_id: str, event: ReceivedEvent, patience: timedelta) -> bool:
    """Store an event, in a transaction of its own.

    Args:
        state: the state tables.
        store_key: key of the store in the settings file.
        list_id: the store's audience.
        event: what was said.
        patience: how long the database may take.

    Returns:
        Whether it is new; False: a call with this signature has been stored before.

    Raises:
        StoreNotRegistered: it isn't known which account the store belongs to.
    """
    milliseconds = int(patience.total_seconds() * 1000)
    with state.begin() as connection:
        connection.exec_driver_sql(
            f"SET LOCAL statement_timeout = {milliseconds}; SET LOCAL lock_timeout = {milliseconds}"
        )
        known, stored = connection.execute(
            text("""
                WITH s AS MATERIALIZED (
                    SELECT store_ref, account_id, list_id FROM store
                    WHERE store_key = :store_key AND list_id = :list_id AND is_current
                ), stored AS (
                    INSERT INTO webhook_event (store_ref, account_id, list_id, member_hash, type, fired_at, signature)
                    SELECT s.store_ref, s.account_id, s.list_id, r.member_hash, :type, :fired_at, :signature
                    FROM s CROSS JOIN unnest(CAST(:member_hashes AS text[])) AS r(member_hash)
                    ON CONFLICT (account_id, list_id, member_hash, signature) DO NOTHING
                    RETURNING webhook_event_id
                )
                SELECT (SELECT count(*) FROM s), (SELECT count(*) FROM stored)
            """),
            {"store_key": store_key, "list_id": list_id, **vars(event), "member_hashes": list(event.member_hashes)},
        ).one()
    if not known:
        raise StoreNotRegistered(f"no run has registered the store {store_key!r} with its audience yet")
    return bool(stored)


def waiting_ids(connection: Connection, store_key: str, limit: int) -> set[int]:
    """Return the newest events of a store that wait to be worked off.

    Args:
        connection: a transaction on the state tables.
        store_key: key of the store in the settings file.
        limit: how many at most.
    """
    rows = connection.execute(
        text("""
            SELECT e.webhook_event_id FROM store s JOIN webhook_event e USING (store_ref)
            WHERE s.store_key = :store_key AND s.is_current AND e.processed_at IS NULL
            ORDER BY e.webhook_event_id DESC LIMIT :limit
        """),
        {"store_key": store_key, "limit": limit},
    )
    return set(rows.scalars())


def waiting_contacts(connection: Connection, store_ref: int, limit: int) -> list[WaitingContact]:
    """Return contacts with events that wait to be worked off, the longest waiting first.

    Args:
        connection: a transaction on the state tables.
        store_ref: the store.
        limit: how many contacts at most.
    """
    rows = connection.execute(
        text("""
            SELECT member_hash, array_agg(webhook_event_id) FROM webhook_event
            WHERE store_ref = :store_ref AND processed_at IS NULL
            GROUP BY member_hash ORDER BY min(webhook_event_id) LIMIT :limit
        """),
        {"store_ref": store_ref, "limit": limit},
    )
    return [WaitingContact(*row) for row in rows]


def mark_processed(connection: Connection, contacts: Iterable[WaitingContact]) -> int:
    """Note that events were worked off.

    Returns:
        How many.
    """
    found = connection.execute(
        text("""
            UPDATE webhook_event e SET processed_at = clock_timestamp()
            FROM unnest(CAST(:ids AS bigint[])) AS r(id)
            WHERE e.webhook_event_id = r.id AND e.processed_at IS NULL
        """),
        {"ids": sorted(one for contact in contacts for one in contact.event_ids)},
    )
    return found.rowcount


def forget_processed(connection: Connection, store_ref: int) -> int:
    """Remove events that were worked off long ago.

    Returns:
        How many.
    """
    found = connection.execute(
        text("DELETE FROM webhook_event WHERE store_ref = :store_ref AND processed_at < clock_timestamp() - :kept_for"),
        {"store_ref": store_ref, "kept_for": KEPT_FOR},
    )
    return found.rowcount
