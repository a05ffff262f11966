"""The teardown DAG: it lists first, and removes only once the store's id was typed in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dags.conftest import Stage, load_dag

pytestmark = pytest.mark.usefixtures("airflow_database")


def tear_down(**conf: Any) -> str:
    dag = load_dag("mailchimp_teardown__demo")
    for task in dag.tasks:
        task.retries = 0
    return dag.test(run_conf=conf).state


def test_it_is_there_for_stores_that_are_switched_off_too(stage: Stage) -> None:
    stage.configure(enabled=False)
    assert load_dag("mailchimp_teardown__demo").schedule is None


@pytest.mark.slow
def test_nothing_goes_until_the_stores_id_is_typed_in(stage: Stage) -> None:
    assert load_dag("mailchimp_push__demo").test(run_conf={"entities": ["products"]}).state == "success"
    known = "SELECT count(*) FROM mailchimp.ledger"
    [(rows,)] = stage.query(known)

    assert tear_down() == "success"  # it only lists
    assert tear_down(store_id="demo") == "failed"
    assert stage.query(known) == [(rows,)]

    assert tear_down(store_id="demo-shop") == "success"
    assert stage.query(known) == [(0,)]
    assert stage.held()["products"] > 400

    assert tear_down(store_id="demo-shop", remove="state and store") == "success"
    assert stage.held() == {}
