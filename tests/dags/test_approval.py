"""A run that would subscribe too many new people stops and asks; no answer is a no."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from tests.dags.conftest import Stage, load_dag

pytestmark = pytest.mark.usefixtures("airflow_database")
DAG_ID = "mailchimp_push__demo"


def test_a_store_without_a_limit_is_never_asked_about() -> None:
    assert not any(name.startswith("new_subscribers") for name in load_dag(DAG_ID).task_dict)


def test_the_question_comes_before_anything_is_sent(stage: Stage) -> None:
    stage.configure(max_new_subscribers=10)
    tasks = load_dag(DAG_ID).task_dict
    assert tasks["new_subscribers.approve"].defaults == ["Reject"]
    assert "new_subscribers.approve" in tasks["products.plan"].upstream_task_ids


@contextmanager
def answered(option: str) -> Iterator[None]:
    """Answer the question of a run as the Required Actions page does, as soon as it is asked."""
    done = threading.Event()

    def answer() -> None:
        from airflow.models.hitl import HITLDetail
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.trigger import handle_event_submit
        from airflow.triggers.base import TriggerEvent
        from airflow.utils.session import create_session

        while not done.wait(0.2):
            with create_session() as session:
                waiting = session.query(TaskInstance).filter(TaskInstance.state == "awaiting_input").one_or_none()
                if waiting is not None:
                    detail = session.get(HITLDetail, waiting.id)
                    detail.chosen_options, detail.params_input = [option], {}
                    detail.responded_at, detail.responded_by = datetime.now(UTC), {"id": "1", "name": "Ada"}
                    event = TriggerEvent(detail.as_resume_event_payload())
                    handle_event_submit(event, task_instance=waiting, session=session)
                    return

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=10)


@pytest.mark.slow
@pytest.mark.parametrize(("option", "state"), [("Reject", "failed"), ("Approve", "success")])
def test_the_answer_decides(stage: Stage, option: str, state: str) -> None:
    stage.configure(max_new_subscribers=10)
    dag = load_dag(DAG_ID)
    for task in dag.tasks:
        task.retries = 0
    with answered(option):
        assert dag.test(run_conf={"entities": ["members"]}).state == state
    [(sent,)] = stage.query("SELECT count(*) FROM mailchimp.ledger WHERE entity = 'members' AND on_mailchimp")
    assert (sent > 10) is (option == "Approve")


@pytest.mark.slow
def test_a_run_within_the_limit_asks_nobody(stage: Stage) -> None:
    stage.configure(max_new_subscribers=100_000)
    assert load_dag(DAG_ID).test(run_conf={"entities": ["members"]}).state == "success"
    assert stage.query("SELECT count(*) > 100 FROM mailchimp.ledger WHERE entity = 'members'") == [(True,)]
