"""The switch "Only show what would be sent": one task tells, all others are skipped, and nothing is written."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import requests

from tests.dags.conftest import Stage, load_dag

pytestmark = pytest.mark.usefixtures("airflow_database")
DAG_ID = "mailchimp_push__demo"


def states(dag_run: Any) -> dict[str, str]:
    return {one.task_id: str(one.state) for one in dag_run.get_task_instances()}


@pytest.mark.parametrize("dag_id", [DAG_ID, "mailchimp_full_sync__demo"])
def test_the_form_offers_it(dag_id: str) -> None:
    dag = load_dag(dag_id)
    assert dag.params.get_param("dry_run").schema["title"] == "Only show what would be sent"
    assert dag.params["dry_run"] is False


def test_it_costs_a_scheduled_run_nothing() -> None:
    """No task waits for it, and a trigger rule leaves it out: no worker is started to find that out."""
    task = load_dag(DAG_ID).task_dict["dry_run"]
    assert task.upstream_task_ids == {"prepare"}
    assert not task.downstream_task_ids
    assert task.trigger_rule == "all_skipped"


@pytest.mark.slow
def test_a_dry_run_tells_what_the_run_then_sends(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        dry = load_dag(DAG_ID).test(run_conf={"dry_run": True})
    assert dry.state == "success"
    found = states(dry)
    assert found.pop("dry_run") == "success"
    assert set(found.values()) == {"skipped"}
    assert stage.held() == {}
    assert stage.operations() == 0
    assert stage.query("SELECT to_regnamespace('mailchimp')") == [(None,)]
    assert requests.get(f"{stage.sandbox.origin}/sandbox/state", timeout=30).json()["stores"] == {}

    [told] = [one for one in dry.get_task_instances() if one.task_id == "dry_run"]
    counts = told.xcom_pull(task_ids="dry_run")
    assert counts["entities"]["orders"]["creates"] > 1_900

    real = load_dag(DAG_ID).test(run_conf={})
    assert real.state == "success"
    assert states(real)["dry_run"] == "skipped"
    assert stage.operations() == counts["operations"]


@pytest.mark.slow
def test_what_is_wrong_stops_a_dry_run_too(stage: Stage) -> None:
    stage.connect_mailchimp(password="not-a-key-us0")
    dag = load_dag(DAG_ID)
    for task in dag.tasks:
        task.retries = 0
    dry = dag.test(run_conf={"dry_run": True})
    assert dry.state == "failed"
    assert states(dry)["dry_run"] == "failed"
