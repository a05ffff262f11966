"""Reads beside slices: fewer columns, further columns, keys alone, what still exists, what was deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy import Connection, Engine

from include.extract.contract import CONTRACT
from include.extract.frames import ExtractFailed
from include.extract.slices import Extractor, Window
from include.shops.profile import CheckedProfile
from tests.include.extract.bazaar import EVERYTHING, add_wares, checked_with, read_all, run, ware_id

TEXT = pd.ArrowDtype(pa.string())


def test_only_the_asked_columns_are_read(shop: Engine, bazaar: CheckedProfile, connection: Connection) -> None:
    add_wares(shop, range(2))
    # Reading title would fail, so it isn't read.
    sql = bazaar.profile.sql["products"].replace("title", "(1 / length(substr(title, 1, 0)))::text AS title", 1)
    extractor = Extractor(connection, checked_with(bazaar, connection, products=sql))
    ids = [ware_id(0), ware_id(1)]
    found = extractor.read_ids("products", ids, columns=("product_id", "is_deleted", "updated_at"))
    assert sorted(found["product_id"]) == ids
    assert found["updated_at"].notna().all()
    assert found.drop(columns=["product_id", "updated_at"]).isna().all(axis=None)
    whole = extractor.read_ids("products", [])
    assert found.dtypes.equals(whole.dtypes)
    with pytest.raises(ExtractFailed):
        extractor.read_ids("products", ids)


def test_rows_found_by_a_column_that_is_not_read(shop: Engine, bazaar: CheckedProfile, connection: Connection) -> None:
    run(shop, "INSERT INTO people (login, mail) VALUES ('ann', 'a@b.test'), ('bob', 'c@d.test')")
    extractor = Extractor(connection, bazaar)
    found = extractor.read_ids("customers", ["a@b.test", "x@y.test"], column="email", columns=["customer_id"])
    assert found["customer_id"].tolist() == ["ann"]
    assert found["email"].isna().all()


@pytest.fixture
def loyal(shop: Engine, bazaar: CheckedProfile, connection: Connection) -> CheckedProfile:
    """Customers with columns of the shop's own."""
    run(
        shop,
        "ALTER TABLE people ADD birthday date, ADD points integer, ADD vip boolean;"
        "INSERT INTO people VALUES ('ann', '2026-01-01', 'a@b.test', 'Ann', true, NULL, '1990-05-17', 12, true),"
        " ('bob', '2026-01-01', 'b@b.test', 'Bob', NULL, NULL, NULL, NULL, NULL)",
    )
    sql = bazaar.profile.sql["customers"].replace(" FROM", ', birthday, points AS "loyalty points", vip FROM')
    return checked_with(bazaar, connection, customers=sql)


def test_further_columns_are_read_as_text(loyal: CheckedProfile, connection: Connection) -> None:
    names = ("birthday", "loyalty points", "vip", "first_name")
    extractor = Extractor(connection, loyal, extra={"customers": names})
    columns = [*CONTRACT["customers"].by_name, "birthday", "loyalty points", "vip"]
    found = extractor.read_range("customers", None, "z", 10, EVERYTHING)
    assert list(found.columns) == columns
    assert found[["birthday", "loyalty points", "vip"]].dtypes.eq(TEXT).all()
    ann, bob = (row for _, row in found.iterrows())
    assert ann[list(names)].tolist() == ["1990-05-17", "12", "true", "Ann"]
    assert bob[["birthday", "loyalty points", "vip"]].isna().all()

    by_id = extractor.read_ids("customers", ["ann"], columns=["customer_id", "birthday"])
    assert by_id[["customer_id", "birthday"]].to_numpy().tolist() == [["ann", "1990-05-17"]]
    assert by_id["vip"].isna().all()
    assert list(extractor.read_ids("customers", []).columns) == columns
    assert list(extractor.read_ids("orders", []).columns) == list(CONTRACT["orders"].by_name)


def test_a_further_column_that_the_shop_lacks_is_told(bazaar: CheckedProfile, connection: Connection) -> None:
    with pytest.raises(
        ExtractFailed, match=r"merge_fields names the column birthday, which customers\.sql does not yie"
    ):
        Extractor(connection, bazaar, extra={"customers": ("birthday",)})


def test_keys_of_what_changed(shop: Engine, bazaar: CheckedProfile, connection: Connection) -> None:
    add_wares(shop, range(5, 0, -1), "2026-07-01 14:00")
    add_wares(shop, range(7, 9), "2026-07-01 15:00")
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)  # 14:00 in the shop's summer
    extractor = Extractor(connection, bazaar)
    assert extractor.changed_keys("products", Window(noon, noon + timedelta(hours=1))) == [
        ware_id(number) for number in range(1, 6)
    ]
    assert len(extractor.changed_keys("products", EVERYTHING)) == 7
    assert extractor.changed_keys("carts", EVERYTHING) == []


def test_what_still_exists(shop: Engine, bazaar: CheckedProfile, connection: Connection) -> None:
    add_wares(shop, range(3))
    extractor = Extractor(connection, bazaar)
    known = [ware_id(number) for number in range(6)]
    assert extractor.existing("products", known) == {ware_id(0), ware_id(1), ware_id(2)}
    assert extractor.existing("products", pd.Series(known[2:], dtype=TEXT)) == {ware_id(2)}
    assert extractor.existing("products", []) == set()
    assert extractor.existing("carts", ["1"]) == set()
    # The difference is what was deleted.
    assert set(known) - extractor.existing("products", known) == {ware_id(3), ware_id(4), ware_id(5)}


def test_existence_is_told_in_the_text_that_frames_have(
    shop: Engine, bazaar: CheckedProfile, connection: Connection
) -> None:
    run(shop, "INSERT INTO sales (number, changed, state) VALUES ('A1', '2026-01-01', '1')")  # a char(8), padded
    extractor = Extractor(connection, bazaar)
    keys = read_all(extractor, "orders", EVERYTHING, 10, 10)["order_id"]
    assert extractor.existing("orders", keys) == set(keys) == {"A1"}


@pytest.mark.parametrize("odd", ["not-a-uuid", "", "'", "{}", "💶"])
def test_a_key_of_another_type_exists_no_more(
    shop: Engine, bazaar: CheckedProfile, connection: Connection, odd: str
) -> None:
    add_wares(shop, range(2))
    extractor = Extractor(connection, bazaar)
    assert extractor.existing("products", [ware_id(1), odd]) == {ware_id(1)}
    assert len(read_all(extractor, "products", EVERYTHING, 10, 10)) == 2  # the snapshot goes on


def test_a_failure_while_looking_for_what_exists_names_the_file(
    bazaar: CheckedProfile, connection: Connection, shop: Engine
) -> None:
    add_wares(shop, range(2))
    sql = bazaar.profile.sql["products"] + "\nAND 1 / (length(title) - length(title)) = 1"
    extractor = Extractor(connection, checked_with(bazaar, connection, products=sql))
    with pytest.raises(ExtractFailed, match=r"products\.sql failed .* DivisionByZero"):
        extractor.existing("products", [ware_id(1)])


def test_tombstones(shop: Engine, bazaar: CheckedProfile, connection: Connection) -> None:
    run(shop, "CREATE TABLE graves (kind text, id bigint, at timestamp)")
    run(
        shop,
        "INSERT INTO graves VALUES ('orders', 7, '2026-07-01 14:00'), ('orders', 5, '2026-07-01 14:20'),"
        " ('orders', 7, '2026-07-01 14:10'), ('orders', 9, '2026-07-01 15:00'), ('carts', 1, '2026-07-01 14:00'),"
        " ('orders', NULL, '2026-07-01 14:00')",
    )
    sql = "SELECT kind AS entity, id AS record_id, at AS deleted_at FROM graves"
    extractor = Extractor(connection, checked_with(bazaar, connection, deleted=sql))
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    window = Window(noon, noon + timedelta(hours=1))
    assert extractor.deleted_keys("orders", window) == ["5", "7"]
    assert extractor.deleted_keys("orders", EVERYTHING) == ["5", "7", "9"]
    assert extractor.deleted_keys("products", window) == []


def test_a_shop_without_tombstones_has_deleted_nothing(bazaar: CheckedProfile, connection: Connection) -> None:
    assert Extractor(connection, bazaar).deleted_keys("orders", EVERYTHING) == []
