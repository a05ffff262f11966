from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text

from include.demo.changes import apply_changes
from include.embedded_postgres import EmbeddedPostgres
from include.extract.slices import Extractor, Window
from include.shops.profile import check_profile, load_profile
from tests.include.demo.sample import moved, sample_shop, stamps

_OF_ENTITY = {
    "customers": ("customers", "customer_id"),
    "products": ("products", "product_id"),
    "variants": ("products", "product_id"),
    "images": ("products", "product_id"),
    "orders": ("orders", "order_id"),
    "order_lines": ("orders", "order_id"),
    "order_promos": ("orders", "order_id"),
}


@pytest.fixture
def shop(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    with sample_shop(postgres) as engine:
        yield engine


def _contents(shop: Engine) -> set[tuple[str, str, str]]:
    """Every extracted row but for its `updated_at`, by the record it belongs to."""
    rows = set()
    with shop.connect() as connection:
        extractor = Extractor(connection, check_profile(load_profile("reference"), connection))
        window = Window(None, datetime(2100, 1, 1, tzinfo=UTC))
        for entity in ("customers", "products", "orders"):
            frame = extractor.read_range(entity, None, "9" * 18, 100_000, window)
            for extract, (parent, key) in _OF_ENTITY.items():
                if parent == entity:
                    found = extractor.read_ids(extract, frame[key]).drop(columns="updated_at", errors="ignore")
                    rows |= {(entity, str(row[key]), repr(row)) for row in found.to_dict("records")}
    return rows


def test_exactly_the_named_records_change_time_after_time(shop: Engine) -> None:
    for _ in range(3):
        with shop.connect() as connection:
            before = stamps(connection)
        contents = _contents(shop)
        changes = apply_changes(shop)
        named = {(change.entity, change.record_id) for change in changes}
        assert len(named) == len(changes)
        assert Counter(entity for entity, _ in named) == {"customers": 2, "products": 3, "orders": 5}
        assert {(entity, key) for entity, key, _ in contents ^ _contents(shop)} == named
        with shop.connect() as connection:
            assert moved(before, stamps(connection)) == named


def test_changed_orders_stay_sound_and_sendable(shop: Engine) -> None:
    ids = [int(change.record_id) for change in apply_changes(shop) if change.entity == "orders"]
    with shop.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT status, order_total - (sum(quantity * price) - discount_total + tax_total + shipping_total) "
                "FROM orders JOIN order_lines USING (order_id) WHERE order_id = ANY (:ids) GROUP BY orders.order_id"
            ),
            {"ids": ids},
        ).all()
    assert sorted(status for status, _ in rows) == ["completed", "completed", "paid", "refunded", "shipped"]
    assert [difference for _, difference in rows] == [0] * 5


def test_a_database_without_records_is_refused(shop: Engine) -> None:
    with shop.begin() as connection:
        connection.execute(text("UPDATE orders SET status = 'pending'"))
    with pytest.raises(LookupError, match=r"python -m include\.demo"):
        apply_changes(shop)
