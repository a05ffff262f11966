"""Outcomes are read for our own operations only, and acted upon by one worker at a time."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from include.load.settle import _sequence, recover
from include.state.stores import load_store
from tests.pipeline import Pipeline, email_hash

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("operation_id", "sequence"),
    [
        (f"{TOKEN}-0", 0),
        (f"{TOKEN}-9", 9),
        (f"{TOKEN}-10", None),
        (f"{TOKEN}--1", None),
        (f"{TOKEN}-", None),
        (f"{TOKEN}-٣", None),
        (f"{TOKEN}-99999999999999999999", None),
        ("fedcba9876543210-0", None),
        ("0", None),
        ("", None),
        (None, None),
    ],
)
def test_only_answers_to_our_own_operations_count(operation_id: str | None, sequence: int | None) -> None:
    assert _sequence(TOKEN, operation_id, operations=10) == sequence


def test_a_deletion_that_makes_room_for_a_record_never_takes_the_new_one(pipeline: Pipeline) -> None:
    """Found in review: another run, looking after the same batch, may be slow to delete the cart of a former customer.

    Meanwhile the cart's own slice must not make it anew.
    """
    pipeline.add_product(1)
    pipeline.add_customer(1, "old@mail.little.shop", opted_in=True)
    pipeline.add_order(1, 1, 1)
    pipeline.add_cart(7, 1, 1, minutes_ago=60)
    pipeline.push()
    pipeline.sql("UPDATE customers SET email = 'new@mail.little.shop'")
    pipeline.sql("UPDATE carts SET updated_at = clock_timestamp()")

    deleting, may_go_on = threading.Event(), threading.Event()
    slow = pipeline.new_client()
    delete = slow.delete

    def delete_late(path: str, **options: Any) -> Any:
        deleting.set()
        assert may_go_on.wait(30)
        return delete(path, **options)

    slow.delete = delete_late  # type: ignore[method-assign]

    def another_run() -> None:
        with pipeline.state.begin() as connection:
            store = load_store(connection, 1)
        recover(pipeline.state, slow, store, timedelta(minutes=5))

    other = threading.Thread(target=another_run)
    steps_since = 0

    def before_each_step() -> None:
        nonlocal steps_since
        if not other.ident and pipeline.sql("SELECT FROM mailchimp.batch WHERE entity = 'carts' AND state = 'posted'"):
            other.start()
            assert deleting.wait(30)
        elif other.ident and steps_since < 2:
            steps_since += 1
            if steps_since == 2:
                may_go_on.set()
                other.join()

    assert pipeline.push(dies=before_each_step).failure is None
    assert steps_since == 2
    assert pipeline.held("carts")["7"]["customer"]["id"] == email_hash("new@mail.little.shop")
