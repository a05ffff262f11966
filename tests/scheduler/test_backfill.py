"""In a real scheduler: schedule, backfills and a replay at the same time, while the shop is being written to."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import text

from include.demo.changes import apply_changes
from include.sandbox.server import SandboxServer
from local.environment import LOGIN, PASSWORD, SHOP_DATABASE, LocalEnvironment, Ports
from local.services import load_shop, local_run, start_airflow, start_metadata, start_sandbox
from tests.dags.notes import noted
from tests.free_port import free_port
from tests.scheduler.airflow_api import AirflowApi

PUSH, FRESH, REPLAY = "mailchimp_push__demo", "mailchimp_full_sync__fresh", "mailchimp_replay__demo"


@dataclass
class Running:
    """Airflow with a shop and two Mailchimps: one that is kept in step, and an empty one for comparison."""

    environment: LocalEnvironment
    airflow: AirflowApi
    fresh: SandboxServer
    notes: Path

    def digests(self, origin: str, store_id: str) -> dict[str, str]:
        stores = requests.get(f"{origin}/sandbox/state", timeout=30).json()["stores"]
        return dict(stores[store_id]["digests"])

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.environment.postgres.engine(SHOP_DATABASE).begin() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]

    @contextmanager
    def written_to(self) -> Iterator[None]:
        """Change ten of the shop's records every other second."""
        ended, failures = threading.Event(), []

        def write() -> None:
            while not ended.wait(2):
                try:
                    apply_changes(self.environment.shop_url)
                except Exception as error:  # told by the test's own thread
                    failures.append(error)
                    return

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield
        finally:
            ended.set()
            writer.join()
        assert failures == []


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    # Not pytest's tmp_path: its long names exceed what a Unix socket's path may have.
    folder = Path(tempfile.mkdtemp(prefix="mailchimp-scheduler-"))
    monkeypatch.setenv("STORES_FILE", str(folder / "stores.yaml"))
    try:
        with (
            SandboxServer.start(seed=2, batch_seconds=0) as fresh,
            local_run(folder / "state", Ports(free_port(), free_port())) as (environment, processes),
        ):
            environment.connections["mailchimp_fresh"] = {
                "conn_type": "mailchimp",
                "host": fresh.url,
                "password": fresh.api_key,
            }
            metadata = start_metadata(environment, processes)
            load_shop(environment, processes, "small")
            processes.finish(metadata)
            start_sandbox(environment, processes, hurried=True)
            configure(folder)
            start_airflow(environment, processes)
            airflow = AirflowApi(environment.ui_url, LOGIN, PASSWORD, processes.check)
            yield Running(environment, airflow, fresh, folder / "notes")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def configure(folder: Path) -> None:
    """Write the settings: one store with a schedule, and one to compare it with."""
    # The schedule's only time of day comes in the midst of the test; it gives one run per day of the past.
    tick = datetime.now(UTC) + timedelta(minutes=6)
    store = {
        "key": "demo",
        "store_id": "demo-shop",
        "list_id": "a1b2c3d4e5",
        "profile": "reference",
        "cart_idle_minutes": 0,
        "schedule_push": f"{tick.minute} {tick.hour} * * *",
        "deadline_minutes": 1,
        "notify": [{"notifier": "tests.dags.notes.Note", "kwargs": {"path": str(folder / "notes")}}],
    }
    fresh = {"key": "fresh", "store_id": "fresh-shop", "mailchimp_conn_id": "mailchimp_fresh"}
    stores = [store, store | fresh | {"schedule_push": None, "notify": []}]
    (folder / "stores.yaml").write_text(json.dumps({"stores": stores}), encoding="utf-8")  # JSON is YAML


@pytest.mark.slow
@pytest.mark.timeout(2700)
def test_schedule_backfills_and_replay_end_with_what_a_fresh_full_sync_sends(running: Running) -> None:
    airflow, now = running.airflow, datetime.now(UTC)
    with running.written_to():
        for dag_id in (PUSH, REPLAY, FRESH):
            airflow.unpause(dag_id)
        # Airflow's scheduler doesn't survive that a backfill creates the very run that it is about to create itself.
        airflow.wait_until(lambda: scheduled(airflow), "the first scheduled run", 120)
        until = now - timedelta(days=2)
        first = airflow.backfill(PUSH, until - timedelta(days=3), until, run_backwards=True, max_active_runs=4)
        failed = mark_one_as_failed(airflow)
        airflow.wait_for_backfill(first)
        second = airflow.backfill(
            PUSH, until - timedelta(days=4), until, reprocess_behavior="failed", max_active_runs=4
        )
        airflow.wait_for_backfill(second)
        assert airflow.runs(PUSH)[failed]["state"] == "success"
        replay = airflow.trigger(REPLAY)
        assert airflow.wait_for_run(REPLAY, replay) == "success"
        airflow.wait_until(lambda: len(scheduled(airflow)) > 1, "the scheduled run", 420)
    for run_id in scheduled(airflow):
        assert airflow.wait_for_run(PUSH, run_id) == "success"
    last, full_sync = airflow.trigger(PUSH), airflow.trigger(FRESH)
    assert airflow.wait_for_run(PUSH, last) == "success"
    assert airflow.wait_for_run(FRESH, full_sync) == "success"

    kinds = [run["run_type"] for run in airflow.runs(PUSH).values()]
    assert kinds.count("backfill") >= 4
    assert {run["state"] for run in airflow.runs(PUSH).values()} == {"success"}
    assert running.digests(running.environment.sandbox_page, "demo-shop") == running.digests(
        running.fresh.origin, "fresh-shop"
    )
    assert running.query("SELECT state, count(*) FROM mailchimp.run GROUP BY state")[0][0] == "success"
    # Who is to be told was told of the failed backfill run, and that it has succeeded since; perhaps of late runs too.
    told = [subject for subject, _ in noted(running.notes) if not subject.endswith(" is late")]
    assert told == [f"{PUSH} failed", f"{PUSH} succeeds again"]


def mark_one_as_failed(airflow: AirflowApi) -> str:
    """Fail one of the backfill's runs while it runs, as a person would; returns its id."""

    at_work: list[str] = []

    def running() -> list[str]:
        for run_id, run in airflow.runs(PUSH).items():
            if run["run_type"] == "backfill" and run["state"] == "running" and "running" in tasks(airflow, run_id):
                at_work.append(run_id)
        return at_work

    airflow.wait_until(running, "a backfill run with a running task", 120)
    airflow.mark_failed(PUSH, at_work[0])
    return at_work[0]


def tasks(airflow: AirflowApi, run_id: str) -> set[str]:
    found = airflow.call("GET", f"/dags/{PUSH}/dagRuns/{run_id}/taskInstances?limit=100")["task_instances"]
    return {str(instance["state"]) for instance in found}


def scheduled(airflow: AirflowApi) -> list[str]:
    return [run_id for run_id, run in airflow.runs(PUSH).items() if run["run_type"] == "scheduled"]
