"""A slow account: tasks wait for a place without a worker."""

from __future__ import annotations

from include.load.slice_step import Waiting
from include.state.pace import lane
from tests.include.load.shop import TinyShop


def test_while_the_account_is_slow_a_task_without_a_place_comes_again(shop: TinyShop) -> None:
    shop.add_products(1, 15)
    (key,) = shop.plan(shop.begin(), "products")
    account_id = shop.query("SELECT account_id FROM store")[0]["account_id"]
    shop.execute("UPDATE mailchimp.store SET slow_until = now() + interval '1 hour'")
    with lane(shop.state, account_id, 4), lane(shop.state, account_id, 4):
        assert shop.push(key).step() == Waiting(())
        assert shop.sandbox.state.batches.batches == {}
    shop.finish(key)
    assert len(shop.held("products")) == 15
