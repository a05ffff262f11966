"""Records that may have reached Mailchimp unheard, and change, wait or leave the shop before they are repeated."""

from __future__ import annotations

import pytest

from include.sandbox.faults import Fault, inject
from tests.include.load.shop import MortalClient, die_at
from tests.include.load.test_remove import delete_product, due
from tests.pipeline import Died, Pipeline


def vanish(pipeline: Pipeline) -> None:
    """Lose the results of the next batch after Mailchimp has worked it off."""
    inject(pipeline.sandbox.state, Fault.BATCH_VANISHED)


def test_what_was_sent_without_an_answer_and_left_the_shop_before_it_was_sent_again_is_deleted(
    pipeline: Pipeline, mortal: MortalClient
) -> None:
    pipeline.add_product(1)
    pipeline.add_product(2)
    vanish(pipeline)
    mortal.before_post = die_at(2)
    with pytest.raises(Died):
        pipeline.push()
    mortal.before_post = None
    assert set(pipeline.held("products")) == {"1", "2"}
    assert set(pipeline.ledger("products").values()) == {"unknown"}

    delete_product(pipeline, 2)
    pipeline.push()
    assert set(pipeline.held("products")) == {"1"}
    assert pipeline.ledger("products") == {"1": "synced", "2": "deleted"}
    assert due(pipeline) == []


def test_a_record_that_leaves_the_shop_between_two_tries_holds_up_nothing(filled: Pipeline) -> None:
    filled.sql("UPDATE products SET title = 'New' WHERE product_id < 3")
    vanish(filled)
    steps = iter(range(100))

    def deleted_meanwhile() -> None:
        if next(steps) == 1:  # the first batch is posted
            delete_product(filled, 2)

    assert filled.push(dies=deleted_meanwhile).failure is None
    assert set(filled.held("products")) == {"1", "3"}
    assert filled.held("products")["1"]["title"] == "New"
    assert filled.ledger("products")["2"] == "deleted"
    assert due(filled) == []


def test_of_a_customer_that_orders_keep_at_mailchimp_nothing_is_owed(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_order(1, 1, 1)
    pipeline.push()
    pipeline.sql("UPDATE customers SET last_name = 'New' WHERE customer_id = 1")
    vanish(pipeline)
    steps = iter(range(100))

    def deleted_meanwhile() -> None:
        if next(steps) == 1:
            pipeline.sql("UPDATE customers SET deleted_at = now() WHERE customer_id = 1")

    pipeline.push(dies=deleted_meanwhile)
    assert len(pipeline.held("customers")) == 1
    assert set(pipeline.ledger("customers").values()) == {"synced"}


@pytest.mark.parametrize("full", [True, False])
def test_what_became_invalid_after_it_was_sent_without_an_answer_is_deleted_with_its_row(
    pipeline: Pipeline, mortal: MortalClient, full: bool
) -> None:
    for number in (1, 2):
        pipeline.add_product(number)
    vanish(pipeline)
    mortal.before_post = die_at(2)
    with pytest.raises(Died):
        pipeline.push()
    mortal.before_post = None
    pipeline.sql("UPDATE products SET title = '' WHERE product_id = 2")
    pipeline.push()
    assert pipeline.ledger("products")["2"] == "rejected"
    assert set(pipeline.held("products")) == {"1", "2"}

    delete_product(pipeline, 2)
    (pipeline.full_sync if full else pipeline.push)()
    assert set(pipeline.held("products")) == {"1"}
    assert pipeline.rejected() == {}


def test_a_full_sync_deletes_what_was_sent_without_an_answer_and_left_the_shop(
    pipeline: Pipeline, mortal: MortalClient
) -> None:
    for number in (1, 2):
        pipeline.add_product(number)
    vanish(pipeline)
    mortal.before_post = die_at(2)
    with pytest.raises(Died):
        pipeline.push()
    mortal.before_post = None
    delete_product(pipeline, 2)
    pipeline.full_sync()
    assert set(pipeline.held("products")) == {"1"}
    assert pipeline.ledger("products") == {"1": "synced", "2": "deleted"}


def test_a_cart_that_is_touched_before_it_is_sent_again_waits_and_holds_up_nothing(pipeline: Pipeline) -> None:
    pipeline.configure(cart_idle_minutes=15)
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.push()
    for number in (1, 2):
        pipeline.add_cart(number, 1, 1, minutes_ago=20)
    inject(pipeline.sandbox.state, Fault.BATCH_DROPPED)
    steps = iter(range(100))

    def touched_meanwhile() -> None:
        if next(steps) == 1:
            pipeline.sql("UPDATE carts SET updated_at = clock_timestamp() WHERE cart_id = 2")

    ran = pipeline.push(entities=("carts",), dies=touched_meanwhile)
    assert set(pipeline.held("carts")) == {"1"}
    assert ran["carts"].unknown == 1
    pipeline.sql("UPDATE carts SET updated_at = clock_timestamp() - interval '16 minutes' WHERE cart_id = 2")
    pipeline.push()
    assert set(pipeline.held("carts")) == {"1", "2"}
