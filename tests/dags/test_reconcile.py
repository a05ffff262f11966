"""The reconciliation DAG: it reports, repairs only when asked to, and leaves the sending to the push."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.dags.conftest import Stage, load_dag

pytestmark = pytest.mark.usefixtures("airflow_database")
DAG_ID = "mailchimp_reconcile__demo"


def states(dag_run: Any) -> dict[str, str]:
    return {one.task_id: str(one.state) for one in dag_run.get_task_instances()}


def test_it_runs_by_hand_unless_a_schedule_is_set(stage: Stage) -> None:
    assert load_dag(DAG_ID).schedule is None
    stage.configure(schedule_reconcile="1w")
    assert load_dag(DAG_ID).schedule is not None


def test_its_form_repairs_and_deletes_nothing_by_default() -> None:
    params = load_dag(DAG_ID).params
    assert params["repair"] is False
    assert params["allow_deletes"] is False


def test_the_report_comes_before_the_repair_and_that_before_the_push() -> None:
    dag = load_dag(DAG_ID)
    assert dag.task_dict["repair"].upstream_task_ids == {"compare", "report"}
    assert dag.task_dict["anything_to_send"].upstream_task_ids == {"repair"}
    send = dag.task_dict["send"]
    assert send.upstream_task_ids == {"anything_to_send"}
    assert send.trigger_dag_id == "mailchimp_push__demo"


@pytest.mark.slow
def test_without_a_store_there_is_nothing_to_compare(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    dag = load_dag(DAG_ID)
    for task in dag.tasks:
        task.retries = 0
    assert dag.test().state == "failed"
    assert stage.held() == {}


@pytest.mark.slow
def test_drift_is_reported_then_repaired_when_asked_to(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    assert load_dag("mailchimp_push__demo").test(run_conf={"entities": ["products"]}).state == "success"
    (product_id,) = stage.query("SELECT record_id FROM mailchimp.ledger WHERE state = 'synced' ORDER BY 1 LIMIT 1")[0]
    path = f"/ecommerce/stores/demo-shop/products/{product_id}"
    stage.write(path, {"title": "Changed by hand"})
    sent = stage.operations()

    with caplog.at_level(logging.INFO):
        run = load_dag(DAG_ID).test(run_conf={"entities": ["products"]})
    assert run.state == "success"
    assert states(run) == {
        "compare": "success", "report": "success", "repair": "skipped", "anything_to_send": "skipped",
        "send": "skipped", "conclude": "success",
    }  # fmt: skip
    assert f"products {product_id}: stale, owe  title" in caplog.text
    drift = "SELECT record_id, kind, fields, repaired_at IS NOT NULL FROM mailchimp.drift"
    assert stage.query(drift) == [(product_id, "stale", ["title"], False)]

    from mailchimp_airflow import reconcile

    [told] = [one for one in run.get_task_instances() if one.task_id == "compare"]
    reference = told.xcom_pull(task_ids="compare")
    context = stage.context(repair=True)
    assert reconcile.repair("demo", reference, context) == ["products"]
    assert stage.query(drift) == [(product_id, "stale", ["title"], True)]
    assert stage.operations() == sent

    push = load_dag("mailchimp_push__demo").test(run_conf={"entities": ["products"], "allow_deletes": False})
    assert push.state == "success"
    assert stage.operations() == sent + 1
