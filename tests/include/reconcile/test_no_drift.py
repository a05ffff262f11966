"""What is no drift, or none that a repair may touch: news, records on their way, contacts, what belongs to others."""

from __future__ import annotations

import pytest

from include.load.errors import PreflightFailed, TooManyDeletions
from include.reconcile.report import Action, Kind, report_table
from include.state.database import lock_account
from tests.include.reconcile.conftest import Reconciler
from tests.pipeline import AUDIENCE, STORE, Pipeline, email_hash

ADA = email_hash("c1@mail.little.shop")
MEMBER = f"{AUDIENCE}/members/{ADA}"


def act(reconciler: Reconciler, entity: str, record_id: str) -> str:
    [(action,)] = reconciler.pipeline.sql(
        "SELECT action FROM mailchimp.drift WHERE entity = :entity AND record_id = :id", entity=entity, id=record_id
    )
    return str(action)


def test_a_store_in_step_has_no_drift(reconciler: Reconciler) -> None:
    found = reconciler.compare()
    assert found.drifted == 0
    assert {name: dict(counts) for name, counts in found.counts.items()} == {
        "products": {"equal": 3},
        "members": {"equal": 3},
        "customers": {"equal": 3},
        "promo_rules": {"equal": 1},
        "promo_codes": {"equal": 2},
        "orders": {"equal": 3},
        "carts": {"equal": 1},
    }
    assert "0 records have drifted" in report_table(found)


def test_what_changed_in_the_shop_since_the_last_push_is_news(reconciler: Reconciler) -> None:
    pipeline = reconciler.pipeline
    pipeline.sql("UPDATE products SET title = 'New' WHERE product_id = 1")
    pipeline.sql("UPDATE customers SET last_name = 'New' WHERE customer_id = 1")
    pipeline.add_order(4, 1, 1)
    found = reconciler.compare()
    assert found.drifted == 0
    assert found.counts["products"] == {"equal": 2, "owed": 1}
    assert found.counts["orders"] == {"equal": 3, "unsent": 1}
    assert found.wrong_months == ()


def test_what_is_in_flight_is_left_to_its_batch(reconciler: Reconciler) -> None:
    pipeline = reconciler.pipeline
    pipeline.client.patch(f"{STORE}/products/1", json={"title": "Changed"})
    pipeline.sql("UPDATE mailchimp.ledger SET batch_ref = 1 WHERE entity = 'products' AND record_id = '1'")
    found = reconciler.compare()
    assert (found.drifted, found.counts["products"]["moving"]) == (0, 1)


def test_what_moved_since_the_comparison_is_not_repaired(reconciler: Reconciler) -> None:
    """It is in flight by now, or was sent and acknowledged: what was found is history."""
    pipeline = reconciler.pipeline
    for product_id in (1, 2, 3):
        pipeline.client.patch(f"{STORE}/products/{product_id}", json={"title": "Changed"})
    reconciler.compare()
    pipeline.sql("UPDATE mailchimp.ledger SET batch_ref = 1 WHERE entity = 'products' AND record_id = '1'")
    pipeline.sql("UPDATE mailchimp.ledger SET acknowledged_at = now() WHERE entity = 'products' AND record_id = '2'")
    assert reconciler.repair().counts == {Action.OWE: 1}
    assert pipeline.ledger("products") == {"1": "synced", "2": "synced", "3": "pending"}


def test_a_repair_can_be_repeated(reconciler: Reconciler) -> None:
    pipeline = reconciler.pipeline
    pipeline.client.patch(f"{STORE}/products/1", json={"title": "Changed"})
    reconciler.compare()
    first = reconciler.repair()
    pipeline.push()
    assert reconciler.repair() == first
    assert pipeline.ledger("products")["1"] == "synced"
    assert pipeline.push().operations == 0


def test_a_comparison_waits_for_nobody(reconciler: Reconciler) -> None:
    """A push may claim records all the while."""
    state = reconciler.pipeline.state
    with state.begin() as connection:
        lock_account(connection, "any")
        connection.exec_driver_sql("UPDATE ledger SET attempts = attempts")
        assert reconciler.compare().drifted == 0


# People


def test_no_repair_raises_a_contact(reconciler: Reconciler) -> None:
    """Ada opted out at Mailchimp, and somebody edited her name there: the name is mended, the status is hers."""
    pipeline = reconciler.pipeline
    pipeline.client.patch(MEMBER, json={"status": "unsubscribed", "merge_fields": {"LNAME": "Changed"}})
    assert reconciler.found() == {("members", ADA): Kind.STALE}
    assert reconciler.fields("members", ADA) == ["merge_fields.LNAME"]
    reconciler.repair()
    assert pipeline.push().operations == 1
    member = pipeline.member("c1@mail.little.shop")
    assert member is not None
    assert (member["status"], member["merge_fields"]["LNAME"]) == ("unsubscribed", "Name 1")


def test_a_status_alone_is_no_drift(reconciler: Reconciler) -> None:
    """Neither a no at Mailchimp over a yes in the shop, nor the other way round."""
    pipeline = reconciler.pipeline
    pipeline.client.patch(MEMBER, json={"status": "unsubscribed"})
    other = email_hash("c3@mail.little.shop")
    pipeline.client.put(
        f"{AUDIENCE}/members/{other}", json={"email_address": "c3@mail.little.shop", "status": "subscribed"}
    )
    assert reconciler.found() == {}


def test_an_archived_contact_is_there(reconciler: Reconciler) -> None:
    """Whatever it was changed to before: a repair would bring it back."""
    reconciler.pipeline.client.patch(MEMBER, json={"merge_fields": {"LNAME": "Changed"}})
    reconciler.pipeline.client.delete(MEMBER)
    assert reconciler.found() == {}


def test_a_contact_that_was_taken_out_is_told_but_not_put_back(reconciler: Reconciler) -> None:
    pipeline = reconciler.pipeline
    pipeline.client.post(f"{MEMBER}/actions/delete-permanent")
    assert reconciler.found() == {("members", ADA): Kind.MISSING}
    assert reconciler.repair().counts == {}
    assert pipeline.push().operations == 0
    assert pipeline.status("c1@mail.little.shop") is None


def test_contacts_that_the_shop_does_not_know_are_nobodys_business(reconciler: Reconciler) -> None:
    new = {"email_address": "new@mail.little.shop", "status": "subscribed"}
    reconciler.pipeline.client.post(f"{AUDIENCE}/members", json=new)
    found = reconciler.compare()
    assert (found.drifted, found.counts["members"]["foreign"]) == (0, 1)


@pytest.mark.parametrize("entities", [(), ("customers",)])
def test_customers_that_orders_refer_to_are_no_orphans(reconciler: Reconciler, entities: tuple[str, ...]) -> None:
    """Whether the orders are compared too or not."""
    pipeline = reconciler.pipeline
    pipeline.sql("UPDATE customers SET deleted_at = now() WHERE customer_id = 2")
    pipeline.push()
    pipeline.sql("DELETE FROM mailchimp.removal")
    found = reconciler.compare(*entities)
    assert (found.drifted, found.counts["customers"]["kept"]) == (0, 1)


# What belongs to others, or to the past


def test_what_can_be_no_key_of_the_shop_is_removed_all_the_same(reconciler: Reconciler) -> None:
    """The shop's keys are numbers; it surely has no row "other-1"."""
    pipeline = reconciler.pipeline
    product = {"id": "other-1", "title": "Foreign", "variants": [{"id": "1", "title": "v"}]}
    pipeline.client.put(f"{STORE}/products/other-1", json=product)
    assert reconciler.found() == {("products", "other-1"): Kind.ORPHANED}
    assert act(reconciler, "products", "other-1") == Action.REMOVE
    reconciler.repair()
    assert pipeline.push().failure is None
    assert "other-1" not in pipeline.held("products")


def test_too_many_orphans_stop_at_the_brake(reconciler: Reconciler) -> None:
    pipeline = reconciler.pipeline
    for number in range(100, 112):
        product = {"id": str(number), "title": "Foreign", "variants": [{"id": "1", "title": "v"}]}
        pipeline.client.put(f"{STORE}/products/{number}", json=product)
    reconciler.compare()
    assert reconciler.repair().counts == {Action.REMOVE: 12}
    with pytest.raises(TooManyDeletions):
        pipeline.push()
    assert len(pipeline.held("products")) == 15
    pipeline.push(allow_deletes=True)
    assert len(pipeline.held("products")) == 3


def test_orders_before_a_confined_first_load_are_not_owed(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_order(1, 1, 1)
    [(since,)] = pipeline.sql("SELECT clock_timestamp()")
    pipeline.add_order(2, 1, 1)
    pipeline.full_sync(since=since)
    reconciler = Reconciler(pipeline)
    found = reconciler.compare()
    assert (found.drifted, found.counts["orders"]) == (0, {"equal": 1, "unsent": 1})
    assert found.wrong_months == ()


def test_many_differences_are_looked_at_by_one_more_listing(pipeline: Pipeline) -> None:
    for number in range(1, 61):
        pipeline.add_product(number)
    pipeline.push()
    reconciler = Reconciler(pipeline)
    reconciler.compare("products")
    usual = reconciler.compare("products").http_calls
    for number in range(1, 61):
        pipeline.client.patch(f"{STORE}/products/{number}", json={"title": "Changed"})
    found = reconciler.compare("products")
    assert (found.counts["products"], found.http_calls) == ({"stale": 60}, usual + 1)
    reconciler.repair()
    assert pipeline.push().operations == 60


def test_without_a_store_at_mailchimp_there_is_nothing_to_compare(pipeline: Pipeline) -> None:
    with pytest.raises(PreflightFailed, match="mailchimp_push__demo first"):
        Reconciler(pipeline).compare()


def test_a_store_without_ecommerce_compares_its_contacts(pipeline: Pipeline) -> None:
    pipeline.configure(ecommerce=False)
    pipeline.add_customer(1, opted_in=True)
    pipeline.push()
    found = Reconciler(pipeline).compare()
    assert found.counts == {"members": {"equal": 1}}


def test_a_run_keeps_one_comparison_and_a_store_the_newest_ones(reconciler: Reconciler) -> None:
    pipeline = reconciler.pipeline
    comparer = reconciler.comparer()
    for _ in range(2):
        comparer.compare("the same run", ("carts",))
    kept = "SELECT count(*) FROM mailchimp.reconciliation"
    assert pipeline.sql(kept) == [(1,)]
    pipeline.sql(
        "INSERT INTO mailchimp.reconciliation (store_ref, dag_run_id, started_at) "
        "SELECT 1, 'older ' || n, now() FROM generate_series(1, 30) n"
    )
    reconciler.compare("carts")
    assert pipeline.sql(kept) == [(21,)]
