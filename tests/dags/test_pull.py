"""The pull DAG: scheduled by default, and opt-outs at Mailchimp are in the shop after one run."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest

from include.sandbox import people
from include.sandbox.account import DEFAULT_LIST
from tests.dags.conftest import Stage, load_dag

pytestmark = pytest.mark.usefixtures("airflow_database")
DAG_ID = "mailchimp_pull__demo"


def states(dag_run: Any) -> dict[str, str]:
    return {one.task_id: str(one.state) for one in dag_run.get_task_instances()}


def test_it_runs_every_ten_minutes_unless_another_schedule_is_set(stage: Stage) -> None:
    assert load_dag(DAG_ID).schedule is not None
    stage.configure(schedule_pull="never")
    assert load_dag(DAG_ID).schedule is None
    assert load_dag(DAG_ID).params["full"] is False


def test_opt_outs_come_first_and_no_audience_holds_them_up() -> None:
    dag = load_dag(DAG_ID)
    assert dag.task_dict["members"].upstream_task_ids == set()
    assert dag.task_dict["audiences"].upstream_task_ids == {"members"}


def test_a_task_takes_as_many_slots_of_the_pool_as_it_has_connections(stage: Stage) -> None:
    assert {task.pool_slots for task in load_dag(DAG_ID).tasks} == {2}
    stage.configure(max_connections=1)
    assert {task.pool_slots for task in load_dag(DAG_ID).tasks} == {1}


@pytest.mark.slow
def test_an_opt_out_at_mailchimp_is_in_the_shop_after_one_run(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    [(customer_id, email)] = stage.query(
        "SELECT customer_id, email FROM customers JOIN newsletter_consents USING (customer_id) WHERE opted_in LIMIT 1"
    )
    account = stage.sandbox.state.account
    people.import_contacts(account, DEFAULT_LIST, [{"email_address": email}])
    assert load_dag(DAG_ID).test().state == "success"
    people.unsubscribe(account, DEFAULT_LIST, email)
    with caplog.at_level(logging.INFO):
        run = load_dag(DAG_ID).test()
    assert (run.state, states(run)) == ("success", {"audiences": "success", "members": "success"})
    assert "1 changes of consent, 1 customers opted out in the shop" in caplog.text
    assert email not in caplog.text
    last = "SELECT opted_in, source FROM newsletter_consents WHERE customer_id = :id ORDER BY recorded_at DESC LIMIT 1"
    assert stage.query(last, id=customer_id) == [(False, "mailchimp: unsubscribed")]
    assert stage.query("SELECT count(*) FROM mailchimp.audience WHERE pulled_at IS NOT NULL") == [(1,)]


def test_audiences_that_were_just_read_are_left_out_of_a_scheduled_run(stage: Stage) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    from mailchimp_airflow import pull

    context = stage.context()
    context["dag_run"].run_type = "scheduled"
    assert pull.audiences("demo", context) == 1
    with pytest.raises(AirflowSkipException):
        pull.audiences("demo", context)
    context["dag_run"].run_type = "manual"
    assert pull.audiences("demo", context) == 1


def test_while_another_pull_reads_the_audience_only_a_run_that_reads_everything_is_tried_again(stage: Stage) -> None:
    from include.state.bookmarks import PullBusy, pull_lock
    from include.state.database import open_state
    from mailchimp_airflow import pull

    account = stage.sandbox.state.account
    people.import_contacts(account, DEFAULT_LIST, [{"email_address": "ann@mail.little.shop"}])
    with pull_lock(open_state(stage.shop), account.id, DEFAULT_LIST):
        assert pull.members("demo", stage.context(full=False))["read"] == 0
        with pytest.raises(PullBusy):
            pull.members("demo", stage.context(full=True))
    assert pull.members("demo", stage.context(full=False))["read"] == 1


def test_a_push_waits_for_a_pull_that_has_not_read_what_changed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed a short while ago is good enough; of an audience that was never read nothing is known."""
    from include.state.bookmarks import PullBusy, pull_lock
    from include.state.database import open_state
    from mailchimp_airflow import pull

    monkeypatch.setattr(pull, "_PATIENCE", timedelta(seconds=0.5))
    account = stage.sandbox.state.account
    people.import_contacts(account, DEFAULT_LIST, [{"email_address": "ann@mail.little.shop"}])
    state = open_state(stage.shop)
    with pull_lock(state, account.id, DEFAULT_LIST), pytest.raises(PullBusy):
        pull.before_push("demo", stage.context())
    assert pull.before_push("demo", stage.context())["read"] == 1
    with pull_lock(state, account.id, DEFAULT_LIST):
        assert pull.before_push("demo", stage.context())["read"] == 0
    stage.query("UPDATE mailchimp.pull_bookmark SET finished_at = now() - interval '1 hour'")
    with pull_lock(state, account.id, DEFAULT_LIST), pytest.raises(PullBusy):
        pull.before_push("demo", stage.context())


@pytest.mark.parametrize("dag", ["push", "full_sync", "replay", "backfill_subscribers"])
def test_every_form_that_is_left_as_it_is_has_consent_read_before_people_are_sent(stage: Stage, dag: str) -> None:
    """Found in review: a replay's form names no entities, which means all, and was taken for none."""
    from mailchimp_airflow import pull

    people.import_contacts(stage.sandbox.state.account, DEFAULT_LIST, [{"email_address": "ann@mail.little.shop"}])
    form = load_dag(f"mailchimp_{dag}__demo").params.dump()
    assert pull.before_push("demo", stage.context(**form))["read"] == 1
    assert pull.before_push("demo", stage.context(**form | {"entities": ["products"]})) == {}
