"""The mirror of Mailchimp's contacts, and what a page of them changes in it.

A page is compared with the mirror in the statement that writes it: each change of a contact's status is an event in
`consent_event`, once, whatever is read twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, text

from include.state.database import StateDatabase

#: What the history calls a contact that Mailchimp doesn't have any more.
DELETED = "deleted"
#: The statuses of contacts who opted out, or may have before they were archived.
OPT_OUTS = frozenset({"unsubscribed", "cleaned", "archived"})
#: The statuses that are worth an event when a contact is seen for the first time.
_MEANINGFUL = ["subscribed", "unsubscribed", "cleaned", "archived"]


@dataclass(frozen=True)
class Mirror:
    """Whose contacts are mirrored, by which run, and what its events are told to come from."""

    account_id: str
    list_id: str
    dag_run_id: str
    source: Literal["mailchimp", "webhook"] = "mailchimp"


@dataclass
class MemberRows:
    """Contacts by columns, each contact once; lists of tags and of groups as JSON text."""

    hashes: list[str] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    opted: list[str | None] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    sources: list[str | None] = field(default_factory=list)
    languages: list[str | None] = field(default_factory=list)
    vips: list[bool] = field(default_factory=list)
    ratings: list[int | None] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.hashes)


@dataclass(frozen=True)
class StatusChange:
    """An event that was recorded: a contact's status, its change, when it happened at Mailchimp, since when we know."""

    event_id: int
    member_hash: str
    from_status: str | None
    to_status: str
    happened_at: datetime
    recorded_at: datetime


# What is older than the mirror changes nothing. In the full compare a contact that had vanished comes back.
_SAVE = text("""
    WITH page AS MATERIALIZED (
        SELECT r.*, m.last_changed AS known_changed,
               CASE WHEN m.vanished_at IS NULL THEN m.status ELSE :deleted END AS known_status
        FROM unnest(
            CAST(:hashes AS text[]), CAST(:statuses AS text[]), CAST(:changed AS timestamptz[]),
            CAST(:opted AS timestamptz[]), CAST(:reasons AS text[]), CAST(:sources AS text[]),
            CAST(:languages AS text[]), CAST(:vips AS boolean[]), CAST(:ratings AS smallint[]),
            CAST(:tags AS text[]), CAST(:groups AS text[])
        ) AS r(member_hash, status, last_changed, timestamp_opt, unsubscribe_reason, source, language, vip,
               member_rating, tags, groups)
        LEFT JOIN member m ON m.account_id = :account_id AND m.list_id = :list_id AND m.member_hash = r.member_hash
    ), saved AS (
        INSERT INTO member AS m (
            account_id, list_id, member_hash, status, last_changed, timestamp_opt, unsubscribe_reason, source, language,
            vip, member_rating, tags, groups, first_seen_at, pulled_at
        )
        SELECT :account_id, :list_id, p.member_hash, p.status, p.last_changed, p.timestamp_opt, p.unsubscribe_reason,
               p.source, p.language, p.vip, p.member_rating,
               ARRAY(SELECT jsonb_array_elements_text(CAST(p.tags AS jsonb))),
               ARRAY(SELECT jsonb_array_elements_text(CAST(p.groups AS jsonb))), clock_timestamp(), clock_timestamp()
        FROM page p
        ORDER BY p.member_hash
        ON CONFLICT (account_id, list_id, member_hash) DO UPDATE
        SET status = excluded.status, last_changed = excluded.last_changed, timestamp_opt = excluded.timestamp_opt,
            unsubscribe_reason = excluded.unsubscribe_reason, source = excluded.source, language = excluded.language,
            vip = excluded.vip, member_rating = excluded.member_rating, tags = excluded.tags, groups = excluded.groups,
            pulled_at = excluded.pulled_at, vanished_at = NULL
        WHERE m.last_changed <= excluded.last_changed OR m.vanished_at IS NOT NULL
    )
    INSERT INTO consent_event (
        account_id, list_id, member_hash, from_status, to_status, reason, source, happened_at, dag_run_id
    )
    SELECT :account_id, :list_id, p.member_hash, p.known_status, p.status,
           CASE WHEN p.status IN ('unsubscribed', 'cleaned') THEN p.unsubscribe_reason END, :source, p.last_changed,
           :dag_run_id
    FROM page p
    WHERE CASE WHEN p.known_changed IS NULL THEN p.status = ANY (CAST(:meaningful AS text[]))
               ELSE p.status <> p.known_status
                    AND (p.known_changed <= p.last_changed OR p.known_status = :deleted) END
    ORDER BY p.last_changed, p.member_hash
    ON CONFLICT (account_id, list_id, member_hash, to_status, happened_at) DO NOTHING
    RETURNING event_id, member_hash, from_status, to_status, happened_at, recorded_at
""")


def save_members(connection: Connection, mirror: Mirror, rows: MemberRows) -> list[StatusChange]:
    """Write contacts as Mailchimp shows them now.

    Args:
        connection: a transaction on the state tables.
        mirror: whose.
        rows: the contacts.

    Returns:
        The changes of status that this tells for the first time.
    """
    if not len(rows):
        return []
    arguments = {**vars(mirror), **vars(rows), "deleted": DELETED, "meaningful": _MEANINGFUL}
    return [StatusChange(*row) for row in connection.execute(_SAVE, arguments)]


def with_another_status(
    connection: Connection, mirror: Mirror, statuses: Mapping[str, str], opted: Mapping[str, str | None] | None = None
) -> list[str]:
    """Return the contacts whose status isn't the one they are known with, or who aren't known.

    Args:
        connection: a transaction on the state tables.
        mirror: whose.
        statuses: by contact.
        opted: by contact, when it opted in: after the mirror saw it last, and it counts as changed too, since it may
            have left in between.
    """
    rows = connection.execute(
        text("""
            SELECT r.member_hash
            FROM unnest(CAST(:hashes AS text[]), CAST(:statuses AS text[]), CAST(:opted AS timestamptz[]))
                 AS r(member_hash, status, opted)
            LEFT JOIN member m ON m.account_id = :account_id AND m.list_id = :list_id
                 AND m.member_hash = r.member_hash AND m.vanished_at IS NULL
            WHERE m.status IS DISTINCT FROM r.status OR r.opted > m.last_changed
        """),
        {
            **vars(mirror),
            "hashes": list(statuses),
            "statuses": list(statuses.values()),
            "opted": [(opted or {}).get(one) for one in statuses],
        },
    )
    return list(rows.scalars())


@dataclass(frozen=True)
class ArchivedContacts:
    """Tells which contacts of an audience are archived, as far as a pull has seen."""

    state: StateDatabase
    account_id: str
    list_id: str

    def __call__(self, hashes: Sequence[str]) -> frozenset[str]:
        """Return those of the contacts, by the hash of their address, that are archived."""
        if not hashes:
            return frozenset()
        with self.state.begin() as connection:
            rows = connection.execute(
                text("""
                    SELECT r.member_hash FROM unnest(CAST(:hashes AS text[])) AS r(member_hash)
                    JOIN member m ON m.account_id = :account_id AND m.list_id = :list_id
                         AND m.member_hash = r.member_hash
                    WHERE m.status = 'archived' AND m.vanished_at IS NULL
                """),
                {"account_id": self.account_id, "list_id": self.list_id, "hashes": list(hashes)},
            )
            return frozenset(rows.scalars())


def unseen_since(connection: Connection, mirror: Mirror, moment: datetime, after: str | None, limit: int) -> list[str]:
    """Return contacts, by the hash of their address, that no reading has met since a moment.

    Args:
        connection: a transaction on the state tables.
        mirror: whose.
        moment: by the database's clock.
        after: the hash to go on behind; None to begin.
        limit: how many at most.
    """
    rows = connection.execute(
        text("""
            SELECT member_hash FROM member
            WHERE account_id = :account_id AND list_id = :list_id AND member_hash > :after
              AND vanished_at IS NULL AND pulled_at < :moment
            ORDER BY account_id, list_id, member_hash LIMIT :limit
        """),
        {**vars(mirror), "moment": moment, "after": after or "", "limit": limit},
    )
    return list(rows.scalars())


def count_members(connection: Connection, mirror: Mirror) -> int:
    """Return how many contacts are there, as far as is known."""
    found: int = connection.execute(
        text("""
            SELECT count(*) FROM member
            WHERE account_id = :account_id AND list_id = :list_id AND vanished_at IS NULL
        """),
        vars(mirror),
    ).scalar_one()
    return found


def mark_vanished(connection: Connection, mirror: Mirror, hashes: Sequence[str], happened_at: datetime) -> int:
    """Record that contacts are gone: deleted permanently, or moved to another address.

    Args:
        connection: a transaction on the state tables.
        mirror: whose.
        hashes: the contacts.
        happened_at: the latest time at which it can have happened.

    Returns:
        How many are gone now that weren't before.
    """
    found = connection.execute(
        text("""
            WITH gone AS (
                UPDATE member m SET vanished_at = clock_timestamp()
                FROM unnest(CAST(:hashes AS text[])) AS r(member_hash)
                WHERE m.account_id = :account_id AND m.list_id = :list_id AND m.member_hash = r.member_hash
                  AND m.vanished_at IS NULL
                RETURNING m.member_hash, m.status
            )
            INSERT INTO consent_event (
                account_id, list_id, member_hash, from_status, to_status, source, happened_at, dag_run_id
            )
            SELECT :account_id, :list_id, member_hash, status, :deleted, :source, :happened_at, :dag_run_id
            FROM gone
            ON CONFLICT (account_id, list_id, member_hash, to_status, happened_at) DO NOTHING
        """),
        {**vars(mirror), "hashes": list(hashes), "deleted": DELETED, "happened_at": happened_at},
    )
    return found.rowcount
