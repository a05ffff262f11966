from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, event, text

from include.state.campaign_tables import campaign_metadata
from include.state.migrate import StateNotWritable, migrate
from include.state.pull_tables import pull_metadata
from include.state.tables import metadata

VIEWS = {
    "sync_status": [
        "store_key", "entity", "synced", "pending", "rejected", "unknown", "deleted", "last_acknowledged_at",
        "lag_seconds",
    ],
    "rejected_records": [
        "store_key", "entity", "record_id", "operation", "error_class", "title", "detail", "field", "attempts",
        "first_seen_at", "last_seen_at", "dag_run_id",
    ],
}  # fmt: skip


def test_many_processes_migrate_at_once(database: Engine) -> None:
    with ThreadPoolExecutor(6) as pool:
        states = list(pool.map(lambda _: migrate(database, "Odd schema"), range(6)))
    with states[0].begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM store")) == 0
        assert connection.scalar(text("SELECT count(*) FROM alembic_version")) == 1


def test_current_tables_cost_one_query(database: Engine) -> None:
    migrate(database)
    statements: list[str] = []
    event.listen(database, "before_cursor_execute", lambda *args: statements.append(args[2]))
    migrate(database)
    assert len(statements) == 1


def test_migrated_tables_are_the_declared_ones(database: Engine) -> None:
    migrate(database)
    engine = create_engine(database.url, connect_args={"options": "-csearch_path=mailchimp"})
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        differences = [
            difference
            for difference in compare_metadata(context, [metadata, pull_metadata, campaign_metadata])
            if not (difference[0] == "remove_table" and difference[1].name == "alembic_version")
        ]
    engine.dispose()
    assert differences == []


@pytest.mark.parametrize("view", VIEWS)
def test_views_have_the_promised_columns(database: Engine, view: str) -> None:
    migrate(database)
    with database.connect() as connection:
        assert list(connection.execute(text(f"SELECT * FROM mailchimp.{view}")).keys()) == VIEWS[view]


def test_shop_tables_are_left_alone(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE ledger (id int); CREATE TABLE store (id int)"))
    migrate(database)
    with database.connect() as connection:
        assert list(connection.execute(text("SELECT * FROM public.ledger")).keys()) == ["id"]


def test_missing_right_is_told_with_a_remedy(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN"))
    engine = create_engine(database.url.set(username="reader"))
    with pytest.raises(StateNotWritable, match='CREATE SCHEMA "mailchimp" AUTHORIZATION'):
        migrate(engine)
    engine.dispose()
