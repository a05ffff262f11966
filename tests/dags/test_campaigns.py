"""The campaigns DAG: figures first, then activity; a pull that fails goes on where it stopped."""

from __future__ import annotations

import pytest

from include.load.errors import PreflightFailed
from include.sandbox.account import DEFAULT_LIST
from include.sandbox.campaigns import let_react, send_campaign
from tests.dags.conftest import Stage, load_dag

pytestmark = pytest.mark.usefixtures("airflow_database")
DAG_ID = "mailchimp_campaigns__demo"


def test_it_runs_every_six_hours_unless_set_otherwise(stage: Stage) -> None:
    assert load_dag(DAG_ID).schedule is not None
    stage.configure(schedule_campaigns="never")
    assert load_dag(DAG_ID).schedule is None


def test_figures_come_first_and_both_share_the_accounts_pool() -> None:
    dag = load_dag(DAG_ID)
    assert dag.task_dict["activity"].upstream_task_ids == {"figures"}
    assert {task.pool for task in dag.tasks} == {"mailchimp"}


@pytest.mark.slow
def test_a_run_reads_figures_and_activity_once(stage: Stage) -> None:
    account = stage.sandbox.state.account
    campaign_id = send_campaign(account, DEFAULT_LIST, to=[f"reader{one}@mail.little.shop" for one in range(50)])
    let_react(account, campaign_id)
    for _ in range(2):
        run = load_dag(DAG_ID).test()
        assert run.state == "success"
        assert stage.query("SELECT store_key, campaign_id, emails_sent FROM mailchimp.campaign_results") == [
            ("demo", campaign_id, 50)
        ]
        assert stage.query("SELECT count(*) FROM mailchimp.campaign_activity WHERE action = 'sent'") == [(50,)]


def test_an_audience_that_isnt_there_is_told_with_a_remedy(stage: Stage) -> None:
    from mailchimp_airflow import campaigns

    stage.configure(list_id="nowhere")
    with pytest.raises(PreflightFailed, match="Audience 'nowhere' does not exist"):
        campaigns.read_figures("demo")
