"""A cart is gone before its order is written: no reminder follows a purchase."""

from __future__ import annotations

from typing import Any

import pytest

from include.sandbox.api import Reply
from tests.pipeline import Pipeline

CLOSE_DIRECTLY = "DELETE /ecommerce/stores/{store_id}/carts/{cart_id} 204"


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    """Two open carts at Mailchimp."""
    pipeline.add_product(1)
    pipeline.add_customer(1)
    for cart_id in (5, 6):
        pipeline.add_cart(cart_id, 1, 1, minutes_ago=1)
    pipeline.push()
    assert set(pipeline.held("carts")) == {"5", "6"}
    return pipeline


def buy(pipeline: Pipeline, cart_id: int) -> None:
    pipeline.add_order(cart_id, 1, 1, cart_id=cart_id)
    pipeline.sql("UPDATE carts SET is_open = false WHERE cart_id = :id", id=cart_id)


def when_the_order_is_written(pipeline: Pipeline) -> list[set[str]]:
    """Record which carts Mailchimp holds at that moment."""
    carts: list[set[str]] = []

    def watch(method: str, path: str) -> Reply | None:
        if method == "PUT" and "/orders/" in path:
            carts.append(set(pipeline.sandbox.state.account.stores["demo-shop"].carts))
        return None

    pipeline.sandbox.state.operation_fault = watch
    return carts


def test_a_cart_that_the_shop_closed_is_deleted_in_a_phase_before_the_orders(filled: Pipeline) -> None:
    seen = when_the_order_is_written(filled)
    buy(filled, 5)
    ran = filled.push()
    assert seen == [{"6"}]
    assert ran["carts"].deleted == 1
    assert CLOSE_DIRECTLY not in filled.requests()


def test_a_cart_that_no_phase_has_closed_is_deleted_with_its_order(filled: Pipeline) -> None:
    """It was bought after that phase, or the run leaves carts out."""
    seen = when_the_order_is_written(filled)
    buy(filled, 5)
    filled.push(entities=("orders",))
    assert seen == [{"6"}]
    assert filled.ledger("carts") == {"5": "deleted", "6": "synced"}
    assert filled.requests()[CLOSE_DIRECTLY] == 1
    assert filled.push().operations == 0


def test_what_mailchimp_never_had_or_has_no_more_costs_no_error(filled: Pipeline) -> None:
    filled.client.delete("/ecommerce/stores/demo-shop/carts/5")
    buy(filled, 5)
    filled.add_order(7, 1, 1, cart_id=None)
    ran = filled.push(entities=("orders",))
    assert (ran["orders"].acknowledged, ran.failure) == (2, None)
    assert filled.ledger("carts")["5"] == "deleted"


def test_an_order_that_is_written_again_asks_nothing(filled: Pipeline) -> None:
    buy(filled, 5)
    filled.push()
    calls = filled.requests().get(CLOSE_DIRECTLY)
    filled.sql("UPDATE orders SET status = 'shipped'")
    assert filled.push()["orders"].operations == 1
    assert filled.requests().get(CLOSE_DIRECTLY) == calls


def test_nobody_is_reminded_of_what_was_bought(filled: Pipeline) -> None:
    buy(filled, 5)
    filled.push()
    assert filled.sandbox.remind() == 1  # the other one
    assert filled.push().operations == 0


@pytest.mark.parametrize("settings", [{"abandoned_carts": "none"}, {"exclude_emails": ["*@mail.little.shop"]}])
def test_a_cart_that_the_settings_leave_out_by_now_reminds_nobody(pipeline: Pipeline, settings: dict[str, Any]) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_cart(5, 1, 1, minutes_ago=20)
    pipeline.push()
    assert set(pipeline.held("carts")) == {"5"}
    pipeline.configure(**settings)
    pipeline.push()
    assert pipeline.held("carts") == {}


def test_a_cart_of_somebody_who_opted_out_reminds_nobody_where_only_subscribers_are(pipeline: Pipeline) -> None:
    pipeline.configure(abandoned_carts="subscribed")
    pipeline.add_product(1)
    pipeline.add_customer(1, opted_in=True)
    pipeline.add_cart(5, 1, 1, minutes_ago=20)
    pipeline.push()
    assert set(pipeline.held("carts")) == {"5"}
    pipeline.consent(1, False)
    pipeline.push()
    assert pipeline.held("carts") == {}
