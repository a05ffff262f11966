"""The DAG for existing subscribers: it only counts unless told otherwise, has to have a limit, and asks above it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.dags.conftest import Stage, load_dag
from tests.dags.test_approval import answered

pytestmark = pytest.mark.usefixtures("airflow_database")
DAG_ID = "mailchimp_backfill_subscribers__demo"
SENT = "SELECT count(*) FROM mailchimp.ledger WHERE entity = 'members' AND on_mailchimp"


def run(**conf: Any) -> Any:
    dag = load_dag(DAG_ID)
    for task in dag.tasks:
        task.retries = 0
    return dag.test(run_conf=conf)


def states(dag_run: Any) -> dict[str, str]:
    return {one.task_id: str(one.state) for one in dag_run.get_task_instances()}


def counted(dag_run: Any) -> dict[str, int]:
    [told] = [one for one in dag_run.get_task_instances() if one.task_id == "count"]
    return dict(told.xcom_pull(task_ids="count"))


def test_it_is_triggered_by_hand_and_only_counts_by_default() -> None:
    dag = load_dag(DAG_ID)
    assert dag.schedule is None
    assert dag.params["dry_run"] is True
    assert dag.params.get_param("dry_run").schema["title"] == "Only show who would be subscribed"


def test_members_is_its_only_phase_and_the_question_comes_before_it() -> None:
    """With or without the setting: without it, no run gets so far."""
    tasks = load_dag(DAG_ID).task_dict
    assert {name for name in tasks if name.endswith(".push")} == {"members.push"}
    assert "new_subscribers.approve" in tasks["pull_consent"].upstream_task_ids
    assert "pull_consent" in tasks["members.plan"].upstream_task_ids
    assert tasks["prepare"].upstream_task_ids == {"count"}
    assert tasks["summarise"].is_teardown


@pytest.mark.slow
def test_a_dry_run_counts_and_sends_nothing(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        dry = run()
    assert dry.state == "success"
    found = states(dry)
    assert found.pop("count") == "success"
    assert set(found.values()) == {"skipped"}
    assert counted(dry)["with_evidence"] > 10
    assert stage.operations() == 0
    assert stage.held() == {}
    assert stage.query("SELECT count(*) FROM mailchimp.run") == [(0,)]
    assert "would be subscribed" in caplog.text
    emails = [email for (email,) in stage.query("SELECT email FROM customers LIMIT 50")]
    assert not any(email in caplog.text for email in emails)


@pytest.mark.slow
def test_without_a_limit_it_refuses_to_send(stage: Stage) -> None:
    refused = run(dry_run=False)
    assert refused.state == "failed"
    assert states(refused)["prepare"] == "failed"
    assert stage.operations() == 0


@pytest.mark.slow
@pytest.mark.parametrize("option", ["Reject", "Approve"])
def test_above_the_limit_the_answer_decides(stage: Stage, option: str) -> None:
    stage.configure(max_new_subscribers=10)
    with answered(option):
        asked = run(dry_run=False)
    found = counted(asked)["with_evidence"]
    assert asked.state == ("success" if option == "Approve" else "failed")
    assert stage.query(SENT) == [(found if option == "Approve" else 0,)]
    assert stage.operations() == (found if option == "Approve" else 0)


@pytest.mark.slow
def test_within_the_limit_nobody_is_asked_and_a_second_run_finds_nobody(stage: Stage) -> None:
    stage.configure(max_new_subscribers=100_000)
    first = run(dry_run=False)
    assert (first.state, states(first)["new_subscribers.approve"]) == ("success", "skipped")
    found = counted(first)["with_evidence"]
    assert stage.query(SENT) == [(found,)]
    second = run(dry_run=False)
    assert (second.state, states(second)["prepare"]) == ("success", "skipped")
    assert counted(second)["already_contact"] == found
    assert stage.operations() == found
