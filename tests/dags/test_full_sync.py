"""The full sync DAG: everything compared, what is gone deleted, and the brake on deletions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dags.conftest import Stage, load_dag

pytestmark = pytest.mark.usefixtures("airflow_database")
DAG_ID = "mailchimp_full_sync__demo"


def run(**conf: Any) -> str:
    dag = load_dag(DAG_ID)
    for task in dag.tasks:
        task.retries = 0
    return dag.test(run_conf=conf).state


def test_it_has_the_phases_of_the_push_and_looks_at_everything() -> None:
    dag = load_dag(DAG_ID)
    assert set(dag.task_dict) == set(load_dag("mailchimp_push__demo").task_dict)
    assert dag.params["mode"] == "full"
    assert dag.params.get_param("since").schema["title"] == "Changed since"


def test_it_can_have_a_schedule(stage: Stage) -> None:
    stage.configure(schedule_full_sync="0 3 * * 0")
    assert type(load_dag(DAG_ID).timetable).__name__ == "CronDataIntervalTimetable"


@pytest.mark.slow
def test_it_loads_a_shop_quietly_and_deletes_what_vanished_within_limits(stage: Stage) -> None:
    assert run(entities=["products", "customers"]) == "success"
    assert stage.mails() == 0
    assert stage.store()["is_syncing"] is False
    held = stage.held()["products"]

    live = "SELECT product_id FROM products WHERE deleted_at IS NULL ORDER BY product_id LIMIT 3"
    stage.query(f"CREATE TABLE doomed AS {live}")
    for table in ("product_images", "order_lines", "cart_lines", "variants", "products"):
        stage.query(f"DELETE FROM {table} WHERE product_id IN (SELECT product_id FROM doomed)")
    assert run(entities=["products"]) == "success"
    assert stage.held()["products"] == held - 3

    stage.query("UPDATE products SET deleted_at = now() WHERE product_id % 2 = 0")
    assert run(entities=["products"]) == "failed"
    assert stage.held()["products"] == held - 3
    assert run(entities=["products"], allow_deletes=True) == "success"
    assert stage.held()["products"] < 0.6 * held
