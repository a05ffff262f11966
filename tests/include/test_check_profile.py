from __future__ import annotations

import pytest
from sqlalchemy import Engine

from include.check_profile import main
from include.embedded_postgres import EmbeddedPostgres
from tests.include.extract.bazaar import PROFILES, create


@pytest.fixture
def dsn(postgres: EmbeddedPostgres, database: Engine) -> str:
    assert database.url.database is not None
    return postgres.uri(database.url.database)


def test_a_profile_that_fits(database: Engine, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    create(database)
    assert main(["bazaar", "--dsn", dsn, "--folder", str(PROFILES)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("OK: profile 'bazaar' fits the database.\n")
    assert "images: product_id (uuid), image_id (bigint), url (text), variant_ids (uuid[])\n" in printed.out
    assert "not part of the contract, ignored: shop_note\n" in printed.out
    assert "order_promos: the shop has none\n" in printed.out
    assert printed.err == ""


def test_a_profile_that_does_not_fit(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bazaar", "--dsn", dsn, "--folder", str(PROFILES)]) == 1
    printed = capsys.readouterr()
    assert 'products.sql, line 2: PostgreSQL refuses it: relation "wares" does not exist' in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_an_unreachable_database(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bazaar", "--dsn", "postgresql://me:secret@127.0.0.1:1/shop", "--folder", str(PROFILES)]) == 1
    told = capsys.readouterr().err
    assert "can't be reached" in told
    assert "secret" not in told
