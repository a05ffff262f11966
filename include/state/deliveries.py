"""What each store's shop has been told of the trail of consent, and what of it stands.

Stores may share an audience, and only one pull at a time reads it: so each store has its own bookmark in the trail.
Events of an audience are recorded under its lock (`bookmarks.pull_lock`), one transaction after the other: who has seen
one has seen all before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from include.state.members import Mirror, StatusChange


@dataclass(frozen=True)
class Undelivered:
    """Events that a shop hasn't heard of: the contacts they are about, behind which event, and the last of them."""

    hashes: list[str]
    after: int
    last: int


def begin_delivery(connection: Connection, mirror: Mirror, store_ref: int) -> None:
    """See to it that a store has a bookmark; it goes back to the beginning when everything was read since.

    So a shop hears of opt-outs again: its customer may have come after them. Who has said no since is left alone.
    """
    connection.execute(
        text("""
            INSERT INTO consent_delivery AS d (account_id, list_id, store_ref, begun_at)
            VALUES (:account_id, :list_id, :store_ref, clock_timestamp())
            ON CONFLICT (account_id, list_id, store_ref) DO UPDATE SET event_id = 0, begun_at = excluded.begun_at
            WHERE d.begun_at < (SELECT max(finished_at) FROM pull_bookmark
                                WHERE account_id = :account_id AND list_id = :list_id AND kind = 'full')
        """),
        _of(mirror, store_ref),
    )


def undelivered(connection: Connection, mirror: Mirror, store_ref: int, limit: int) -> Undelivered | None:
    """Return the next events that a store's shop hasn't heard of; None: it has heard of all."""
    after = connection.execute(
        text("""
            SELECT event_id FROM consent_delivery
            WHERE account_id = :account_id AND list_id = :list_id AND store_ref = :store_ref
        """),
        _of(mirror, store_ref),
    ).scalar_one()
    rows = connection.execute(
        text("""
            SELECT event_id, member_hash FROM consent_event
            WHERE account_id = :account_id AND list_id = :list_id AND event_id > :after
            ORDER BY event_id LIMIT :limit
        """),
        {**_of(mirror, store_ref), "after": after, "limit": limit},
    ).all()
    if not rows:
        return None
    return Undelivered(list(dict.fromkeys(row.member_hash for row in rows)), after, rows[-1].event_id)


def move_delivery(connection: Connection, mirror: Mirror, store_ref: int, last: int, after: int | None = None) -> bool:
    """Note that a store's shop has heard of all events up to one.

    Args:
        connection: the transaction that writes to the shop.
        mirror: the audience.
        store_ref: the store.
        last: the event.
        after: where the bookmark has to be; None: anywhere before.

    Returns:
        Whether the bookmark was there.
    """
    moved = connection.execute(
        text("""
            UPDATE consent_delivery SET event_id = :last
            WHERE account_id = :account_id AND list_id = :list_id AND store_ref = :store_ref AND event_id < :last
              AND event_id = coalesce(CAST(:after AS bigint), event_id)
        """),
        {**_of(mirror, store_ref), "last": last, "after": after},
    )
    return moved.rowcount == 1


def finish_delivery(connection: Connection, mirror: Mirror, store_ref: int) -> None:
    """Note that a store's shop was told of everybody, in the course of reading everything."""
    connection.execute(
        text("""
            UPDATE consent_delivery SET begun_at = clock_timestamp()
            WHERE account_id = :account_id AND list_id = :list_id AND store_ref = :store_ref
        """),
        _of(mirror, store_ref),
    )


# An opt-out outlives being archived: then it is what counts. An archived contact may also still show its reason.
_STANDING = text("""
    SELECT e.event_id, e.member_hash, e.from_status,
           CASE WHEN e.to_status = 'archived' AND m.unsubscribe_reason IS NOT NULL THEN 'unsubscribed'
                ELSE e.to_status END,
           e.happened_at, e.recorded_at
    FROM unnest(CAST(:hashes AS text[])) AS r(member_hash)
    JOIN member m ON m.account_id = :account_id AND m.list_id = :list_id AND m.member_hash = r.member_hash
    CROSS JOIN LATERAL (
        SELECT c.event_id FROM consent_event c
        WHERE c.account_id = m.account_id AND c.list_id = m.list_id AND c.member_hash = m.member_hash
          AND c.to_status = m.status
        ORDER BY c.event_id DESC LIMIT 1
    ) AS last
    LEFT JOIN LATERAL (
        SELECT c.event_id, c.to_status FROM consent_event c
        WHERE c.account_id = m.account_id AND c.list_id = m.list_id AND c.member_hash = m.member_hash
          AND c.to_status <> 'archived'
        ORDER BY c.event_id DESC LIMIT 1
    ) AS before ON m.status = 'archived' AND before.to_status IN ('unsubscribed', 'cleaned')
    JOIN consent_event e ON e.event_id = coalesce(before.event_id, last.event_id)
    WHERE m.status IN ('unsubscribed', 'cleaned', 'archived') AND m.vanished_at IS NULL AND e.source <> 'push'
""")


def standing_opt_outs(connection: Connection, mirror: Mirror, hashes: Sequence[str]) -> list[StatusChange]:
    """Return by which event each contact is opted out or archived now.

    Those that a push of ours has made are left out: the shop said so itself.

    Args:
        connection: a transaction on the state tables.
        mirror: the audience.
        hashes: the contacts.
    """
    if not hashes:
        return []
    rows = connection.execute(
        _STANDING, {"account_id": mirror.account_id, "list_id": mirror.list_id, "hashes": list(hashes)}
    )
    return [StatusChange(*row) for row in rows]


def _of(mirror: Mirror, store_ref: int) -> dict[str, str | int]:
    return {"account_id": mirror.account_id, "list_id": mirror.list_id, "store_ref": store_ref}
