"""Mailchimp keeps lines, variants and images that an update leaves out; they are deleted one by one."""

from __future__ import annotations

import pytest

from include.sandbox.api import Reply
from include.state.deletions import StaleChild, stale_children
from include.state.settlement import MAX_ATTEMPTS
from tests.include.load.shop import MortalClient, die_at
from tests.pipeline import Died, Pipeline


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    """A product with two variants and two images, in an order and a cart with another product."""
    pipeline.add_product(1, variants=2)
    pipeline.add_product(2)
    for image_id in (7, 8):
        pipeline.sql(
            "INSERT INTO product_images (image_id, product_id, position, url) VALUES (:id, 1, :id, :url)",
            id=image_id,
            url=f"https://little.shop/{image_id}.jpg",
        )
    pipeline.add_customer(1)
    pipeline.add_order(1, 1, 1, 2)
    pipeline.add_cart(5, 1, 1, 2, minutes_ago=1)
    pipeline.push()
    return pipeline


def children(pipeline: Pipeline, entity: str, record_id: str, name: str) -> list[str]:
    return sorted(child["id"] for child in pipeline.held(entity)[record_id][name])


def drop_order_line(pipeline: Pipeline) -> None:
    pipeline.sql("DELETE FROM order_lines WHERE line_id = 101")
    pipeline.sql("UPDATE orders SET order_total = 10")


def stale(pipeline: Pipeline) -> list[tuple[str, str]]:
    return pipeline.sql("SELECT entity, child FROM mailchimp.stale_child ORDER BY 1, 2")  # type: ignore[return-value]


def test_what_left_a_record_is_deleted_inside_it(filled: Pipeline) -> None:
    drop_order_line(filled)
    filled.sql("DELETE FROM cart_lines WHERE line_id = 501")
    filled.sql("UPDATE variants SET deleted_at = now() WHERE variant_id = 11")
    filled.sql("DELETE FROM product_images WHERE image_id = 8")
    filled.push()
    assert children(filled, "orders", "1", "lines") == ["100"]
    assert children(filled, "carts", "5", "lines") == ["500"]
    assert children(filled, "products", "1", "variants") == ["10"]
    assert children(filled, "products", "1", "images") == ["7"]
    assert stale(filled) == []
    assert filled.push().operations == 0


def test_a_record_whose_children_are_all_new_loses_all_the_old_ones(filled: Pipeline) -> None:
    """The last line can't be deleted; by then it isn't the last one."""
    filled.sql("UPDATE order_lines SET line_id = line_id + 50")
    filled.sql("UPDATE variants SET deleted_at = now() WHERE product_id = 1")
    filled.push()
    assert children(filled, "orders", "1", "lines") == ["150", "151"]
    assert children(filled, "products", "1", "variants") == ["1"]  # a product without variants is its own
    assert stale(filled) == []


@pytest.mark.parametrize("verb", ["put", "post_patch"])
def test_lines_are_deleted_with_either_verb(filled: Pipeline, verb: str) -> None:
    filled.configure(order_upsert=verb)
    drop_order_line(filled)
    filled.push()
    assert children(filled, "orders", "1", "lines") == ["100"]


def test_a_line_that_came_back_is_not_deleted(filled: Pipeline, mortal: MortalClient) -> None:
    drop_order_line(filled)
    mortal.before_post = die_at(2)
    with pytest.raises(Died):
        filled.push(entities=("orders",))
    mortal.before_post = None
    filled.sql(
        "INSERT INTO order_lines (order_id, line_id, product_id, variant_id, quantity, price) "
        "VALUES (1, 101, 2, 20, 1, 10)"
    )
    filled.sql("UPDATE orders SET order_total = 20")
    filled.push()
    assert children(filled, "orders", "1", "lines") == ["100", "101"]
    assert stale(filled) == []


@pytest.mark.parametrize("point", ["before_post", "after_post"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_death_around_either_batch_loses_no_deletion(
    filled: Pipeline, mortal: MortalClient, point: str, nth: int
) -> None:
    """The first batch updates the order, the second one deletes its line."""
    drop_order_line(filled)
    setattr(mortal, point, die_at(nth))
    with pytest.raises(Died):
        filled.push(entities=("orders",))
    setattr(mortal, point, None)
    filled.push(entities=("orders",))
    assert children(filled, "orders", "1", "lines") == ["100"]
    assert (stale(filled), filled.ledger("orders")) == ([], {"1": "synced"})
    assert filled.push().operations == 0


@pytest.mark.parametrize("point", ["before_post", "after_post"])
def test_a_line_that_leaves_an_order_while_nobody_knows_whether_it_arrived(
    pipeline: Pipeline, mortal: MortalClient, point: str
) -> None:
    """The very first batch with the order is lost; what it brought to Mailchimp is only seen in the second answer."""
    pipeline.add_product(1)
    pipeline.add_product(2)
    pipeline.add_customer(1)
    pipeline.push()
    pipeline.add_order(1, 1, 1, 2)
    setattr(mortal, point, die_at(1))
    with pytest.raises(Died):
        pipeline.push(entities=("orders",))
    setattr(mortal, point, None)
    drop_order_line(pipeline)
    pipeline.push()
    pipeline.full_sync()
    assert children(pipeline, "orders", "1", "lines") == ["100"]


def test_a_child_that_mailchimp_keeps_is_not_tried_for_ever(filled: Pipeline) -> None:
    """It is the last one: no repetition helps."""
    filled.sql(
        "INSERT INTO mailchimp.stale_child (store_ref, entity, record_id, child) VALUES "
        "(1, 'orders', '1', 'lines/100'), (1, 'orders', '1', 'lines/101')"
    )
    assert filled.push()["orders"].operations <= 1 + MAX_ATTEMPTS
    assert len(children(filled, "orders", "1", "lines")) == 1
    assert filled.push().operations == 0


def test_a_deletion_that_failed_on_the_way_is_tried_again_by_the_next_run(filled: Pipeline) -> None:
    drop_order_line(filled)
    filled.sandbox.state.operation_fault = lambda method, _path: (
        Reply(500, b"", "broken") if method == "DELETE" else None
    )
    assert filled.push()["orders"].operations <= 1 + MAX_ATTEMPTS
    assert children(filled, "orders", "1", "lines") == ["100", "101"]
    filled.sandbox.state.operation_fault = None
    filled.push()
    assert children(filled, "orders", "1", "lines") == ["100"]


def test_many_are_deleted_in_batches(filled: Pipeline) -> None:
    filled.configure(batch_operations=3)
    for line_id in range(200, 208):
        filled.sql(
            "INSERT INTO order_lines (order_id, line_id, product_id, variant_id, quantity, price) "
            "VALUES (1, :id, 2, 20, 1, 0)",
            id=line_id,
        )
    filled.push()
    filled.sql("DELETE FROM order_lines WHERE line_id >= 200")
    assert filled.push()["orders"].operations == 1 + 8
    assert children(filled, "orders", "1", "lines") == ["100", "101"]


def test_children_of_records_in_flight_wait(filled: Pipeline) -> None:
    filled.sql(
        "INSERT INTO mailchimp.stale_child (store_ref, entity, record_id, child) VALUES (1, 'orders', '1', 'lines/9')"
    )
    with filled.state.begin() as connection:
        assert stale_children(connection, 1, "orders", 10) == [StaleChild("1", "lines/9")]
    filled.sql("UPDATE mailchimp.ledger SET batch_ref = 1 WHERE entity = 'orders'")
    with filled.state.begin() as connection:
        assert stale_children(connection, 1, "orders", 10) == []
