from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from include.load.post import BatchRefused
from include.load.push import Done, Waiting
from include.mailchimp.errors import NotFound
from include.sandbox.api import Reply
from include.sandbox.orders import NO_ORDER_PUT
from include.state.database import SliceBusy
from tests.include.load.shop import TinyShop

ALL = ("products", "customers", "orders")


def test_first_run_sends_all_second_nothing_third_the_change(shop: TinyShop) -> None:
    shop.add_products(1, 35)
    shop.add_customers(1, 35)
    shop.add_orders(1, 35)
    first = shop.run(*ALL)
    for entity in ALL:
        assert first[entity]["acknowledged"] == first[entity]["operations"] == first[entity]["extracted"] == 35
        assert len(shop.held(entity)) == 35
    second = shop.run(*ALL)
    assert {entity: (counts["operations"], counts["unchanged"]) for entity, counts in second.items()} == dict.fromkeys(
        ALL, (0, 35)
    )
    shop.execute("UPDATE shop_products SET title = 'New', updated_at = now() WHERE id = 7")
    third = shop.run(*ALL)
    assert [third[entity]["operations"] for entity in ALL] == [1, 0, 0]
    assert shop.held("products")["7"]["title"] == "New"


def test_many_small_slices_run_at_once_within_the_limit_on_open_batches(shop: TinyShop) -> None:
    shop.configure(max_open_batches=2)
    shop.add_products(1, 120)
    keys = shop.plan(shop.begin(), "products", slice_records=30)
    assert len(keys) == 4
    most_open = 0

    def watch() -> None:
        nonlocal most_open
        while not ended.wait(0.002):
            (row,) = shop.query("SELECT count(*) AS n FROM batch WHERE state IN ('intended', 'posted')")
            most_open = max(most_open, row["n"])

    ended = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            counts = list(pool.map(lambda key: shop.finish(key, shop.new_client()), keys))
    finally:
        ended.set()
        watcher.join()
    assert sum(count["acknowledged"] for count in counts) == 120
    assert most_open <= 2
    assert len(shop.held("products")) == 120


def test_bad_records_are_rejected_alone(shop: TinyShop) -> None:
    shop.add_customers(1, 5)
    shop.execute("UPDATE shop_customers SET email = NULL WHERE id = 2")
    # Passes our own checks; only Mailchimp finds that the address is used under another id already.
    counts = shop.run("customers")["customers"]
    assert (counts["acknowledged"], counts["rejected"]) == (4, 1)
    (row,) = shop.query("SELECT * FROM rejected_records")
    assert (row["record_id"], row["error_class"], row["field"]) == ("2", "missing_value", "email_address")
    shop.execute("UPDATE shop_customers SET email = 'back@shop.test-mail.org', updated_at = now() WHERE id = 2")
    assert shop.run("customers")["customers"]["operations"] == 1
    # The address gave the record another id, so the rejection under the shop's own id is about nobody any more.
    assert len(shop.held("customers")) == 5
    assert shop.query("SELECT * FROM rejected_records") == []


def test_an_order_follows_its_customer_whose_address_is_repaired(shop: TinyShop) -> None:
    shop.add_products(1, 2)
    shop.add_customers(1, 2)
    shop.add_orders(1, 2)
    shop.execute("UPDATE shop_customers SET email = 'broken@' WHERE id = 2")
    assert shop.run(*ALL)["orders"]["rejected"] == 1
    shop.execute("UPDATE shop_customers SET email = 'back@shop.test-mail.org', updated_at = now() WHERE id = 2")
    shop.run("customers")
    since = shop.query("SELECT now() + interval '1 minute' AS t")[0]["t"]
    assert shop.run("orders", since=since)["orders"]["acknowledged"] == 1
    assert shop.query("SELECT * FROM rejected_records") == []


def test_an_order_follows_its_customer_that_is_as_before_again(shop: TinyShop) -> None:
    shop.add_products(1, 2)
    shop.add_customers(1, 2)
    shop.run("products", "customers")
    email = shop.query("SELECT email FROM public.shop_customers WHERE id = 2")[0]["email"]
    shop.execute("UPDATE shop_customers SET email = 'broken@', updated_at = now() WHERE id = 2")
    shop.add_orders(1, 2)
    assert shop.run(*ALL)["orders"]["rejected"] == 1
    since = shop.query("SELECT now() + interval '1 minute' AS t")[0]["t"]
    assert shop.run("orders", since=since)["orders"] == {"operations": 0}  # there is no point in reading it yet
    shop.execute("UPDATE shop_customers SET email = :email, updated_at = now() WHERE id = 2", email=email)
    assert shop.run("customers")["customers"]["operations"] == 0
    assert shop.run("orders", since=since)["orders"]["acknowledged"] == 1
    assert shop.query("SELECT * FROM rejected_records") == []


def test_a_rejected_record_the_settings_leave_out_is_listed_no_more(shop: TinyShop) -> None:
    shop.add_orders(1, 2)
    shop.run("orders")
    assert len(shop.query("SELECT * FROM rejected_records")) == 2
    shop.configure(order_statuses=["shipped"])
    counts = shop.run("orders")["orders"]
    assert (counts["skipped"], counts["rejected"]) == (2, 0)
    assert shop.query("SELECT * FROM rejected_records") == []
    assert shop.ledger("orders") == {"1": "deleted", "2": "deleted"}


def test_refusals_by_mailchimp_are_kept_with_the_reason_and_not_repeated(shop: TinyShop) -> None:
    shop.add_products(1, 3)
    shop.add_customers(1, 3)
    shop.add_orders(1, 3)
    shop.run("products", "customers")
    email = shop.query("SELECT email FROM public.shop_customers WHERE id = 2")[0]["email"]
    shop.client.delete(f"/ecommerce/stores/demo-shop/customers/{_customer_id(shop, 2)}")
    shop.client.post(
        "/ecommerce/stores/demo-shop/customers", json={"id": "other", "email_address": email, "opt_in_status": False}
    )
    shop.execute("UPDATE shop_customers SET first_name = 'D'")
    counts = shop.run("customers")["customers"]
    assert (counts["acknowledged"], counts["rejected"]) == (2, 1)
    (row,) = shop.query("SELECT * FROM rejected_records")
    assert (row["operation"], row["error_class"]) == ("PUT", "invalid")
    assert email not in row["detail"]
    assert shop.run("customers")["customers"]["operations"] == 0


def _customer_id(shop: TinyShop, key: int) -> str:
    (row,) = shop.query(f"SELECT record_id FROM ledger WHERE entity = 'customers' AND source_key = '{key}'")
    return str(row["record_id"])


def test_orders_bring_their_products_along_and_wait_for_their_customers(shop: TinyShop) -> None:
    shop.add_products(1, 3)
    shop.add_customers(1, 3)
    shop.add_orders(1, 3)
    counts = shop.run("orders")["orders"]
    assert (counts["operations"], counts["rejected"]) == (0, 3)
    assert set(shop.held("products")) == {"1", "2", "3"}
    waiting = {row["record_id"]: row["field"] for row in shop.query("SELECT * FROM rejected_records")}
    assert waiting == dict.fromkeys(("1", "2", "3"), "customer.id")
    shop.run("customers")
    # No order changed since, so an incremental window holds none: they come back as leftovers.
    since = shop.query("SELECT now() + interval '1 minute' AS t")[0]["t"]
    counts = shop.run("orders", since=since)["orders"]
    assert (counts["acknowledged"], counts["rejected"]) == (3, 0)
    assert shop.query("SELECT * FROM rejected_records") == []


def test_products_missing_at_mailchimp_are_sent_again_and_then_the_order(shop: TinyShop) -> None:
    shop.add_products(1, 3)
    shop.add_customers(1, 3)
    shop.run("products", "customers")
    shop.client.delete("/ecommerce/stores/demo-shop/products/2")
    shop.add_orders(1, 3)
    counts = shop.run(*ALL)["orders"]
    assert (counts["acknowledged"], counts["rejected"]) == (2, 1)
    since = shop.query("SELECT now() + interval '1 minute' AS t")[0]["t"]
    later = shop.run(*ALL, since=since)
    assert [later[entity]["operations"] for entity in ALL] == [1, 0, 1]
    assert set(shop.held("orders")) == {"1", "2", "3"}
    assert shop.query("SELECT * FROM rejected_records") == []


def test_a_product_that_stays_missing_is_not_forced_for_ever(shop: TinyShop) -> None:
    shop.add_products(1, 1)
    shop.add_customers(1, 1)
    shop.add_orders(1, 1)
    shop.run("products", "customers")
    forced, since = [], None
    for _ in range(5):
        with contextlib.suppress(NotFound):
            shop.client.delete("/ecommerce/stores/demo-shop/products/1")
        shop.run("orders", since=since)
        since = shop.query("SELECT now() + interval '1 minute' AS t")[0]["t"]
        forced.append(shop.run("products")["products"]["operations"])
    assert forced == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("upsert", ["auto", "post_patch"])
def test_accounts_without_put_for_orders_get_post_and_patch(shop: TinyShop, upsert: str) -> None:
    shop.sandbox.state.api.options = frozenset({NO_ORDER_PUT})
    shop.configure(order_upsert=upsert)
    shop.add_products(1, 25)
    shop.add_customers(1, 25)
    shop.add_orders(1, 25)
    counts = shop.run(*ALL)["orders"]
    assert (counts["acknowledged"], counts["rejected"], counts["unknown"]) == (25, 0, 0)
    # Only the first batch had to find out.
    assert counts["operations"] == (35 if upsert == "auto" else 25)
    shop.execute("UPDATE shop_orders SET total = 99, updated_at = now() WHERE id = 3")
    assert shop.run("orders")["orders"]["operations"] == 1
    assert shop.held("orders")["3"]["order_total"] == 99
    methods = shop.query("SELECT DISTINCT method FROM operation JOIN batch USING (batch_ref) WHERE entity = 'orders'")
    expected = {"POST", "PATCH"} | ({"PUT"} if upsert == "auto" else set())
    assert {row["method"] for row in methods} == expected


def test_orders_deleted_or_created_behind_our_back_are_mended_by_the_other_verb(shop: TinyShop) -> None:
    shop.configure(order_upsert="post_patch")
    shop.add_products(1, 3)
    shop.add_customers(1, 3)
    shop.add_orders(1, 2)
    shop.run(*ALL)
    shop.client.delete("/ecommerce/stores/demo-shop/orders/1")  # PATCH → 404 → POST
    other = dict(shop.held("orders")["2"])
    line = {"id": "3", "product_id": "3", "product_variant_id": "3", "quantity": 1, "price": 1}
    body = {"id": "3", "customer": {"id": other["customer"]["id"]}, "currency_code": "EUR", "order_total": 1}
    shop.client.post("/ecommerce/stores/demo-shop/orders", json=body | {"lines": [line]})  # POST → exists → PATCH
    shop.add_orders(3, 3)
    shop.execute("UPDATE shop_orders SET total = total + 1, updated_at = now()")
    counts = shop.run("orders")["orders"]
    assert (counts["acknowledged"], counts["operations"], counts["rejected"]) == (3, 5, 0)
    assert {key: order["order_total"] for key, order in shop.held("orders").items()} == {"1": 2.5, "2": 3.5, "3": 4.5}


def test_newest_state_wins_over_an_overlapping_run(shop: TinyShop) -> None:
    shop.add_products(1, 1)
    (slow,) = shop.plan(shop.begin(), "products")
    push = shop.push(slow)
    original = push._read

    def read_then_lose_time(*args: object) -> object:
        chunk = original(*args)  # type: ignore[arg-type]
        push._read = original  # type: ignore[method-assign]
        shop.execute("UPDATE shop_products SET title = 'Newest', updated_at = now()")
        shop.run("products")
        return chunk

    push._read = read_then_lose_time  # type: ignore[method-assign, assignment]
    result = push.step()
    while isinstance(result, Waiting):
        shop.wait(result)
        result = push.step()
    assert shop.held("products")["1"]["title"] == "Newest"
    assert result.counts["operations"] == 0


def test_records_in_flight_are_waited_for_and_then_sent_if_changed(shop: TinyShop) -> None:
    shop.add_products(1, 12)
    (first,) = shop.plan(shop.begin(), "products")
    assert isinstance(shop.push(first).step(), Waiting)
    shop.execute("UPDATE shop_products SET title = 'Newer', updated_at = now() WHERE id = 12")
    (second,) = shop.plan(shop.begin(), "products")
    counts = shop.finish(second)
    assert (counts["operations"], counts["unchanged"]) == (1, 11)
    assert shop.finish(first)["acknowledged"] == 12
    assert shop.held("products")["12"]["title"] == "Newer"


def test_only_one_worker_is_at_a_slice(shop: TinyShop) -> None:
    shop.add_products(1, 1)
    (key,) = shop.plan(shop.begin(), "products")
    with shop.state.slice_lock(key), pytest.raises(SliceBusy, match="try again"):
        shop.push(key).step()


def test_a_finished_slice_answers_at_once(shop: TinyShop) -> None:
    shop.add_products(1, 3)
    (key,) = shop.plan(shop.begin(), "products")
    counts = shop.finish(key)
    calls = shop.client.metrics.calls
    assert shop.push(key).step() == Done(counts)
    assert shop.client.metrics.calls == calls
    (run,) = shop.query("SELECT * FROM runs")
    assert run["http_calls"] > 0
    assert run["bytes_sent"] > 0


def test_leftovers_that_left_the_shop_or_changed_identity_are_closed(shop: TinyShop) -> None:
    shop.add_customers(1, 3)
    (key,) = shop.plan(shop.begin(), "customers")
    shop.push(key).step()
    shop.execute("DELETE FROM shop_customers WHERE id = 1")
    shop.execute("UPDATE shop_customers SET email = 'moved@shop.test-mail.org' WHERE id = 2")
    with shop.state.begin() as connection:
        connection.execute(text("UPDATE ledger SET state = 'pending', batch_ref = NULL"))
        connection.execute(text("UPDATE batch SET state = 'lost'"))
    shop.run("customers")
    owed = shop.query("SELECT * FROM ledger WHERE state IN ('pending', 'unknown')")
    assert owed == []
    assert sorted(shop.ledger("customers").values()) == ["deleted", "deleted", "synced", "synced"]


def test_a_whole_batch_that_is_refused_frees_its_records(shop: TinyShop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.add_products(1, 3)
    (key,) = shop.plan(shop.begin(), "products")
    with monkeypatch.context() as patch:
        patch.setattr("include.load.send.batch_body", lambda *_: b"[[]]")
        with pytest.raises(BatchRefused, match="Nothing of it was done"):
            shop.push(key).step()
    assert shop.query("SELECT batch_ref FROM ledger WHERE batch_ref IS NOT NULL") == []
    assert shop.finish(key)["acknowledged"] == 3


def test_records_too_large_for_a_batch_are_rejected(shop: TinyShop) -> None:
    shop.configure(batch_bytes=100_000)
    shop.add_products(1, 3)
    shop.execute("UPDATE shop_products SET title = repeat('x', 60000) WHERE id = 2")
    counts = shop.run("products")["products"]
    assert (counts["acknowledged"], counts["rejected"]) == (2, 1)
    assert shop.query("SELECT error_class FROM rejected_records") == [{"error_class": "too_large"}]


def test_hopeless_records_end_as_unknown_and_are_tried_again_by_the_next_run(shop: TinyShop) -> None:
    shop.add_products(1, 3)
    answer = shop.sandbox.state.api.answer

    def failing(method: str, path: str, *rest: object) -> Reply:
        if path.endswith("/products/2"):
            return Reply(500, b"<h1>Oops</h1>", "broken")
        return answer(method, path, *rest)  # type: ignore[arg-type]

    shop.sandbox.state.api.answer = failing  # type: ignore[method-assign, assignment]
    counts = shop.run("products")["products"]
    assert (counts["operations"], counts["acknowledged"], counts["unknown"]) == (5, 2, 1)
    assert shop.query("SELECT error_class FROM rejected_records") == [{"error_class": "transient"}]
    shop.sandbox.state.api.answer = answer  # type: ignore[method-assign]
    since = shop.query("SELECT now() + interval '1 minute' AS t")[0]["t"]
    assert shop.run("products", since=since)["products"]["acknowledged"] == 1
    assert shop.query("SELECT * FROM rejected_records") == []
