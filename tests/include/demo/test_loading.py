from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from include.demo.__main__ import main
from include.demo.loading import DatabaseNotEmpty, TooFewOrders, connected, load_shop
from include.demo.planted import planted_rejects
from include.demo.scale import SCALES
from include.embedded_postgres import EmbeddedPostgres
from tests.include.demo.sample import sample_shop

SMALL = SCALES["small"]
TABLES = (
    "shop customers addresses newsletter_consents newsletter_groups categories products variants product_images "
    "coupons coupon_codes carts cart_lines orders order_lines order_promotions deleted_records"
).split()


@pytest.fixture(scope="module")
def shop(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    with sample_shop(postgres) as engine:
        yield engine


@pytest.fixture
def connection(shop: Engine) -> Iterator[Connection]:
    with shop.connect() as connection:
        yield connection


def _column(connection: Connection, statement: str) -> list[Any]:
    return list(connection.execute(text(statement)).scalars())


def _digests(engine: Engine) -> dict[str, str]:
    with engine.connect() as connection:
        return {
            table: _column(connection, f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} AS t")[0]
            for table in TABLES
        }


def test_small_scale_has_the_promised_size(connection: Connection) -> None:
    assert _column(connection, "SELECT count(*) FROM orders") == [2_000]
    assert 190 <= _column(connection, "SELECT count(*) FROM customers")[0] <= 220
    assert 480 <= _column(connection, "SELECT count(*) FROM products")[0] <= 530
    assert _column(connection, "SELECT max(lines) FROM (SELECT count(*) lines FROM order_lines GROUP BY order_id)") == [
        8
    ]


def test_every_order_has_lines_and_every_product_variants(connection: Connection) -> None:
    for parent, key, child in (("orders", "order_id", "order_lines"), ("products", "product_id", "variants")):
        assert _column(connection, f"SELECT {key} FROM {parent} EXCEPT SELECT {key} FROM {child}") == []


def test_two_loads_are_equal_and_a_reset_replaces(shop: Engine, database: Engine) -> None:
    load_shop(database, SMALL)
    assert _digests(database) == _digests(shop)
    with database.begin() as connection:
        connection.execute(text("DELETE FROM order_promotions"))
    with pytest.raises(DatabaseNotEmpty, match="--reset"):
        load_shop(database, SMALL)
    load_shop(database, SMALL, reset=True)
    assert _digests(database) == _digests(shop)


def test_a_sample_shop_of_an_earlier_version_is_replaced(database: Engine) -> None:
    load_shop(database, SMALL, orders=300)
    with database.begin() as connection:
        connection.execute(
            text(
                "DROP TABLE coupon_codes, newsletter_groups, deleted_records; DROP FUNCTION note_deletion CASCADE;"
                "ALTER FUNCTION touch_purchases_of_changed_emails RENAME TO touch_orders_of_changed_emails"
            )
        )
    load_shop(database, SMALL, orders=300, reset=True)
    with database.connect() as connection:
        assert _column(connection, "SELECT count(*) FROM coupon_codes")[0] > 200
        former = "SELECT count(*) FROM pg_proc WHERE proname = 'touch_orders_of_changed_emails'"
        assert _column(connection, former) == [0]


@pytest.mark.parametrize(
    "tables",
    ["CREATE TABLE orders (id int)", "CREATE TABLE shop (id int)", "; ".join(f"CREATE TABLE {t} ()" for t in TABLES)],
)
def test_reset_leaves_somebody_elses_tables_alone(database: Engine, tables: str) -> None:
    with connected(database) as connection, connection.cursor() as cursor:
        cursor.execute(tables)
    with pytest.raises(DatabaseNotEmpty, match="not the sample shop's"):
        load_shop(database, SMALL, reset=True)


def test_a_refused_load_leaves_nothing_behind(database: Engine) -> None:
    with pytest.raises(TooFewOrders, match="at least 300"):
        load_shop(database, SMALL, orders=10)
    with database.connect() as connection:
        assert _column(connection, "SELECT to_regclass('orders')") == [None]


def test_totals_add_up_except_for_the_planted_orders(connection: Connection) -> None:
    off = _column(
        connection,
        """
        SELECT order_id::text FROM orders
        JOIN (SELECT order_id, sum(quantity * price) AS goods, sum(discount) AS discounts FROM order_lines
              GROUP BY order_id) AS lines USING (order_id)
        LEFT JOIN (SELECT order_id, sum(amount_discounted) AS promotions FROM order_promotions
                   GROUP BY order_id) AS promos USING (order_id)
        WHERE order_total <> goods - discount_total + tax_total + shipping_total
           OR discount_total <> discounts + coalesce(promotions, 0)
        """,
    )
    assert sorted(off) == sorted(record.record_id for record in planted_rejects() if record.entity == "orders")


def test_planted_records_are_the_only_broken_ones(connection: Connection) -> None:
    planted = {(record.entity, record.record_id) for record in planted_rejects()}
    broken = _column(
        connection, r"SELECT customer_id::text FROM customers WHERE email !~ '^[^@\s]+@[^@\s.]+(\.[^@\s.]+)+$'"
    )
    assert {("customers", key) for key in broken} == {record for record in planted if record[0] == "customers"}
    assert _column(connection, "SELECT order_id FROM order_lines WHERE quantity < 1") == [101]
    # Sent whatever the settings, and not held back by their customer.
    held = "SELECT count(*) FROM orders WHERE order_id IN (101, 202) AND status = 'completed' AND customer_id <= 2500"
    assert _column(connection, held) == [2]
    assert _column(connection, "SELECT order_id FROM orders WHERE customer_id BETWEEN 90001 AND 90003") == []


def test_customers_have_one_address_each_that_nobody_owns(connection: Connection) -> None:
    assert _column(connection, "SELECT count(*) - count(DISTINCT lower(email)) FROM customers") == [0]
    assert _column(connection, "SELECT email FROM customers WHERE email ~* 'example|test\\.com|localhost'") == []


@pytest.mark.parametrize(
    "case",
    [
        "FROM customers WHERE is_guest",
        "FROM customers WHERE is_guest AND first_name IS NULL",
        "FROM customers WHERE last_name = ''",
        "FROM customers WHERE default_address_id IS NULL AND NOT is_guest",
        "FROM customers WHERE email <> lower(email) AND email LIKE '%@%'",
        "FROM customers WHERE first_name ~ E'[\\'\\\\\\\\\\n]'",
        "FROM customers WHERE first_name ~ '[^\\x01-\\xff]'",
        "FROM customers WHERE customer_id NOT IN (SELECT customer_id FROM newsletter_consents)",
        "FROM newsletter_consents WHERE opted_in",
        "FROM newsletter_consents WHERE NOT opted_in",
        "FROM newsletter_consents AS no JOIN newsletter_consents AS yes USING (customer_id) WHERE yes.opted_in "
        "AND NOT no.opted_in AND yes.recorded_at < no.recorded_at",
        "FROM addresses WHERE city IS NULL",
        "FROM products WHERE length(title) = 300",
        "FROM products WHERE product_id NOT IN (SELECT product_id FROM product_images)",
        "FROM products WHERE deleted_at IS NOT NULL",
        "FROM product_images WHERE variant_ids IS NOT NULL",
        "FROM order_lines WHERE price = 0",
        "FROM order_promotions WHERE type = 'fixed'",
        "FROM order_promotions WHERE type = 'percentage'",
        "FROM orders WHERE shipping_address_id <> billing_address_id",
        "FROM orders WHERE shipping_address_id IS NULL",
        "FROM orders WHERE cart_id IS NOT NULL",
        "FROM carts WHERE is_open",
        "FROM carts WHERE is_open AND updated_at > now() - interval '7 days'",
        "FROM carts WHERE is_open AND updated_at < now() - interval '30 days'",
        "FROM carts WHERE is_open AND cart_id NOT IN (SELECT cart_id FROM cart_lines)",
        "FROM carts JOIN orders USING (cart_id) WHERE NOT is_open",
        "FROM coupons WHERE ends_at < '2026-11-01'",
        "FROM coupons WHERE ends_at > '2026-11-02'",
        "FROM coupons WHERE NOT is_enabled",
        "FROM coupons WHERE minimum_order_total IS NOT NULL",
        "FROM coupons WHERE first_order_only",
        "FROM coupon_codes WHERE NOT is_enabled",
        "FROM coupon_codes JOIN order_promotions USING (code)",
        "FROM newsletter_groups",
        *(f"FROM orders WHERE status = '{name}'" for name in ("pending", "paid", "shipped", "cancelled", "refunded")),
    ],
)
def test_edge_cases_of_real_shops_are_there(connection: Connection, case: str) -> None:
    assert connection.exec_driver_sql(f"SELECT count(*) {case}".replace("%", "%%")).scalar_one() > 0


def test_deleted_products_are_in_no_order(connection: Connection) -> None:
    sold = "SELECT product_id FROM products JOIN order_lines USING (product_id) WHERE deleted_at IS NOT NULL"
    assert _column(connection, sold) == []


def test_coupons_are_of_every_kind_and_have_codes(connection: Connection) -> None:
    kinds = connection.execute(text("SELECT DISTINCT type, target FROM coupons")).all()
    assert len(kinds) == 6
    codes = _column(
        connection, "SELECT count(code_id) FROM coupons LEFT JOIN coupon_codes USING (coupon_id) GROUP BY coupon_id"
    )
    assert len(codes) == 40
    assert set(codes) == {1, 2, 3, 200}
    other = "SELECT count(*) FROM coupons WHERE minimum_order_total IS NOT NULL OR first_order_only"
    assert _column(connection, other) == [3]


def test_coupons_are_worth_something_that_mailchimp_can_express(connection: Connection) -> None:
    wrong = (
        "SELECT coupon_id FROM coupons WHERE amount < 0 OR type = 'percentage' AND amount > 100 "
        "OR ends_at <= starts_at OR amount = 0 AND (type, target) <> ('fixed', 'shipping') "
        "OR length(description) > 255 OR octet_length(title) > 100"
    )
    assert _column(connection, wrong) == []
    assert _column(connection, "SELECT amount FROM coupons WHERE description LIKE 'Welcome%'") == [Decimal("10.00")]


def test_carts_are_worth_what_their_lines_are(connection: Connection) -> None:
    off = (
        "SELECT cart_id FROM carts LEFT JOIN cart_lines USING (cart_id) GROUP BY carts.cart_id "
        "HAVING order_total <> coalesce(sum(quantity * price), 0)"
    )
    assert _column(connection, off) == []
    assert _column(connection, "SELECT cart_id FROM cart_lines WHERE quantity < 1") == []
    gone = "SELECT cart_id FROM cart_lines JOIN products USING (product_id) WHERE deleted_at IS NOT NULL"
    assert _column(connection, gone) == []


def test_recent_carts_follow_the_day_of_the_load(database: Engine) -> None:
    load_shop(database, SMALL, orders=300, today=date(2031, 5, 10))
    with database.connect() as connection:
        newest = _column(connection, "SELECT max(updated_at) FROM carts")[0]
    assert datetime(2031, 5, 5, tzinfo=UTC) < newest < datetime(2031, 5, 10, tzinfo=UTC)


def test_groups_are_chosen_by_people_who_once_opted_in(connection: Connection) -> None:
    others = (
        "SELECT customer_id FROM newsletter_groups EXCEPT SELECT customer_id FROM newsletter_consents WHERE opted_in"
    )
    assert _column(connection, others) == []
    assert sorted(_column(connection, "SELECT DISTINCT group_name FROM newsletter_groups")) == [
        "Recipes",
        "Weekly offers",
    ]


def test_nothing_happens_after_the_end(connection: Connection) -> None:
    end = datetime(2026, 11, 1, tzinfo=UTC)
    for table in ("customers", "products", "orders", "coupons"):
        assert _column(connection, f"SELECT max(updated_at) FROM {table}")[0] <= end
    assert _column(connection, "SELECT max(updated_at) < now() - interval '15 minutes' FROM carts") == [True]
    assert _column(connection, "SELECT count(*) FROM orders WHERE updated_at < placed_at") == [0]


def test_new_records_continue_the_ids(connection: Connection) -> None:
    insert = "INSERT INTO customers (email) VALUES ('new@mail.completejourney-shop.dev') RETURNING customer_id"
    highest = _column(connection, "SELECT max(customer_id) FROM customers")[0]
    assert _column(connection, insert) == [highest + 1]


def test_command_line_loads_and_reports(
    postgres: EmbeddedPostgres, database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    dsn = postgres.uri(str(database.url.database))
    arguments = ["--dsn", dsn, "--scale", "small", "--orders", "300", "--until", "2025-06-30"]
    assert main(arguments) == 0
    assert "orders                     300" in capsys.readouterr().out
    with database.connect() as connection:
        newest = _column(connection, "SELECT max(placed_at) FROM orders")[0]
    assert datetime(2025, 6, 20, tzinfo=UTC) < newest < datetime(2025, 6, 30, tzinfo=UTC)
    assert main(arguments) == 1
    assert "--reset" in capsys.readouterr().err


def test_command_line_says_that_the_database_is_unreachable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dsn", "postgresql://clerk:secret@127.0.0.1:1/shop", "--scale", "small"]) == 1
    reason = capsys.readouterr().err
    assert "can't be reached" in reason
    assert "Check --dsn" in reason
    assert "secret" not in reason
