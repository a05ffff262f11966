"""Promo codes have no time of their own: they are read in the windows of their rules, sliced by both ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy import Connection, Engine

from include.extract.contract import ARROW_TYPES, CONTRACT
from include.extract.selects import Select
from include.extract.slices import Extractor, Window
from include.shops.profile import CheckedProfile
from tests.include.extract.bazaar import EVERYTHING, checked_with, read_all, run

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
RULES = """
SELECT id AS rule_id, changed AS updated_at, 'd' AS description, 5.00 AS amount, 'fixed' AS type, 'total' AS target,
       gone AS is_deleted, strict AS other_conditions
FROM offers -- the last line ends in a comment"""
CODES = "SELECT offer AS rule_id, n AS code_id, word AS code, 100 AS usage_count FROM words -- so does this"


@pytest.fixture
def shop(shop: Engine) -> Engine:
    """Three offers: `a` with 25 words, `b` with 3, `c` without any; and a word whose offer is gone."""
    run(
        shop,
        "CREATE TABLE offers (id text PRIMARY KEY, changed timestamptz, gone boolean, strict boolean);"
        "CREATE TABLE words (offer text, n integer, word text)",
    )
    run(
        shop,
        "INSERT INTO offers VALUES ('a', :noon, false, true), ('b', :later, true, NULL), ('c', :later, false, false)",
        noon=NOON,
        later=NOON + timedelta(hours=1),
    )
    run(
        shop,
        "INSERT INTO words SELECT 'a', n, 'A' || n FROM generate_series(1, 25) AS n UNION ALL "
        "SELECT 'b', n, 'B' || n FROM generate_series(1, 3) AS n UNION ALL SELECT 'lost', 1, 'L1'",
    )
    return shop


@pytest.fixture
def extractor(bazaar: CheckedProfile, connection: Connection) -> Extractor:
    return Extractor(connection, checked_with(bazaar, connection, promo_rules=RULES, promo_codes=CODES))


@pytest.mark.parametrize(("slice_records", "limit"), [(7, 3), (10, 10), (1, 1), (100, 100)])
def test_slices_cover_every_code_once(extractor: Extractor, slice_records: int, limit: int) -> None:
    codes = read_all(extractor, "promo_codes", EVERYTHING, slice_records, limit)
    expected = {f"a/{n}" for n in range(1, 26)} | {f"b/{n}" for n in range(1, 4)} | {"lost/1"}
    assert len(codes) == len(expected)
    assert set(codes["code_key"]) == expected
    assert (codes["code_key"] == codes["rule_id"] + "/" + codes["code_id"]).all()


def test_codes_have_the_time_and_the_flags_of_their_rule(extractor: Extractor) -> None:
    codes = read_all(extractor, "promo_codes", EVERYTHING, 100, 100).set_index("code_key")
    assert codes.loc["a/1", "updated_at"] == NOON
    assert codes.loc["a/1", ["rule_is_deleted", "rule_other_conditions"]].tolist() == [False, True]
    assert codes.loc["b/1", "rule_is_deleted"]
    assert pd.isna(codes.loc["b/1", "rule_other_conditions"])
    assert pd.isna(codes.loc["lost/1", "updated_at"])  # survives without its rule


def test_codes_are_numbered_within_their_rule_whatever_is_read(extractor: Extractor) -> None:
    codes = read_all(extractor, "promo_codes", EVERYTHING, 7, 3)
    assert (codes["number"].astype(str) == codes["code_id"]).all()
    one = extractor.read_ids("promo_codes", ["a/20"])
    assert one["number"].tolist() == [20]


def test_a_window_has_the_codes_of_the_rules_changed_in_it(extractor: Extractor) -> None:
    window = Window(NOON + timedelta(minutes=1), NOON + timedelta(hours=2))
    assert extractor.changed_keys("promo_codes", window) == ["b/1", "b/2", "b/3"]
    assert len(read_all(extractor, "promo_codes", window, 2, 2)) == 3


def test_codes_of_a_rule_and_codes_that_still_exist(extractor: Extractor) -> None:
    assert set(extractor.read_ids("promo_codes", ["b"], column="rule_id")["code"]) == {"B1", "B2", "B3"}
    assert extractor.existing("promo_codes", ["a/1", "a/26", "b/1", "lost/1", "nonsense"]) == {"a/1", "b/1", "lost/1"}


def test_types_are_the_contracts(extractor: Extractor) -> None:
    codes = read_all(extractor, "promo_codes", EVERYTHING, 100, 100)
    types = {column.name: ARROW_TYPES[column.kind] for column in CONTRACT["promo_codes"].columns}
    assert pa.Schema.from_pandas(codes, preserve_index=False).equals(pa.schema(types))


@pytest.mark.parametrize("rule_id", ["id::integer AS rule_id", "id::integer::numeric AS rule_id"])
def test_ids_of_different_types_meet(
    shop: Engine, bazaar: CheckedProfile, connection: Connection, rule_id: str
) -> None:
    run(shop, "TRUNCATE offers, words; INSERT INTO offers VALUES ('7', '2026-07-01 12:00Z', false, false)")
    run(shop, "INSERT INTO words VALUES ('7', 1, 'SEVEN')")
    rules = RULES.replace("id AS rule_id", rule_id)
    extractor = Extractor(connection, checked_with(bazaar, connection, promo_rules=rules, promo_codes=CODES))
    assert read_all(extractor, "promo_codes", EVERYTHING, 10, 10)["updated_at"].tolist() == [NOON]


def test_a_window_numbers_only_the_codes_of_changed_rules(
    extractor: Extractor, bazaar: CheckedProfile, connection: Connection
) -> None:
    """Numbering every code of the shop in each run would cost as much as a full sync."""
    select = Select("promo_codes", checked_with(bazaar, connection, promo_rules=RULES, promo_codes=CODES))
    cursor = connection.connection.cursor()
    inside = select.in_window(cursor, Window(NOON, NOON + timedelta(hours=2)))
    cursor.execute(f"EXPLAIN SELECT * FROM ({select.sql}) AS extract WHERE {inside}")
    above, below = "\n".join(line for (line,) in cursor.fetchall()).split("WindowAgg")
    assert "changed >=" in below
    assert "Filter" not in above
