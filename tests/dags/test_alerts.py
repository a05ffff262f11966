"""Who is told when runs fail: once per incident, in words that help, with nobody's name in them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator
from sqlalchemy import delete

from include.config.stores import SettingsError, StoreSettings, load_stores
from tests.dags.conftest import DAGS, Stage, load_dag
from tests.dags.notes import noted

DAG_ID = "mailchimp_push__demo"
REPLAY, RECONCILE = "mailchimp_replay__demo", "mailchimp_reconcile__demo"
NOTE = "tests.dags.notes.Note"


@pytest.fixture
def notes(stage: Stage, airflow_database: None) -> Path:
    """Where the messages of the store's runs go; nothing is known of earlier incidents."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    with create_session() as session:
        session.execute(delete(Variable).where(Variable.key.like("mailchimp_incident__%")))
    file = stage.folder / "notes"
    stage.configure(notify=[{"notifier": NOTE, "kwargs": {"path": str(file)}}])
    return file


def run(dag_id: str = DAG_ID, **conf: Any) -> str:
    dag = load_dag(dag_id)
    for task in dag.tasks:
        task.retries = 0
    return str(dag.test(run_conf=conf).state)


def settings(**own: Any) -> StoreSettings:
    known = {"key": "demo", "store_id": "demo-shop", "list_id": "a1b2c3d4e5", "profile": "reference"}
    return StoreSettings(**known | own)


# Whole runs


@pytest.mark.slow
def test_one_message_per_incident_and_one_when_it_is_over(stage: Stage, notes: Path) -> None:
    stage.connect_mailchimp(password="not-a-key-us0")
    assert [run(), run()] == ["failed", "failed"]
    [(subject, text)] = noted(notes)
    assert subject == "mailchimp_push__demo failed"
    assert "prepare: " in text
    assert "refuses the API key" in text
    assert "/dags/mailchimp_push__demo/runs/manual__" in text

    stage.query("ALTER TABLE products RENAME COLUMN title TO name")
    stage.connect_mailchimp()
    assert run() == "failed"  # for another reason
    assert len(noted(notes)) == 2
    assert "products.sql" in noted(notes)[1][1]

    stage.query("ALTER TABLE products RENAME COLUMN name TO title")
    assert [run(entities=["products"]), run(entities=["products"])] == ["success", "success"]
    assert len(noted(notes)) == 3
    subject, text = noted(notes)[2]
    assert subject == "mailchimp_push__demo succeeds again"
    assert "3 before it had failed" in text


@pytest.mark.slow
def test_too_many_rejections_are_told_with_their_classes_and_without_anybodys_address(
    stage: Stage, notes: Path
) -> None:
    stage.query("UPDATE customers SET email = 'nobody' || customer_id WHERE customer_id % 5 = 0")
    assert run(entities=["customers"]) == "failed"
    [(_, text)] = noted(notes)
    assert "max_rejected_percent" in text
    assert "Rejected: customers: " in text
    assert "nobody" not in text
    assert "@" not in text


@pytest.mark.slow
def test_replays_and_reconciliations_have_incidents_of_their_own(stage: Stage, notes: Path) -> None:
    stage.connect_mailchimp(password="not-a-key-us0")
    assert [run(REPLAY), run(RECONCILE), run(RECONCILE)] == ["failed", "failed", "failed"]
    assert load_dag(RECONCILE).task_dict["conclude"].upstream_task_ids == {"send"}
    assert [subject for subject, _ in noted(notes)] == [f"{REPLAY} failed", f"{RECONCILE} failed"]

    stage.connect_mailchimp()
    stage.query(
        "UPDATE products SET title = '' "
        "WHERE product_id = (SELECT min(product_id) FROM products WHERE deleted_at IS NULL)"
    )
    assert [run(entities=["products"]), run(RECONCILE), run(REPLAY)] == ["success", "success", "success"]
    assert [subject for subject, _ in noted(notes)[2:]] == [f"{RECONCILE} succeeds again", f"{REPLAY} succeeds again"]


@pytest.mark.slow
def test_a_dry_run_is_nobodys_business(stage: Stage, notes: Path) -> None:
    assert run(dry_run=True) == "success"
    assert noted(notes) == []


@pytest.mark.slow
def test_who_cannot_be_reached_holds_back_nobody_else(
    stage: Stage, notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage.configure(
        notify=[{"notifier": "tests.dags.notes.Broken"}, {"notifier": NOTE, "kwargs": {"path": str(notes)}}],
        list_id="ffff000000",
    )
    assert run() == "failed"
    assert [subject for subject, _ in noted(notes)] == ["mailchimp_push__demo failed"]
    assert "ops@example.com" not in caplog.text


# What is an incident


class Recalled:
    """Airflow's Variables, in memory."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None, deserialize_json: bool = False) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any, serialize_json: bool = False) -> None:
        self.values[key] = value

    def delete(self, key: str) -> None:
        del self.values[key]


class Run:
    """What Airflow hands to a callback of a run's last task."""

    def __init__(self, kind: str, number: int, reason: str | None = None) -> None:
        self.run_type = kind
        self.run_id = f"{kind}__{number}"
        self.reason = reason

    @property
    def context(self) -> dict[str, Any]:
        with DAG(DAG_ID, schedule=None) as dag:
            BaseOperator(task_id="summarise")
        return {"dag": dag, "dag_run": self, "run_id": self.run_id, "ti": self}

    def xcom_pull(self, task_ids: str, key: str) -> str | None:
        return self.reason


@pytest.fixture
def recalled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recalled:
    from mailchimp_airflow import alerts

    recalled = Recalled()
    monkeypatch.setattr(alerts, "Variable", recalled)
    stage_of(monkeypatch, tmp_path)
    return recalled


def stage_of(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    file = folder / "stores.yaml"
    file.write_text(
        "stores: [{key: demo, store_id: s, list_id: l, profile: reference, deadline_minutes: 30, "
        f"notify: [{{notifier: {NOTE}, kwargs: {{path: {folder / 'notes'}}}}}]}}]",
        encoding="utf-8",
    )
    monkeypatch.setenv("STORES_FILE", str(file))


def subjects(folder: Path) -> list[str]:
    return [subject.removeprefix(f"{DAG_ID} ") for subject, _ in noted(folder / "notes")]


@pytest.mark.usefixtures("recalled")
def test_the_same_reason_with_other_figures_is_the_same_incident(tmp_path: Path) -> None:
    from mailchimp_airflow import alerts

    for number, reason in enumerate(["orders 3.5 % (7 of 200)", "orders 12 % (1 of 8)", "customers 4 % (2 of 50)"]):
        alerts.tell_failure("demo", Run("scheduled", number, reason).context)
    assert subjects(tmp_path) == ["failed", "failed"]


@pytest.mark.usefixtures("recalled")
def test_reasons_that_take_turns_are_told_once_each(tmp_path: Path) -> None:
    from mailchimp_airflow import alerts

    for number in range(6):
        reason = ("No reply: ReadTimeout", "Mailchimp is down (502)")[number % 2]
        alerts.tell_failure("demo", Run("scheduled", number, reason).context)
    assert subjects(tmp_path) == ["failed", "failed"]
    alerts.tell_recovery("demo", Run("scheduled", 6).context)
    assert subjects(tmp_path) == ["failed", "failed", "succeeds again"]


@pytest.mark.usefixtures("recalled")
def test_a_backfill_and_the_schedule_do_not_answer_for_each_other(tmp_path: Path) -> None:
    from mailchimp_airflow import alerts

    alerts.tell_failure("demo", Run("scheduled", 1, "down").context)
    alerts.tell_recovery("demo", Run("backfill", 2).context)
    assert subjects(tmp_path) == ["failed"]
    alerts.tell_recovery("demo", Run("scheduled", 3).context)
    assert subjects(tmp_path) == ["failed", "succeeds again"]


@pytest.mark.usefixtures("recalled")
def test_a_backfills_incident_ends_with_the_last_of_its_failed_runs(tmp_path: Path) -> None:
    """While it lasts, runs that succeed in between neither end it nor begin it anew."""
    from mailchimp_airflow import alerts

    for number in (1, 2, 3):
        alerts.tell_failure("demo", Run("backfill", number, "down").context)
        alerts.tell_recovery("demo", Run("backfill", 10 + number).context)
    assert subjects(tmp_path) == ["failed"]
    for number in (1, 2, 3):
        alerts.tell_recovery("demo", Run("backfill", number).context)
    assert subjects(tmp_path) == ["failed", "succeeds again"]


@pytest.mark.parametrize(("kind", "told"), [("backfill", 2), ("manual", 2), ("scheduled", 1)])
def test_an_incident_that_nothing_need_end_is_forgotten_after_a_day(
    recalled: Recalled, tmp_path: Path, kind: str, told: int
) -> None:
    from mailchimp_airflow import alerts

    alerts.tell_failure("demo", Run(kind, 1, "down").context)
    [incident] = recalled.values.values()
    incident["told_at"] = "2026-01-01T00:00:00+00:00"
    alerts.tell_failure("demo", Run(kind, 2, "down").context)
    assert subjects(tmp_path) == ["failed"] * told


@pytest.mark.usefixtures("recalled")
def test_late_runs_are_told_once_until_one_is_in_time(tmp_path: Path) -> None:
    from mailchimp_airflow import alerts

    def late(number: int, kind: str = "scheduled") -> None:
        run = {"dag_id": DAG_ID, "dag_run_id": f"{kind}__{number}", "run_type": kind}
        asyncio.run(alerts.tell_late("demo", {"dag_run": run}))

    late(1)
    alerts.tell_recovery("demo", Run("scheduled", 1).context)  # it succeeded, but late
    late(2)
    late(3, "backfill")
    assert subjects(tmp_path) == ["is late"]
    alerts.tell_recovery("demo", Run("scheduled", 3).context)
    late(4)
    assert subjects(tmp_path) == ["is late", "is late"]
    assert "30 minutes" in noted(tmp_path / "notes")[0][1]


def test_nobody_told_means_not_told(monkeypatch: pytest.MonkeyPatch, recalled: Recalled, tmp_path: Path) -> None:
    """The next run tries again."""
    from mailchimp_airflow import alerts

    file = tmp_path / "stores.yaml"
    told = file.read_text(encoding="utf-8")
    file.write_text(told.replace(NOTE, "tests.dags.notes.Broken").replace(f"path: {tmp_path / 'notes'}", ""))
    alerts.tell_failure("demo", Run("scheduled", 1, "down").context)
    assert recalled.values == {}
    file.write_text(told)
    alerts.tell_failure("demo", Run("scheduled", 2, "down").context)
    assert subjects(tmp_path) == ["failed"]


# The settings


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"notifier": "airflow.providers.nowhere.Notifier"}, ["demo", "notify", "can't be imported", "install"]),
        ({"notifier": "tests.dags.notes.Nobody"}, ["can't be imported", "Nobody"]),
        ({"notifier": "tests.dags.notes.NOT_A_NOTIFIER"}, ["is no notifier"]),
        ({"notifier": NOTE, "kwargs": {"paths": "x"}}, ["given kwargs", "path"]),
    ],
)
def test_a_notifier_that_cannot_be_used_is_refused_when_the_dags_are_parsed(
    stage: Stage, entry: dict[str, Any], words: list[str]
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    stage.configure(notify=[entry])
    [error] = DagBag(dag_folder=str(DAGS / "push.py")).import_errors.values()
    assert all(word in error for word in words), error


@pytest.mark.parametrize("entry", [{"notifier": "Smtp"}, {"class": NOTE}, {"notifier": NOTE, "to": "x"}])
def test_entries_that_are_no_notifiers_are_refused_with_the_settings(stage: Stage, entry: dict[str, Any]) -> None:
    stage.configure(notify=[entry])
    with pytest.raises(SettingsError, match="notify"):
        load_stores()


def test_airflows_mail_notifier_gets_subject_and_text_by_itself() -> None:
    from mailchimp_airflow.alerts import make_notifiers

    smtp = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
    own = {"to": "ops@example.com", "from_email": "airflow@example.com", "subject": "Mailchimp!"}
    [notifier] = make_notifiers(settings(notify=[{"notifier": smtp, "kwargs": own}]))
    assert (notifier.subject, notifier.html_content) == ("Mailchimp!", "{{ alert.html }}")  # type: ignore[attr-defined]


def test_without_notifiers_and_deadline_nothing_is_attached() -> None:
    from mailchimp_airflow import alerts

    assert (alerts.of_dag(settings()), alerts.of_tasks(settings()), alerts.of_last_task(settings())) == ({}, {}, {})


def test_a_deadline_counts_from_when_a_run_is_queued(stage: Stage) -> None:
    from airflow.sdk.definitions.deadline import DeadlineReference

    stage.configure(deadline_minutes=30)
    [alert] = load_dag(DAG_ID).deadline
    assert alert.interval.total_seconds() == 1800
    assert alert.reference == DeadlineReference.DAGRUN_QUEUED_AT
    assert alert.callback.path == "mailchimp_airflow.alerts.tell_late"


def test_failed_tasks_are_tried_again_ever_later_mapped_ones_too() -> None:
    """The pipeline's client has repeated its calls by then; what is left takes minutes, not seconds."""
    from airflow.serialization.serialized_objects import DagSerialization

    dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(load_dag(DAG_ID)))
    for name in ("prepare", "orders.plan", "orders.push", "summarise"):
        task = dag.get_task(name)
        assert (task.retries, task.retry_exponential_backoff) == (3, 2)
        assert (task.retry_delay, task.max_retry_delay) == (timedelta(minutes=1), timedelta(minutes=15))
