"""A shop whose records are at Mailchimp, and what may happen to it before the next run: one function each."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from include.sandbox.api import Reply
from tests.include.load.shop import die_at
from tests.pipeline import STORE, Died, Pipeline

Step = Callable[[Pipeline], object]


def fill(pipeline: Pipeline) -> None:
    """Products 1–6, customers 1–6 (odd ones asked, 1 and 3 opted in), orders 1–4, coupons 1 and 2, carts 11–13."""
    for product in range(1, 7):
        pipeline.add_product(product, variants=2)
        add_image(pipeline, product)
    for customer in range(1, 7):
        pipeline.add_customer(customer, opted_in=customer < 5 if customer % 2 else None)
    for order in range(1, 5):
        pipeline.add_order(order, order, order, order + 1)
    add_coupon(pipeline, 1, "SPRING", "SPRING-2")
    add_coupon(pipeline, 2, "SUMMER")
    pipeline.push()
    for cart in (11, 12, 13):
        pipeline.add_cart(cart, cart - 8, 1, 2)
    pipeline.push()


def add_image(pipeline: Pipeline, product: int) -> None:
    pipeline.sql(
        "INSERT INTO product_images (image_id, product_id, url) VALUES (:id, :id, :url)",
        id=product,
        url=f"https://little.shop/{product}.jpg",
    )


def unused(pipeline: Pipeline, table: str, column: str) -> int:
    """An id that no row has."""
    [(highest,)] = pipeline.sql(f"SELECT coalesce(max({column}), 0) FROM {table}")
    return int(highest) + 1


def add_coupon(pipeline: Pipeline, coupon: int, *codes: str) -> None:
    pipeline.sql(
        "INSERT INTO coupons (coupon_id, description, type, amount) VALUES (:id, 'A coupon', 'percentage', 10)",
        id=coupon,
    )
    for number, code in enumerate(codes):
        pipeline.sql(
            "INSERT INTO coupon_codes (code_id, coupon_id, code) VALUES (:id, :coupon, :code)",
            id=10 * coupon + number,
            coupon=coupon,
            code=code,
        )


def a_line_is_changed(pipeline: Pipeline) -> None:
    pipeline.sql("UPDATE order_lines SET quantity = 2 WHERE line_id = 100")
    pipeline.sql("UPDATE orders SET order_total = 30 WHERE order_id = 1")


def lines_variants_and_images_are_lost(pipeline: Pipeline) -> None:
    pipeline.sql("DELETE FROM order_lines WHERE line_id = 101")
    pipeline.sql("UPDATE orders SET order_total = 10 WHERE order_id = 1")
    pipeline.sql("DELETE FROM cart_lines WHERE line_id = 1101")
    pipeline.sql("UPDATE variants SET deleted_at = now() WHERE variant_id = 11")
    pipeline.sql("DELETE FROM product_images WHERE image_id = 2")


def a_product_with_orders_is_deleted(pipeline: Pipeline) -> None:
    pipeline.sql("UPDATE products SET deleted_at = now() WHERE product_id = 2")
    pipeline.sql("UPDATE orders SET updated_at = clock_timestamp() WHERE order_id IN (1, 2)")


def a_cart_is_left(pipeline: Pipeline) -> None:
    pipeline.add_cart(unused(pipeline, "carts", "cart_id"), 1, 3)


def a_cart_is_ordered(pipeline: Pipeline) -> None:
    pipeline.add_order(unused(pipeline, "orders", "order_id"), 3, 1, cart_id=11)


def carts_are_emptied_or_expire(pipeline: Pipeline) -> None:
    pipeline.sql("DELETE FROM cart_lines WHERE cart_id = 11")
    pipeline.sql("UPDATE carts SET updated_at = now() - interval '400 days' WHERE cart_id = 12")


def a_cart_gets_another_owner(pipeline: Pipeline) -> None:
    pipeline.sql("UPDATE carts SET customer_id = 1 WHERE cart_id = 11")


def a_coupon_is_changed_and_one_ends(pipeline: Pipeline) -> None:
    pipeline.sql("UPDATE coupons SET amount = 20 WHERE coupon_id = 1")
    pipeline.sql("UPDATE coupon_codes SET usage_count = 3 WHERE code = 'SPRING'")
    pipeline.sql("UPDATE coupons SET deleted_at = now() WHERE coupon_id = 2")


def people_opt_in_and_out(pipeline: Pipeline) -> None:
    pipeline.consent(2, True)
    pipeline.consent(1, False)


def a_customer_gets_a_new_address(pipeline: Pipeline) -> None:
    pipeline.sql("UPDATE customers SET email = 'new@mail.little.shop' WHERE customer_id = 1")


def a_customer_goes_with_all_orders(pipeline: Pipeline) -> None:
    pipeline.sql("UPDATE orders SET deleted_at = now() WHERE customer_id = 2")
    pipeline.sql("UPDATE customers SET deleted_at = now() WHERE customer_id = 2")


def a_customer_goes_whose_orders_stay(pipeline: Pipeline) -> None:
    pipeline.sql("UPDATE customers SET deleted_at = now() WHERE customer_id = 2")


def two_accounts_share_an_address(pipeline: Pipeline) -> None:
    pipeline.sql("UPDATE customers SET email = 'C5@mail.little.shop' WHERE customer_id = 6")


def a_record_is_rejected(pipeline: Pipeline) -> None:
    customer, order = unused(pipeline, "customers", "customer_id"), unused(pipeline, "orders", "order_id")
    pipeline.add_customer(customer, "no address at all")
    pipeline.add_order(order, customer, 1)
    pipeline.add_order(order + 1, 1, 1)
    pipeline.sql("UPDATE order_lines SET quantity = -1 WHERE order_id = :id", id=order + 1)


def a_parent_is_missing(pipeline: Pipeline) -> None:
    """Mailchimp lacks a product that the window doesn't reach."""
    product = unused(pipeline, "products", "product_id")
    pipeline.add_product(product)
    pipeline.sql("UPDATE products SET updated_at = now() - interval '1 year' WHERE product_id = :id", id=product)
    pipeline.add_order(unused(pipeline, "orders", "order_id"), 1, product)


def more_is_deleted_than_allowed(pipeline: Pipeline) -> None:
    for product in range(20, 35):
        pipeline.add_product(product)
    pipeline.push()
    pipeline.sql("UPDATE products SET deleted_at = now() WHERE product_id >= 20")


def a_worker_died(pipeline: Pipeline) -> None:
    """Its last batch was posted, and nobody has read the results."""
    pipeline.sql("UPDATE products SET title = title || '!'")
    pipeline.add_customer(unused(pipeline, "customers", "customer_id"))
    try:
        pipeline.push(dies=die_at(2))
    except Died:
        return
    raise AssertionError("nobody died")


def mailchimp_failed_for_a_while(pipeline: Pipeline) -> None:
    """Records are owed: nobody knows what became of them."""
    pipeline.sql("UPDATE orders SET tracking_number = 'T1'")
    broken = Reply(500, b"", "broken")
    pipeline.sandbox.state.operation_fault = lambda method, path: broken if "orders" in path else None
    pipeline.push()
    pipeline.sandbox.state.operation_fault = None


def somebody_else_changed_mailchimp(pipeline: Pipeline) -> None:
    """A cart is gone there, a coupon is there already, an order has a line of its own."""
    pipeline.client.delete(f"{STORE}/carts/11")
    rule = {"id": "3", "description": "By hand", "type": "percentage", "amount": 0.1, "target": "total"}
    pipeline.client.post(f"{STORE}/promo-rules", json=rule)
    line = {"id": "by-hand", "product_id": "1", "product_variant_id": "10", "quantity": 1, "price": 1}
    pipeline.client.post(f"{STORE}/orders/1/lines", json=line)
    add_coupon(pipeline, 3)
    pipeline.sql("UPDATE carts SET checkout_token = 'another' WHERE cart_id = 11")
    pipeline.sql("UPDATE orders SET tracking_number = 'T1' WHERE order_id = 1")


def the_store_is_gone_at_mailchimp(pipeline: Pipeline) -> None:
    pipeline.client.delete(STORE)


def segments_change(pipeline: Pipeline) -> None:
    pipeline.settings = pipeline.settings.model_copy(
        update={"tags": {"Odd": "SELECT customer_id FROM customers WHERE customer_id % 2 = 1"}}
    )


SCENARIOS: list[Step] = [
    a_line_is_changed,
    lines_variants_and_images_are_lost,
    a_product_with_orders_is_deleted,
    a_cart_is_left,
    a_cart_is_ordered,
    carts_are_emptied_or_expire,
    a_cart_gets_another_owner,
    a_coupon_is_changed_and_one_ends,
    people_opt_in_and_out,
    a_customer_gets_a_new_address,
    a_customer_goes_with_all_orders,
    a_customer_goes_whose_orders_stay,
    two_accounts_share_an_address,
    a_record_is_rejected,
    a_parent_is_missing,
    more_is_deleted_than_allowed,
    a_worker_died,
    mailchimp_failed_for_a_while,
    somebody_else_changed_mailchimp,
    the_store_is_gone_at_mailchimp,
    segments_change,
]

#: Those that may happen together, in any order.
MIXABLE = [step for step in SCENARIOS if step not in {more_is_deleted_than_allowed, somebody_else_changed_mailchimp}]


def mix(pipeline: Pipeline, chance: random.Random) -> list[str]:
    """Let a few things happen; returns their names."""
    chosen: list[Any] = chance.sample(MIXABLE, chance.randint(3, 7))
    for step in chosen:
        step(pipeline)
    return [step.__name__ for step in chosen]
