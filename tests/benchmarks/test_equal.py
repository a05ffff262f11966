from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import Engine, text

from benchmarks.equality import Documents, DocumentsDiffer, compare, documents
from benchmarks.measure import VARIANTS, preparation
from include.demo.loading import load_shop
from include.demo.planted import NEGATIVE_QUANTITY_ORDER, WRONG_TOTAL_ORDER
from include.demo.scale import SCALES
from include.transform.products import PLACEHOLDER_ID

ORDERS = 600


def run(variant: str, database: Engine, orders: int) -> Documents:
    batches = preparation(variant)(database)
    with database.connect() as connection:
        return documents(batch.body for batch in batches(connection, orders))


def _remove_goods(database: Engine) -> None:
    """Remove a product that was bought, and a variant of another that keeps its other variants."""
    with database.begin() as connection:
        connection.execute(
            text("UPDATE products SET deleted_at = now() WHERE product_id = (SELECT min(product_id) FROM order_lines)")
        )
        connection.execute(
            text(
                "UPDATE variants SET deleted_at = now() WHERE variant_id = (SELECT max(variant_id) FROM order_lines "
                "WHERE product_id IN (SELECT product_id FROM variants GROUP BY product_id HAVING count(*) > 1))"
            )
        )


def test_all_variants_make_the_same_documents(database: Engine) -> None:
    load_shop(database, SCALES["small"], orders=ORDERS)
    _remove_goods(database)
    found = {name: run(name, database, ORDERS) for name in VARIANTS}
    own = found.pop("columnar")
    assert compare(own, found) == {str(NEGATIVE_QUANTITY_ORDER), str(WRONG_TOTAL_ORDER)}
    # Not the same by being empty: there is every optional part somewhere.
    bodies = [document["body"] for document in own.values()]
    assert len(bodies) > ORDERS * 0.9
    for field in ("promos", "cancelled_at_foreign", "tracking_url", "landing_site", "shipping_address", "cart_id"):
        assert 0 < sum(field in body for body in bodies) < len(bodies), field
    assert {line["product_id"] for body in bodies for line in body["lines"]} > {PLACEHOLDER_ID}


def test_a_limit_takes_the_first_orders(database: Engine) -> None:
    load_shop(database, SCALES["small"], orders=ORDERS)
    for name in VARIANTS:
        ids = {int(order_id) for order_id in run(name, database, 300)}
        assert max(ids) == 300, name


def test_differences_are_named() -> None:
    own: Documents = {"1": {"method": "PUT", "path": "/1", "body": {"id": "1", "lines": [{"price": 1}]}}}
    other: Documents = {"1": {"method": "PUT", "path": "/1", "body": {"id": "1", "lines": [{"price": 2}]}}}
    with pytest.raises(DocumentsDiffer, match=r"other, order 1: body\.lines\[0\]\.price is 2, not 1"):
        compare(own, {"other": other})
    with pytest.raises(DocumentsDiffer, match="other lacks 1 orders"):
        compare(own, {"other": {}})
    assert compare({}, {"other": other}) == {"1"}


@pytest.mark.slow
def test_the_benchmark_runs() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.orders", "--quick"], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "are equal in all variants" in finished.stdout
    for name in VARIANTS:
        assert f"\n{name} " in finished.stdout
