"""Orders with their lines and promotions."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.demo.catalogue import variant_ids
from include.demo.columns import DAY, SECOND, Flags, Integers, integers, microseconds, money, random, times
from include.demo.coupons import PAPER_CODE, WELCOME_CODE, coupon_code
from include.demo.people import FIRST_GUEST
from include.demo.planted import NEGATIVE_QUANTITY_ORDER, WRONG_BY_CENTS, WRONG_TOTAL_ORDER
from include.demo.purchases import Purchases, read_source

CURRENCY: Final = "USD"
TAX_PERCENT: Final = 8
SHIPPING_CENTS: Final = 490
FREE_SHIPPING_FROM_CENTS: Final = 3_500

# Every so-many-th order, by position; none of them hits a planted order.
_GUEST_EVERY, _GUEST_AT = 20, 7
_WELCOME_EVERY, _WELCOME_AT = 50, 3

#: Status, share of orders up to and including it, days until the order got there.
_STATUSES = (
    ("pending", 0.02, 0.0),
    ("cancelled", 0.04, 1.0),
    ("refunded", 0.06, 9.0),
    ("paid", 0.10, 0.01),
    ("shipped", 0.16, 1.2),
    ("completed", 1.00, 4.5),
)
_NAMES = np.array([name for name, _, _ in _STATUSES])
_PAID, _SHIPPED, _COMPLETED = 3, 4, 5
_SHARES = np.array([share for _, share, _ in _STATUSES])
_LASTS = np.array([round(days * DAY) for _, _, days in _STATUSES])


def customers_of(purchases: Purchases) -> Integers:
    """The customer of each order: its household, or for every 20th order a guest of its own."""
    order = np.arange(len(purchases.baskets))
    guest = FIRST_GUEST + order // _GUEST_EVERY
    is_guest = order % _GUEST_EVERY == _GUEST_AT
    return np.where(is_guest, guest, purchases.baskets["household_id"].to_numpy())


def build_orders(purchases: Purchases, addresses: pa.Table, cart_ids: Integers, until: datetime) -> dict[str, pa.Table]:
    """Build the tables `orders`, `order_lines` and `order_promotions`.

    Args:
        purchases: the chosen baskets.
        addresses: the shop's addresses; a customer's first one is shipped to, the last one billed.
        cart_ids: the cart that each order came from, or 0.
        until: the shop's newest moment.
    """
    promotions = _promotions(purchases)
    customer_ids = customers_of(purchases)
    return {
        "orders": _orders(purchases, customer_ids, promotions, addresses, cart_ids, microseconds(until)),
        "order_lines": _order_lines(purchases.lines),
        "order_promotions": pa.table(
            {
                "order_id": promotions["order"].to_numpy() + 1,
                "code": pa.array(promotions["code"], pa.string()),
                "type": pa.array(promotions["type"], pa.string()),
                "amount_discounted": money(promotions["amount"].to_numpy()),
            }
        ),
    }


def _sum_per_order(order: Integers, cents: Integers, orders: int) -> Integers:
    """Sums of whole cents; exact, as float64 holds every integer up to 2**53."""
    return np.bincount(order, weights=cents, minlength=orders).astype(np.int64)


def _promotions(purchases: Purchases) -> pd.DataFrame:
    """At most a source coupon and a welcome coupon per order; together never more than the goods cost."""
    baskets, lines = purchases.baskets, purchases.lines
    order = lines["order"].to_numpy()
    net = _sum_per_order(order, (lines["price"] * lines["quantity"] - lines["discount"]).to_numpy(), len(baskets))
    coupon = np.minimum(_sum_per_order(order, lines["coupon"].to_numpy(), len(baskets)), net)
    position = np.arange(len(baskets))
    welcome = np.where(position % _WELCOME_EVERY == _WELCOME_AT, ((net - coupon) * 10 + 50) // 100, 0)
    redeemed = pd.DataFrame(
        {
            "order": position,
            "code": _redeemed_codes(baskets),
            "type": "fixed",
            "amount": coupon,
        }
    )
    welcomed = pd.DataFrame({"order": position, "code": WELCOME_CODE, "type": "percentage", "amount": welcome})
    both = pd.concat([redeemed[coupon > 0], welcomed[welcome > 0]], ignore_index=True)
    return both.sort_values(["order", "code"], ignore_index=True)


def _redeemed_codes(baskets: pd.DataFrame) -> pd.Series:
    """The coupon that the household redeemed on the day of the basket; `PAPER_CODE` where the source names none."""
    redemptions = read_source("coupon_redemptions", ["household_id", "coupon_upc", "redemption_date"])
    day = pc.cast(redemptions["redemption_date"], pa.timestamp("us")).cast(pa.int64()).to_numpy() // DAY
    named = pd.DataFrame(
        {
            "household_id": redemptions["household_id"].to_numpy(),
            "source_day": day,
            "code": coupon_code(redemptions["coupon_upc"].to_pandas()),
        }
    ).drop_duplicates(["household_id", "source_day"])
    return baskets[["household_id", "source_day"]].merge(named, how="left")["code"].fillna(PAPER_CODE)


def _statuses(placed_at: Integers, until: int) -> Integers:
    """Positions in `_STATUSES`: drawn, but an order of yesterday isn't delivered yet."""
    status = np.searchsorted(_SHARES, random(7).random(len(placed_at)))
    for order_id in (NEGATIVE_QUANTITY_ORDER, WRONG_TOTAL_ORDER):
        status[order_id - 1] = _COMPLETED
    age = until - placed_at
    status = np.where((status == _COMPLETED) & (age < _LASTS[_COMPLETED]), _SHIPPED, status)
    return np.where((status == _SHIPPED) & (age < _LASTS[_SHIPPED]), _PAID, status)


def _orders(
    purchases: Purchases,
    customer_ids: Integers,
    promotions: pd.DataFrame,
    addresses: pa.Table,
    cart_ids: Integers,
    until: int,
) -> pa.Table:
    baskets, lines = purchases.baskets, purchases.lines
    count = len(baskets)
    order = lines["order"].to_numpy()
    gross = _sum_per_order(order, (lines["price"] * lines["quantity"]).to_numpy(), count)
    discount = _sum_per_order(order, lines["discount"].to_numpy(), count)
    discount += _sum_per_order(promotions["order"].to_numpy(), promotions["amount"].to_numpy(), count)
    net = gross - discount
    tax = (net * TAX_PERCENT + 50) // 100
    shipping = np.where(net >= FREE_SHIPPING_FROM_CENTS, 0, SHIPPING_CENTS)
    total = net + tax + shipping
    total[WRONG_TOTAL_ORDER - 1] += WRONG_BY_CENTS
    placed_at = baskets["placed_at"].to_numpy()
    status = _statuses(placed_at, until)
    updated_at = np.minimum(placed_at + 30 * SECOND + _LASTS[status], until)
    sent = np.isin(_NAMES[status], ["shipped", "completed", "refunded"])
    number = "CJ-" + baskets["basket_id"].astype(str) + "-" + baskets["copy"].astype(str)
    by_customer = pd.DataFrame({"id": addresses["address_id"].to_numpy()}, addresses["customer_id"].to_numpy())["id"]
    shipped_to = by_customer.groupby(level=0).min().reindex(customer_ids).fillna(0).to_numpy(dtype=np.int64)
    billed_to = by_customer.groupby(level=0).max().reindex(customer_ids).fillna(0).to_numpy(dtype=np.int64)
    landed = random(8).random(count) < 0.2
    return pa.table(
        {
            "order_id": np.arange(1, count + 1),
            "number": pa.array(number, pa.string()),
            "customer_id": customer_ids,
            "status": pa.array(_NAMES[status], pa.string()),
            "placed_at": times(placed_at),
            "currency_code": pa.array(np.full(count, CURRENCY), pa.string()),
            "order_total": money(total),
            "discount_total": money(discount),
            "tax_total": money(tax),
            "shipping_total": money(shipping),
            "shipping_address_id": integers(shipped_to, absent=shipped_to == 0),
            "billing_address_id": integers(billed_to, absent=billed_to == 0),
            "cart_id": integers(cart_ids, absent=cart_ids == 0),
            "landing_site": _where(landed, "https://completejourney-shop.dev/?utm_source=newsletter"),
            "tracking_number": pa.array(number.str.replace("CJ-", "T").where(sent), pa.string()),
            "tracking_carrier": _where(sent, "UPS"),
            "cancelled_at": times(updated_at, absent=_NAMES[status] != "cancelled"),
            "updated_at": times(updated_at),
        }
    )


def _where(present: Flags, text: str) -> pa.Array:
    return pa.array(np.full(len(present), text), pa.string(), mask=~present)


def _order_lines(lines: pd.DataFrame) -> pa.Table:
    quantity = lines["quantity"].to_numpy().copy()
    order_ids = lines["order"].to_numpy() + 1
    first_line = np.searchsorted(order_ids, NEGATIVE_QUANTITY_ORDER)
    quantity[first_line] = -quantity[first_line]
    product_ids = lines["product_id"].to_numpy()
    return pa.table(
        {
            "order_id": order_ids,
            "line_id": np.arange(1, len(lines) + 1),
            "product_id": product_ids,
            "variant_id": variant_ids(product_ids),
            "quantity": quantity,
            "price": money(lines["price"].to_numpy()),
            "discount": money(lines["discount"].to_numpy()),
        }
    )
