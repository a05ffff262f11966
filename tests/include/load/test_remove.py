"""What the shop no longer yields is deleted at Mailchimp: once, whatever happens, and nothing else."""

from __future__ import annotations

import pytest

from include.load.errors import TooManyDeletions
from include.load.phases import PHASES
from include.state.database import SliceKey
from include.state.runs import load_run
from include.state.stores import load_store
from tests.include.load.shop import MortalClient, die_at
from tests.pipeline import STORE, Died, Pipeline, email_hash


def delete_product(pipeline: Pipeline, product_id: int) -> None:
    pipeline.sql("DELETE FROM variants WHERE product_id = :id", id=product_id)
    pipeline.sql("DELETE FROM products WHERE product_id = :id", id=product_id)


def due(pipeline: Pipeline) -> list[str]:
    return [record_id for (record_id,) in pipeline.sql("SELECT record_id FROM mailchimp.removal ORDER BY 1")]


@pytest.mark.parametrize("hard", [True, False])
def test_deleted_rows_are_deleted_at_mailchimp_once(filled: Pipeline, hard: bool) -> None:
    if hard:
        delete_product(filled, 2)
        filled.sql("DELETE FROM customers WHERE customer_id = 2")
    else:
        filled.sql("UPDATE products SET deleted_at = now() WHERE product_id = 2")
        filled.sql("UPDATE customers SET deleted_at = now() WHERE customer_id = 2")
    ran = filled.push()
    assert [(ran[name].deleted, ran[name].acknowledged) for name in ("products", "customers")] == [(1, 0), (1, 0)]
    assert set(filled.held("products")) == {"1", "3"}
    assert len(filled.held("customers")) == 2
    assert filled.ledger("products")["2"] == "deleted"
    assert due(filled) == []
    assert filled.push().operations == 0
    assert filled.full_sync().operations == 0


def test_everything_is_deleted_before_what_it_refers_to(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_order(1, 1, 1)
    pipeline.sql("INSERT INTO coupons (coupon_id, title, description, type, amount) VALUES (7, 't', 'd', 'fixed', 5)")
    pipeline.sql("INSERT INTO coupon_codes (code_id, coupon_id, code) VALUES (70, 7, 'SAVE'), (71, 7, 'MORE')")
    pipeline.push()
    assert set(pipeline.codes("7")) == {"70", "71"}
    for table in ("orders", "customers", "products", "coupons"):
        pipeline.sql(f"UPDATE {table} SET deleted_at = now()")
    pipeline.push()
    assert [pipeline.held(entity) for entity in ("orders", "customers", "products", "promo_rules")] == [{}] * 4
    entities = ("orders", "customers", "products", "promo_rules", "promo_codes")
    assert {state for entity in entities for state in pipeline.ledger(entity).values()} == {"deleted"}
    assert due(pipeline) == []
    assert pipeline.push().operations == 0


def test_a_code_is_deleted_alone(pipeline: Pipeline) -> None:
    pipeline.sql("INSERT INTO coupons (coupon_id, title, description, type, amount) VALUES (7, 't', 'd', 'fixed', 5)")
    pipeline.sql("INSERT INTO coupon_codes (code_id, coupon_id, code) VALUES (70, 7, 'SAVE'), (71, 7, 'MORE')")
    pipeline.push()
    pipeline.sql("DELETE FROM coupon_codes WHERE code_id = 70")
    assert pipeline.push()["promo_codes"].deleted == 1
    assert set(pipeline.codes("7")) == {"71"}


def test_a_record_that_came_back_stays(filled: Pipeline) -> None:
    """The tombstone is there, and so is the row."""
    delete_product(filled, 2)
    filled.add_product(2)
    ran = filled.push()
    assert ran["products"].deleted == 0
    assert set(filled.held("products")) == {"1", "2", "3"}
    assert due(filled) == []


def test_a_record_that_comes_back_between_the_plan_and_the_deletion_stays(filled: Pipeline) -> None:
    filled.sql("UPDATE products SET deleted_at = now() WHERE product_id = 2")

    def back() -> None:
        planned = filled.sql("SELECT FROM mailchimp.slice WHERE phase = 'removals' AND state = 'open'")
        if planned:
            filled.sql("UPDATE products SET deleted_at = NULL WHERE product_id = 2")

    assert filled.push(dies=back)["products"].deleted == 0
    assert set(filled.held("products")) == {"1", "2", "3"}


def test_a_record_that_comes_back_later_is_sent_again(filled: Pipeline) -> None:
    filled.sql("UPDATE products SET deleted_at = now() WHERE product_id = 2")
    filled.push()
    filled.sql("UPDATE products SET deleted_at = NULL WHERE product_id = 2")
    assert filled.push()["products"].acknowledged == 1
    assert set(filled.held("products")) == {"1", "2", "3"}


def test_what_is_gone_at_mailchimp_already_counts_as_deleted(filled: Pipeline) -> None:
    filled.client.delete(f"{STORE}/products/2")
    delete_product(filled, 2)
    assert filled.push()["products"].deleted == 1
    assert filled.ledger("products")["2"] == "deleted"


# People


def test_a_customer_with_orders_is_kept(pipeline: Pipeline) -> None:
    """Their revenue would lose its buyer."""
    pipeline.add_product(1)
    for number in (1, 2):
        pipeline.add_customer(number)
    pipeline.add_order(1, 1, 1)
    pipeline.push()
    pipeline.sql("UPDATE customers SET deleted_at = now()")
    ran = pipeline.push()
    assert ran["customers"].deleted == 1
    assert set(pipeline.held("customers")) == {email_hash("c1@mail.little.shop")}
    # It isn't asked about in every run, but one day again.
    calls = pipeline.requests().get("GET /ecommerce/stores/{store_id}/orders 200")
    assert pipeline.push().operations == 0
    assert pipeline.requests().get("GET /ecommerce/stores/{store_id}/orders 200") == calls
    pipeline.sql("DELETE FROM order_lines")
    pipeline.sql("DELETE FROM orders")
    pipeline.push()
    pipeline.sql("UPDATE mailchimp.removal SET kept_at = kept_at - interval '31 days'")
    assert pipeline.push()["customers"].deleted == 1
    assert pipeline.held("customers") == {}


def test_a_customer_with_a_new_address_leaves_no_old_one_behind(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1, "old@mail.little.shop")
    pipeline.add_order(1, 1, 1)
    pipeline.push()
    pipeline.sql("UPDATE customers SET email = 'new@mail.little.shop'")
    assert pipeline.push()["customers"].deleted == 1
    (customer,) = pipeline.held("customers").values()
    assert customer["email_address"] == "new@mail.little.shop"
    assert pipeline.held("orders")["1"]["customer"]["id"] == customer["id"]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("gone", [1, 2])
def test_a_person_with_two_accounts_stays_until_both_are_gone(pipeline: Pipeline, gone: int, together: bool) -> None:
    """Read together or one after the other; whichever of the accounts is deleted."""
    for number in (1, 2):
        pipeline.add_customer(number, "same@mail.little.shop", first_name=f"Account {number}")
        if not together:
            pipeline.push()
    pipeline.push()
    pipeline.sql("DELETE FROM customers WHERE customer_id = :id", id=gone)
    pipeline.push()
    assert set(pipeline.held("customers")) == {email_hash("same@mail.little.shop")}
    pipeline.sql("DELETE FROM customers")
    pipeline.push()
    assert pipeline.held("customers") == {}


def test_once_the_account_that_spoke_is_gone_the_other_one_speaks(pipeline: Pipeline) -> None:
    for number in (1, 2):
        pipeline.add_customer(number, "same@mail.little.shop", first_name=f"Account {number}")
        pipeline.push()
    pipeline.sql("DELETE FROM customers WHERE customer_id = 2")
    pipeline.push()
    assert pipeline.ledger("customers") == {email_hash("same@mail.little.shop"): "pending"}
    assert pipeline.push().operations == 1
    (customer,) = pipeline.held("customers").values()
    assert customer["first_name"] == "Account 1"


@pytest.mark.parametrize("together", [True, False])
def test_soft_deleted_accounts_of_one_person(pipeline: Pipeline, together: bool) -> None:
    for number in (1, 2):
        pipeline.add_customer(number, "same@mail.little.shop", first_name=f"Account {number}")
        if not together:
            pipeline.push()
    pipeline.push()
    pipeline.sql("UPDATE customers SET deleted_at = now() WHERE customer_id = 2")
    pipeline.push()  # finds out that the other account remains
    pipeline.push()  # sends it
    (customer,) = pipeline.held("customers").values()
    assert customer["first_name"] == "Account 1"
    pipeline.sql("UPDATE customers SET deleted_at = now() WHERE customer_id = 1")
    pipeline.push()
    assert pipeline.held("customers") == {}


@pytest.mark.parametrize("full", [False, True])
def test_two_customers_that_become_one_leave_one(pipeline: Pipeline, full: bool) -> None:
    for number, name in ((1, "one"), (2, "two")):
        pipeline.add_customer(number, f"{name}@mail.little.shop")
    pipeline.push()
    pipeline.sql("UPDATE customers SET email = 'one@mail.little.shop' WHERE customer_id = 2")
    pipeline.full_sync() if full else pipeline.push()
    assert set(pipeline.held("customers")) == {email_hash("one@mail.little.shop")}


def test_members_are_never_deleted(pipeline: Pipeline) -> None:
    """Leaving the shop is not an unsubscribe."""
    email = pipeline.add_customer(1, opted_in=True)
    pipeline.push()
    pipeline.sql("DELETE FROM newsletter_consents")
    pipeline.sql("DELETE FROM customers")
    pipeline.push()
    pipeline.full_sync()
    assert pipeline.held("customers") == {}
    assert pipeline.status(email) == "subscribed"


# Crashes


def only_removals(pipeline: Pipeline, mortal: MortalClient, point: str, nth: int) -> None:
    """Make the worker die at the n-th batch of the phase of the removals."""
    die = die_at(nth)

    def maybe_die() -> None:
        if pipeline.sql("SELECT FROM mailchimp.run WHERE state = 'running' AND 'carts' = ANY (planned)"):
            die()

    setattr(mortal, point, maybe_die)


@pytest.mark.parametrize("point", ["before_post", "after_post"])
def test_a_death_around_the_post_loses_no_deletion(filled: Pipeline, mortal: MortalClient, point: str) -> None:
    filled.configure(batch_operations=1)
    for number in (1, 2):
        delete_product(filled, number)
    only_removals(filled, mortal, point, 2)
    with pytest.raises(Died):
        filled.push()
    assert len(filled.sql("SELECT FROM mailchimp.batch WHERE state = 'intended'")) == 1
    setattr(mortal, point, None)
    filled.push()
    assert set(filled.held("products")) == {"3"}
    assert set(filled.ledger("products").items()) == {("1", "deleted"), ("2", "deleted"), ("3", "synced")}
    assert due(filled) == []
    assert filled.push().operations == 0


@pytest.mark.parametrize("point", ["before_post", "after_post"])
def test_a_task_that_died_deletes_when_it_is_tried_again(filled: Pipeline, mortal: MortalClient, point: str) -> None:
    delete_product(filled, 2)
    only_removals(filled, mortal, point, 1)
    with pytest.raises(Died):
        filled.push()
    setattr(mortal, point, None)
    ((run_ref, number),) = filled.sql(
        "SELECT run_ref, number FROM mailchimp.slice WHERE phase = 'removals' AND state = 'open'"
    )
    with filled.state.begin() as connection:
        store = load_store(connection, 1)
    filled.finish(SliceKey(run_ref, "products", number), store, removes=PHASES["removals"].removes)
    assert set(filled.held("products")) == {"1", "3"}


def test_a_record_that_comes_back_while_its_deletion_is_under_way_is_sent(
    filled: Pipeline, mortal: MortalClient
) -> None:
    filled.sql("UPDATE products SET deleted_at = now() WHERE product_id = 2")
    only_removals(filled, mortal, "after_post", 1)
    with pytest.raises(Died):
        filled.push()
    mortal.after_post = None
    filled.sql("UPDATE products SET deleted_at = NULL WHERE product_id = 2")
    filled.push()
    assert set(filled.held("products")) == {"1", "2", "3"}
    assert filled.ledger("products")["2"] == "synced"
    assert due(filled) == []


@pytest.mark.parametrize("step", range(1, 5))
def test_dying_between_the_steps_of_a_run_changes_nothing_about_its_end(filled: Pipeline, step: int) -> None:
    delete_product(filled, 2)
    filled.sql("UPDATE products SET title = 'New' WHERE product_id = 1")
    with pytest.raises(Died):
        filled.push(dies=die_at(step))
    filled.push()
    assert set(filled.held("products")) == {"1", "3"}
    assert filled.held("products")["1"]["title"] == "New"
    assert due(filled) == []


def run_without(pipeline: Pipeline, *phases: str) -> None:
    """A scheduled run of which some phases don't get through."""
    run, store = pipeline.begin(kind="scheduled")
    for phase in PHASES.values():
        if phase.name not in phases:
            for part in pipeline.plan(run, phase):
                pipeline.finish(SliceKey(run.run_ref, part.entity, part.number), store, removes=phase.removes)
    assert pipeline.conclude(run).failure


@pytest.mark.parametrize("phases", [["removals"], ["carts", "removals"]])
def test_a_deletion_is_not_forgotten_when_the_removals_do_not_get_through(
    pipeline: Pipeline, phases: list[str]
) -> None:
    """Found in review: the other phases move their watermarks past the tombstones, which only the removals read."""
    pipeline.configure(window_overlap_minutes=0)
    pipeline.add_product(1)
    pipeline.add_customer(1)
    for number in (1, 2):
        pipeline.add_order(number, 1, 1)
        pipeline.add_cart(number, 1, 1, minutes_ago=600)
    pipeline.push()
    pipeline.sql("DELETE FROM order_lines WHERE order_id = 2; DELETE FROM orders WHERE order_id = 2")
    pipeline.sql("DELETE FROM cart_lines WHERE cart_id = 2; DELETE FROM carts WHERE cart_id = 2")
    run_without(pipeline, *phases)
    pipeline.push(kind="scheduled")
    assert set(pipeline.held("orders")) == {"1"}
    assert set(pipeline.held("carts")) == {"1"}
    assert due(pipeline) == []


def test_the_brake_on_one_entity_makes_no_deletion_of_another_forgotten(pipeline: Pipeline) -> None:
    pipeline.configure(window_overlap_minutes=0)
    for number in (1, 2):
        pipeline.add_product(number)
    pipeline.add_customer(1)
    for number in range(1, 15):
        pipeline.add_order(number, 1, 1)
    pipeline.push()
    pipeline.sql("DELETE FROM order_lines WHERE order_id > 2; DELETE FROM orders WHERE order_id > 2")
    delete_product(pipeline, 2)
    with pytest.raises(TooManyDeletions, match="12 of the 14 orders"):
        pipeline.push(kind="scheduled")
    with pipeline.state.begin() as connection:
        run = load_run(connection, 2)
    pipeline.conclude(run)
    pipeline.push(kind="scheduled", allow_deletes=True)
    assert set(pipeline.held("orders")) == {"1", "2"}
    assert set(pipeline.held("products")) == {"1"}
