"""The stores whose state is kept, one per (settings key, Mailchimp account, Mailchimp store)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from sqlalchemy import ColumnElement, Connection, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import insert

from include.state.tables import store

OrderVerb = Literal["put", "post_patch"]

MEMBERS = "members"
"""The one entity that Mailchimp keeps with the audience; all others it keeps with the store."""


class NamesStore(Protocol):
    """What of a store's settings identifies its state."""

    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def store_id(self) -> str: ...  # noqa: D102
    @property
    def list_id(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class StoreRef:
    """A registered store. `order_verb` is what Mailchimp was found to accept for orders, None while unknown."""

    store_ref: int
    store_key: str
    account_id: str
    store_id: str
    order_verb: OrderVerb | None = None


def register_store(connection: Connection, settings: NamesStore, account_id: str) -> StoreRef:
    """Find or create the state of a store in a Mailchimp account.

    Another account or another store id under the same key starts with an empty ledger; the old state stays in the
    tables, but the views show the current one. Under another audience the contacts start anew: none of them was sent
    to it.
    """
    connection.execute(
        update(store)
        .where(store.c.store_key == settings.key, store.c.is_current)
        .where((store.c.account_id != account_id) | (store.c.store_id != settings.store_id))
        .values(is_current=False)
    )
    before = connection.execute(
        select(store.c.store_ref, store.c.list_id).where(*_named(settings, account_id)).with_for_update()
    ).one_or_none()
    if before is not None and before.list_id != settings.list_id:
        _forget(connection, before.store_ref, members=True)
    values = {
        "store_key": settings.key,
        "account_id": account_id,
        "store_id": settings.store_id,
        "list_id": settings.list_id,
    }
    row = connection.execute(
        insert(store)
        .values(values)
        .on_conflict_do_update(
            index_elements=["store_key", "account_id", "store_id"],
            set_={"list_id": settings.list_id, "is_current": True},
        )
        .returning(store.c.store_ref, store.c.order_verb)
    ).one()
    return StoreRef(row.store_ref, settings.key, account_id, settings.store_id, row.order_verb)


def find_store(connection: Connection, settings: NamesStore, account_id: str) -> StoreRef | None:
    """Return a store that is registered; None when it isn't. Nothing is changed."""
    row = connection.execute(select(store).where(*_named(settings, account_id))).one_or_none()
    return None if row is None else StoreRef(row.store_ref, row.store_key, account_id, row.store_id, row.order_verb)


def learned_order_verb(connection: Connection, store_ref: int) -> OrderVerb | None:
    """Return what is known by now about the verbs Mailchimp accepts for orders of this store."""
    verb: OrderVerb | None = connection.execute(
        store.select().with_only_columns(store.c.order_verb).where(store.c.store_ref == store_ref)
    ).scalar_one()
    return verb


def learn_order_verb(connection: Connection, store_ref: int, *, put_accepted: int, put_refused: int) -> None:
    """Remember from the answers to one batch whether orders can be PUT.

    Args:
        connection: a transaction on the state tables.
        store_ref: the store.
        put_accepted: PUT operations on orders that succeeded.
        put_refused: PUT operations on orders answered as if the method did not exist.
    """
    if put_accepted:
        learned: ColumnElement[str] = func.coalesce(store.c.order_verb, "put")
    elif put_refused:
        learned = literal("post_patch")
    else:
        return
    connection.execute(update(store).where(store.c.store_ref == store_ref).values(order_verb=learned))


def load_store(connection: Connection, store_ref: int) -> StoreRef:
    """Return a registered store."""
    row = connection.execute(store.select().where(store.c.store_ref == store_ref)).one()
    return StoreRef(row.store_ref, row.store_key, row.account_id, row.store_id, row.order_verb)


def has_sent(connection: Connection, store_ref: int) -> bool:
    """Tell whether anything was ever sent to the store at Mailchimp (a rejected record was not)."""
    return bool(
        connection.scalar(
            text("""
                SELECT EXISTS (
                    SELECT FROM ledger
                    WHERE store_ref = :store_ref AND entity <> :members AND (state <> 'rejected' OR on_mailchimp)
                )
            """),
            {"store_ref": store_ref, "members": MEMBERS},
        )
    )


def forget_acknowledgements(connection: Connection, store_ref: int) -> Sequence[str]:
    """Take everything of a store as not sent: Mailchimp doesn't have it any more. Its audience's contacts it has.

    Answers still to come are about the store that is gone; they will not be believed.

    Returns:
        Mailchimp's ids of the batches whose answers are outstanding, to be stopped.
    """
    outstanding = _forget(connection, store_ref, members=False)
    connection.execute(update(store).where(store.c.store_ref == store_ref).values(order_verb=None))
    return outstanding


# Batches come first, as everywhere: whoever settles one holds its row before those of the ledger. One that is merely
# intended is left to the worker that may hold it: what it sends is sent from now on.
_LOSE_BATCHES = text("""
    UPDATE batch SET state = 'lost', failed = operations, settled_at = clock_timestamp()
    WHERE store_ref = :store_ref AND state = 'posted' AND (entity = :members) = :about_members
    RETURNING batch_ref, batch_id
""")
_FORGET = (
    "UPDATE operation SET outcome = 'unknown' WHERE batch_ref = ANY (:lost)",
    # What was to be deleted is gone with the rest.
    """
    UPDATE ledger l SET on_mailchimp = false, payload_hash = NULL, attempts = 0, batch_ref = NULL,
        state = CASE WHEN l.state NOT IN ('synced', 'unknown', 'pending') THEN l.state
                     WHEN EXISTS (SELECT FROM removal r WHERE (r.store_ref, r.entity, r.record_id)
                                      = (l.store_ref, l.entity, l.record_id)) THEN 'deleted'
                     ELSE 'pending' END
    WHERE l.store_ref = :store_ref AND (l.entity = :members) = :about_members
      AND (l.batch_ref IS NULL OR l.batch_ref = ANY (:lost))
    """,
    "DELETE FROM removal WHERE store_ref = :store_ref AND (entity = :members) = :about_members",
    "DELETE FROM stale_child WHERE store_ref = :store_ref AND (entity = :members) = :about_members",
    "DELETE FROM watermark WHERE store_ref = :store_ref AND (entity = :members) = :about_members",
)
_FORGET_AUDIENCE = (
    "DELETE FROM segment WHERE store_ref = :store_ref",
    "DELETE FROM carried_contact WHERE store_ref = :store_ref",
)


def _forget(connection: Connection, store_ref: int, *, members: bool) -> Sequence[str]:
    arguments = {"store_ref": store_ref, "members": MEMBERS, "about_members": members}
    outstanding = connection.execute(_LOSE_BATCHES, arguments).all()
    arguments["lost"] = [batch.batch_ref for batch in outstanding]
    for statement in (*_FORGET, *_FORGET_AUDIENCE) if members else _FORGET:
        connection.execute(text(statement), arguments)
    return [batch.batch_id for batch in outstanding]


def _named(settings: NamesStore, account_id: str) -> tuple[ColumnElement[bool], ...]:
    return (
        store.c.store_key == settings.key,
        store.c.account_id == account_id,
        store.c.store_id == settings.store_id,
    )
