"""The webhook DAG: only where it is asked for, started by its asset, and an opt-out is in the shop after one run."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from include.sandbox import people
from include.sandbox.account import DEFAULT_LIST
from include.state.database import open_state
from include.state.webhooks import ReceivedEvent, store_event
from tests.dags.conftest import DAGS, Stage, load_dag
from tests.pipeline import email_hash

pytestmark = pytest.mark.usefixtures("airflow_database")
DAG_ID = "mailchimp_webhook__demo"


def say(stage: Stage, address: str) -> None:
    """What the endpoint does with a call."""
    event = ReceivedEvent("unsubscribe", datetime.now(UTC), [email_hash(address)], f"{datetime.now(UTC)}")
    assert store_event(open_state(stage.shop), "demo", DEFAULT_LIST, event, timedelta(seconds=20))


def test_there_is_one_only_where_webhooks_are_switched_on(stage: Stage) -> None:
    from airflow.dag_processing.dagbag import DagBag

    assert DAG_ID not in DagBag(dag_folder=str(DAGS)).dags
    stage.configure(webhooks=True)
    assert load_dag(DAG_ID).max_active_runs == 1


def test_it_is_started_by_the_asset_that_the_watcher_updates(stage: Stage) -> None:
    stage.configure(webhooks=True, shop_conn_id="other_db")
    [asset] = load_dag(DAG_ID).timetable.asset_condition.objects
    assert (asset.name, asset.uri) == ("mailchimp_webhooks__demo", "mailchimp://demo/webhooks")
    [watcher] = asset.watchers
    path, arguments = watcher.trigger.serialize()
    assert path.endswith("MailchimpWebhookTrigger")
    assert {name: arguments[name] for name in ("store_key", "shop_conn_id", "state_schema")} == {
        "store_key": "demo",
        "shop_conn_id": "other_db",
        "state_schema": "mailchimp",
    }


@pytest.mark.slow
def test_an_opt_out_is_in_the_shop_after_one_run_and_the_pull_finds_nothing_new(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.configure(webhooks=True)
    [(customer_id, email)] = stage.query(
        "SELECT customer_id, email FROM customers JOIN newsletter_consents USING (customer_id) WHERE opted_in LIMIT 1"
    )
    account = stage.sandbox.state.account
    people.import_contacts(account, DEFAULT_LIST, [{"email_address": email}])
    assert load_dag("mailchimp_pull__demo").test().state == "success"
    people.unsubscribe(account, DEFAULT_LIST, email)
    say(stage, email)
    with caplog.at_level(logging.INFO):
        assert load_dag(DAG_ID).test().state == "success"
    assert "1 events of webhooks worked off" in caplog.text
    assert "1 changes of consent, 1 customers opted out in the shop" in caplog.text
    assert email not in caplog.text
    last = "SELECT opted_in, source FROM newsletter_consents WHERE customer_id = :id ORDER BY recorded_at DESC LIMIT 1"
    assert stage.query(last, id=customer_id) == [(False, "mailchimp: unsubscribed")]
    trail = "SELECT to_status, source, written_back FROM mailchimp.consent_event ORDER BY event_id"
    assert stage.query(trail)[-1] == ("unsubscribed", "webhook", 1)
    recorded = stage.query(trail)
    assert load_dag("mailchimp_pull__demo").test().state == "success"
    assert stage.query(trail) == recorded


def test_while_another_pull_reads_the_audience_they_go_on_waiting(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include.state.bookmarks import pull_lock
    from mailchimp_airflow import pull

    stage.configure(webhooks=True)
    monkeypatch.setattr(pull, "_PATIENCE", timedelta())
    account = stage.sandbox.state.account
    people.import_contacts(account, DEFAULT_LIST, [{"email_address": "ann@mail.little.shop"}])
    pull.members("demo", stage.context(full=False))
    say(stage, "ann@mail.little.shop")
    with pull_lock(open_state(stage.shop), account.id, DEFAULT_LIST):
        assert pull.of_webhooks("demo", stage.context())["worked_off"] == 0
    assert pull.of_webhooks("demo", stage.context())["worked_off"] == 1
