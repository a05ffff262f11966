"""Closes carts right before their orders are written: no reminder may follow a purchase.

The phase before the orders has deleted the carts it saw closed. What is left are carts that became orders since then;
these few are deleted by direct calls.
"""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote

import pyarrow as pa

from include.config.stores import StoreSettings
from include.documents.encoder import to_arrow
from include.load.triage import Triage
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import NotFound
from include.state.database import StateDatabase
from include.state.ledger import acknowledged, record_gone
from include.state.stores import StoreRef


def close_ordered_carts(
    state: StateDatabase, client: MailchimpClient, store: StoreRef, settings: StoreSettings, orders: Triage
) -> None:
    """Delete the carts that orders about to be sent have come from, where Mailchimp still holds them.

    Args:
        state: the state tables.
        client: of the account.
        store: the store.
        settings: names the store.
        orders: a sorted chunk of orders.

    Raises:
        MailchimpError: Mailchimp can't be reached.
    """
    column = to_arrow(orders.built.source.frame["cart_id"])
    carts = sorted(set(column.take(pa.array(orders.sends)).drop_null().to_pylist()))
    with state.begin() as connection:
        held = acknowledged(connection, store.store_ref, "carts", carts)
    for cart_id in sorted(held):
        with suppress(NotFound):
            client.delete(f"/ecommerce/stores/{settings.store_id}/carts/{quote(cart_id, safe='')}")
        with state.begin() as connection:
            record_gone(connection, store.store_ref, "carts", cart_id)
