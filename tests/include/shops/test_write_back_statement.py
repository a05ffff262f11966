"""The profile's statement runs as the shop's own would: its names, its planner, and no endless wait for a lock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from include.shops import write_back as module
from include.shops.profile import Profile
from include.shops.write_back import ConsentChange, WriteBackFailed, write_back
from tests.pipeline import Pipeline

SETTINGS = ("enable_hashjoin", "enable_seqscan", "jit", "random_page_cost", "search_path", "lock_timeout")


def noting_settings(pipeline: Pipeline) -> Profile:
    pipeline.sql("CREATE TABLE noted (name text, value text)")
    pairs = ", ".join(f"('{name}', current_setting('{name}'))" for name in SETTINGS)
    statement = f"INSERT INTO noted SELECT v.* FROM consent_changes, (VALUES {pairs}) AS v"
    return replace(pipeline.profile.profile, consent_write_back=statement)


def test_it_is_planned_as_the_database_is_configured_and_ours_are_put_back(pipeline: Pipeline) -> None:
    profile = noting_settings(pipeline)
    read = "SELECT " + ", ".join(f"current_setting('{name}')" for name in SETTINGS)
    with pipeline.engine.connect() as connection:
        configured = connection.exec_driver_sql(read).one()
    with pipeline.state.begin() as connection:
        before = connection.exec_driver_sql(read).one()
        write_back(connection, profile, [ConsentChange("1", datetime.now(UTC), "unsubscribed")])
        assert connection.exec_driver_sql(read).one() == before
    assert before != configured
    noted = dict(pipeline.sql("SELECT name, value FROM noted"))  # type: ignore[arg-type]
    assert noted.pop("lock_timeout") == "30s"
    assert noted == {name: value for name, value in zip(SETTINGS, configured, strict=True) if name in noted}


def test_it_knows_how_many_opt_outs_there_are(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE TABLE noted (rows real)")
    statement = "INSERT INTO noted SELECT reltuples FROM pg_class WHERE oid = to_regclass('consent_changes')"
    changes = [ConsentChange(str(number), datetime.now(UTC), "unsubscribed") for number in range(300)]
    with pipeline.state.begin() as connection:
        write_back(connection, replace(pipeline.profile.profile, consent_write_back=statement), changes)
    assert pipeline.sql("SELECT rows FROM noted") == [(300.0,)]


def test_a_lock_on_the_shops_table_is_told(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCK_SECONDS", 1)
    pipeline.add_customer(1, opted_in=True)
    change = ConsentChange("1", datetime.now(UTC), "unsubscribed")
    with pipeline.engine.begin() as other:
        other.exec_driver_sql("LOCK TABLE newsletter_consents IN EXCLUSIVE MODE")
        with pytest.raises(WriteBackFailed, match="locked"), pipeline.state.begin() as connection:
            write_back(connection, pipeline.profile.profile, [change])
