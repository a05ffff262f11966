from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from include.extract.contract import CONTRACT
from include.shops.profile import CheckedProfile, OrderStatus, ProfileError, check_profile, load_profile
from tests.include.extract.bazaar import PROFILES, create


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the test profile that a test may spoil."""
    shutil.copytree(PROFILES / "bazaar", tmp_path / "bazaar")
    return tmp_path


def rewrite(folder: Path, file: str, old: str, new: str) -> None:
    path = folder / "bazaar" / file
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def check(folder: Path, database: Engine) -> CheckedProfile:
    create(database)
    with database.connect() as connection:
        checked = check_profile(load_profile("bazaar", folder), connection)
        assert not connection.in_transaction()
    return checked


def problems(folder: Path, database: Engine) -> tuple[str, ...]:
    with pytest.raises(ProfileError) as error:
        check(folder, database)
    assert all(problem in str(error.value) for problem in error.value.problems)
    return error.value.problems


def test_load(folder: Path) -> None:
    profile = load_profile("bazaar", folder)
    assert profile.timezone == "Europe/Berlin"
    assert profile.statuses == {
        "1": OrderStatus("pending", None, completed=False),
        "2": OrderStatus("paid", "shipped", completed=True),
    }
    assert set(profile.sql) == {name for name, contract in CONTRACT.items() if not contract.optional} | {"images"}


def test_the_reference_profile_loads() -> None:
    assert set(load_profile("reference").sql) == set(CONTRACT)


def test_an_unknown_profile_is_told_with_the_nearest_known(folder: Path) -> None:
    with pytest.raises(ProfileError, match=r"did you mean 'bazaar'\?"):
        load_profile("bazar", folder)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("timezone:", "timezon:", r"no key 'timezon'; did you mean 'timezone'\?"),
        ("dialect: postgresql", "dialect: mysql", "'dialect'.*'mysql'"),
        ("completed: false", "complete: false", r"'order_statuses.1.complete'; did you mean 'completed'\?"),
        ("  2: {", "  on: {", r"profile\.yaml, line 7, column 3: 'on' means true in YAML, not a name; quote it"),
        ("  2: {", "  1: {", r"profile\.yaml, line 7, column 3: '1' is given twice"),
        ("[order_promos]", "[order_promo]", r"no extract 'order_promo'; did you mean 'order_promos'\?"),
        ("[order_promos]", "[images]", r"names images, but there is a images\.sql"),
        ("[order_promos]", "[store]", "write store.sql"),
    ],
)
def test_a_wrong_profile_yaml_is_told(folder: Path, old: str, new: str, told: str) -> None:
    rewrite(folder, "profile.yaml", old, new)
    with pytest.raises(ProfileError, match=told):
        load_profile("bazaar", folder)


def test_all_wrong_files_are_told_in_one_error(folder: Path) -> None:
    home = folder / "bazaar"
    (home / "order_lines.sql").rename(home / "order_line.sql")
    (home / "customers.sql").write_text("\n")
    with pytest.raises(ProfileError) as error:
        load_profile("bazaar", folder)
    assert len(error.value.problems) == 2
    assert "customers.sql: is empty" in str(error.value)
    assert "order_lines.sql: is missing (did you mean 'order_line'?)" in str(error.value)


@pytest.mark.parametrize(
    ("extract", "needed"), [("promo_codes", "promo_rules"), ("carts", "cart_lines"), ("cart_lines", "carts")]
)
def test_an_extract_that_needs_another_is_told(folder: Path, extract: str, needed: str) -> None:
    (folder / "bazaar" / f"{extract}.sql").write_text("SELECT 1")
    with pytest.raises(ProfileError) as error:
        load_profile("bazaar", folder)
    assert error.value.problems == (f"{extract}.sql: needs {needed}.sql beside it; write it, or remove {extract}.sql",)


def test_a_misspelt_optional_extract_is_told(folder: Path) -> None:
    (folder / "bazaar" / "promo_rule.sql").write_text("SELECT 1")
    (folder / "bazaar" / "consent_write_back.sql").write_text("SELECT 1")
    with pytest.raises(ProfileError) as error:
        load_profile("bazaar", folder)
    assert error.value.problems == (
        "promo_rule.sql: there is no such extract; rename it to promo_rules.sql, or remove it",
    )


def test_derived_columns_are_not_asked_of_a_profile(folder: Path, database: Engine) -> None:
    home = folder / "bazaar"
    (home / "promo_rules.sql").write_text(
        "SELECT 1 AS rule_id, now() AS updated_at, 'd' AS description, 1.5 AS amount, 'fixed' AS type, "
        "'total' AS target"
    )
    (home / "promo_codes.sql").write_text("SELECT 1 AS rule_id, 2 AS code_id, 'C' AS code, 'mine' AS number")
    checked = check(folder, database)
    assert set(checked.columns["promo_codes"]) == {"rule_id", "code_id", "code"}
    assert checked.ignored["promo_codes"] == ("number",)


def test_check_yields_columns_and_types(folder: Path, database: Engine) -> None:
    checked = check(folder, database)
    assert {name: str(found) for name, found in checked.columns["products"].items()} == {
        "product_id": "uuid",
        "updated_at": "timestamp without time zone",
        "title": "text",
        "description": "text",
        "published_at": "date",
    }
    assert str(checked.columns["customers"]["customer_id"]) == "character varying"  # what the domain is based on
    assert checked.columns["order_lines"]["price"].scale == 4
    assert checked.ignored["orders"] == ("shop_note",)


def test_all_problems_are_told_in_one_error(folder: Path, database: Engine) -> None:
    rewrite(folder, "profile.yaml", "timezone: Europe/Berlin", "timezone: null")
    rewrite(folder, "variants.sql", " price,", " price::float AS price,")
    rewrite(folder, "orders.sql", "ordered_on AS placed_at", "ordered_on AS place_at")
    rewrite(folder, "order_lines.sql", "quantity, price", "quantity,\n  no_such_column AS price")
    found = problems(folder, database)
    assert len(found) == 7
    everything = "\n".join(found)
    for naive in (
        "products.sql: column updated_at",
        "customers.sql: column updated_at",
        "orders.sql: column updated_at",
    ):
        assert naive in everything
    assert (
        "variants.sql: column price should be money: found double precision; use numeric, floats lose cents"
        in everything
    )
    assert (
        "orders.sql: column placed_at (time) is missing; select it, AS placed_at (did you mean 'place_at'?)"
        in everything
    )
    assert 'order_lines.sql, line 2: PostgreSQL refuses it: column "no_such_column" does not exist' in everything


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("variants.sql", " price,", " stock AS price,", "may be minor units"),
        ("variants.sql", " price,", " NULL AS price,", "found text; cast it with ::numeric"),
        ("variants.sql", "stock AS", "price AS", "inventory_quantity should be integer: found numeric"),
        ("customers.sql", "opted_in,", "1 AS opted_in,", "opted_in should be boolean: found integer"),
        ("customers.sql", "first_name,", "'{}'::json AS first_name,", "first_name should be text: found json"),
        ("images.sql", "shows AS", "url AS", "variant_ids should be list of ids: found text; select an array"),
        ("images.sql", "n AS", "n::float AS", "image_id should be id: found double precision"),
        ("products.sql", "changed AS", "'2026' AS", "updated_at should be time: found text"),
        ("orders.sql", "login AS", "login AS login,", "needs at least one of the columns customer_id, email"),
        ("products.sql", "title,", "title, title,", "yields 2 columns named title"),
        ("products.sql", "FROM wares", "FORM wares", r"products\.sql, line 2: PostgreSQL refuses it: syntax error"),
    ],
)
def test_one_problem_is_told_with_its_remedy(
    folder: Path, database: Engine, file: str, old: str, new: str, told: str
) -> None:
    if "login AS login," in new:
        rewrite(folder, file, "login AS customer_id,", new)
    else:
        rewrite(folder, file, old, new)
    (problem,) = problems(folder, database)
    assert re.search(told, problem)


def test_an_unmapped_status_is_told(folder: Path, database: Engine) -> None:
    rewrite(folder, "profile.yaml", "  1: {", "  pending: {")
    create(database)
    with database.begin() as connection:
        connection.execute(
            text("INSERT INTO sales (number, changed, state) VALUES ('1', now(), '1'), ('2', now(), NULL)")
        )
    with (
        database.connect() as connection,
        pytest.raises(ProfileError, match=r"orders\.sql: column status .*: '1'; add"),
    ):
        check_profile(load_profile("bazaar", folder), connection)


def test_a_time_zone_that_does_not_exist_is_told(folder: Path, database: Engine) -> None:
    rewrite(folder, "profile.yaml", "Europe/Berlin", "Europe/Berlim")
    assert "timezone 'Europe/Berlim'" in problems(folder, database)[0]


def test_a_profile_cannot_write(folder: Path, database: Engine) -> None:
    create(database)
    (folder / "bazaar" / "store.sql").write_text(
        "SELECT 'a' AS name, 'EUR' AS currency_code) AS e; DROP TABLE wares; SELECT (1"
    )
    with database.connect() as connection, pytest.raises(ProfileError):
        check_profile(load_profile("bazaar", folder), connection)
    with database.connect() as connection:
        connection.execute(text("SELECT FROM wares"))
