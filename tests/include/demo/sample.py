"""A database with the small sample shop, for the tests of several packages."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

from include.demo.loading import load_shop
from include.demo.scale import SCALES
from include.embedded_postgres import EmbeddedPostgres

#: What extraction calls the entity → the shop's table and its key.
STAMPED = {
    "customers": ("customers", "customer_id"),
    "products": ("products", "product_id"),
    "orders": ("orders", "order_id"),
    "carts": ("carts", "cart_id"),
    "promo_rules": ("coupons", "coupon_id"),
}


@contextmanager
def sample_shop(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    """The small sample shop in a database of its own."""
    name = f"shop_{uuid.uuid4().hex[:12]}"
    postgres.create_database(name)
    engine = postgres.engine(name)
    try:
        load_shop(engine, SCALES["small"])
        yield engine
    finally:
        engine.dispose()
        postgres.drop_database(name)


def stamps(connection: Connection) -> dict[tuple[str, str], object]:
    """`updated_at` of every record that has one, by entity and id."""
    return {
        (entity, str(key)): updated_at
        for entity, (table, column) in STAMPED.items()
        for key, updated_at in connection.execute(text(f"SELECT {column}, updated_at FROM {table}"))
    }


def moved(before: dict[tuple[str, str], object], after: dict[tuple[str, str], object]) -> set[tuple[str, str]]:
    """The records whose `updated_at` differs or is new."""
    return {record for record, updated_at in after.items() if before.get(record) != updated_at}
