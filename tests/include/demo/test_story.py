"""The scenes of the demo's second act: what each changes in the shop, and that it can be played again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from include.demo import story
from include.demo.story import Step
from include.embedded_postgres import EmbeddedPostgres
from tests.include.demo.sample import moved, sample_shop, stamps


@pytest.fixture(scope="module")
def shop(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    with sample_shop(postgres) as engine:
        yield engine


def rows(shop: Engine, statement: str, **values: object) -> list[tuple[Any, ...]]:
    with shop.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement), values)]


def play(shop: Engine, step: Callable[..., Step], *arguments: Any) -> Step:
    """Play a step and see that it changes exactly the records that it names."""
    with shop.connect() as connection:
        before = stamps(connection)
    played = step(shop, *arguments)
    with shop.connect() as connection:
        assert moved(before, stamps(connection)) == {(played.entity, played.record_id), *played.besides}
    assert played.what
    return played


def assert_sound(shop: Engine, order_id: str) -> None:
    """The order is paid, its totals add up, and it can be shipped."""
    [(status, difference, lines, address)] = rows(
        shop,
        "SELECT status, order_total - sum(quantity * price) + discount_total - tax_total - shipping_total, count(*), "
        "shipping_address_id FROM orders JOIN order_lines USING (order_id) WHERE order_id = :id "
        "GROUP BY orders.order_id",
        id=order_id,
    )
    assert (status, difference) == ("paid", 0)
    assert lines > 0
    assert address is not None


def test_a_cart_is_left_and_then_ordered_time_after_time(shop: Engine) -> None:
    owners = set()
    for _ in range(2):
        cart = play(shop, story.abandon_cart)
        assert cart.entity == "carts"
        [(customer_id, is_open, minutes, lines, total, goods)] = rows(
            shop,
            "SELECT customer_id, is_open, round(extract(epoch FROM now() - updated_at) / 60), count(line_id), "
            "order_total, sum(quantity * price) FROM carts JOIN cart_lines USING (cart_id) WHERE cart_id = :id "
            "GROUP BY carts.cart_id",
            id=cart.record_id,
        )
        assert (is_open, minutes, lines, total) == (True, 60, 2, goods)
        owners.add(customer_id)

        order = play(shop, story.order_cart, cart.record_id)
        assert order.besides == (("carts", cart.record_id),)
        assert_sound(shop, order.record_id)
        found = "SELECT product_id, variant_id, quantity, price FROM {} WHERE {} = :id ORDER BY line_id"
        assert rows(shop, found.format("order_lines", "order_id"), id=order.record_id) == rows(
            shop, found.format("cart_lines", "cart_id"), id=cart.record_id
        )
        linked = "SELECT carts.is_open, orders.customer_id FROM orders JOIN carts USING (cart_id) WHERE order_id = :id"
        assert rows(shop, linked, id=order.record_id) == [(False, customer_id)]
        with pytest.raises(LookupError):
            story.order_cart(shop, cart.record_id)
    assert len(owners) == 1  # their cart is ordered, so they may leave another one


def test_the_time_that_a_cart_was_left_can_be_chosen(shop: Engine) -> None:
    cart = story.abandon_cart(shop, minutes_ago=5)
    [(minutes,)] = rows(
        shop,
        "SELECT round(extract(epoch FROM now() - updated_at) / 60) FROM carts WHERE cart_id = :id",
        id=cart.record_id,
    )
    assert minutes == 5


def test_a_coupon_changes_back_and_forth(shop: Engine) -> None:
    amounts = []
    for _ in range(3):
        coupon = play(shop, story.change_coupon)
        assert coupon.entity == "promo_rules"
        amounts += rows(shop, "SELECT amount FROM coupons WHERE coupon_id = :id", id=coupon.record_id)
    assert amounts == [(Decimal(15),), (Decimal(10),), (Decimal(15),)]


def test_a_product_is_deleted_that_old_orders_contain(shop: Engine) -> None:
    gone = []
    for _ in range(2):
        product = play(shop, story.delete_product)
        [(entity, order_id)] = product.besides
        assert (product.entity, entity) == ("products", "orders")
        assert rows(
            shop,
            "SELECT DISTINCT products.deleted_at IS NULL, status FROM orders JOIN order_lines USING (order_id) "
            "JOIN products USING (product_id) WHERE order_id = :order AND product_id = :product",
            order=order_id,
            product=product.record_id,
        ) == [(False, "refunded")]
        others = "SELECT count(DISTINCT order_id) FROM order_lines WHERE product_id = :id AND order_id <> :order"
        assert rows(shop, others, id=product.record_id, order=order_id)[0][0] > 0
        gone.append(product.record_id)
    assert len(set(gone)) == 2


def test_a_subscriber_orders_again(shop: Engine) -> None:
    subscriber = story.find_subscriber(shop)
    assert subscriber.email.endswith("@mail.completejourney-shop.dev")
    newest = "SELECT opted_in FROM newsletter_consents WHERE customer_id = :id ORDER BY recorded_at DESC LIMIT 1"
    assert rows(shop, newest, id=subscriber.customer_id) == [(True,)]
    order = play(shop, story.order_of_opted_out, subscriber.customer_id)
    assert_sound(shop, order.record_id)
    buyer = "SELECT customer_id::text FROM orders WHERE order_id = :id"
    assert rows(shop, buyer, id=order.record_id) == [(subscriber.customer_id,)]
    # The shop knows nothing of what happened at Mailchimp.
    assert rows(shop, newest, id=subscriber.customer_id) == [(True,)]


def test_a_guest_orders_with_an_address_of_their_own(shop: Engine) -> None:
    emails = set()
    for _ in range(2):
        order = play(shop, story.guest_order)
        assert_sound(shop, order.record_id)
        [(entity, customer_id)] = order.besides
        assert entity == "customers"
        [(email, is_guest, named)] = rows(
            shop,
            "SELECT email, is_guest, first_name > '' AND last_name > '' FROM customers WHERE customer_id = :id",
            id=customer_id,
        )
        assert (is_guest, named) == (True, True)
        assert email.endswith("@mail.completejourney-shop.dev")
        emails.add(email)
        consents = "SELECT count(*) FROM newsletter_consents WHERE customer_id = :id"
        assert rows(shop, consents, id=customer_id) == [(0,)]  # unknown: a guest was never asked
    assert len(emails) == 2


@pytest.mark.parametrize("step", [story.abandon_cart, story.find_subscriber])
def test_a_database_without_records_is_refused(shop: Engine, step: Callable[[Engine], Any]) -> None:
    with shop.begin() as connection:
        connection.execute(text("UPDATE customers SET deleted_at = now() WHERE deleted_at IS NULL"))
    with pytest.raises(LookupError, match=r"python -m include\.demo"):
        step(shop)
