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
    "orders": {"email"},
    "carts": {"email", "tax_total", "campaign_id"},
}
TABLES = {"promo_rules": "coupons", "promo_codes": "coupon_codes"}


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
    columns = {column.name for column in CONTRACT[extract].own_columns}
    wide = {name for name in columns if name.startswith(("shipping_", "billing_"))}
    wide -= {"shipping_total", "shipping_address_id", "billing_address_id"}
    assert columns - set(profile.columns[extract]) == ABSENT.get(extract, set()) | wide
    assert profile.ignored.get(extract, ()) == ()


def test_extracts_yield_each_record_once(profile: CheckedProfile, connection: Connection) -> None:
    extractor = Extractor(connection, profile)
    for entity in ("customers", "products", "orders", "carts", "promo_rules", "promo_codes"):
        planned = sum(bounds.records for bounds in extractor.plan(entity, Window(None, LATE), 700))
        assert planned == connection.execute(text(f"SELECT count(*) FROM {TABLES.get(entity, entity)}")).scalar_one()
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


def test_a_cart_is_open_while_it_holds_something_that_nobody_ordered(
    profile: CheckedProfile, connection: Connection
) -> None:
    carts = Extractor(connection, profile).read_range("carts", None, "9" * 12, 10_000, Window(None, LATE))
    found = set(carts.loc[carts["is_open"].astype(bool), "cart_id"])
    left = "SELECT cart_id::text FROM carts WHERE is_open AND cart_id IN (SELECT cart_id FROM cart_lines)"
    assert found == set(connection.execute(text(left)).scalars())
    ordered = connection.execute(text("SELECT cart_id::text FROM orders WHERE cart_id IS NOT NULL")).scalars()
    assert found.isdisjoint(ordered)


@pytest.mark.parametrize("entity", ["customers", "products", "orders", "carts"])
@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("{key} > 5", "{entity}_pkey"),
        ("updated_at >= '2026-10-31' AND updated_at < '2026-11-02' AND {key} > 5", "{entity}_changed"),
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
    "extract",
    (
        "customers customer_groups addresses variants images order_lines order_promos products orders carts cart_lines "
        "promo_rules"
    ).split(),
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
CART_OWNER = "(SELECT customer_id FROM carts WHERE cart_id = 2)"
SHIPPED_TO = "(SELECT shipping_address_id FROM orders WHERE order_id = 5)"
CHANGES = {
    "customer's name": ("UPDATE customers SET last_name = 'X' WHERE customer_id = 1", "customers: 1"),
    "customer's e-mail": (
        "UPDATE customers SET email = 'x@y.dev' WHERE customer_id = 1",
        "customers: 1; orders: SELECT order_id FROM orders WHERE customer_id = 1; "
        "carts: SELECT cart_id FROM carts WHERE customer_id = 1",
    ),
    "e-mail of somebody with a cart": (
        f"UPDATE customers SET email = 'x@y.dev' WHERE customer_id = {CART_OWNER}",
        f"customers: SELECT {CART_OWNER}; orders: SELECT order_id FROM orders WHERE customer_id = {CART_OWNER}; "
        f"carts: SELECT cart_id FROM carts WHERE customer_id = {CART_OWNER}",
    ),
    "consent": (
        "INSERT INTO newsletter_consents (customer_id, opted_in) VALUES (1, true), (2, false)",
        "customers: SELECT unnest(ARRAY[1, 2])",
    ),
    "newsletter": (
        "INSERT INTO newsletter_groups VALUES (2, 'Garden')",
        "customers: 2",
    ),
    "newsletter left": (
        "DELETE FROM newsletter_groups WHERE group_name = 'Recipes'",
        "customers: SELECT customer_id FROM newsletter_groups WHERE group_name = 'Recipes'",
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
    "emptied cart": ("DELETE FROM cart_lines WHERE cart_id = 1", "carts: 1"),
    "coupon": ("UPDATE coupons SET amount = 3 WHERE coupon_id = 31", "promo_rules: 31"),
    "coupon's code": ("UPDATE coupon_codes SET usage_count = 999 WHERE coupon_id = 2", "promo_rules: 2"),
    "further code": ("INSERT INTO coupon_codes (coupon_id, code) VALUES (3, 'MORE')", "promo_rules: 3"),
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


DELETIONS = {
    "cart": ("DELETE FROM cart_lines WHERE cart_id = 2; DELETE FROM carts WHERE cart_id = 2", {("carts", "2")}),
    "coupon": (
        "DELETE FROM coupon_codes WHERE coupon_id = 31; DELETE FROM coupons WHERE coupon_id = 31",
        {("promo_rules", "31"), ("promo_codes", "31/{welcome}")},
    ),
    "orders": (
        "DELETE FROM order_promotions WHERE order_id IN (8, 9); DELETE FROM order_lines WHERE order_id IN (8, 9); "
        "DELETE FROM orders WHERE order_id IN (8, 9)",
        {("orders", "8"), ("orders", "9")},
    ),
    "customer": (
        "INSERT INTO customers (customer_id, email) VALUES (7000, 'a@b.dev'); "
        "DELETE FROM customers WHERE customer_id = 7000",
        {("customers", "7000")},
    ),
    "product": (
        "INSERT INTO products (product_id, title, handle) VALUES (7, 'Brief', 'brief'); "
        "DELETE FROM products WHERE product_id = 7",
        {("products", "7")},
    ),
    "nothing": (
        "DELETE FROM orders WHERE order_id = 0; UPDATE orders SET deleted_at = now() WHERE order_id = 8",
        set(),
    ),
}


@pytest.mark.parametrize("deletion", DELETIONS)
def test_what_is_deleted_leaves_a_note(profile: CheckedProfile, connection: Connection, deletion: str) -> None:
    statements, expected = DELETIONS[deletion]
    welcome = connection.execute(text("SELECT code_id FROM coupon_codes WHERE coupon_id = 31")).scalar_one()
    connection.execute(text(statements))
    found = connection.execute(text(profile.profile.sql["deleted"])).all()
    assert {(entity, key) for entity, key, _ in found} == {(e, key.format(welcome=welcome)) for e, key in expected}
    assert all(deleted_at is not None for _, _, deleted_at in found)
    connection.rollback()


def test_a_time_set_by_hand_is_kept(connection: Connection) -> None:
    connection.execute(text("UPDATE orders SET status = 'paid', updated_at = '2026-01-02 03:04+00' WHERE order_id = 7"))
    found = connection.execute(text("SELECT updated_at FROM orders WHERE order_id = 7")).scalar_one()
    assert found == datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    connection.rollback()
