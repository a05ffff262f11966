"""Changes a few records of the sample shop, to show that exactly these are sent.

Every call changes something, however often it is called: names and titles alternate, prices and quantities grow, orders
move on to the next status, and one more order is placed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine

from include.demo.checkout import find_goods, one_row, place_order, tax_on
from include.demo.loading import connected
from include.demo.planted import planted_rejects

_PLANTED_ORDERS: Final = [int(record.record_id) for record in planted_rejects() if record.entity == "orders"]


@dataclass(frozen=True, slots=True)
class Change:
    """One changed record.

    Attributes:
        entity: `customers`, `products` or `orders`.
        record_id: the shop's own id, as text.
        what: what was changed, for people.
    """

    entity: str
    record_id: str
    what: str


def apply_changes(target: str | Engine) -> list[Change]:
    """Change 2 customers, 3 products and 4 orders of the sample shop and place 1 more order, in one transaction.

    Args:
        target: a libpq URL, or an SQLAlchemy engine with the psycopg2 driver.

    Returns:
        The records whose payloads differ afterwards: these ten and no others.

    Raises:
        LookupError: the database lacks a record to change; it doesn't hold a sample shop.
    """
    with connected(target) as connection, connection.cursor() as cursor:
        return [*_change_customers(cursor), *_change_products(cursor), *_change_orders(cursor), _place_order(cursor)]


def _change_customers(cursor: Any) -> list[Change]:
    cursor.execute(
        "SELECT customer_id FROM customers WHERE NOT is_guest AND deleted_at IS NULL AND email LIKE '%%@%%.dev' "
        "AND last_name > '' AND first_name > '' ORDER BY customer_id LIMIT 2"
    )
    columns = ("last_name", "first_name")
    changes = []
    for (customer_id,), column in zip(cursor.fetchall(), columns, strict=True):
        cursor.execute(
            f"UPDATE customers SET {column} = CASE WHEN {column} LIKE '%%-Ray' "  # noqa: S608 - one of two constants
            f"THEN left({column}, -4) ELSE {column} || '-Ray' END WHERE customer_id = %s",
            (customer_id,),
        )
        changes.append(Change("customers", str(customer_id), f"{column.replace('_', ' ')} changed"))
    return changes


def _change_products(cursor: Any) -> list[Change]:
    cursor.execute("SELECT product_id FROM products WHERE deleted_at IS NULL ORDER BY product_id LIMIT 3")
    dearer, renamed, restocked = (product_id for (product_id,) in cursor.fetchall())
    cursor.execute("UPDATE variants SET price = price + 0.10 WHERE product_id = %s AND position = 1", (dearer,))
    cursor.execute(
        "UPDATE products SET title = CASE WHEN title LIKE 'New: %%' THEN substr(title, 6) ELSE 'New: ' || title END "
        "WHERE product_id = %s",
        (renamed,),
    )
    cursor.execute(
        "UPDATE variants SET inventory_quantity = coalesce(inventory_quantity, 0) + 25 "
        "WHERE product_id = %s AND position = 1",
        (restocked,),
    )
    return [
        Change("products", str(dearer), "price raised by 0.10"),
        Change("products", str(renamed), "title changed"),
        Change("products", str(restocked), "25 pieces restocked"),
    ]


def _change_orders(cursor: Any) -> list[Change]:
    shipped = _move(cursor, "paid", "shipped", "tracking_carrier = 'UPS', tracking_number = 'T' || substr(number, 4)")
    delivered = _move(cursor, "shipped", "completed", "tracking_carrier = 'UPS'", besides=[shipped])
    refunded = _move(cursor, "completed", "refunded", "tracking_carrier = 'UPS'", besides=[delivered])
    extended = one_row(
        cursor,
        "SELECT order_id FROM orders WHERE status = 'completed' AND order_id <> ALL (%s) ORDER BY order_id LIMIT 1",
        ([*_PLANTED_ORDERS, delivered],),
    )[0]
    _add_piece(cursor, extended)
    return [
        Change("orders", str(shipped), "paid → shipped"),
        Change("orders", str(delivered), "shipped → completed"),
        Change("orders", str(refunded), "completed → refunded"),
        Change("orders", str(extended), "one piece more in its first line"),
    ]


def _move(cursor: Any, status: str, to: str, also: str, besides: Sequence[int] = ()) -> int:
    order_id: int = one_row(
        cursor,
        f"UPDATE orders SET status = %s, {also} WHERE order_id = (SELECT min(order_id) FROM orders "  # noqa: S608
        "WHERE status = %s AND order_id <> ALL (%s::bigint[])) RETURNING order_id",
        (to, status, [*_PLANTED_ORDERS, *besides]),
    )[0]
    return order_id


def _add_piece(cursor: Any, order_id: int) -> None:
    (price,) = one_row(
        cursor,
        "UPDATE order_lines SET quantity = quantity + 1 WHERE (order_id, line_id) = "
        "(SELECT order_id, line_id FROM order_lines WHERE order_id = %s ORDER BY line_id LIMIT 1) RETURNING price",
        (order_id,),
    )
    tax = tax_on(price)
    cursor.execute(
        "UPDATE orders SET tax_total = tax_total + %s, order_total = order_total + %s WHERE order_id = %s",
        (tax, price + tax, order_id),
    )


def _place_order(cursor: Any) -> Change:
    customer_id = one_row(
        cursor,
        "SELECT customer_id FROM customers WHERE NOT is_guest AND deleted_at IS NULL "
        "AND email LIKE '%%.dev' ORDER BY customer_id OFFSET 2 LIMIT 1",
    )[0]
    return Change("orders", str(place_order(cursor, customer_id, find_goods(cursor, 3, 2))), "placed")
