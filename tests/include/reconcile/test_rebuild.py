"""A ledger that is lost is rebuilt from what Mailchimp holds: without sending anything again."""

from __future__ import annotations

from include.state.migrate import migrate
from tests.include.reconcile.conftest import COUPON, Reconciler
from tests.pipeline import Pipeline

CUSTOMERS, PRODUCTS, ORDERS = 60, 40, 250


def fill(pipeline: Pipeline) -> int:
    """A few hundred records of every kind; returns how many records Mailchimp has of them."""
    for number in range(1, PRODUCTS + 1):
        pipeline.add_product(number, variants=1 + number % 3)
    for number in range(1, CUSTOMERS + 1):
        answer = {0: None, 1: True, 2: False}[number % 3]
        pipeline.add_customer(number, opted_in=answer, is_guest=number % 10 == 0)
    for number in range(1, ORDERS + 1):
        pipeline.add_order(number, 1 + number % CUSTOMERS, 1 + number % PRODUCTS, 1 + number * 7 % PRODUCTS)
    for number in range(1, 11):
        pipeline.add_cart(number, number, number)
    pipeline.sql(COUPON)
    pipeline.sql(
        "INSERT INTO coupon_codes (code_id, coupon_id, code) SELECT n, 7, 'CODE-' || n FROM generate_series(1, 30) n"
    )
    # An order of a product that is gone since, and one of an account that is closed since.
    pipeline.add_product(900)
    pipeline.add_order(900, 1, 900)
    pipeline.sql("UPDATE products SET deleted_at = now() WHERE product_id = 900")
    pipeline.add_customer(900)
    pipeline.add_order(901, 900, 1)
    pipeline.sql("UPDATE customers SET deleted_at = now() WHERE customer_id = 900")
    pipeline.push()
    assert pipeline.push().operations == 0
    [(held,)] = pipeline.sql("SELECT count(*) FROM mailchimp.ledger WHERE state = 'synced'")
    return int(held)


def test_a_lost_ledger_is_rebuilt_without_sending_anything_again(pipeline: Pipeline) -> None:
    records = fill(pipeline)
    assert records > 400
    before, sent = pipeline.digests(), pipeline.requests()
    # Contacts who opted out before they became customers: the ledger learns that they are contacts by now.
    known = (
        "SELECT entity, record_id, source_key, state, on_mailchimp OR entity = 'members', encode(payload_hash, 'hex') "
        "FROM mailchimp.ledger WHERE state <> 'deleted' ORDER BY 1, 2"
    )
    ledger = pipeline.sql(known)
    pipeline.sql("DROP SCHEMA mailchimp CASCADE")
    pipeline.state = migrate(pipeline.engine)

    reconciler = Reconciler(pipeline)
    found = reconciler.compare()
    assert found.drifted == sum(counts.get("unknown", 0) for counts in found.counts.values())
    assert reconciler.repair().to_send == ()
    assert pipeline.sql(known) == ledger

    ran = pipeline.push()
    assert ran.failure is None
    assert ran.operations <= records / 100
    assert pipeline.digests() == before
    assert pipeline.push().operations == 0
    assert pipeline.full_sync().operations == 0
    writes = {route for route in pipeline.requests() if route.split()[0] in {"PUT", "POST", "DELETE"}}
    assert writes == {route for route in sent if route.split()[0] in {"PUT", "POST", "DELETE"}}


def test_what_changed_while_there_was_no_ledger_is_sent(in_step: Pipeline) -> None:
    in_step.sql("DROP SCHEMA mailchimp CASCADE")
    in_step.state = migrate(in_step.engine)
    in_step.sql("UPDATE products SET title = 'New' WHERE product_id = 1")
    in_step.sql("UPDATE orders SET deleted_at = now() WHERE order_id = 1")
    in_step.add_product(4)
    reconciler = Reconciler(in_step)
    reconciler.compare()
    assert reconciler.repair().to_send == ("products", "orders")
    ran = in_step.push()
    assert (ran.operations, ran["orders"].deleted, ran["products"].acknowledged) == (3, 1, 2)
    assert in_step.held("products")["1"]["title"] == "New"
    assert reconciler.compare().drifted == 0
