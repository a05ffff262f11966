"""Carts: those that orders came from, and those that were left behind, of which some are recent enough for a mail."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa

from include.demo.catalogue import variant_ids
from include.demo.columns import DAY, SECOND, Integers, microseconds, money, times
from include.demo.purchases import Purchases

# Every so-many-th order, by position; none of them hits a planted order.
_CART_EVERY, _CONVERTED_AT, _ABANDONED_AT = 100, 5, 55
_HOUR: Final = 3_600 * SECOND
#: Recent carts were left within this many hours before today, forgotten ones at least this many days.
_RECENT_HOURS: Final = 120
_FORGOTTEN_DAYS: Final = 31


def build_carts(
    purchases: Purchases, customer_ids: Integers, currency: str, today: datetime
) -> tuple[dict[str, pa.Table], Integers]:
    """Build the tables `carts` and `cart_lines`.

    Carts that were left behind hold what the customer bought another day. In turn one is recent, one forgotten,
    one recent but emptied, one recent.

    Args:
        purchases: the chosen baskets.
        customer_ids: the customer of each.
        currency: of all carts.
        today: the day that recent carts were left shortly before.

    Returns:
        The tables, and each order's cart (or 0).
    """
    phase = np.arange(len(purchases.baskets)) % _CART_EVERY
    kept = np.flatnonzero((phase == _CONVERTED_AT) | (phase == _ABANDONED_AT))
    cart_ids = np.arange(1, len(kept) + 1)
    abandoned = phase[kept] == _ABANDONED_AT
    turn = np.where(abandoned, np.cumsum(abandoned) % 4, -1)
    cart_of_order = np.zeros(len(phase), dtype=np.int64)
    cart_of_order[kept] = np.where(turn == 3, 0, cart_ids)  # emptied ones have no lines
    lines = purchases.lines[cart_of_order[purchases.lines["order"].to_numpy()] > 0]
    cart_of_line = cart_of_order[lines["order"].to_numpy()]
    price, quantity = lines["price"].to_numpy(), lines["quantity"].to_numpy()
    placed_at = purchases.baskets["placed_at"].to_numpy()[kept]
    end = microseconds(today)
    recent_at = end - (1 + cart_ids * 7 % _RECENT_HOURS) * _HOUR
    forgotten_at = np.minimum(placed_at - 3 * DAY, end - _FORGOTTEN_DAYS * DAY)
    left_at = np.where(turn == 2, forgotten_at, np.where(abandoned, recent_at, placed_at))
    product_ids = lines["product_id"].to_numpy()
    totals = np.bincount(cart_of_line - 1, weights=price * quantity, minlength=len(kept)).astype(np.int64)
    tables = {
        "carts": pa.table(
            {
                "cart_id": cart_ids,
                "customer_id": customer_ids[kept],
                "currency_code": pa.array(np.full(len(kept), currency), pa.string()),
                "order_total": money(totals),
                "checkout_token": [f"token-{cart}" for cart in cart_ids],
                "is_open": abandoned,
                "created_at": times(left_at - 600 * SECOND),
                "updated_at": times(left_at),
            }
        ),
        "cart_lines": pa.table(
            {
                "cart_id": cart_of_line,
                "line_id": np.arange(1, len(lines) + 1),
                "product_id": product_ids,
                "variant_id": variant_ids(product_ids),
                "quantity": quantity,
                "price": money(price),
            }
        ),
    }
    return tables, np.where(phase == _CONVERTED_AT, cart_of_order, 0)
