"""Opt-ins that are newer than an opt-out: those at Mailchimp, and the requests for those in the shop.

A request is written down before Mailchimp hears of it, once per contact and opt-in: whoever dies in between, nobody
gets a second mail for the same opt-in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

from include.state.members import Mirror

_SLACK: Final = timedelta(seconds=5)  # between Mailchimp's clock and ours
ASKED: Final = "asked"


@dataclass(frozen=True)
class RemoteOptIn:
    """A contact that is subscribed, but not by us.

    Attributes:
        event_id: by which event.
        member_hash: the contact.
        happened_at: when it changed, by Mailchimp's clock.
        opted_in_at: when it opted in, if Mailchimp knows.
        told_at: since when Mailchimp has known of the shop's opt-out; None: it doesn't, or the shop has none.
    """

    event_id: int
    member_hash: str
    happened_at: datetime
    opted_in_at: datetime | None
    told_at: datetime | None


@dataclass(frozen=True)
class RemoteOptOut:
    """A contact that is unsubscribed: since when by Mailchimp's clock, and since when we know."""

    member_hash: str
    happened_at: datetime
    known_at: datetime


def standing_opt_ins(
    connection: Connection, mirror: Mirror, store_ref: int, hashes: Sequence[str], opt_out: bytes
) -> list[RemoteOptIn]:
    """Return which contacts are subscribed by other hands than ours.

    Args:
        connection: a transaction on the state tables.
        mirror: the audience.
        store_ref: the store whose opt-outs count.
        hashes: the contacts.
        opt_out: hash of the payload of an opt-out.
    """
    rows = connection.execute(
        text("""
            SELECT e.event_id, m.member_hash, e.happened_at, m.timestamp_opt,
                   CASE WHEN l.payload_hash = :opt_out AND l.state = 'synced'
                        THEN coalesce(l.acknowledged_at, l.read_at) END
            FROM unnest(CAST(:hashes AS text[])) AS r(member_hash)
            JOIN member m ON m.account_id = :account_id AND m.list_id = :list_id AND m.member_hash = r.member_hash
            CROSS JOIN LATERAL (
                SELECT c.event_id, c.from_status, c.happened_at, c.source FROM consent_event c
                WHERE c.account_id = m.account_id AND c.list_id = m.list_id AND c.member_hash = m.member_hash
                  AND c.to_status = m.status
                ORDER BY c.event_id DESC LIMIT 1
            ) AS e
            LEFT JOIN ledger l ON l.store_ref = :store_ref AND l.entity = 'members' AND l.record_id = m.member_hash
            WHERE m.status = 'subscribed' AND m.vanished_at IS NULL AND e.source <> 'push'
              AND (coalesce(e.from_status, 'transactional') <> 'transactional' OR NOT EXISTS (
                  -- Some store has sent an opt-in: then this may be it, whatever has changed the contact since.
                  SELECT FROM store s JOIN ledger o USING (store_ref)
                  WHERE (s.account_id, s.list_id) = (m.account_id, m.list_id) AND o.entity = 'members'
                    AND o.record_id = m.member_hash AND o.payload_hash IS DISTINCT FROM :opt_out
              ))
        """),
        {
            "account_id": mirror.account_id,
            "list_id": mirror.list_id,
            "store_ref": store_ref,
            "hashes": list(hashes),
            "opt_out": opt_out,
        },
    )
    return [RemoteOptIn(*row) for row in rows]


def standing_opt_outs_of(
    connection: Connection, account_id: str, list_id: str, hashes: Sequence[str]
) -> dict[str, RemoteOptOut]:
    """Return which contacts are unsubscribed, by whomever; what a push of ours has made was known before."""
    rows = connection.execute(
        text("""
            SELECT m.member_hash, e.happened_at,
                   CASE WHEN e.source = 'push' THEN least(e.happened_at, e.recorded_at) ELSE e.recorded_at END
            FROM unnest(CAST(:hashes AS text[])) AS r(member_hash)
            JOIN member m ON m.account_id = :account_id AND m.list_id = :list_id AND m.member_hash = r.member_hash
            CROSS JOIN LATERAL (
                SELECT c.happened_at, c.recorded_at, c.source FROM consent_event c
                WHERE c.account_id = m.account_id AND c.list_id = m.list_id AND c.member_hash = m.member_hash
                  AND c.to_status = m.status
                ORDER BY c.event_id DESC LIMIT 1
            ) AS e
            WHERE m.status = 'unsubscribed' AND m.vanished_at IS NULL
              AND coalesce(m.unsubscribe_reason, '') !~* 'abuse|complain|spam'  -- a mail is the last thing they want
        """),
        {"account_id": account_id, "list_id": list_id, "hashes": list(hashes)},
    )
    return {row.member_hash: RemoteOptOut(*row) for row in rows}


def begin_requests(connection: Connection, mirror: Mirror, opt_ins: Mapping[str, datetime]) -> set[str]:
    """Write down that contacts are going to be asked.

    Args:
        connection: a transaction on the state tables.
        mirror: the audience, and the run.
        opt_ins: by contact, when the shop's customer opted in.

    Returns:
        The contacts to ask: those without an answer to this opt-in.
    """
    arguments = {**vars(mirror), "hashes": list(opt_ins), "moments": list(opt_ins.values())}
    rows = connection.execute(
        text("""
            INSERT INTO opt_in_request AS q (account_id, list_id, dag_run_id, member_hash, opted_in_at)
            SELECT :account_id, :list_id, :dag_run_id, r.*
            FROM unnest(CAST(:hashes AS text[]), CAST(:moments AS timestamptz[])) AS r(member_hash, opted_in_at)
            ORDER BY r.member_hash
            ON CONFLICT (account_id, list_id, member_hash, opted_in_at) DO UPDATE SET dag_run_id = excluded.dag_run_id
            WHERE q.outcome IS NULL
            RETURNING member_hash
        """),
        arguments,
    )
    return set(rows.scalars())


def finish_request(connection: Connection, mirror: Mirror, member_hash: str, opted_in_at: datetime, told: str) -> None:
    """Note what came of a request."""
    connection.execute(
        text("""
            UPDATE opt_in_request SET outcome = :told, answered_at = clock_timestamp()
            WHERE account_id = :account_id AND list_id = :list_id AND member_hash = :member_hash
              AND opted_in_at = :opted_in_at
        """),
        {
            "account_id": mirror.account_id,
            "list_id": mirror.list_id,
            "member_hash": member_hash,
            "opted_in_at": opted_in_at,
            "told": told,
        },
    )


def mark_asked(connection: Connection, event_ids: Sequence[int]) -> None:
    """Note of which events, of contacts that wait for a confirmation, a request of ours was the cause."""
    connection.execute(
        text("""
            UPDATE consent_event c SET source = 'push' FROM opt_in_request q
            WHERE c.event_id = ANY (CAST(:event_ids AS bigint[])) AND c.to_status = 'pending'
              AND (q.account_id, q.list_id, q.member_hash) = (c.account_id, c.list_id, c.member_hash)
              AND (q.outcome IS NULL OR q.outcome = :asked)
              AND c.happened_at BETWEEN q.created_at - :slack AND coalesce(q.answered_at, 'infinity') + :slack
        """),
        {"event_ids": list(event_ids), "slack": _SLACK, "asked": ASKED},
    )
