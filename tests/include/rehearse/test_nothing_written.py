"""A rehearsal leaves no trace: not in the state tables, not in the shop, not at Mailchimp; and it holds nobody up."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import InternalError, ProgrammingError

from include.load.runs import Mode
from include.rehearse.client import RehearsalClient
from include.rehearse.forecast import Forecast
from include.rehearse.state import private_state
from include.state.database import lock_account
from include.state.migrate import StateOutdated, migrate
from tests.include.rehearse import scenarios
from tests.include.rehearse.rehearsals import comes_true, direct_calls, rehearse
from tests.pipeline import Pipeline


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    scenarios.fill(pipeline)
    return pipeline


def fingerprint(pipeline: Pipeline) -> dict[str, Any]:
    """All rows of all tables and all sequences of the database, and all that the sandbox holds or was told."""
    found: dict[str, Any] = {}
    tables = pipeline.sql(
        "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables "
        "WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
    )
    for (table,) in tables:
        found[table] = pipeline.sql(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t")
    found["sequences"] = pipeline.sql("SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2")
    overview = pipeline.sandbox.state.overview()
    found["sandbox"] = {name: overview[name] for name in ("lists", "stores", "batches")}
    found["calls"] = direct_calls(pipeline)
    return found


@pytest.mark.parametrize("mode", [Mode.INCREMENTAL, Mode.FULL])
def test_whatever_there_is_to_send(filled: Pipeline, mode: Mode) -> None:
    chance = random.Random(5)
    scenarios.mix(filled, chance)
    scenarios.lines_variants_and_images_are_lost(filled)
    scenarios.a_customer_gets_a_new_address(filled)
    scenarios.a_worker_died(filled)
    before = fingerprint(filled)
    assert rehearse(filled, mode=mode).operations > 0
    assert fingerprint(filled) == before


def test_before_anything_was_ever_sent_there_is_no_schema_and_none_is_made(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.sql("DROP SCHEMA mailchimp CASCADE")
    before = fingerprint(pipeline)
    assert rehearse(pipeline)["products"].creates == 1
    assert fingerprint(pipeline) == before
    assert pipeline.sql("SELECT to_regnamespace('mailchimp')") == [(None,)]
    migrate(pipeline.engine)
    comes_true(pipeline)


@pytest.mark.parametrize(
    "statement", ["DELETE FROM mailchimp.ledger", "UPDATE public.products SET title = ''", "CREATE TABLE made (n int)"]
)
def test_the_server_itself_refuses_to_write_anything_else(filled: Pipeline, statement: str) -> None:
    with private_state(filled.engine, "mailchimp", filled.settings, "any") as state:
        with (
            pytest.raises((InternalError, ProgrammingError), match=r"read-only|does not exist"),
            state.begin() as private,
        ):
            private.execute(text(statement))
        with state.begin() as private:
            private.execute(text("DELETE FROM ledger"))  # the copy
    assert filled.ledger("products")


def test_its_tables_are_gone_with_it(filled: Pipeline) -> None:
    rehearse(filled)
    left = "SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relname = 'ledger'"
    deadline = time.monotonic() + 30
    while filled.sql(left) != [(0,)]:  # the server ends a session a moment after it was left
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_waits_for_no_lock_of_a_real_run(filled: Pipeline) -> None:
    """A run that is just claiming and settling has all the locks there are."""
    scenarios.a_line_is_changed(filled)
    account = filled.client.account()["account_id"]
    with filled.state.begin() as busy:
        lock_account(busy, account)
        for table in ("ledger", "run", "store", "batch"):
            busy.execute(text(f"SELECT FROM {table} FOR UPDATE"))
        assert rehearse(filled)["orders"].updates == 1


def test_state_tables_of_another_version_are_left_alone(filled: Pipeline) -> None:
    filled.sql("UPDATE mailchimp.alembic_version SET version_num = '0000'")
    with pytest.raises(StateOutdated, match="The next run upgrades them"):
        rehearse(filled)


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_its_client_passes_on_nothing_but_reading(filled: Pipeline, method: str) -> None:
    before, forecast = direct_calls(filled), Forecast()
    with private_state(filled.engine, "mailchimp", filled.settings, "any") as state:
        getattr(RehearsalClient(filled.client, state, filled.settings, forecast), method)("/lists/a1b2c3d4e5")
    assert direct_calls(filled) == before
    assert forecast.direct == {f"{method.upper()} /lists/…": 1}
