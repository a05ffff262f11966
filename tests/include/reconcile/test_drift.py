"""Eight kinds of drift are planted; each is found by name, repaired by one push, and then gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from include.reconcile.report import Kind
from tests.include.reconcile.conftest import Reconciler
from tests.pipeline import STORE, Pipeline, email_hash

ADA = email_hash("c1@mail.little.shop")
LINE = {"product_id": "1", "product_variant_id": "10", "quantity": 1, "price": 10}


@dataclass(frozen=True)
class Drift:
    """One planted drift: what is done, what is found, and how many operations mend it."""

    plant: Callable[[Pipeline], object]
    found: dict[tuple[str, str], Kind]
    operations: int


def lose_everywhere(pipeline: Pipeline) -> None:
    for path in ("products/3", f"customers/{ADA}", "promo-rules/7/promo-codes/70", "carts/1", "orders/2"):
        pipeline.client.delete(f"{STORE}/{path}")


def edit_everywhere(pipeline: Pipeline) -> None:
    """A value that is changed, one that the shop leaves empty, one inside a line: whoever did it, however small."""
    pipeline.client.patch(f"{STORE}/products/2", json={"title": "Changed"})
    pipeline.client.patch(f"{STORE}/products/3", json={"vendor": "Nobody in the shop"})
    pipeline.client.patch(f"{STORE}/customers/{ADA}", json={"last_name": "Changed"})
    pipeline.client.patch(f"{STORE}/promo-rules/7", json={"amount": 6})
    pipeline.client.patch(f"{STORE}/promo-rules/7/promo-codes/71", json={"code": "LESS"})
    pipeline.client.patch(f"{STORE}/carts/1", json={"order_total": 11})
    pipeline.client.patch(f"{STORE}/orders/3/lines/301", json={"quantity": 2})


def change_inside(pipeline: Pipeline) -> None:
    pipeline.client.delete(f"{STORE}/products/2/variants/21")
    pipeline.client.post(f"{STORE}/products/3/variants", json={"id": "39", "title": "One too many"})
    pipeline.client.delete(f"{STORE}/orders/2/lines/201")
    pipeline.client.post(f"{STORE}/orders/3/lines", json={"id": "399"} | LINE)


def orphan(pipeline: Pipeline) -> None:
    """The shop deletes without a trace, the ledger knows it or not; somebody else writes into the store."""
    pipeline.sql("DELETE FROM order_lines WHERE order_id = 3")
    pipeline.sql("DELETE FROM orders WHERE order_id = 3")
    pipeline.sql("DELETE FROM deleted_records")
    order = {"id": "77", "customer": {"id": ADA}, "currency_code": "EUR", "order_total": 5}
    pipeline.client.post(f"{STORE}/orders", json=order | {"lines": [{"id": "1"} | LINE]})
    pipeline.client.put(
        f"{STORE}/products/99", json={"id": "99", "title": "Foreign", "variants": [{"id": "1", "title": "v"}]}
    )


def lose_ledger_rows(pipeline: Pipeline) -> None:
    pipeline.sql("DELETE FROM mailchimp.ledger WHERE record_id IN ('2', '7', '7/70')")
    pipeline.sql("DELETE FROM mailchimp.ledger WHERE entity IN ('customers', 'members') AND source_key = '1'")
    pipeline.client.patch(f"{STORE}/orders/2", json={"order_url": "https://elsewhere.invalid/"})


def lie(pipeline: Pipeline) -> None:
    """The ledger says deleted, rejected, or never held; Mailchimp holds them, as they are or otherwise."""
    said = "UPDATE mailchimp.ledger SET on_mailchimp = false, state = "
    pipeline.sql(f"{said} 'deleted', payload_hash = NULL WHERE entity = 'products' AND record_id = '2'")
    pipeline.sql(f"{said} 'rejected' WHERE entity = 'orders' AND record_id = '2'")
    pipeline.sql(
        "INSERT INTO mailchimp.rejected (store_ref, entity, record_id, error_class, title, detail, dag_run_id) "
        "VALUES (1, 'orders', '2', 'invalid', 't', 'd', 'r')"
    )
    pipeline.sql(f"{said} 'deleted', payload_hash = NULL WHERE entity = 'customers' AND source_key = '1'")
    pipeline.client.patch(f"{STORE}/customers/{ADA}", json={"company": "Elsewhere"})


def double(pipeline: Pipeline) -> None:
    """Another integration wrote order 2 once more, under an id of its own."""
    order = pipeline.held("orders")["2"]
    copy = {name: order[name] for name in ("currency_code", "order_total", "processed_at_foreign")}
    lines = [{name: line[name] for name in ("id", *LINE)} for line in order["lines"]]
    customer = {"id": order["customer"]["id"]}
    pipeline.client.post(f"{STORE}/orders", json=copy | {"id": "9002", "customer": customer, "lines": lines})


def earn_more(pipeline: Pipeline) -> None:
    pipeline.client.patch(f"{STORE}/orders/1", json={"order_total": 1000})


DRIFTS = {
    "missing": Drift(
        lose_everywhere,
        {
            ("products", "3"): Kind.MISSING,
            ("customers", ADA): Kind.MISSING,
            ("promo_codes", "7/70"): Kind.MISSING,
            ("carts", "1"): Kind.MISSING,
            ("orders", "2"): Kind.MISSING,
        },
        5,
    ),
    "stale": Drift(
        edit_everywhere,
        {
            ("products", "2"): Kind.STALE,
            ("products", "3"): Kind.STALE,
            ("customers", ADA): Kind.STALE,
            ("promo_rules", "7"): Kind.STALE,
            ("promo_codes", "7/71"): Kind.STALE,
            ("carts", "1"): Kind.STALE,
            ("orders", "3"): Kind.STALE,
        },
        7,
    ),
    "incomplete": Drift(
        change_inside,
        {
            ("products", "2"): Kind.INCOMPLETE,
            ("products", "3"): Kind.INCOMPLETE,
            ("orders", "2"): Kind.INCOMPLETE,
            ("orders", "3"): Kind.INCOMPLETE,
        },
        6,  # four records, and what two of them have too many
    ),
    "orphaned": Drift(
        orphan,
        {
            ("orders", "3"): Kind.ORPHANED,
            ("orders", "77"): Kind.ORPHANED,
            ("products", "99"): Kind.ORPHANED,
        },
        3,
    ),
    "unknown to the ledger": Drift(
        lose_ledger_rows,
        {
            ("products", "2"): Kind.UNKNOWN,
            ("promo_rules", "7"): Kind.UNKNOWN,
            ("promo_codes", "7/70"): Kind.UNKNOWN,
            ("customers", ADA): Kind.UNKNOWN,
            ("members", ADA): Kind.UNKNOWN,
            ("orders", "2"): Kind.STALE,  # unknown too, but it differs
        },
        1,
    ),
    "denied by the ledger": Drift(
        lie,
        {
            ("products", "2"): Kind.DENIED,
            ("orders", "2"): Kind.DENIED,
            ("customers", ADA): Kind.DENIED,
        },
        1,
    ),
    "duplicated": Drift(double, {("orders", "9002"): Kind.DUPLICATED}, 1),
    "revenue": Drift(earn_more, {("orders", "1"): Kind.STALE}, 1),
}


@pytest.mark.parametrize("name", DRIFTS)
def test_planted_drift_is_found_and_repaired_by_one_push(reconciler: Reconciler, name: str) -> None:
    pipeline, drift = reconciler.pipeline, DRIFTS[name]
    before = pipeline.digests()
    drift.plant(pipeline)
    assert reconciler.found() == drift.found
    assert pipeline.push().operations == 0  # nobody else would have found it

    reconciler.compare()
    assert sum(reconciler.repair().counts.values()) == len(drift.found)
    ran = pipeline.push()
    assert ran.failure is None
    assert ran.operations == drift.operations
    if name != "orphaned":
        assert pipeline.digests() == before
    else:
        assert set(pipeline.held("orders")) == {"1", "2"}
        assert set(pipeline.held("products")) == {"1", "2", "3"}

    assert reconciler.found() == {}
    assert reconciler.compare().wrong_months == ()
    assert pipeline.push().operations == 0
    assert pipeline.full_sync().operations == 0


def test_a_comparison_changes_nothing(reconciler: Reconciler) -> None:
    """Neither at Mailchimp, where it only reads, nor in the ledger."""
    pipeline = reconciler.pipeline
    lose_ledger_rows(pipeline)
    ledger = "SELECT * FROM mailchimp.ledger ORDER BY entity, record_id"
    rows, digests, sent = pipeline.sql(ledger), pipeline.digests(), pipeline.requests()
    reconciler.compare()
    assert pipeline.sql(ledger) == rows
    assert pipeline.digests() == digests
    new = {route for route, count in pipeline.requests().items() if count != sent.get(route)}
    assert {route.split()[0] for route in new} == {"GET"}


def test_what_is_told_of_a_stale_record_are_fields_never_values(reconciler: Reconciler) -> None:
    edit_everywhere(reconciler.pipeline)
    change_inside(reconciler.pipeline)
    reconciler.compare()
    assert reconciler.fields("products", "2") == ["title", "variants/21 missing"]
    assert reconciler.fields("products", "3") == ["vendor", "variants/39 surplus"]
    assert reconciler.fields("orders", "3") == ["lines/301.quantity", "lines/399 surplus"]
    assert reconciler.fields("customers", ADA) == ["last_name"]


def test_a_month_that_earned_too_much_is_told(reconciler: Reconciler) -> None:
    earn_more(reconciler.pipeline)
    double(reconciler.pipeline)
    [month] = reconciler.compare().wrong_months
    assert (month.currency, month.shop_orders, month.mailchimp_orders) == ("EUR", 3, 4)
    assert (month.shop_revenue, month.mailchimp_revenue) == (60, 1060)
    assert (month.drift_orders, month.drift_revenue) == (1, 1000)
    told = "SELECT record_id, repaired_at IS NOT NULL FROM mailchimp.drift WHERE kind = 'revenue'"
    assert reconciler.pipeline.sql(told) == [(f"{month.month} EUR", False)]
    reconciler.repair()
    assert reconciler.pipeline.sql(told) == [(f"{month.month} EUR", True)]
