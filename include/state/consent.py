"""The trail of consent: whose echo an event is, whom it concerns, what was written to the shop and what wasn't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

from include.state.members import Mirror

_SLACK: Final = timedelta(seconds=5)


@dataclass(frozen=True)
class Conflict:
    """Shop and Mailchimp disagree about one customer; `rule` says what decided, `outcome` how."""

    member_hash: str
    customer_id: str
    shop_opted_in: bool | None
    shop_at: datetime | None
    remote_status: str
    remote_at: datetime
    rule: str
    outcome: str


# Ours is a change that happened while a batch of any store of the audience was at work that ended with this record
# acknowledged, or whose end isn't known yet. The clocks differ a little; Mailchimp's has whole seconds. `told` has the
# changes.
_OURS = """
    sharing AS MATERIALIZED (
        SELECT store_ref FROM store WHERE account_id = :account_id AND list_id = :list_id
    ), sent AS MATERIALIZED (
        SELECT batch_ref, store_ref, entity, coalesce(posted_at, created_at) - :slack AS since, posted_at,
               coalesce(completed_at, settled_at, 'infinity') + :slack AS until, settled_at
        FROM batch
        WHERE store_ref IN (SELECT store_ref FROM sharing) AND entity IN ('members', 'customers')
          AND coalesce(posted_at, created_at) <= (SELECT max(happened_at) FROM told) + :slack
          AND CASE WHEN settled_at IS NULL THEN state IN ('intended', 'posted')
                   ELSE settled_at >= (SELECT min(happened_at) FROM told) - :slack END
    ), ours AS (
        SELECT t.*, l.entity = 'members' AND l.payload_hash IS NOT DISTINCT FROM :opt_out AS is_opt_out
        FROM told t
        CROSS JOIN sharing
        CROSS JOIN (VALUES ('members'), ('customers')) AS e(entity)
        JOIN ledger l ON l.store_ref = sharing.store_ref AND l.entity = e.entity AND l.record_id = t.member_hash
        JOIN sent s ON s.store_ref = l.store_ref AND s.entity = l.entity AND t.happened_at BETWEEN s.since AND s.until
                   AND CASE WHEN s.settled_at IS NULL THEN l.batch_ref = s.batch_ref
                            ELSE l.acknowledged_at BETWEEN s.posted_at AND s.settled_at END
    )
"""

# An unsubscribe is ours only if the last thing sent was the opt-out; who opted out or has to confirm, we never raise.
_MARK_OWN = text(f"""
    WITH told AS MATERIALIZED (
        SELECT event_id, member_hash, to_status, happened_at FROM consent_event
        WHERE event_id = ANY (CAST(:event_ids AS bigint[])) AND to_status NOT IN ('cleaned', 'archived', 'deleted')
          AND (to_status = 'unsubscribed'
               OR coalesce(from_status, '') NOT IN ('unsubscribed', 'cleaned', 'archived', 'pending'))
    ), {_OURS}
    UPDATE consent_event c SET source = 'push' FROM (
        SELECT DISTINCT event_id FROM ours WHERE (to_status = 'unsubscribed') = is_opt_out
    ) AS own
    WHERE c.event_id = own.event_id
""")  # noqa: S608 - constants

_TOUCHED = text(f"""
    WITH told AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:hashes AS text[]), CAST(:moments AS timestamptz[])) AS r(member_hash, happened_at)
    ), {_OURS}
    SELECT DISTINCT member_hash FROM ours WHERE NOT is_opt_out
""")  # noqa: S608 - constants


_DECIDED_ANEW: Final = """
    (account_id, list_id, member_hash, customer_id, remote_status, remote_at)
    DO UPDATE SET rule = excluded.rule, outcome = excluded.outcome, shop_opted_in = excluded.shop_opted_in,
                  shop_at = excluded.shop_at, dag_run_id = excluded.dag_run_id, recorded_at = now()
"""


def mark_own_changes(connection: Connection, mirror: Mirror, event_ids: Sequence[int], opt_out: bytes) -> int:
    """Note of which events a push of ours was the cause.

    Args:
        connection: the transaction that has recorded the events.
        mirror: the audience; the pushes of all its stores are ours.
        event_ids: the events.
        opt_out: hash of the payload of an opt-out.

    Returns:
        Of how many.
    """
    if not event_ids:
        return 0
    audience = {"account_id": mirror.account_id, "list_id": mirror.list_id}
    arguments = {**audience, "event_ids": list(event_ids), "opt_out": opt_out, "slack": _SLACK}
    return connection.execute(_MARK_OWN, arguments).rowcount


def touched_by_us(connection: Connection, mirror: Mirror, moments: Mapping[str, datetime], opt_out: bytes) -> set[str]:
    """Return of which contacts a write of ours, other than an opt-out, may be what changed them at a moment.

    Args:
        connection: a transaction on the state tables.
        mirror: the audience.
        moments: by contact, when it changed.
        opt_out: hash of the payload of an opt-out.
    """
    if not moments:
        return set()
    audience = {"account_id": mirror.account_id, "list_id": mirror.list_id}
    told = {"hashes": list(moments), "moments": list(moments.values())}
    rows = connection.execute(_TOUCHED, {**audience, **told, "opt_out": opt_out, "slack": _SLACK})
    return set(rows.scalars())


def known_customers(connection: Connection, store_ref: int, hashes: Sequence[str]) -> list[str]:
    """Return the shop's keys of the customers that a push has met behind contacts; some may have moved on since."""
    rows = connection.execute(
        text("""
            WITH wanted AS MATERIALIZED (
                SELECT CAST(:store_ref AS smallint) AS store_ref, e.entity, r.record_id
                FROM unnest(CAST(:hashes AS text[])) AS r(record_id), (VALUES ('members'), ('customers')) AS e(entity)
            )
            SELECT l.source_key FROM wanted w JOIN ledger l USING (store_ref, entity, record_id)
            WHERE l.source_key IS NOT NULL
            UNION
            SELECT a.source_key FROM wanted w JOIN alias a USING (store_ref, entity, record_id)
        """),
        {"store_ref": store_ref, "hashes": list(hashes)},
    )
    return list(rows.scalars())


def note_written_back(connection: Connection, customers: Mapping[int, int]) -> None:
    """Note to how many more of the shops' customers each event was written."""
    if not customers:
        return
    connection.execute(
        text("""
            UPDATE consent_event c SET written_back = c.written_back + r.customers
            FROM unnest(CAST(:event_ids AS bigint[]), CAST(:customers AS integer[])) AS r(event_id, customers)
            WHERE c.event_id = r.event_id
        """),
        {"event_ids": list(customers), "customers": list(customers.values())},
    )


def note_conflicts(
    connection: Connection, mirror: Mirror, conflicts: Sequence[Conflict], *, replaces: bool = False
) -> None:
    """Record how disagreements were decided, each once; with `replaces`, in place of what was recorded before."""
    if not conflicts:
        return
    connection.execute(
        text(f"""
            INSERT INTO consent_conflict (
                account_id, list_id, dag_run_id, member_hash, customer_id, shop_opted_in, shop_at, remote_status,
                remote_at, rule, outcome
            )
            SELECT :account_id, :list_id, :dag_run_id, r.*
            FROM unnest(
                CAST(:member_hash AS text[]), CAST(:customer_id AS text[]), CAST(:shop_opted_in AS boolean[]),
                CAST(:shop_at AS timestamptz[]), CAST(:remote_status AS text[]), CAST(:remote_at AS timestamptz[]),
                CAST(:rule AS text[]), CAST(:outcome AS text[])
            ) AS r
            ON CONFLICT {_DECIDED_ANEW if replaces else "DO NOTHING"}
        """),  # noqa: S608 - constants
        {
            **vars(mirror),
            **{name: [getattr(one, name) for one in conflicts] for name in Conflict.__dataclass_fields__},
        },
    )


def expect_opt_outs(connection: Connection, store_ref: int, keys: Mapping[str, str], opt_out: bytes) -> None:
    """Take contacts as opted out at Mailchimp, so that no push tells it what it has just told us.

    What is in flight or rejected stays as it is.

    Args:
        connection: a transaction on the state tables that holds the account's lock.
        store_ref: the store.
        keys: by contact, the shop's key of a customer that has its address.
        opt_out: hash of the payload of an opt-out.
    """
    if not keys:
        return
    arguments = {
        "store_ref": store_ref,
        "hashes": sorted(keys),
        "keys": [keys[one] for one in sorted(keys)],
        "opt_out": opt_out,
    }
    for statement in _EXPECT:
        connection.execute(statement, arguments)


def owe_again(connection: Connection, store_ref: int, hashes: Sequence[str], opt_out: bytes) -> None:
    """Take it that Mailchimp doesn't know of opt-outs any more, since the contacts were subscribed after them.

    The next push tells it what the shop says by then. What is in flight or rejected stays as it is.

    Args:
        connection: a transaction on the state tables that holds the account's lock.
        store_ref: the store.
        hashes: the contacts.
        opt_out: hash of the payload of an opt-out.
    """
    if hashes:
        arguments = {"store_ref": store_ref, "hashes": sorted(set(hashes)), "opt_out": opt_out}
        connection.execute(_OWE_AGAIN, arguments)


_OWE_AGAIN = text("""
    UPDATE ledger l SET payload_hash = NULL, state = 'pending', attempts = 0
    FROM unnest(CAST(:hashes AS text[])) AS r(record_id)
    WHERE l.store_ref = :store_ref AND l.entity = 'members' AND l.record_id = r.record_id
      AND l.payload_hash = :opt_out AND l.batch_ref IS NULL AND l.state = 'synced'
""")

# Two statements: an upsert would lock the rows of batches at work, whose settlement locks rows in an order of its own.
_EXPECT = (
    text("""
        UPDATE ledger l
        SET payload_hash = :opt_out, state = 'synced', on_mailchimp = true, read_at = clock_timestamp(), attempts = 0,
            acknowledged_at = NULL
        FROM unnest(CAST(:hashes AS text[])) AS r(record_id)
        WHERE l.store_ref = :store_ref AND l.entity = 'members' AND l.record_id = r.record_id
          AND l.batch_ref IS NULL AND l.state IN ('synced', 'pending')
    """),
    text("""
        INSERT INTO ledger (store_ref, entity, record_id, source_key, payload_hash, state, on_mailchimp, read_at)
        SELECT :store_ref, 'members', r.record_id, r.key, :opt_out, 'synced', true, clock_timestamp()
        FROM unnest(CAST(:hashes AS text[]), CAST(:keys AS text[])) AS r(record_id, key)
        WHERE NOT EXISTS (SELECT FROM ledger l WHERE l.store_ref = :store_ref AND l.entity = 'members'
                            AND l.record_id = r.record_id)
        ORDER BY r.record_id
        ON CONFLICT DO NOTHING
    """),
)
