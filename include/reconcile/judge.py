"""Says of each record what the two sides and the ledger have to do with each other: one statement per entity.

What is in flight, was acknowledged after the comparison began, or is owed by the next push anyway, is no drift.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from include.reconcile.report import Action, Kind, Rest
from include.reconcile.staging import Staging
from include.transform.products import PLACEHOLDER_ID

# Changed in the shop after the point until which everything is acknowledged: the next push looks at it.
_RECENT: Final = "(CAST(:mark AS timestamptz) IS NULL OR s.updated_at IS NULL OR s.updated_at >= :mark)"

# What everything else rests on: a record's three sides, m, s and l, and whether the first two say the same. An opt-out
# says the same as every status but those that are written to, or asked for a confirmation.
_SIDES: Final = """
    FROM (SELECT *, true AS held FROM at_mailchimp WHERE entity = :entity) m
    FULL JOIN (SELECT *, true AS yielded, payload_hash IS NULL AS refused FROM in_shop WHERE entity = :entity) s
        USING (record_id)
    FULL JOIN (SELECT *, true AS known FROM ledger WHERE store_ref = :store_ref AND entity = :entity) l
        USING (record_id)
    LEFT JOIN (SELECT record_id, true AS listed, kept_at FROM removal
               WHERE store_ref = :store_ref AND entity = :entity) x USING (record_id)
    CROSS JOIN LATERAL (
        SELECT coalesce(CASE WHEN s.opts_out THEN m.status NOT IN ('subscribed', 'pending')
                             WHEN m.status = 'archived' THEN true
                             ELSE m.checksum = s.checksum END, false) AS same
    ) c
"""

_MOVING: Final = "l.batch_ref IS NOT NULL OR l.acknowledged_at >= :started_at"

_OF_STORE: Final = f"""
    CASE
        WHEN :entity = 'products' AND record_id = '{PLACEHOLDER_ID}' THEN
            CASE WHEN m.held AND l.on_mailchimp THEN 'equal' WHEN m.held THEN 'unknown'
                 WHEN l.on_mailchimp THEN 'gone' END
        WHEN {_MOVING} THEN 'moving'
        WHEN m.held AND s.yielded AND NOT s.refused THEN
            CASE
                WHEN l.known IS NULL AND c.same THEN 'unknown'
                WHEN l.known IS NULL AND :mark IS NOT NULL AND {_RECENT} THEN 'owed'
                WHEN l.known IS NULL THEN 'stale'
                WHEN l.state IN ('pending', 'unknown') THEN 'owed'
                WHEN NOT l.on_mailchimp OR (l.state = 'rejected' AND c.same) THEN 'denied'
                WHEN l.state = 'rejected' THEN 'rejected'
                WHEN c.same THEN 'equal'
                WHEN l.payload_hash IS DISTINCT FROM s.payload_hash AND {_RECENT} THEN 'owed'
                ELSE 'stale'
            END
        WHEN m.held AND s.yielded THEN CASE WHEN l.on_mailchimp THEN 'rejected' ELSE 'denied' END
        WHEN m.held THEN
            CASE
                WHEN x.kept_at IS NOT NULL THEN 'kept'
                WHEN x.listed OR l.state IN ('pending', 'unknown') THEN 'owed'
                WHEN :entity = 'customers' AND EXISTS (SELECT FROM referred WHERE customer_id = record_id) THEN 'kept'
                WHEN NOT l.on_mailchimp THEN 'denied'
                ELSE 'orphaned'
            END
        WHEN s.yielded AND NOT s.refused THEN
            CASE
                WHEN l.on_mailchimp THEN 'missing'
                WHEN l.state IN ('pending', 'unknown') THEN 'owed'
                WHEN l.state = 'rejected' THEN 'rejected'
                ELSE 'unsent'
            END
        WHEN l.on_mailchimp THEN CASE WHEN x.listed THEN 'owed' ELSE 'gone' END
        WHEN s.yielded THEN 'rejected'
    END
"""

# A contact belongs to itself: nothing is removed, and nobody who was taken out of the audience is put back.
_OF_AUDIENCE: Final = f"""
    CASE
        WHEN {_MOVING} THEN 'moving'
        WHEN s.yielded AND s.refused THEN 'rejected'
        WHEN s.opts_out THEN
            CASE WHEN l.known THEN 'equal'
                 WHEN c.same OR (m.held IS NULL AND :mark IS NULL) THEN 'unknown'
                 ELSE 'owed' END
        WHEN m.held AND s.yielded THEN
            CASE
                WHEN l.known IS NULL AND c.same THEN 'unknown'
                WHEN l.known IS NULL AND {_RECENT} THEN 'owed'
                WHEN l.state IN ('pending', 'unknown') THEN 'owed'
                WHEN l.state = 'rejected' THEN 'rejected'
                WHEN c.same OR l.state = 'deleted' THEN 'equal'
                WHEN l.payload_hash IS DISTINCT FROM s.payload_hash AND {_RECENT} THEN 'owed'
                ELSE 'stale'
            END
        WHEN m.held THEN 'foreign'
        WHEN s.yielded THEN
            CASE
                WHEN l.on_mailchimp THEN 'missing'
                WHEN l.state IN ('pending', 'unknown') THEN 'owed'
                WHEN l.state = 'rejected' THEN 'rejected'
                ELSE 'unsent'
            END
        WHEN l.on_mailchimp THEN 'gone'
    END
"""

_JUDGE: Final = """
    INSERT INTO finding (entity, record_id, status, held, yielded, same, ledger_state, refused, source_key,
                         payload_hash, read_at, updated_at)
    SELECT :entity, j.* FROM (
        SELECT record_id, {status} AS status, m.held IS NOT NULL AS held, s.yielded IS NOT NULL AS yielded, c.same,
               CASE WHEN l.state = 'rejected' AND l.payload_hash = s.payload_hash THEN 'refused' ELSE l.state END,
               coalesce(s.refused, false), coalesce(s.source_key, l.source_key, record_id) AS source_key,
               s.payload_hash, s.read_at, s.updated_at
        {sides}
    ) AS j WHERE j.status IS NOT NULL
"""

# The same sale under an id that the shop doesn't know, beside the one that it does.
_DOUBLE_ORDERS: Final = """
    UPDATE finding f SET status = 'duplicated'
    FROM at_mailchimp m, in_shop s
    WHERE f.entity = 'orders' AND f.status IN ('orphaned', 'denied') AND NOT f.yielded
      AND m.entity = 'orders' AND m.record_id = f.record_id AND m.moment IS NOT NULL
      AND s.entity = 'orders' AND (s.person, s.currency, s.total, s.moment) = (m.person, m.currency, m.total, m.moment)
"""

# A customer under another id than its address gives, beside a customer of the shop with that address.
_DOUBLE_CUSTOMERS: Final = """
    UPDATE finding f SET status = 'duplicated',
        refused = EXISTS (SELECT FROM referred WHERE customer_id = f.record_id)
    FROM at_mailchimp m, in_shop s
    WHERE f.entity = 'customers' AND f.status IN ('orphaned', 'denied', 'kept') AND NOT f.yielded
      AND m.entity = 'customers' AND m.record_id = f.record_id AND m.person <> m.record_id
      AND s.entity = 'customers' AND s.record_id = m.person
"""

_ACT: Final = f"""
    UPDATE finding SET action = CASE
        WHEN status = '{Kind.UNKNOWN}' THEN '{Action.ACKNOWLEDGE}'
        WHEN status IN ('{Kind.STALE}', '{Kind.INCOMPLETE}') THEN '{Action.OWE}'
        WHEN status = '{Kind.MISSING}' THEN
            CASE WHEN entity = 'members' THEN '{Action.NONE}' ELSE '{Action.OWE}' END
        WHEN status = '{Kind.GONE}' THEN '{Action.FORGET}'
        WHEN status = '{Kind.DENIED}' AND yielded AND refused THEN '{Action.HOLD}'
        WHEN status = '{Kind.DENIED}' AND yielded AND same THEN '{Action.ACKNOWLEDGE}'
        WHEN status = '{Kind.DENIED}' AND yielded AND ledger_state = 'refused' THEN '{Action.HOLD}'
        WHEN status = '{Kind.DENIED}' AND yielded THEN '{Action.OWE}'
        WHEN status = '{Kind.DUPLICATED}' AND refused THEN '{Action.NONE}'
        WHEN status IN ('{Kind.DENIED}', '{Kind.ORPHANED}', '{Kind.DUPLICATED}') THEN '{Action.REMOVE}'
        ELSE '{Action.NONE}' END
    WHERE entity = :entity
"""  # noqa: S608 - constants


def judge(staging: Staging, entity: str, *, store_ref: int, started_at: datetime, mark: datetime | None) -> None:
    """Find out about each record of an entity how things stand; what differs is looked at once more afterwards.

    Args:
        staging: with both sides of the entity; for customers, with the buyers of all orders and carts.
        entity: its name.
        store_ref: the store.
        started_at: when the comparison began, by the state database's clock.
        mark: until when the entity is acknowledged; None: it never was.
    """
    status = _OF_AUDIENCE if entity == "members" else _OF_STORE
    arguments = {"entity": entity, "store_ref": store_ref, "started_at": started_at, "mark": mark}
    staging.execute(_JUDGE.format(status=status, sides=_SIDES), **arguments)
    if entity == "orders":
        staging.execute(_DOUBLE_ORDERS)
    if entity == "customers":
        staging.execute(_DOUBLE_CUSTOMERS)


def decide(staging: Staging, entity: str, *, has_extract: bool) -> None:
    """Say what a repair does about each record that has drifted.

    Args:
        staging: with an entity's confirmed findings.
        entity: its name.
        has_extract: whether the shop's profile yields the entity; nothing is removed of one that it says nothing about.
    """
    staging.execute(_ACT, entity=entity)
    if not has_extract:
        staging.execute(
            "UPDATE finding SET action = :none WHERE entity = :entity AND action = :remove",
            entity=entity,
            none=str(Action.NONE),
            remove=str(Action.REMOVE),
        )


def revenue(staging: Staging) -> list[dict[str, Any]]:
    """Count orders and add up what they make, by month (UTC) and currency, at both sides.

    What is on its way, owed or rejected explains a difference; the rest of it is drift.
    """
    rows = staging.execute(
        f"""
        WITH sale AS (
            SELECT 'shop' AS side, record_id, moment, currency, total FROM in_shop
            WHERE entity = 'orders' AND payload_hash IS NOT NULL
            UNION ALL
            SELECT 'mailchimp', record_id, moment, currency, total FROM at_mailchimp WHERE entity = 'orders'
        )
        SELECT coalesce(to_char(s.moment AT TIME ZONE 'UTC', 'YYYY-MM'), '?') AS month,
               coalesce(s.currency, '?') AS currency,
               count(*) FILTER (WHERE side = 'shop') AS shop_orders,
               coalesce(sum(total) FILTER (WHERE side = 'shop'), 0) AS shop_revenue,
               count(*) FILTER (WHERE side = 'mailchimp') AS mailchimp_orders,
               coalesce(sum(total) FILTER (WHERE side = 'mailchimp'), 0) AS mailchimp_revenue,
               coalesce(sum(CASE side WHEN 'mailchimp' THEN 1 ELSE -1 END) FILTER (WHERE NOT explained), 0)
                   AS drift_orders,
               coalesce(sum(CASE side WHEN 'mailchimp' THEN total ELSE -total END) FILTER (WHERE NOT explained), 0)
                   AS drift_revenue
        FROM sale s
        LEFT JOIN finding f ON f.entity = 'orders' AND f.record_id = s.record_id
        CROSS JOIN LATERAL (
            SELECT coalesce(f.status IN ('{Rest.MOVING}', '{Rest.OWED}', '{Rest.REJECTED}', '{Rest.UNSENT}'), true)
                AS explained
        ) e
        GROUP BY 1, 2 ORDER BY 1, 2
        """  # noqa: S608 - constants
    )
    return [dict(row._mapping) for row in rows]
