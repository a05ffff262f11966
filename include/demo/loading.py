"""Creates the reference shop in a database and fills it with the sample data."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Final

import psycopg2
import pyarrow as pa
from psycopg2 import sql
from pyarrow import csv
from sqlalchemy import Engine

from include.demo.carts import build_carts
from include.demo.catalogue import build_catalogue, read_products
from include.demo.columns import WEEK, microseconds
from include.demo.coupons import build_coupons
from include.demo.orders import CURRENCY, build_orders, customers_of
from include.demo.people import FIRST_GUEST, build_people
from include.demo.purchases import SOURCE_END, read_purchases
from include.demo.scale import FEWEST_ORDERS, Scale

#: The day that the sample shop's data ends, at midnight UTC. Fixed, so that two loads are equal.
DEFAULT_UNTIL: Final = date(2026, 11, 1)
DOMAIN: Final = "completejourney-shop.dev"

_SCHEMA = Path(__file__).parents[1] / "shops" / "reference" / "schema"
#: Tables in an order in which they may be dropped, with the column that an identity sequence feeds.
_TABLES: Final[Mapping[str, str | None]] = {
    "erasure_requests": "request_id",
    "deleted_records": None,
    "order_promotions": None,
    "order_lines": "line_id",
    "orders": "order_id",
    "cart_lines": "line_id",
    "carts": "cart_id",
    "coupon_codes": "code_id",
    "coupons": "coupon_id",
    "product_images": "image_id",
    "variants": "variant_id",
    "products": "product_id",
    "categories": "category_id",
    "newsletter_groups": None,
    "newsletter_consents": "consent_id",
    "addresses": "address_id",
    "customers": "customer_id",
    "shop": None,
}
_FUNCTIONS = ("stamp_updated_at", "touch_parents", "touch_purchases_of_changed_emails", "note_deletion")
#: Of the sample shop as earlier versions made it; `--reset` removes it too.
_FORMER_FUNCTIONS = ("touch_orders_of_changed_emails",)
_ROWS_PER_COPY = 500_000


class TooFewOrders(ValueError):
    """Fewer orders were asked for than the sample shop needs."""


class DatabaseNotEmpty(RuntimeError):
    """The database already has tables that the sample shop would collide with."""


@dataclass(frozen=True, slots=True)
class LoadedShop:
    """What was loaded: the number of rows per table."""

    rows: Mapping[str, int]


@contextmanager
def connected(target: str | Engine) -> Iterator[Any]:
    """A psycopg2 connection in one transaction: committed at the end, rolled back on an error.

    Args:
        target: a libpq URL, or an SQLAlchemy engine with the psycopg2 driver.
    """
    pooled = target.raw_connection() if isinstance(target, Engine) else None
    connection: Any = pooled.driver_connection if pooled is not None else psycopg2.connect(target)
    try:
        with connection:
            yield connection
    finally:
        (pooled or connection).close()


def load_shop(
    target: str | Engine,
    scale: Scale,
    *,
    orders: int | None = None,
    until: date = DEFAULT_UNTIL,
    today: date | None = None,
    reset: bool = False,
) -> LoadedShop:
    """Create the reference shop with sample data, in one transaction.

    Args:
        target: a libpq URL, or an SQLAlchemy engine with the psycopg2 driver.
        scale: how much of the data set is loaded.
        orders: number of orders instead of the scale's own; beyond the baskets there are, they repeat.
        until: the data ends at midnight UTC of this day, or up to a week before; all but the recent carts.
        today: recent carts were left in the days before this one, by default before the day of the load: carts of a
            fixed day would soon be too old for anybody to be reminded of them.
        reset: replace a sample shop that is already there.

    Raises:
        DatabaseNotEmpty: there are such tables already, and `reset` wasn't asked for or they aren't a sample shop.
        TooFewOrders: `orders` is below `FEWEST_ORDERS`.
        SampleDataMissing: the package with the data set isn't installed.
    """
    if orders is not None and orders < FEWEST_ORDERS:
        raise TooFewOrders(f"the sample shop needs at least {FEWEST_ORDERS} orders, not {orders}")
    with connected(target) as connection, connection.cursor() as cursor:
        _make_room(cursor, reset)
        tables = _generate(scale, orders, _midnight(until), _midnight(today or datetime.now(UTC).date()))
        _execute(cursor, "tables")
        for name, table in tables.items():
            _copy(cursor, name, table)
        _execute(cursor, "constraints")
        _execute(cursor, "triggers")
        _continue_identities(cursor)
        cursor.execute(sql.SQL("ANALYZE {}").format(sql.SQL(", ").join(map(sql.Identifier, _TABLES))))
    return LoadedShop({name: table.num_rows for name, table in tables.items()})


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _generate(scale: Scale, orders: int | None, until: datetime, today: datetime) -> dict[str, pa.Table]:
    products = read_products()
    purchases = read_purchases(scale, orders, products["product_id"].to_numpy(), until)
    customer_ids = customers_of(purchases)
    guests_seen_at = purchases.baskets["placed_at"].to_numpy()[customer_ids >= FIRST_GUEST]
    people = build_people(purchases.household_ids, guests_seen_at, until)
    end = microseconds(until)
    carts, cart_ids = build_carts(purchases, customer_ids, CURRENCY, today)
    return {
        "shop": _shop(),
        **people,
        **build_catalogue(products, purchases.lines, scale.unsold_products, until),
        **build_coupons((end - microseconds(SOURCE_END)) // WEEK * WEEK, end),
        **carts,
        **build_orders(purchases, people["addresses"], cart_ids, until),
    }


def _shop() -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "shop_id": 1,
                "name": "Complete Journey Market",
                "currency_code": CURRENCY,
                "domain": DOMAIN,
                "email": f"hello@mail.{DOMAIN}",
                "money_format": "$",
                "primary_locale": "en",
                "timezone": "America/New_York",
                "phone": "+1 513 555 0100",
                "address1": "1 Market Street",
                "city": "Cincinnati",
                "province": "Ohio",
                "province_code": "OH",
                "postal_code": "45202",
                "country": "United States",
                "country_code": "US",
            }
        ]
    )


def _make_room(cursor: Any, reset: bool) -> None:
    cursor.execute("SELECT name FROM unnest(%s) AS name WHERE to_regclass(name) IS NOT NULL", ([*_TABLES],))
    present = [name for (name,) in cursor.fetchall()]
    if not present:
        return
    if not reset:
        raise DatabaseNotEmpty(
            f"the database already has the tables {', '.join(present)}; "
            "add --reset to replace a sample shop, or give another database"
        )
    # `orders` or `customers` may be the tables of somebody's real shop. A sample shop of an earlier version has fewer.
    if not _is_sample(cursor):
        raise DatabaseNotEmpty(
            f"the tables {', '.join(present)} of this database are not the sample shop's; --reset leaves them alone; "
            "give another database"
        )
    cursor.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.SQL(", ").join(map(sql.Identifier, present))))
    functions = sql.SQL(", ").join(map(sql.Identifier, (*_FUNCTIONS, *_FORMER_FUNCTIONS)))
    cursor.execute(sql.SQL("DROP FUNCTION IF EXISTS {}").format(functions))


def _is_sample(cursor: Any) -> bool:
    cursor.execute(
        "SELECT FROM information_schema.columns WHERE table_name = 'shop' AND column_name = 'domain' "
        "AND table_schema = current_schema()"
    )
    if cursor.fetchone() is None:
        return False
    cursor.execute("SELECT FROM shop WHERE domain = %s", (DOMAIN,))
    return cursor.fetchone() is not None


def _execute(cursor: Any, name: str) -> None:
    cursor.execute((_SCHEMA / f"{name}.sql").read_text(encoding="utf-8"))


def _copy(cursor: Any, name: str, table: pa.Table) -> None:
    # FREEZE: rows of a table made in this transaction need no later vacuum before index-only scans pay off.
    statement = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT csv, FREEZE)").format(
        sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, table.column_names))
    )
    for offset in range(0, table.num_rows, _ROWS_PER_COPY):
        rows = io.BytesIO()
        csv.write_csv(table.slice(offset, _ROWS_PER_COPY), rows, csv.WriteOptions(include_header=False))
        rows.seek(0)
        cursor.copy_expert(statement, rows)


def _continue_identities(cursor: Any) -> None:
    for table, column in _TABLES.items():
        if column is not None:
            cursor.execute(
                sql.SQL("SELECT setval(pg_get_serial_sequence({}, {}), max({})) FROM {}").format(
                    sql.Literal(table), sql.Literal(column), sql.Identifier(column), sql.Identifier(table)
                )
            )
