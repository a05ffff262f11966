"""A run by Airflow, at DEBUG and with a task that fails: neither task logs nor XCom nor the state name a person."""

from __future__ import annotations

import os
from typing import Any

import pytest
from sqlalchemy import create_engine

from tests.dags.conftest import Stage, load_dag
from tests.privacy.canaries import IP, PHONE, POSTCODE, Recorder, leaks, quietly, state_rows

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("airflow_database")]


def shop_sql(stage: Stage, sql: str, **values: Any) -> list[Any]:
    """Read or change the shop behind SQLAlchemy's back: what is heard is what the run itself says."""
    return quietly(stage.shop, sql, **values)


def rename_everybody(stage: Stage) -> None:
    """Turn the sample's people into canaries."""
    shop_sql(
        stage,
        "UPDATE customers SET first_name = 'Kanarienvogel', last_name = 'Kanarienvogel', company = 'Kanarienvogel KG', "
        "phone = :phone, email = CASE WHEN email LIKE '%@%' THEN 'kanarienvogel.' || email ELSE email END",
        phone=PHONE,
    )
    shop_sql(
        stage,
        "UPDATE addresses SET name = 'Kanarienvogel', company = 'Kanarienvogel', address1 = 'Kanarienvogelgasse 1', "
        "city = 'Kanarienvogelburg', postal_code = :postcode, phone = :phone",
        postcode=POSTCODE,
        phone=PHONE,
    )
    shop_sql(stage, "UPDATE newsletter_consents SET ip = :ip", ip=IP)
    shop_sql(stage, "UPDATE orders SET landing_site = 'https://little.shop/?name=kanarienvogel'")


def metadata_rows() -> list[str]:
    """Everything that Airflow keeps: XCom, the runs' settings, notes, its own log of events."""
    engine = create_engine(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    rows = [f"{table}: {row}" for table, row in state_rows(engine, "public")]
    engine.dispose()
    return rows


def run(**conf: Any) -> str:
    dag = load_dag("mailchimp_push__demo")
    for task in dag.tasks:
        task.retries = 0
    return str(dag.test(run_conf=conf).state)


def test_nobody_is_named(
    stage: Stage,
    recorder: Recorder,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__LOGGING__LOGGING_LEVEL", "DEBUG")
    stage.configure(merge_fields={"FNAME": "first_name", "PHONE": "phone"}, max_rejected_percent=100)
    rename_everybody(stage)
    assert run() == "success"
    # One request each way, then a column of the customers that PostgreSQL can't convert, and says so with its value.
    person, email = shop_sql(
        stage,
        "SELECT min(customer_id), min(email) FROM customers "
        "WHERE NOT is_guest AND deleted_at IS NULL AND email LIKE '%@%'",
    )[0]
    shop_sql(stage, "INSERT INTO erasure_requests (customer_id) VALUES (:id)", id=person)
    shop_sql(stage, "INSERT INTO erasure_requests (email) VALUES (:email)", email=email)
    assert run(dry_run=True) == "success"
    assert run() == "success"
    assert len(shop_sql(stage, "SELECT erasure_id FROM mailchimp.erasures WHERE erased_at IS NOT NULL")) == 2
    shop_sql(stage, "ALTER TABLE newsletter_consents RENAME TO consents")
    shop_sql(
        stage,
        "CREATE VIEW newsletter_consents AS SELECT consent_id, customer_id, opted_in, recorded_at, source, "
        "((SELECT first_name FROM customers c WHERE c.customer_id = consents.customer_id)::integer)::text AS ip "
        "FROM consents",
    )
    assert run(mode="full") == "failed"

    printed = "".join(capfd.readouterr())
    assert "ExtractFailed" in printed + recorder.stream.getvalue()
    assert leaks(recorder.lines()) == []
    assert leaks(printed.splitlines()) == []
    assert leaks(recorder.urls) == []
    assert leaks([f"{table}: {row}" for table, row in state_rows(stage.shop)]) == []
    assert leaks(metadata_rows()) == []
    assert stage.sandbox.api_key not in printed + recorder.stream.getvalue()
