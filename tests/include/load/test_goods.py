"""The products that orders and carts refer to are at Mailchimp before these are sent."""

from __future__ import annotations

import pytest

from include.transform.products import PLACEHOLDER_ID
from tests.include.load.shop import MortalClient, die_at
from tests.pipeline import STORE, Died, Pipeline

PUT_PRODUCT = "operation PUT /ecommerce/stores/{store_id}/products/{product_id} 200"
PUT_PLACEHOLDER = "PUT /ecommerce/stores/{store_id}/products/{product_id} 200"
PEOPLE = ("customers", "orders")


@pytest.fixture
def ordered(pipeline: Pipeline) -> Pipeline:
    """Three orders of two products that no run has sent yet."""
    for number in (1, 2):
        pipeline.add_product(number)
    pipeline.add_customer(1)
    for number in (1, 2, 3):
        pipeline.add_order(number, 1, 1, 2)
    return pipeline


def test_missing_products_are_pushed_first_and_once(ordered: Pipeline) -> None:
    ran = ordered.push(entities=PEOPLE)
    assert (ran["orders"].acknowledged, ran["orders"].rejected, ran.failure) == (3, 0, None)
    assert (ran["products"].operations, ran["products"].acknowledged) == (2, 2)
    assert set(ordered.held("products")) == {"1", "2"}
    assert ordered.push(entities=PEOPLE).operations == 0
    assert ordered.push()["products"].operations == 0


def test_carts_bring_their_products_too(pipeline: Pipeline) -> None:
    pipeline.push()  # no cart before the first load
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_cart(5, 1, 1)
    pipeline.push(entities=("customers", "carts"))
    assert set(pipeline.held("products")) == {"1"}
    assert set(pipeline.held("carts")) == {"5"}


def test_chunks_ask_for_what_the_ones_before_them_did_not(pipeline: Pipeline) -> None:
    pipeline.configure(batch_operations=1)
    pipeline.add_customer(1)
    for number in (1, 2, 3):
        pipeline.add_product(number)
        pipeline.add_order(number, 1, number)
    ran = pipeline.push(entities=PEOPLE)
    assert (ran["orders"].acknowledged, ran["products"].operations) == (3, 3)
    assert pipeline.requests()[PUT_PRODUCT] == 3


def test_lines_of_products_that_are_gone_get_one_placeholder(ordered: Pipeline) -> None:
    ordered.sql("UPDATE products SET deleted_at = now()")
    ran = ordered.push()
    assert ran["orders"].acknowledged == 3
    assert set(ordered.held("products")) == {PLACEHOLDER_ID}
    lines = [line for order in ordered.held("orders").values() for line in order["lines"]]
    assert {(line["product_id"], line["product_variant_id"]) for line in lines} == {(PLACEHOLDER_ID, PLACEHOLDER_ID)}
    assert sum(order["order_total"] for order in ordered.held("orders").values()) == 60
    ordered.add_order(4, 1, 1)
    ordered.push()
    assert ordered.requests()[PUT_PLACEHOLDER] == 1


def test_a_placeholder_that_vanished_is_made_again(ordered: Pipeline) -> None:
    ordered.sql("UPDATE products SET deleted_at = now()")
    ordered.push()
    ordered.client.delete(f"{STORE}/products/{PLACEHOLDER_ID}")
    ordered.add_order(4, 1, 1)
    ordered.push()
    ordered.push()
    assert "4" in ordered.held("orders")
    assert set(ordered.held("products")) == {PLACEHOLDER_ID}
    assert ordered.rejected() == {}


def test_a_product_that_cannot_be_sent_leaves_its_orders_waiting(ordered: Pipeline) -> None:
    ordered.sql("UPDATE products SET title = ' ' WHERE product_id = 2")
    ordered.add_order(4, 1, 1)
    ran = ordered.push(entities=PEOPLE)
    assert (ran["orders"].acknowledged, ran["orders"].rejected) == (1, 3)
    assert ordered.rejected() == {
        ("products", "2"): "Product title missing",
        **{("orders", number): "Parent not at Mailchimp yet" for number in ("1", "2", "3")},
    }
    ordered.sql("UPDATE products SET title = 'Two' WHERE product_id = 2")
    assert ordered.push()["orders"].acknowledged == 3
    assert ordered.rejected() == {}


@pytest.mark.parametrize("point", ["before_post", "after_post"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_death_on_the_way_brings_both_nevertheless(
    ordered: Pipeline, mortal: MortalClient, point: str, nth: int
) -> None:
    """The first batch has the products, the second one the first order."""
    ordered.push(entities=("customers",))
    setattr(mortal, point, die_at(nth))
    with pytest.raises(Died):
        ordered.push(entities=PEOPLE)
    setattr(mortal, point, None)
    ordered.push(entities=PEOPLE)
    assert set(ordered.held("orders")) == {"1", "2", "3"}
    assert set(ordered.ledger("products").values()) == {"synced"}
    assert ordered.push().operations == 0
