from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from include.extract.contract import ARROW_TYPES, CONTRACT
from include.extract.frames import ExtractFailed
from include.extract.slices import Extractor, SliceBounds, Window
from include.shops.profile import CheckedProfile
from tests.include.extract.bazaar import EVERYTHING, add_wares, checked_with, read_all, run, ware_id


def assert_types(frame: pd.DataFrame, extract: str) -> None:
    assert list(frame.columns) == [column.name for column in CONTRACT[extract].columns]
    for column in CONTRACT[extract].columns:
        assert frame[column.name].dtype == pd.ArrowDtype(ARROW_TYPES[column.kind]), column.name


def test_values_of_all_kinds(shop: Engine, bazaar: CheckedProfile, connection: Connection) -> None:
    run(
        shop,
        "INSERT INTO wares VALUES"
        " (CAST(:id AS uuid), '2026-07-01 14:00:00.25', 'x', '', 12.345678901234, 7, '2026-01-02')",
        id=ware_id(1),
    )
    run(
        shop,
        "INSERT INTO people VALUES ('ann', '2026-01-01 00:30', 'ann@shop.test', NULL, true, '10.0.0.7'),"
        " ('bob', '2026-01-01 00:30', 'bob@shop.test', '', NULL, NULL)",
    )
    run(shop, "INSERT INTO sales VALUES ('A1', '2026-01-01', 'ann', '2026-01-01', 'EUR', 10.00, '2')")
    run(shop, "INSERT INTO sale_lines VALUES ('A1', 3, CAST(:id AS uuid), 2, 4.9999)", id=ware_id(1))
    extractor = Extractor(connection, bazaar)

    product = read_all(extractor, "products", EVERYTHING, 10, 10).iloc[0]
    assert product["product_id"] == ware_id(1)
    assert product["updated_at"] == datetime(2026, 7, 1, 12, 0, 0, 250_000, tzinfo=UTC)  # summer: two hours
    assert product["published_at"] == datetime(2026, 1, 1, 23, 0, tzinfo=UTC)  # winter: one hour
    assert product["description"] == ""
    assert pd.isna(product["handle"])

    variant = extractor.read_ids("variants", [ware_id(1)]).iloc[0]
    assert variant["price"] == Decimal("12.34567890")
    assert variant["inventory_quantity"] == 7

    ann, bob = (row for _, row in read_all(extractor, "customers", EVERYTHING, 10, 10).iterrows())
    assert (ann["opted_in"], ann["opt_in_ip"]) == (True, "10.0.0.7")
    assert pd.isna(ann["first_name"])
    assert bob["first_name"] == ""
    assert pd.isna(bob["opted_in"])
    assert ann["updated_at"] == datetime(2025, 12, 31, 23, 30, tzinfo=UTC)

    order = read_all(extractor, "orders", EVERYTHING, 10, 10).iloc[0]
    assert order["order_id"] == "A1"  # without the padding of char(8)
    assert (order["order_total"], order["tax_total"]) == (Decimal("10.00"), Decimal("3.33333333"))
    assert order["status"] == "2"

    line = extractor.read_ids("order_lines", pd.Series(["A1"], dtype=pd.ArrowDtype(pa.string()))).iloc[0]
    assert (line["line_id"], line["quantity"], line["price"]) == ("3", 2, Decimal("4.9999"))


@pytest.mark.parametrize("extract", [name for name in CONTRACT if name != "store"])
def test_types_are_fixed_even_without_rows(extract: str, bazaar: CheckedProfile, connection: Connection) -> None:
    extractor = Extractor(connection, bazaar)
    assert_types(extractor.read_ids(extract, []), extract)
    if CONTRACT[extract].windowed:
        assert extractor.plan(extract, EVERYTHING, 10) == []
        assert_types(extractor.read_range(extract, None, ware_id(0), 10, EVERYTHING), extract)


def test_columns_and_extracts_that_the_shop_lacks_are_there_but_empty(
    shop: Engine, bazaar: CheckedProfile, connection: Connection
) -> None:
    add_wares(shop, range(3))
    extractor = Extractor(connection, bazaar)
    products = read_all(extractor, "products", EVERYTHING, 10, 10)
    assert_types(products, "products")
    assert products[["handle", "url", "vendor", "is_deleted"]].isna().all(axis=None)
    assert extractor.read_ids("order_promos", ["A1"]).empty
    assert_types(extractor.read_ids("addresses", ["1"]), "addresses")


def test_lists_of_ids(shop: Engine, bazaar: CheckedProfile, connection: Connection) -> None:
    run(
        shop,
        "INSERT INTO pictures VALUES (CAST(:w AS uuid), 1, 'u', ARRAY[CAST(:w AS uuid), CAST(:v AS uuid)]),"
        " (CAST(:w AS uuid), 2, 'u', '{}'), (CAST(:w AS uuid), 3, NULL, NULL)",
        w=ware_id(1),
        v=ware_id(2),
    )
    images = Extractor(connection, bazaar).read_ids("images", [ware_id(1)]).sort_values("image_id")
    assert_types(images, "images")
    assert list(images["variant_ids"].iloc[0]) == [ware_id(1), ware_id(2)]
    assert images["variant_ids"].isna().tolist() == [False, True, True]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(
        st.one_of(
            st.none(),
            st.sampled_from(
                ["", '"', "\\", "\\.", "\\N", "NULL", "a,b", "\r\n", "\n", '""', "\ufeff", " x ", "t", "💶"]
            ),
            st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_hostile_text_arrives_unchanged(
    texts: list[str | None], shop: Engine, bazaar: CheckedProfile, connection: Connection
) -> None:
    with shop.begin() as writer:
        writer.execute(text("TRUNCATE wares"))
        writer.execute(
            text("INSERT INTO wares (id, changed, title, description) VALUES (CAST(:id AS uuid), now(), :t, :t)"),
            [{"id": ware_id(number), "t": value} for number, value in enumerate(texts)],
        )
    with shop.connect() as reader:
        products = read_all(Extractor(reader, bazaar), "products", EVERYTHING, 7, 3)
    assert products["description"].astype(object).where(products["description"].notna(), None).tolist() == texts


def test_a_row_longer_than_any_block(shop: Engine, bazaar: CheckedProfile, connection: Connection) -> None:
    run(
        shop,
        "INSERT INTO wares (id, changed, title, description)"
        " VALUES (CAST(:i AS uuid), now(), 't', repeat('é\n', 3000000))",
        i=ware_id(1),
    )
    products = read_all(Extractor(connection, bazaar), "products", EVERYTHING, 10, 10)
    assert products["description"].iloc[0] == "é\n" * 3_000_000


@pytest.mark.parametrize("ids", [['"', "\\", "a'b", "{x}", "a,b", "NULL", "", "%s", "💶", "\x1f"]])
def test_hostile_ids_in_predicates(
    ids: list[str], shop: Engine, bazaar: CheckedProfile, connection: Connection
) -> None:
    with shop.begin() as writer:
        insert = text("INSERT INTO people (login, changed, mail) VALUES (:id, '2026-01-01', 'x')")
        writer.execute(insert, [{"id": value} for value in ids])
    extractor = Extractor(connection, bazaar)
    assert sorted(extractor.read_ids("customers", [*ids, *ids, "unknown"])["customer_id"]) == sorted(ids)
    assert sorted(read_all(extractor, "customers", EVERYTHING, 3, 2)["customer_id"]) == sorted(ids)


@pytest.mark.parametrize("slice_records", [1, 2, 7, 10, 11])
def test_slices_cover_every_record_once(
    slice_records: int, shop: Engine, bazaar: CheckedProfile, connection: Connection
) -> None:
    add_wares(shop, range(10))
    extractor = Extractor(connection, bazaar)
    slices = extractor.plan("products", EVERYTHING, slice_records)
    assert [part.number for part in slices] == list(range(-(-10 // slice_records)))
    assert sum(part.records for part in slices) == 10
    assert all(part.records <= slice_records for part in slices)
    found = read_all(extractor, "products", EVERYTHING, slice_records, 3)["product_id"].tolist()
    assert found == [ware_id(number) for number in range(10)]


def test_a_window_includes_its_beginning_and_excludes_its_end(
    shop: Engine, bazaar: CheckedProfile, connection: Connection
) -> None:
    for number, changed in enumerate(["13:59:59.999999", "14:00", "14:29:59.999999", "14:30"]):
        add_wares(shop, range(number, number + 1), f"2026-07-01 {changed}")
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)  # 14:00 in the shop's summer
    extractor = Extractor(connection, bazaar)
    window = Window(noon, noon + timedelta(minutes=30))
    assert extractor.plan("products", window, 10) == [SliceBounds(0, ware_id(1), ware_id(2), 2)]
    assert len(extractor.read_range("products", None, ware_id(9), 10, window)) == 2
    assert len(extractor.read_range("products", None, ware_id(9), 10, Window(None, noon))) == 1


def test_undated_records_are_read_when_there_is_no_beginning(
    shop: Engine, bazaar: CheckedProfile, connection: Connection
) -> None:
    run(shop, "INSERT INTO people (login, mail) VALUES ('undated', 'x')")
    extractor = Extractor(connection, bazaar)
    assert len(read_all(extractor, "customers", EVERYTHING, 10, 10)) == 1
    assert extractor.plan("customers", Window(datetime(2000, 1, 1, tzinfo=UTC), EVERYTHING.until), 10) == []


def test_a_window_without_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        Window(None, datetime(2026, 1, 1))  # noqa: DTZ001


def test_one_snapshot_for_all_reads(shop: Engine, bazaar: CheckedProfile, connection: Connection) -> None:
    add_wares(shop, range(2))
    before = datetime.now(UTC)
    extractor = Extractor(connection, bazaar)
    assert before <= extractor.read_at <= datetime.now(UTC)
    add_wares(shop, range(2, 4))
    assert len(read_all(extractor, "products", EVERYTHING, 10, 10)) == 2
    assert Extractor(connection, bazaar).read_at == extractor.read_at
    connection.rollback()
    assert len(read_all(Extractor(connection, bazaar), "products", EVERYTHING, 10, 10)) == 4


def test_unreadable_values_become_null_and_cost_no_other_row(
    shop: Engine, bazaar: CheckedProfile, connection: Connection
) -> None:
    add_wares(shop, range(4))
    values = {0: ("'infinity'", "5"), 1: ("'20000-01-01'", "'NaN'"), 2: ("'0044-03-15 BC'", "1e20")}
    for number, (day, price) in values.items():
        run(
            shop,
            f"UPDATE wares SET released = {day}, price = {price} WHERE id = CAST(:id AS uuid)",
            id=ware_id(number),
        )
    extractor = Extractor(connection, bazaar)
    products = read_all(extractor, "products", EVERYTHING, 10, 10)
    assert len(products) == 4
    assert products["published_at"].isna().all()
    assert products["updated_at"].notna().all()
    prices = extractor.read_ids("variants", products["product_id"]).sort_values("product_id")["price"]
    assert prices.tolist() == [Decimal(5), pd.NA, pd.NA, Decimal("1.5")]


def test_store(bazaar: CheckedProfile, connection: Connection) -> None:
    store = Extractor(connection, bazaar).read_store()
    assert store["name"] == "Bazaar 100%"
    assert store["currency_code"] == "EUR"
    assert store["domain"] is None
    assert set(store) == {column.name for column in CONTRACT["store"].columns}


@pytest.mark.parametrize(("count", "told"), [(0, "no row"), (2, "more than one row")])
def test_a_store_is_one_row(count: int, told: str, bazaar: CheckedProfile, connection: Connection) -> None:
    sql = f"SELECT 'a' AS name, 'EUR' AS currency_code FROM generate_series(1, {count})"
    extractor = Extractor(connection, checked_with(bazaar, connection, store=sql))
    with pytest.raises(ExtractFailed, match=rf"store\.sql yields {told}"):
        extractor.read_store()


def test_repeated_and_missing_ids_are_told(shop: Engine, bazaar: CheckedProfile, connection: Connection) -> None:
    add_wares(shop, range(5))
    once = bazaar.profile.sql["products"]
    doubled = checked_with(bazaar, connection, products=f"{once}\nUNION ALL\n{once}")
    with pytest.raises(ExtractFailed, match=r"products\.sql yields several rows of the same product_id"):
        Extractor(connection, doubled).plan("products", EVERYTHING, 3)
    connection.rollback()
    nameless = f"{once}\nUNION ALL SELECT NULL, now()::timestamp, 'x', 'x', NULL"
    with pytest.raises(ExtractFailed, match="records without product_id"):
        Extractor(connection, checked_with(bazaar, connection, products=nameless)).plan("products", EVERYTHING, 3)


def test_a_failure_names_the_file_and_quotes_no_data(
    shop: Engine, bazaar: CheckedProfile, connection: Connection
) -> None:
    run(shop, "INSERT INTO people (login, changed, mail) VALUES ('ann', '2026-01-01', 'ann@private.test')")
    sql = f"SELECT *, email::integer::text AS last_name FROM ({bazaar.profile.sql['customers']}) AS customers"
    profile = checked_with(bazaar, connection, customers=sql)
    with pytest.raises(ExtractFailed) as failure:
        read_all(Extractor(connection, profile), "customers", EVERYTHING, 10, 10)
    assert "customers.sql" in str(failure.value)
    assert "InvalidTextRepresentation" in str(failure.value)
    assert "private" not in str(failure.value)
    assert failure.value.__suppress_context__


def test_an_id_of_the_wrong_type_is_told(bazaar: CheckedProfile, connection: Connection) -> None:
    with pytest.raises(ExtractFailed, match=r"products\.sql"):
        Extractor(connection, bazaar).read_ids("products", ["not-a-uuid"])


def test_other_transactions_are_refused(shop: Engine, bazaar: CheckedProfile) -> None:
    with shop.connect() as connection:
        connection.execute(text("SELECT 1"))
        with pytest.raises(RuntimeError, match="fresh connection"):
            Extractor(connection, bazaar)
    with (
        shop.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        pytest.raises(RuntimeError, match="fresh connection"),
    ):
        Extractor(connection, bazaar)


def test_settings_end_with_the_transaction(shop: Engine, bazaar: CheckedProfile, connection: Connection) -> None:
    usual = connection.execute(text("SHOW jit")).scalar_one()
    connection.rollback()
    Extractor(connection, bazaar)
    assert connection.execute(text("SHOW jit")).scalar_one() == "off"
    assert connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on"
    connection.rollback()
    assert connection.execute(text("SHOW jit")).scalar_one() == usual
