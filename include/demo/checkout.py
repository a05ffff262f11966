"""Places orders in the sample shop the way its check-out does: today's prices, tax and shipping on top."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

from include.demo.orders import CURRENCY, TAX_PERCENT

_CENT: Final = Decimal("0.01")
_SHIPPING: Final = Decimal("4.90")


@dataclass(frozen=True, slots=True)
class Goods:
    """A line of a cart or an order."""

    product_id: int
    variant_id: int
    price: Decimal
    quantity: int = 1


def one_row(cursor: Any, statement: str, values: Sequence[object] = ()) -> Any:
    """Run a statement that has to find a record.

    Raises:
        LookupError: it finds none; the database holds no sample shop, or one that has been changed too often.
    """
    cursor.execute(statement, values)
    row = cursor.fetchone()
    if row is None:
        raise LookupError(
            "the database has no record left to change in this way; load the sample shop anew: "
            "python -m include.demo --dsn … --reset"
        )
    return row


def tax_on(net: Decimal) -> Decimal:
    """The tax on an amount without it."""
    return (net * TAX_PERCENT / 100).quantize(_CENT, ROUND_HALF_UP)


def find_goods(cursor: Any, skip: int, count: int) -> list[Goods]:
    """Goods that are on sale, always the same ones.

    Args:
        cursor: on the shop's database.
        skip: how many products to pass over.
        count: how many to return.
    """
    cursor.execute(
        "SELECT variants.product_id, variant_id, price FROM variants JOIN products USING (product_id) "
        "WHERE position = 1 AND products.deleted_at IS NULL ORDER BY product_id OFFSET %s LIMIT %s",
        (skip, count),
    )
    return [Goods(*row) for row in cursor.fetchall()]


def place_order(cursor: Any, customer_id: int, goods: Iterable[Goods], cart_id: int | None = None) -> int:
    """Place a paid order now, to be shipped to the customer's own address.

    Args:
        cursor: on the shop's database.
        customer_id: who orders.
        goods: what.
        cart_id: the cart that it was in.

    Returns:
        The order's id.
    """
    lines = list(goods)
    net = sum((line.price * line.quantity for line in lines), Decimal(0))
    order_id: int = one_row(
        cursor,
        "INSERT INTO orders (number, customer_id, status, placed_at, currency_code, order_total, tax_total, "
        "shipping_total, shipping_address_id, billing_address_id, cart_id) "
        "SELECT 'CJ-new-' || gen_random_uuid(), customer_id, 'paid', now(), %s, %s, %s, %s, default_address_id, "
        "default_address_id, %s FROM customers WHERE customer_id = %s RETURNING order_id",
        (CURRENCY, net + tax_on(net) + _SHIPPING, tax_on(net), _SHIPPING, cart_id, customer_id),
    )[0]
    for line in lines:
        cursor.execute(
            "INSERT INTO order_lines (order_id, product_id, variant_id, quantity, price) VALUES (%s, %s, %s, %s, %s)",
            (order_id, line.product_id, line.variant_id, line.quantity, line.price),
        )
    return order_id
