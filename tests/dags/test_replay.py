"""The replay DAG: its form, a count that changes nothing, and a replay of what was mended."""

from __future__ import annotations

from typing import Any

import pytest

from include.load.errors import PreflightFailed
from tests.dags.conftest import Stage, load_dag

pytestmark = pytest.mark.usefixtures("airflow_database")
DAG_ID = "mailchimp_replay__demo"
REJECTED = "SELECT count(*) FROM mailchimp.rejected_records WHERE entity = 'orders' AND error_class = :error_class"


def run(dag_id: str, **conf: Any) -> Any:
    dag = load_dag(dag_id)
    for task in dag.tasks:
        task.retries = 0
    return dag.test(run_conf=conf)


def states(dag_run: Any) -> dict[str, str]:
    return {one.task_id: str(one.state) for one in dag_run.get_task_instances()}


def returned(dag_run: Any, task_id: str) -> Any:
    [told] = [one for one in dag_run.get_task_instances() if one.task_id == task_id]
    return told.xcom_pull(task_ids=task_id)


def test_it_is_triggered_by_hand_and_every_param_has_a_title() -> None:
    dag = load_dag(DAG_ID)
    assert dag.schedule is None
    assert all(dag.params.get_param(name).schema.get("title") for name in dag.params)
    assert "rejected_records" in dag.doc_md


def test_its_phases_are_those_of_a_push() -> None:
    push, replay = (load_dag(f"mailchimp_{name}__demo").task_dict for name in ("push", "replay"))
    inner = {name for name in push if "." in name}
    assert {name for name in replay if "." in name} == inner
    # What a push does besides, before its first phase, is none of a replay's business.
    upstream = {name: push[name].upstream_task_ids - {"erase"} for name in inner}
    assert {name: replay[name].upstream_task_ids for name in inner} == upstream
    assert replay["prepare"].upstream_task_ids == {"count"}
    assert replay["summarise"].is_teardown


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"error_classes": ["invlaid"]}, "no error class invlaid"),
        ({"since": "2026-11-02T00:00:00+00:00", "until": "2026-11-01T00:00:00+00:00"}, "ends before it begins"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(stage: Stage, form: dict[str, Any], words: str) -> None:
    from mailchimp_airflow import replay

    defaults = {name: param.value for name, param in replay.params().items()}
    with pytest.raises(PreflightFailed, match=words):
        replay.count("demo", stage.context() | {"params": defaults | form})


@pytest.mark.slow
def test_what_was_mended_is_counted_then_sent(stage: Stage) -> None:
    nothing = run(DAG_ID)  # before the first push there is nothing to replay
    assert nothing.state == "success"
    assert states(nothing)["prepare"] == "skipped"
    assert run("mailchimp_push__demo").state == "success"
    [(bad,)] = stage.query(REJECTED, error_class="totals_mismatch")
    assert bad
    # Mended by hand, without `updated_at`: no push would see it.
    stage.query("ALTER TABLE orders DISABLE TRIGGER USER")
    stage.query(
        """
        UPDATE orders SET order_total = substring(r.detail FROM 'make ([0-9.]+);')::numeric
        FROM mailchimp.rejected_records r
        WHERE r.entity = 'orders' AND r.error_class = 'totals_mismatch' AND r.record_id = orders.order_id::text
        """
    )
    before = stage.operations()

    counted = run(DAG_ID, error_classes=["totals_mismatch"], only_count=True)
    assert counted.state == "success"
    found = states(counted)
    assert found.pop("count") == "success"
    assert set(found.values()) == {"skipped"}
    assert returned(counted, "count")["records"] == bad
    assert stage.operations() == before

    replayed = run(DAG_ID, error_classes=["totals_mismatch"])
    assert replayed.state == "success"
    assert returned(replayed, "summarise") == {"records": bad, "succeeded": bad, "gone": 0, "rejected": 0, "open": 0}
    assert stage.query(REJECTED, error_class="totals_mismatch") == [(0,)]
    assert stage.store()["is_syncing"] is False
    assert stage.mails() == 0

    again = run(DAG_ID, entities=["orders"])
    assert again.state == "success"
    told = returned(again, "summarise")
    assert told["records"] == told["rejected"] + told["open"]
    assert told["records"] > 0
