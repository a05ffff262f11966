from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, Engine, text

from include.embedded_postgres import EmbeddedPostgres
from include.extract.contract import CONTRACT
from include.extract.slices import Extractor, Window
from include.shops.profile import CheckedProfile, check_profile, load_profile
from tests.include.demo.sample import moved, sample_shop, stamps

LATE = datetime(2100, 1, 1, tzinfo=UTC)
PLACE = {"address1", "address2", "city", "province", "province_code", "postal_code", "country", "country_code"}
#: Optional columns that this shop has no data for, or has in its address table.
ABSENT = {
    "store": {"address2"},
    "variants": {"url", "image_url"},
    "customers": PLACE,
    "orders": {"email", "campaign_id", "tracking_code"},
}


@pytest.fixture(scope="module")
def shop(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    with sample_shop(postgres) as engine:
        yield engine


@pytest.fixture(scope="module")
def profile(shop: Engine) -> CheckedProfile:
    with shop.connect() as connection:
        return check_profile(load_profile("reference"), connection)


@pytest.fixture
def connection(shop: Engine) -> Iterator[Connection]:
    with shop.connect() as connection:
        yield connection


@pytest.mark.parametrize("extract", CONTRACT)
def test_extracts_have_the_contracts_columns_and_no_others(profile: CheckedProfile, extract: str) -> None:
    wide = {name for name in CONTRACT[extract].by_name if name.startswith(("shipping_", "billing_"))}
    wide -= {"shipping_total", "shipping_address_id", "billing_address_id"}
    assert set(CONTRACT[extract].by_name) - set(profile.columns[extract]) == ABSENT.get(extract, set()) | wide
    assert profile.ignored.get(extract, ()) == ()


def test_extracts_yield_each_record_once(profile: CheckedProfile, connection: Connection) -> None:
    extractor = Extractor(connection, profile)
    for entity in ("customers", "products", "orders"):
        planned = sum(bounds.records for bounds in extractor.plan(entity, Window(None, LATE), 700))
        assert planned == connection.execute(text(f"SELECT count(*) FROM {entity}")).scalar_one()
    assert extractor.read_store()["currency_code"] == "USD"


def test_the_newest_consent_counts_and_none_is_unknown(profile: CheckedProfile, connection: Connection) -> None:
    customers = Extractor(connection, profile).read_range("customers", None, "9" * 12, 10_000, Window(None, LATE))
    history: dict[str, bool] = {
        str(customer_id): opted_in
        for customer_id, opted_in in connection.execute(
            text("SELECT customer_id, opted_in FROM newsletter_consents ORDER BY recorded_at, consent_id")
        )
    }
    found = dict(zip(customers["customer_id"], customers["opted_in"], strict=True))
    assert {key: bool(value) for key, value in found.items() if key in history} == history
    assert customers.loc[~customers["customer_id"].isin(list(history)), "opted_in"].isna().all()
    agreed = customers["opted_in"].fillna(False).astype(bool)
    assert (customers["opted_in_at"].notna() == agreed).all()


@pytest.mark.parametrize("entity", ["customers", "products", "orders"])
@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("{key} > 500", "{entity}_pkey"),
        ("updated_at >= '2026-10-31' AND updated_at < '2026-11-02' AND {key} > 500", "{entity}_changed"),
    ],
)
def test_slices_are_read_by_index(
    profile: CheckedProfile, connection: Connection, entity: str, condition: str, index: str
) -> None:
    key = CONTRACT[entity].key
    plan = _plan(
        connection,
        f"SELECT * FROM ({profile.profile.sql[entity]}) AS extract WHERE {condition.format(key=key)} "
        f"ORDER BY {key} LIMIT 100",
    )
    assert f"using {index.format(entity=entity)} on {entity}" in plan or f"on {index.format(entity=entity)}" in plan
    assert f"Seq Scan on {entity}" not in plan


@pytest.mark.parametrize(
    "extract", ["customers", "addresses", "variants", "images", "order_lines", "order_promos", "products", "orders"]
)
def test_looking_up_ids_uses_an_index(profile: CheckedProfile, connection: Connection, extract: str) -> None:
    plan = _plan(
        connection,
        f"SELECT extract.* FROM ({profile.profile.sql[extract]}) AS extract "
        f"JOIN unnest('{{1,2,3}}'::bigint[]) AS wanted (id) ON extract.{CONTRACT[extract].key} = wanted.id",
    )
    # The one row of the shop and the categories are read whole.
    scans = [
        line for line in plan.splitlines() if "Seq Scan" in line and "shop" not in line and "categories" not in line
    ]
    assert scans == [], plan


def _plan(connection: Connection, statement: str) -> str:
    # A small table is cheapest read whole; what matters is that the index can be used at all.
    connection.execute(text("SET LOCAL enable_seqscan = off"))
    return "\n".join(connection.execute(text(f"EXPLAIN {statement}")).scalars())


ONE_ORDER = "(SELECT min(order_id) FROM order_promotions)"
SHIPPED_TO = "(SELECT shipping_address_id FROM orders WHERE order_id = 5)"
CHANGES = {
    "customer's name": ("UPDATE customers SET last_name = 'X' WHERE customer_id = 1", "customers: 1"),
    "customer's e-mail": (
        "UPDATE customers SET email = 'x@y.dev' WHERE customer_id = 1",
        "customers: 1; orders: SELECT order_id FROM orders WHERE customer_id = 1",
    ),
    "consent": (
        "INSERT INTO newsletter_consents (customer_id, opted_in) VALUES (1, true), (2, false)",
        "customers: SELECT unnest(ARRAY[1, 2])",
    ),
    "address": (
        f"UPDATE addresses SET city = 'X' WHERE address_id = {SHIPPED_TO}",
        f"customers: SELECT customer_id FROM addresses WHERE address_id = {SHIPPED_TO}; orders: SELECT order_id "
        f"FROM orders WHERE {SHIPPED_TO} IN (shipping_address_id, billing_address_id)",
    ),
    "category": (
        "UPDATE categories SET name = 'X' WHERE category_id = 3",
        "products: SELECT product_id FROM products WHERE category_id = 3",
    ),
    "price": (
        "UPDATE variants SET price = price + 1 WHERE product_id = (SELECT min(product_id) FROM products)",
        "products: SELECT min(product_id) FROM products",
    ),
    "image": (
        "DELETE FROM product_images WHERE product_id = (SELECT min(product_id) FROM product_images)",
        "products: SELECT min(product_id) FROM product_images",
    ),
    "order": ("UPDATE orders SET status = 'refunded' WHERE order_id = 7", "orders: 7"),
    "order line": (
        "UPDATE order_lines SET quantity = 50 WHERE order_id IN (8, 9)",
        "orders: SELECT unnest(ARRAY[8, 9])",
    ),
    "deleted line": ("DELETE FROM order_lines WHERE order_id = 8", "orders: 8"),
    "moved line": (
        "UPDATE order_lines SET order_id = 11 WHERE order_id = 10",
        "orders: SELECT unnest(ARRAY[10, 11])",
    ),
    "promotion": (
        f"UPDATE order_promotions SET amount_discounted = 9 WHERE order_id = {ONE_ORDER}",
        f"orders: SELECT {ONE_ORDER}",
    ),
    "cart line": ("UPDATE cart_lines SET quantity = 51 WHERE cart_id = 1", "carts: 1"),
    "nothing": ("UPDATE orders SET status = status; UPDATE order_lines SET price = price", ""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_moves_exactly_the_records_it_affects(connection: Connection, change: str) -> None:
    statement, affected = CHANGES[change]
    expected = set()
    for entity, _, keys in (part.partition(": ") for part in affected.split("; ") if part):
        found = [keys] if keys.isdigit() else connection.execute(text(keys)).scalars()
        expected |= {(entity.strip(), str(key)) for key in found}
    before = stamps(connection)
    connection.execute(text(statement))
    assert moved(before, stamps(connection)) == expected
    connection.rollback()


def test_a_time_set_by_hand_is_kept(connection: Connection) -> None:
    connection.execute(text("UPDATE orders SET status = 'paid', updated_at = '2026-01-02 03:04+00' WHERE order_id = 7"))
    found = connection.execute(text("SELECT updated_at FROM orders WHERE order_id = 7")).scalar_one()
    assert found == datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    connection.rollback()
