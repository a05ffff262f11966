"""Group G of the feature map: abandoned carts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.features.sent import calls, error_classes, sent, watch
from tests.pipeline import STORE, Pipeline, email_hash

CARTS = ("carts",)
SPAN = timedelta(days=30)  # the default of cart_max_age_days


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    """A store after its first load: two products, a customer, and an open cart with both."""
    pipeline.add_product(1)
    pipeline.add_product(2)
    pipeline.add_customer(1)
    pipeline.add_cart(5, 1, 1, 2, minutes_ago=20)
    pipeline.push()
    assert set(pipeline.held("carts")) == {"5"}
    return pipeline


def pass_time(pipeline: Pipeline, duration: timedelta) -> None:
    """Let time pass in which nobody touches a cart and no run takes place."""
    pipeline.sql("UPDATE carts SET updated_at = updated_at - :time", time=duration)
    pipeline.sql("UPDATE mailchimp.watermark SET acknowledged_until = acknowledged_until - :time", time=duration)


def throw_away(pipeline: Pipeline) -> None:
    pipeline.sql("UPDATE carts SET is_open = false WHERE cart_id = 5")


def empty(pipeline: Pipeline) -> None:
    pipeline.sql("DELETE FROM cart_lines WHERE cart_id = 5")


def put_in(pipeline: Pipeline, line_id: int, *, quantity: int) -> None:
    """Put pieces of product 2 into the cart."""
    pipeline.sql(
        "INSERT INTO cart_lines (cart_id, line_id, product_id, variant_id, quantity, price) "
        "VALUES (5, :line, 2, 20, :quantity, 10)",
        line=line_id, quantity=quantity,
    )  # fmt: skip


def tidy_up(pipeline: Pipeline) -> None:
    """Delete the rows, as shops do with old carts."""
    empty(pipeline)
    pipeline.sql("DELETE FROM carts WHERE cart_id = 5")


def let_expire(pipeline: Pipeline) -> None:
    pass_time(pipeline, SPAN)


def buy(pipeline: Pipeline) -> None:
    """Turn the cart into an order."""
    pipeline.add_order(7, 1, 1, 2, cart_id=5)
    throw_away(pipeline)


def test_g1_an_open_cart_is_sent_with_its_buyer_lines_and_total(filled: Pipeline) -> None:
    cart = filled.held("carts")["5"]
    assert cart["customer"]["id"] == email_hash("c1@mail.little.shop")
    assert cart["customer"]["email_address"] == "c1@mail.little.shop"
    assert (cart["currency_code"], cart["order_total"]) == ("EUR", 20)
    fields = ("id", "product_id", "product_variant_id", "quantity", "price")
    assert [tuple(line[name] for name in fields) for line in cart["lines"]] == [
        ("500", "1", "10", 1, 10),
        ("501", "2", "20", 1, 10),
    ]
    assert filled.push().operations == 0


def test_g1_what_changes_in_a_cart_changes_at_mailchimp_and_a_removed_line_disappears(filled: Pipeline) -> None:
    filled.sql("UPDATE cart_lines SET quantity = 3 WHERE line_id = 500")
    filled.sql("DELETE FROM cart_lines WHERE line_id = 501")
    filled.sql("UPDATE carts SET order_total = 30 WHERE cart_id = 5")
    filled.push()
    cart = filled.held("carts")["5"]
    assert cart["order_total"] == 30
    assert [(line["id"], line["quantity"]) for line in cart["lines"]] == [("500", 3)]
    assert calls(filled, "PATCH", "/carts/{cart_id} 200") == 1


def test_g1_a_cart_whose_lines_are_all_new_holds_none_of_the_old_ones(filled: Pipeline) -> None:
    empty(filled)
    put_in(filled, 509, quantity=2)
    filled.push()
    assert [(line["id"], line["quantity"]) for line in filled.held("carts")["5"]["lines"]] == [("509", 2)]


@pytest.mark.parametrize("end", [throw_away, empty, tidy_up, let_expire])
def test_g1_a_cart_that_is_over_is_deleted_and_nobody_is_reminded(
    filled: Pipeline, end: Callable[[Pipeline], None]
) -> None:
    end(filled)
    ran = filled.push()
    assert (ran["carts"].deleted, ran.failure) == (1, None)
    assert filled.held("carts") == {}
    assert filled.sandbox.remind() == 0
    assert filled.push().operations == 0


def test_g1_a_cart_that_left_no_trace_is_missed_and_removed(filled: Pipeline) -> None:
    tidy_up(filled)
    filled.sql("DELETE FROM deleted_records")
    assert filled.push().operations == 1
    assert filled.held("carts") == {}


def test_g1_a_cart_that_somebody_fills_again_comes_back(filled: Pipeline) -> None:
    empty(filled)
    filled.push()
    put_in(filled, 509, quantity=1)
    filled.push()
    assert [line["id"] for line in filled.held("carts")["5"]["lines"]] == ["509"]
    assert filled.sandbox.remind() == 1


def test_g1_a_cart_that_goes_over_to_another_account_is_made_anew_for_its_owner(filled: Pipeline) -> None:
    """A visitor logs in; Mailchimp gives a cart to nobody else."""
    filled.add_customer(2)
    filled.sql("UPDATE carts SET customer_id = 2")
    filled.push()
    assert filled.held("carts")["5"]["customer"]["email_address"] == "c2@mail.little.shop"
    assert filled.sandbox.remind() == 1


def test_g1_one_cart_that_cannot_be_sent_keeps_no_other_back(filled: Pipeline) -> None:
    filled.configure(max_rejected_percent=100)
    filled.add_cart(6, 1, 1)
    filled.add_cart(7, 1, 1)
    filled.sql("UPDATE cart_lines SET quantity = -1 WHERE cart_id = 6")
    filled.push()
    assert set(filled.held("carts")) == {"5", "7"}
    assert error_classes(filled, "carts") == {"6": "invalid_value"}


def test_g2_the_address_of_a_cart_restores_it_by_its_token(filled: Pipeline) -> None:
    assert filled.held("carts")["5"]["checkout_url"] == "https://shop.invalid/checkout/token-5"
    filled.add_cart(6, 1, 1, checkout_token="a/b?c&d é")
    filled.push()
    assert filled.held("carts")["6"]["checkout_url"] == "https://shop.invalid/checkout/a%2Fb%3Fc%26d%20%C3%A9"


def test_g2_the_template_may_name_the_cart_and_a_new_one_reaches_carts_that_are_there(filled: Pipeline) -> None:
    filled.configure(checkout_url_template="https://shop.invalid/restore?cart={cart_id}&token={checkout_token}")
    filled.full_sync()
    assert filled.held("carts")["5"]["checkout_url"] == "https://shop.invalid/restore?cart=5&token=token-5"


@pytest.mark.parametrize(
    ("template", "token"), [(None, "token-6"), ("https://shop.invalid/checkout/{checkout_token}", None)]
)  # fmt: skip
def test_g2_a_cart_that_cannot_be_restored_has_no_address_and_so_no_mail(
    filled: Pipeline, template: str | None, token: str | None
) -> None:
    """Better than a link to a page with an empty cart."""
    filled.sandbox.remind()
    filled.configure(checkout_url_template=template)
    filled.add_cart(6, 1, 1, checkout_token=token)
    filled.push()
    assert "checkout_url" not in sent(filled, "carts", "6")
    assert filled.sandbox.remind() == 0


def test_g3_a_cart_that_was_ordered_is_deleted_before_its_order_is_sent(filled: Pipeline) -> None:
    buy(filled)
    seen: list[tuple[str, str]] = []
    watch(filled, lambda method, path: seen.append((method, path)))
    filled.push()
    assert seen == [("DELETE", f"{STORE}/carts/5"), ("PUT", f"{STORE}/orders/7")]
    assert filled.held("carts") == {}
    assert filled.held("orders")["7"]["order_total"] == 20
    assert filled.sandbox.remind() == 0
    assert filled.push().operations == 0


def test_g3_the_cart_of_an_order_goes_even_where_the_run_leaves_carts_out(filled: Pipeline) -> None:
    buy(filled)
    held: list[list[str]] = []
    account = filled.sandbox.state.account
    watch(filled, lambda *_: held.append(list(account.stores["demo-shop"].carts)))
    filled.push(entities=("orders",))
    assert held == [[]]
    assert filled.sandbox.remind() == 0


def test_g3_a_cart_that_the_shop_forgets_to_close_is_not_sent_after_its_order(filled: Pipeline) -> None:
    filled.add_order(7, 1, 1, 2, cart_id=5)
    filled.push()
    filled.sql("UPDATE carts SET order_total = 21 WHERE cart_id = 5")
    filled.push()
    filled.full_sync()
    assert filled.held("carts") == {}
    assert filled.sandbox.remind() == 0


def test_g3_a_cart_that_was_ordered_between_two_runs_never_reaches_mailchimp(filled: Pipeline) -> None:
    filled.add_cart(6, 1, 1)
    filled.add_order(8, 1, 1, cart_id=6)
    filled.sql("UPDATE carts SET is_open = false WHERE cart_id = 6")
    filled.push()
    assert set(filled.held("orders")) == {"8"}
    assert calls(filled, "POST", "/carts") == 1  # the one of the fixture


@pytest.mark.parametrize("email", ["", "ada", "ada@example.com", "noreply@little.shop", "x1@marketplace.amazon.de"])
def test_g4_a_cart_without_an_address_to_write_to_is_left_out(pipeline: Pipeline, email: str) -> None:
    """No fault of the cart: what is wrong with an address is told with its customer."""
    pipeline.configure(max_rejected_percent=100)
    pipeline.add_product(1)
    pipeline.add_customer(2)
    pipeline.add_customer(1)
    pipeline.sql("UPDATE customers SET email = :email WHERE customer_id = 1", email=email)
    pipeline.add_cart(5, 1, 1)
    pipeline.add_cart(6, 2, 1)
    pipeline.push()
    assert set(pipeline.held("carts")) == {"6"}
    assert error_classes(pipeline, "carts") == {}


def test_g4_a_cart_is_sent_once_nobody_has_touched_it_for_long_enough(pipeline: Pipeline) -> None:
    pipeline.configure(cart_idle_minutes=30)
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_cart(5, 1, 1, minutes_ago=20)
    pipeline.push()
    assert pipeline.held("carts") == {}
    pass_time(pipeline, timedelta(minutes=15))
    assert pipeline.push()["carts"].acknowledged == 1
    assert set(pipeline.held("carts")) == {"5"}


def test_g4_a_cart_that_is_being_filled_keeps_up_to_date_what_mailchimp_has(filled: Pipeline) -> None:
    filled.configure(cart_idle_minutes=15)
    filled.sql("UPDATE carts SET order_total = 25")  # a moment ago
    filled.push()
    assert filled.held("carts")["5"]["order_total"] == 25


def test_g4_a_cart_older_than_the_limit_is_never_sent(pipeline: Pipeline) -> None:
    pipeline.configure(cart_max_age_days=2)
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_cart(5, 1, 1, minutes_ago=2 * 24 * 60 + 1)
    pipeline.add_cart(6, 1, 1, minutes_ago=2 * 24 * 60 - 10)
    pipeline.push()
    assert set(pipeline.held("carts")) == {"6"}


@pytest.mark.parametrize(("mode", "sent_of"), [("all", {"5", "6", "7"}), ("subscribed", {"5"}), ("none", set())])
def test_g4_the_mode_says_whose_carts_are_sent(pipeline: Pipeline, mode: str, sent_of: set[str]) -> None:
    """Those of everybody, of people who opted in (unknown is not yes), or none."""
    pipeline.configure(abandoned_carts=mode)
    pipeline.add_product(1)
    for customer_id, opted_in in enumerate((True, False, None), 1):
        pipeline.add_customer(customer_id, opted_in=opted_in)
        pipeline.add_cart(4 + customer_id, customer_id, 1)
    pipeline.push()
    assert set(pipeline.held("carts")) == sent_of


def test_g4_a_stricter_mode_takes_back_the_carts_that_are_there(filled: Pipeline) -> None:
    filled.configure(abandoned_carts="none")
    filled.full_sync()
    assert filled.held("carts") == {}


def test_g5_no_cart_is_sent_before_the_first_load_of_the_orders(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_cart(5, 1, 1)
    pipeline.push(entities=("products", "customers", "carts"))
    assert pipeline.held("carts") == {}
    pipeline.push()
    assert set(pipeline.held("carts")) == {"5"}


def test_g5_in_a_first_load_carts_come_last_when_automations_work_again(pipeline: Pipeline) -> None:
    """A cart that comes while the store is syncing never sets off a mail."""
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_order(7, 1, 1)
    pipeline.add_cart(5, 1, 1)
    store = pipeline.sandbox.state.account.store_settings
    seen: list[tuple[str, bool]] = []
    watch(
        pipeline,
        lambda _, path: seen.append(
            (path.removeprefix(STORE).split("/")[1], (store.get("demo-shop") or {})["is_syncing"])
        ),
    )
    pipeline.push()
    assert seen == [("products", True), ("customers", True), ("orders", True), ("carts", False)]
    assert pipeline.mails() == {}
    assert pipeline.sandbox.remind() == 1


def test_g5_a_backfill_sends_no_carts(filled: Pipeline) -> None:
    filled.add_cart(6, 1, 1)
    filled.push(kind="backfill")
    assert set(filled.held("carts")) == {"5"}
    filled.push()
    assert set(filled.held("carts")) == {"5", "6"}
