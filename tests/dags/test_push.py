"""The push DAG: its shape, whole runs against the sandbox, and how it refuses to start on wrong input."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from include.demo.changes import apply_changes
from include.demo.planted import planted_rejects
from include.sandbox import people
from include.sandbox.account import DEFAULT_LIST
from tests.dags.conftest import Stage
from tests.dags.conftest import load_dag as load

DAG_ID = "mailchimp_push__demo"


def load_dag() -> Any:
    return load(DAG_ID)


def run_dag(**conf: Any) -> str:
    dag_run = load_dag().test(run_conf=conf)
    assert dag_run.state == "success"
    return dag_run.run_id


@pytest.mark.usefixtures("airflow_database")
class TestShape:
    def test_phases_follow_each_other_behind_barriers(self) -> None:
        from include.load.phases import PHASES

        tasks = load_dag().task_dict
        phases = list(PHASES)
        assert phases.index("closed_carts") < phases.index("orders") < phases.index("carts")
        for before, after in itertools.pairwise(phases):
            behind = "pull_consent" if after == "members" else f"{before}.push"
            assert tasks[f"{after}.plan"].upstream_task_ids == {behind, "prepare"}
        assert tasks["summarise"].is_teardown

    def test_consent_is_pulled_right_before_people_are_pushed_whether_there_were_products_or_not(self) -> None:
        pull_consent = load_dag().task_dict["pull_consent"]
        assert pull_consent.upstream_task_ids == {"products.push", "prepare"}
        assert pull_consent.trigger_rule == "none_failed_min_one_success"

    def test_it_is_documented_owned_and_tagged(self) -> None:
        dag = load_dag()
        assert "rejected_records" in dag.doc_md
        assert dag.tags >= {"mailchimp", "push", "demo"}
        assert {task.owner for task in dag.tasks} == {"data-engineering"}

    def test_a_run_covers_an_interval(self) -> None:
        assert type(load_dag().timetable).__name__ == "CronDataIntervalTimetable"

    def test_every_param_has_a_title_in_the_form(self) -> None:
        dag = load_dag()
        assert all(dag.params.get_param(name).schema.get("title") for name in dag.params)

    def test_push_tasks_share_the_accounts_pool(self) -> None:
        dag = load_dag()
        pushes = {task.task_id for task in dag.tasks if task.task_id.endswith(".push")}
        assert len(pushes) == 9
        pooled = {task.task_id for task in dag.tasks if task.pool == "mailchimp"}
        assert pooled >= pushes | {"prepare", "dry_run", "erase", "pull_consent"}


@pytest.mark.slow
@pytest.mark.usefixtures("airflow_database")
def test_everything_is_sent_once_then_nothing_then_exactly_what_changed(stage: Stage) -> None:
    run_dag()
    held = stage.held()
    known = dict(stage.query("SELECT entity, count(*) FROM mailchimp.ledger WHERE on_mailchimp GROUP BY entity"))
    del known["members"]  # they are the audience's
    assert held == known
    assert known["orders"] > 1_900
    # Filling the store made no automation write to anybody; now they work.
    assert stage.mails() == 0
    assert stage.store()["is_syncing"] is False
    rejected = stage.query(
        "SELECT entity, coalesce(source_key, record_id) FROM mailchimp.ledger "
        "WHERE state = 'rejected' AND entity <> 'members'"
    )
    assert set(rejected) == {(record.entity, record.record_id) for record in planted_rejects()}

    before = stage.operations()
    run_dag(mode="full")
    assert stage.operations() == before

    changes = apply_changes(stage.shop)
    run_id = run_dag()
    sent = stage.query(
        """
        SELECT b.entity, coalesce(l.source_key, l.record_id)
        FROM mailchimp.run r JOIN mailchimp.batch b USING (run_ref) JOIN mailchimp.operation o USING (batch_ref)
        JOIN mailchimp.ledger l ON (l.store_ref, l.entity, l.record_id) = (b.store_ref, b.entity, o.record_id)
        WHERE r.dag_run_id = :run_id AND o.outcome = 'ok'
        """,
        run_id=run_id,
    )
    # A customer's new name is the contact's too.
    contacts = [record for record in sent if record[0] == "members"]
    assert sorted(set(sent) - set(contacts)) == sorted((change.entity, change.record_id) for change in changes)
    assert stage.operations() == before + len(changes) + len(contacts)


@pytest.mark.slow
@pytest.mark.usefixtures("airflow_database")
def test_who_opted_out_at_mailchimp_is_opted_out_in_the_shop_before_people_are_pushed(stage: Stage) -> None:
    [(customer_id, email)] = stage.query(
        "SELECT customer_id, email FROM customers JOIN newsletter_consents USING (customer_id) WHERE opted_in LIMIT 1"
    )
    run_dag(entities=["members"])
    people.unsubscribe(stage.sandbox.state.account, DEFAULT_LIST, email)
    stage.query("UPDATE customers SET last_name = 'Moved' WHERE customer_id = :id", id=customer_id)
    before = stage.operations()
    run_dag(entities=["members", "customers"], ids=[])
    answers = "SELECT opted_in, source FROM newsletter_consents WHERE customer_id = :id ORDER BY recorded_at DESC"
    assert stage.query(answers, id=customer_id)[0] == (False, "mailchimp: unsubscribed")
    members = "SELECT count(*) FROM mailchimp.batch WHERE entity = 'members'"
    assert stage.query(members) == [(1,)], "what Mailchimp has told is not told to it"
    assert stage.operations() > before


@pytest.mark.slow
@pytest.mark.usefixtures("airflow_database")
def test_a_run_without_people_asks_nobody_about_consent(stage: Stage) -> None:
    run_dag(entities=["products"], ids=["26081"])
    assert stage.query("SELECT count(*) FROM mailchimp.pull_bookmark") == [(0,)]


@pytest.mark.slow
@pytest.mark.usefixtures("airflow_database")
def test_single_records_can_be_sent(stage: Stage) -> None:
    run_dag(entities=["products"], ids=["26081", "26190"])
    assert stage.held()["products"] == 2


def bad_key(stage: Stage) -> None:
    stage.connect_mailchimp(password="not-a-key-us0")


def no_mailchimp(stage: Stage) -> None:
    stage.connect_mailchimp(host="http://127.0.0.1:9/3.0")


def no_shop(stage: Stage) -> None:
    stage.connect("shop_db", conn_type="postgres", host="127.0.0.1", port=9, login="nobody", schema="shop")


def missing_column(stage: Stage) -> None:
    stage.query("ALTER TABLE products RENAME COLUMN title TO name")


def unknown_setting(stage: Stage) -> None:
    stage.configure(batch_size=7)


def unknown_audience(stage: Stage) -> None:
    stage.configure(list_id="ffff000000")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (bad_key, ["refuses the API key", "mailchimp", "create a key"]),
        (no_mailchimp, ["can't be reached", "Check the connection's host"]),
        (no_shop, ["shop database can't be reached", "AIRFLOW_CONN_SHOP_DB"]),
        (missing_column, ["products.sql", "title"]),
        (unknown_setting, ["batch_size", "batch_bytes"]),
        (unknown_audience, ["ffff000000", "a1b2c3d4e5", "list_id"]),
    ],
)
def test_wrong_input_stops_the_run_before_anything_is_sent(
    stage: Stage, spoil: Callable[[Stage], None], words: list[str]
) -> None:
    from mailchimp_airflow import push

    spoil(stage)
    with pytest.raises(Exception) as refusal:  # noqa: PT011 - the types differ, the text is the point
        push.begin("demo", stage.context())
    assert all(word.lower() in str(refusal.value).lower() for word in words), str(refusal.value)
    assert stage.held() == {}


def test_ids_need_exactly_one_entity(stage: Stage) -> None:
    from mailchimp_airflow import push

    with pytest.raises(push.PreflightFailed, match="choose one"):
        push.begin("demo", stage.context(ids=["1"]))


def test_a_window_must_not_end_before_it_begins(stage: Stage) -> None:
    from mailchimp_airflow import push

    with pytest.raises(push.PreflightFailed, match="ends before it begins"):
        push.begin("demo", stage.context(since="2026-11-02T00:00:00+00:00", until="2026-11-01T00:00:00+00:00"))


def test_a_store_of_another_integration_is_left_alone(stage: Stage) -> None:
    from mailchimp_airflow import push

    other = {"id": "demo-shop", "list_id": "a1b2c3d4e5", "name": "x", "currency_code": "USD", "platform": "Shopware"}
    stage.write("/ecommerce/stores", other, method="POST")
    with pytest.raises(push.PreflightFailed, match="another integration"):
        push.begin("demo", stage.context())


@pytest.mark.slow
@pytest.mark.usefixtures("airflow_database")
class TestNothingIsLost:
    def test_a_run_that_cannot_begin_is_a_failed_run(self, stage: Stage) -> None:
        unknown_audience(stage)
        assert load_dag().test().state == "failed"
        assert stage.held() == {}

    def test_a_run_with_a_failed_phase_is_a_failed_run_and_the_next_one_mends_it(self, stage: Stage) -> None:
        stage.query("ALTER TABLE product_images RENAME TO pictures")
        stage.query("CREATE VIEW product_images AS SELECT * FROM pictures WHERE 1 / (image_id - image_id) = 0")
        dag = load_dag()
        for task in dag.tasks:
            task.retries = 0
        assert dag.test().state == "failed"
        assert stage.query("SELECT state FROM mailchimp.runs") == [("failed",)]
        stage.query("DROP VIEW product_images")
        stage.query("ALTER TABLE pictures RENAME TO product_images")
        run_dag()
        assert stage.held()["products"] == 509
