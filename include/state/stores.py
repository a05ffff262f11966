"""The stores whose state is kept, one per (settings key, Mailchimp account, Mailchimp store)."""

from dataclasses import dataclass
from typing import Literal, Protocol

from sqlalchemy import ColumnElement, Connection, func, literal, text, update
from sqlalchemy.dialects.postgresql import insert

from include.state.tables import store

OrderVerb = Literal["put", "post_patch"]


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
    tables, but the views show the current one.
    """
    connection.execute(
        update(store)
        .where(store.c.store_key == settings.key, store.c.is_current)
        .where((store.c.account_id != account_id) | (store.c.store_id != settings.store_id))
        .values(is_current=False)
    )
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


def forget_acknowledgements(connection: Connection, store_ref: int) -> None:
    """Take everything about a store as not sent: Mailchimp has made it anew, and it is empty."""
    for statement in (
        """
        UPDATE ledger SET on_mailchimp = false, payload_hash = NULL, attempts = 0,
            state = CASE WHEN state IN ('synced', 'unknown') THEN 'pending' ELSE state END
        WHERE store_ref = :store_ref AND batch_ref IS NULL
        """,
        "DELETE FROM watermark WHERE store_ref = :store_ref",
        "UPDATE store SET order_verb = NULL WHERE store_ref = :store_ref",
    ):
        connection.execute(text(statement), {"store_ref": store_ref})
