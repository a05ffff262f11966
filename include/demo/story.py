"""What happens in the sample shop in the demo's second act: one function per step, each in a transaction of its own.

Every call makes something new happen, however often it is called. Everybody's address is the sample's own
(`…@mail.completejourney-shop.dev`).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from sqlalchemy import Engine

from include.demo.checkout import Goods, find_goods, one_row, place_order
from include.demo.coupons import WELCOME_CODE
from include.demo.loading import connected
from include.demo.orders import CURRENCY
from include.demo.people import MAIL_DOMAIN
from include.demo.planted import BROKEN_EMAILS, planted_rejects

_PLANTED_ORDERS: Final = [int(record.record_id) for record in planted_rejects() if record.entity == "orders"]
#: Customers with an account and orders who agreed to newsletters last time they were asked, and have no cart waiting.
_SUBSCRIBERS: Final = """
SELECT customer_id, email
FROM customers
CROSS JOIN LATERAL (
    SELECT opted_in FROM newsletter_consents WHERE newsletter_consents.customer_id = customers.customer_id
    ORDER BY recorded_at DESC, consent_id DESC LIMIT 1
) AS consent
WHERE consent.opted_in AND NOT is_guest AND deleted_at IS NULL AND customer_id <> ALL (%s)
AND EXISTS (SELECT FROM orders WHERE orders.customer_id = customers.customer_id)
AND NOT EXISTS (SELECT FROM carts WHERE carts.customer_id = customers.customer_id AND is_open)
"""


@dataclass(frozen=True, slots=True)
class Step:
    """What happened in the shop.

    Attributes:
        entity: of the record that the step is about, as the extracts call it.
        record_id: the shop's own id of that record, as text.
        what: what happened, for people.
        besides: further records that changed with it, as (entity, record_id).
    """

    entity: str
    record_id: str
    what: str
    besides: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A customer who agreed to newsletters in the shop."""

    customer_id: str
    email: str


def abandon_cart(target: str | Engine, minutes_ago: int = 60) -> Step:
    """A known customer puts two products into a cart and leaves.

    Args:
        target: a libpq URL, or an SQLAlchemy engine with the psycopg2 driver.
        minutes_ago: when the cart was last changed.

    Raises:
        LookupError: the database doesn't hold a sample shop.
    """
    with connected(target) as connection, connection.cursor() as cursor:
        customer_id, _ = _subscriber(cursor, "ASC")
        goods = find_goods(cursor, 5, 2)
        (cart_id,) = one_row(
            cursor,
            "INSERT INTO carts (customer_id, currency_code, order_total, checkout_token) "
            "VALUES (%s, %s, %s, 'token-' || gen_random_uuid()) RETURNING cart_id",
            (customer_id, CURRENCY, sum((line.price for line in goods), Decimal(0))),
        )
        for line in goods:
            cursor.execute(
                "INSERT INTO cart_lines (cart_id, product_id, variant_id, quantity, price) VALUES (%s, %s, %s, 1, %s)",
                (cart_id, line.product_id, line.variant_id, line.price),
            )
        # Last, since every line stamps its cart.
        cursor.execute(
            "UPDATE carts SET created_at = now() - %s * interval '1 minute' - interval '5 minutes', "
            "updated_at = now() - %s * interval '1 minute' WHERE cart_id = %s",
            (minutes_ago, minutes_ago, cart_id),
        )
    return Step("carts", str(cart_id), f"left with {len(goods)} products {minutes_ago} minutes ago")


def order_cart(target: str | Engine, cart_id: str) -> Step:
    """The customer comes back and orders what is in a cart.

    Args:
        target: a libpq URL, or an SQLAlchemy engine with the psycopg2 driver.
        cart_id: an open cart.

    Raises:
        LookupError: there is no such open cart.
    """
    with connected(target) as connection, connection.cursor() as cursor:
        (customer_id,) = one_row(
            cursor, "UPDATE carts SET is_open = false WHERE cart_id = %s AND is_open RETURNING customer_id", (cart_id,)
        )
        cursor.execute(
            "SELECT product_id, variant_id, price, quantity FROM cart_lines WHERE cart_id = %s ORDER BY line_id",
            (cart_id,),
        )
        order_id = place_order(cursor, customer_id, [Goods(*row) for row in cursor.fetchall()], int(cart_id))
    return Step("orders", str(order_id), f"placed from cart {cart_id}", (("carts", cart_id),))


def change_coupon(target: str | Engine) -> Step:
    """The welcome coupon gives 15 % instead of 10 %, or 10 % again.

    Args:
        target: a libpq URL, or an SQLAlchemy engine with the psycopg2 driver.

    Raises:
        LookupError: the database doesn't hold a sample shop.
    """
    with connected(target) as connection, connection.cursor() as cursor:
        coupon_id, percent = one_row(
            cursor,
            "UPDATE coupons SET amount = CASE amount WHEN 10 THEN 15 ELSE 10 END "
            "WHERE coupon_id = (SELECT coupon_id FROM coupon_codes WHERE code = %s) RETURNING coupon_id, amount",
            (WELCOME_CODE,),
        )
    return Step("promo_rules", str(coupon_id), f"{WELCOME_CODE} now gives {percent:.0f} %")


def delete_product(target: str | Engine) -> Step:
    """A product that old orders contain is deleted; then one of those orders is refunded, and so has to be sent again.

    Args:
        target: a libpq URL, or an SQLAlchemy engine with the psycopg2 driver.

    Raises:
        LookupError: no such product is left.
    """
    with connected(target) as connection, connection.cursor() as cursor:
        product_id, order_id = one_row(
            cursor,
            """
            SELECT product_id, min(order_id)
            FROM products JOIN order_lines USING (product_id) JOIN orders USING (order_id)
            WHERE orders.status = 'completed' AND orders.order_id <> ALL (%s) AND products.deleted_at IS NULL
            AND product_id NOT IN (SELECT product_id FROM cart_lines JOIN carts USING (cart_id) WHERE is_open)
            GROUP BY product_id HAVING count(DISTINCT order_id) > 1
            ORDER BY count(DISTINCT order_id), product_id LIMIT 1
            """,
            (_PLANTED_ORDERS,),
        )
        cursor.execute("UPDATE products SET deleted_at = now() WHERE product_id = %s", (product_id,))
        cursor.execute("UPDATE orders SET status = 'refunded' WHERE order_id = %s", (order_id,))
    what = f"deleted; order {order_id}, which contains it, is refunded"
    return Step("products", str(product_id), what, (("orders", str(order_id)),))


def find_subscriber(target: str | Engine) -> Subscriber:
    """Find a customer who could opt out at Mailchimp: one who agreed, but not the one who leaves a cart.

    Args:
        target: a libpq URL, or an SQLAlchemy engine with the psycopg2 driver.

    Raises:
        LookupError: the database doesn't hold a sample shop.
    """
    with connected(target) as connection, connection.cursor() as cursor:
        customer_id, email = _subscriber(cursor, "DESC")
    return Subscriber(str(customer_id), email)


def order_of_opted_out(target: str | Engine, customer_id: str) -> Step:
    """A customer, who has opted out at Mailchimp meanwhile, orders again.

    The shop knows nothing of the opt-out yet: what it has stored is still the opt-in.

    Args:
        target: a libpq URL, or an SQLAlchemy engine with the psycopg2 driver.
        customer_id: who orders.

    Raises:
        LookupError: there is no such customer.
    """
    with connected(target) as connection, connection.cursor() as cursor:
        order_id = place_order(cursor, int(customer_id), find_goods(cursor, 7, 1))
    what = f"placed by customer {customer_id}, who opted out at Mailchimp"
    return Step("orders", str(order_id), what)


def guest_order(target: str | Engine) -> Step:
    """Somebody without an account orders.

    Args:
        target: a libpq URL, or an SQLAlchemy engine with the psycopg2 driver.

    Raises:
        LookupError: the database doesn't hold a sample shop.
    """
    with connected(target) as connection, connection.cursor() as cursor:
        customer_id = _add_guest(cursor)
        order_id = place_order(cursor, customer_id, find_goods(cursor, 9, 2))
    return Step("orders", str(order_id), "placed by a guest", (("customers", str(customer_id)),))


def _subscriber(cursor: Any, order: Literal["ASC", "DESC"]) -> tuple[int, str]:
    """The first or last subscriber whose address can be used."""
    customer_id, email = one_row(cursor, f"{_SUBSCRIBERS} ORDER BY customer_id {order} LIMIT 1", ([*BROKEN_EMAILS],))
    return customer_id, email


def _add_guest(cursor: Any) -> int:
    customer_id: int = one_row(cursor, "SELECT nextval(pg_get_serial_sequence('customers', 'customer_id'))")[0]
    cursor.execute(
        "INSERT INTO customers (customer_id, email, first_name, last_name, language, is_guest) "
        "VALUES (%s, %s, 'Nora', 'Lind', 'en', true)",
        (customer_id, f"nora.lind.{customer_id}@{MAIL_DOMAIN}"),
    )
    (address_id,) = one_row(
        cursor,
        "INSERT INTO addresses (customer_id, address1, city, province, province_code, postal_code, country, "
        "country_code) VALUES (%s, '7 Oak Avenue', 'Columbus', 'Ohio', 'OH', '43215', 'United States', 'US') "
        "RETURNING address_id",
        (customer_id,),
    )
    cursor.execute("UPDATE customers SET default_address_id = %s WHERE customer_id = %s", (address_id, customer_id))
    return customer_id
