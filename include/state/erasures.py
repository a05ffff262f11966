"""People who asked to be erased: what the state tables know of them, how that is scrubbed, and the proof that remains.

The proof names the request and, where it was made by one, the shop's own customer id; no address, no hash of one.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sqlalchemy import Connection, text

#: The entities whose records are people.
_PEOPLE = ["members", "customers"]
#: What stands in place of a person's id where a row has to stay.
ERASED = "erased"


@dataclass(frozen=True)
class Request:
    """A request of the shop's: its id, the customer it names, if it does, and when it was made."""

    erasure_id: str
    customer_id: str | None
    requested_at: datetime | None


@dataclass(frozen=True)
class Traces:
    """What is known of some people.

    Attributes:
        record_ids: their ids at Mailchimp, as contacts and customers.
        keys: the shop's ids of customers that requests name.
        orders: ids of their orders.
        carts: ids of their carts.
    """

    record_ids: Collection[str]
    keys: Collection[str]
    orders: Collection[str]
    carts: Collection[str]

    @classmethod
    def of_all(cls, people: Sequence[Self]) -> Self:
        """Put together what is known of several people."""
        names = ("record_ids", "keys", "orders", "carts")
        return cls(**{name: {one for traces in people for one in getattr(traces, name)} for name in names})


def fulfilled(connection: Connection, store_ref: int, erasure_ids: Sequence[str]) -> set[str]:
    """Return which of these requests are fulfilled."""
    rows = connection.execute(
        text("""
            SELECT erasure_id FROM erasure
            WHERE store_ref = :store_ref AND erasure_id = ANY (CAST(:ids AS text[])) AND erased_at IS NOT NULL
        """),
        {"store_ref": store_ref, "ids": list(erasure_ids)},
    )
    return set(rows.scalars())


def known_under(connection: Connection, store_ref: int, keys: Sequence[str]) -> dict[str, set[str]]:
    """Return under which ids Mailchimp may know, or have known, customers of the shop, by the shop's id."""
    rows = connection.execute(
        text("""
            WITH named AS MATERIALIZED (
                SELECT CAST(:store_ref AS smallint) AS store_ref, entity, key
                FROM unnest(CAST(:keys AS text[])) AS t(key), (VALUES ('members'), ('customers')) AS e(entity)
            )
            SELECT n.key, l.record_id FROM named n
            JOIN ledger l ON (l.store_ref, l.entity, l.source_key) = (n.store_ref, n.entity, n.key)
            UNION
            SELECT n.key, a.record_id FROM named n
            JOIN alias a ON (a.store_ref, a.entity, a.source_key) = (n.store_ref, n.entity, n.key)
        """),
        {"store_ref": store_ref, "keys": list(keys)},
    )
    known: dict[str, set[str]] = {}
    for key, record_id in rows:
        known.setdefault(key, set()).add(record_id)
    return known


def remembered(connection: Connection, store_ref: int, record_ids: Sequence[str]) -> set[str]:
    """Return of which of these people the ledger, or what was pulled from Mailchimp, has rows."""
    rows = connection.execute(
        text("""
            WITH wanted AS MATERIALIZED (SELECT record_id FROM unnest(CAST(:ids AS text[])) AS r(record_id)),
            audience AS MATERIALIZED (SELECT account_id, list_id FROM store WHERE store_ref = :store_ref)
            SELECT record_id FROM ledger
            WHERE store_ref = :store_ref AND entity = ANY (:of_people) AND record_id = ANY (CAST(:ids AS text[]))
            UNION
            SELECT w.record_id FROM wanted w CROSS JOIN audience a
            JOIN member m ON (m.account_id, m.list_id, m.member_hash) = (a.account_id, a.list_id, w.record_id)
            UNION
            SELECT w.record_id FROM wanted w CROSS JOIN audience a
            JOIN consent_event m ON (m.account_id, m.list_id, m.member_hash) = (a.account_id, a.list_id, w.record_id)
            UNION
            SELECT w.record_id FROM wanted w CROSS JOIN audience a
            JOIN webhook_event m ON (m.account_id, m.list_id, m.member_hash) = (a.account_id, a.list_id, w.record_id)
            UNION
            SELECT w.record_id FROM wanted w CROSS JOIN audience a
            JOIN opt_in_request m ON (m.account_id, m.list_id, m.member_hash) = (a.account_id, a.list_id, w.record_id)
            UNION
            SELECT w.record_id FROM wanted w JOIN campaign_activity c ON c.member_hash = w.record_id
            JOIN campaign USING (campaign_ref) JOIN audience a USING (account_id)
        """),
        {"store_ref": store_ref, "of_people": _PEOPLE, "ids": list(record_ids)},
    )
    return set(rows.scalars())


def in_flight(connection: Connection, store_ref: int, traces: Traces) -> bool:
    """Tell whether an open batch writes something about people."""
    found: bool = connection.execute(
        text("""
            SELECT EXISTS (
                SELECT FROM ledger WHERE store_ref = :store_ref AND batch_ref IS NOT NULL AND (
                    (entity = ANY (:of_people) AND record_id = ANY (CAST(:people AS text[])))
                    OR (entity = 'orders' AND record_id = ANY (CAST(:orders AS text[])))
                    OR (entity = 'carts' AND record_id = ANY (CAST(:carts AS text[]))))
            )
        """),
        {
            "store_ref": store_ref,
            "of_people": _PEOPLE,
            "people": [*traces.record_ids, *traces.keys],
            "orders": list(traces.orders),
            "carts": list(traces.carts),
        },
    ).scalar_one()
    return found


def begin_erasure(connection: Connection, store_ref: int, request: Request, dag_run_id: str) -> None:
    """Open the proof of a request, before anything is deleted; of one that was fulfilled before, open it again."""
    connection.execute(
        text("""
            INSERT INTO erasure (store_ref, erasure_id, customer_id, requested_at, dag_run_id)
            VALUES (:store_ref, :erasure_id, :customer_id, :requested_at, :dag_run_id)
            ON CONFLICT (store_ref, erasure_id) DO UPDATE SET dag_run_id = excluded.dag_run_id, erased_at = NULL
        """),
        {"store_ref": store_ref, "dag_run_id": dag_run_id, **vars(request)},
    )


def count_deleted(
    connection: Connection,
    store_ref: int,
    erasure_id: str,
    *,
    contacts: int = 0,
    customers: int = 0,
    carts: int = 0,
    orders: int = 0,
) -> None:
    """Add to the proof what was deleted at Mailchimp."""
    connection.execute(
        text("""
            UPDATE erasure SET contacts = contacts + :contacts, customers = customers + :customers,
                carts = carts + :carts, orders = orders + :orders
            WHERE store_ref = :store_ref AND erasure_id = :erasure_id
        """),
        {
            "store_ref": store_ref,
            "erasure_id": erasure_id,
            "contacts": contacts,
            "customers": customers,
            "carts": carts,
            "orders": orders,
        },
    )


def finish_erasures(connection: Connection, store_ref: int, erasure_ids: Sequence[str]) -> None:
    """Close the proofs of requests."""
    connection.execute(
        text("""
            UPDATE erasure SET erased_at = clock_timestamp()
            WHERE store_ref = :store_ref AND erasure_id = ANY (CAST(:ids AS text[]))
        """),
        {"store_ref": store_ref, "ids": list(erasure_ids)},
    )


# Purchases that wait for a person: orders go without, carts are given up.
_FREE_WAITING = """
    WITH freed AS (
        DELETE FROM rejected WHERE store_ref = ANY (:refs) AND entity IN ('orders', 'carts')
          AND (waits_for = ANY (:parents) OR parent_id = ANY (:people))
        RETURNING store_ref, entity, record_id
    )
    UPDATE ledger l SET state = 'pending', payload_hash = NULL, attempts = 0 FROM freed f
    WHERE (l.store_ref, l.entity, l.record_id) = (f.store_ref, f.entity, f.record_id) AND l.batch_ref IS NULL
"""

# What was read before now is too old to be sent (`read_at`): it may name the person. The next phase sends it anew.
_OWE_ORDERS = """
    UPDATE ledger SET state = 'pending', payload_hash = NULL, attempts = 0, read_at = clock_timestamp(),
        on_mailchimp = on_mailchimp AND record_id <> ALL (:deleted)
    WHERE store_ref = :store_ref AND entity = 'orders' AND record_id = ANY (:orders) AND batch_ref IS NULL
"""

_CLOSE_CARTS = """
    UPDATE ledger SET state = 'deleted', on_mailchimp = false, payload_hash = NULL, read_at = clock_timestamp()
    WHERE store_ref = :store_ref AND entity = 'carts' AND record_id = ANY (:carts) AND batch_ref IS NULL
"""

_SCRUB = (
    _FREE_WAITING,
    _OWE_ORDERS,
    _CLOSE_CARTS,
    "DELETE FROM rejected WHERE store_ref = ANY (:refs) AND entity = ANY (:of_people) AND record_id = ANY (:people)",
    "DELETE FROM rejected WHERE store_ref = ANY (:refs) AND entity = 'carts' AND record_id = ANY (:carts)",
    "DELETE FROM removal WHERE store_ref = ANY (:refs) AND entity = ANY (:of_people) AND record_id = ANY (:people)",
    "DELETE FROM stale_child WHERE store_ref = ANY (:refs) AND entity = 'carts' AND child = ANY (:owners)",
    """
    DELETE FROM alias WHERE store_ref = ANY (:refs) AND entity = ANY (:of_people)
      AND (record_id = ANY (:people) OR source_key = ANY (:keys))
    """,
    """
    DELETE FROM carried_contact
    WHERE store_ref = ANY (:refs) AND (record_id = ANY (:people) OR carried_to = ANY (:people))
    """,
    "DELETE FROM segment_member WHERE store_ref = ANY (:refs) AND member_hash = ANY (:people)",
    """
    DELETE FROM campaign_activity a USING campaign c
    WHERE a.campaign_ref = c.campaign_ref AND a.member_hash = ANY (:people)
      AND c.account_id IN (SELECT account_id FROM store WHERE store_ref = ANY (:refs))
    """,
    *(
        f"""
        DELETE FROM {table} m USING store s
        WHERE s.store_ref = ANY (:refs) AND (m.account_id, m.list_id) = (s.account_id, s.list_id)
          AND m.member_hash = ANY (:people)
        """  # noqa: S608 - constants
        for table in ("member", "consent_event", "consent_conflict", "opt_in_request", "webhook_event")
    ),
    "DELETE FROM replay WHERE store_ref = ANY (:refs) AND entity = ANY (:of_people) AND record_id = ANY (:people)",
    """
    DELETE FROM drifted d USING reconciliation r
    WHERE d.reconciliation_ref = r.reconciliation_ref AND r.store_ref = ANY (:refs)
      AND d.entity = ANY (:of_people) AND d.record_id = ANY (:people)
    """,
    # The history of batches stays, without whom it was about. Reads it all: once in a run that erases somebody.
    """
    UPDATE operation o SET record_id = :nobody, payload_hash = NULL FROM batch b
    WHERE o.batch_ref = b.batch_ref AND b.store_ref = ANY (:refs) AND b.entity = ANY (:of_people)
      AND o.record_id = ANY (:people)
    """,
    """
    UPDATE operation o
    SET child = CASE WHEN o.child = ANY (:owners) THEN NULL ELSE o.child END,
        children = ARRAY(SELECT c FROM unnest(o.children) AS c WHERE c <> ALL (:owners))
    FROM batch b
    WHERE o.batch_ref = b.batch_ref AND b.store_ref = ANY (:refs) AND b.entity = 'carts'
      AND (o.child = ANY (:owners) OR o.children && :owners)
    """,
    "DELETE FROM ledger WHERE store_ref = ANY (:refs) AND entity = ANY (:of_people) AND record_id = ANY (:people)",
)


def scrub(connection: Connection, store_ref: int, traces: Traces, deleted_orders: Collection[str]) -> None:
    """Remove people from the state tables, of this store and of what other accounts' left behind under its key.

    Args:
        connection: a transaction on the state tables that holds the account's lock; nothing of theirs is in flight.
        store_ref: the store.
        traces: the people.
        deleted_orders: which of their orders Mailchimp doesn't hold any more.
    """
    refs = connection.execute(
        text("""
            SELECT o.store_ref FROM store s JOIN store o USING (store_key)
            WHERE s.store_ref = :store_ref AND (o.store_ref = s.store_ref OR NOT o.is_current)
        """),
        {"store_ref": store_ref},
    ).scalars()
    people = [*traces.record_ids, *traces.keys]
    values = {
        "store_ref": store_ref,
        "refs": list(refs),
        "of_people": _PEOPLE,
        "nobody": ERASED,
        "people": people,
        "keys": list(traces.keys),
        "parents": [f"customers:{one}" for one in people],
        "owners": [f"customer/{one}" for one in traces.record_ids],
        "orders": list(traces.orders),
        "deleted": list(deleted_orders),
        "carts": list(traces.carts),
    }
    for statement in _SCRUB:
        connection.execute(text(_typed(statement)), values)


def _typed(statement: str) -> str:
    """Give the lists their type, which an empty one has not."""
    for name in ("people", "keys", "parents", "owners", "orders", "deleted", "carts"):
        statement = statement.replace(f"(:{name})", f"(CAST(:{name} AS text[]))")
    return statement.replace("&& :owners", "&& CAST(:owners AS text[])")
