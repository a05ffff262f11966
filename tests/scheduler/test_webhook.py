"""In a real Airflow: Mailchimp calls the API server, the triggerer notices, and the shop knows seconds later."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import text

from local.environment import LOGIN, PASSWORD, SHOP_DATABASE, LocalEnvironment, Ports
from local.services import load_shop, local_run, start_airflow, start_metadata, start_sandbox
from tests.free_port import free_port
from tests.scheduler.airflow_api import ENDED, AirflowApi

PULL, WEBHOOK = "mailchimp_pull__demo", "mailchimp_webhook__demo"
LIST_ID = "a1b2c3d4e5"
STORE = {
    "key": "demo",
    "store_id": "demo-shop",
    "list_id": LIST_ID,
    "profile": "reference",
    "webhooks": True,
    "schedule_push": None,
    "schedule_pull": None,
    "schedule_campaigns": None,
}


@dataclass
class Running:
    """Airflow with a shop and a Mailchimp."""

    environment: LocalEnvironment
    airflow: AirflowApi

    @property
    def url(self) -> str:
        """What Mailchimp is told to call."""
        return f"{self.environment.ui_url}/mailchimp/webhooks/demo"

    def query(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.environment.postgres.engine(SHOP_DATABASE).begin() as connection:
            return [tuple(row) for row in connection.execute(text(sql), values)]

    def people(self, action: str, **deed: Any) -> None:
        """Act as a contact or the marketer."""
        page = f"{self.environment.sandbox_page}/sandbox/people/{action}"
        requests.post(page, json={"list_id": LIST_ID, **deed}, timeout=30).raise_for_status()

    def make_webhook(self) -> str:
        """Register the address at Mailchimp; returns the secret."""
        key = self.environment.connections["mailchimp"]["password"]
        made = requests.post(
            f"{self.environment.sandbox_page}/3.0/lists/{LIST_ID}/webhooks",
            json={"url": self.url, "sources": {"user": True, "admin": True, "api": False}},
            auth=("any", key),
            timeout=30,
        )
        assert made.ok, made.text
        return str(made.json()["signing_secret"])

    def wait_until_opted_out(self, *customers: int) -> None:
        newest = """
            SELECT DISTINCT ON (customer_id) opted_in, source FROM newsletter_consents WHERE customer_id = ANY (:ids)
            ORDER BY customer_id, recorded_at DESC, consent_id DESC
        """
        told = [(False, "mailchimp: unsubscribed")] * len(customers)
        self.airflow.wait_until(lambda: self.query(newest, ids=list(customers)) == told, "opt-outs in the shop", 120)

    def unsigned_call(self) -> int:
        """Call as anybody may; returns the status, which comes long before Mailchimp gives up."""
        begun = time.monotonic()
        status = requests.post(self.url, data=b"type=unsubscribe", timeout=30).status_code
        assert time.monotonic() - begun < 9
        return status

    def unsubscribed_after(self, customer_id: int, address: str) -> float:
        """Unsubscribe somebody; returns how many seconds later the shop knows."""
        begun = time.monotonic()
        self.people("unsubscribe", email=address)
        self.wait_until_opted_out(customer_id)
        return time.monotonic() - begun

    def wait_until_quiet(self) -> dict[str, dict[str, Any]]:
        """Wait until no event is waiting and no run is at work; returns the runs."""
        waiting = "SELECT count(*) FROM mailchimp.webhook_event WHERE processed_at IS NULL"

        def quiet() -> bool:
            runs = self.airflow.runs(WEBHOOK).values()
            return self.query(waiting) == [(0,)] and all(run["state"] in ENDED for run in runs)

        self.airflow.wait_until(quiet, "the end of all runs", 120)
        return self.airflow.runs(WEBHOOK)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    # Not pytest's tmp_path: its long names exceed what a Unix socket's path may have.
    folder = Path(tempfile.mkdtemp(prefix="mailchimp-scheduler-"))
    monkeypatch.setenv("STORES_FILE", str(folder / "stores.yaml"))
    (folder / "stores.yaml").write_text(json.dumps({"stores": [STORE]}), encoding="utf-8")  # JSON is YAML
    try:
        with local_run(folder / "state", Ports(free_port(), free_port())) as (environment, processes):
            metadata = start_metadata(environment, processes)
            load_shop(environment, processes, "small")
            processes.finish(metadata)
            start_sandbox(environment, processes, hurried=True)
            start_airflow(environment, processes)
            yield Running(environment, AirflowApi(environment.ui_url, LOGIN, PASSWORD, processes.check))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_unsubscribe_at_mailchimp_is_in_the_shop_within_seconds_and_many_make_few_runs(running: Running) -> None:
    airflow = running.airflow
    found = running.query(
        "SELECT min(customer_id), email FROM customers JOIN newsletter_consents USING (customer_id) "
        "WHERE email LIKE '_%@_%' GROUP BY email HAVING bool_and(opted_in) AND count(*) = 1 ORDER BY 1 LIMIT 60"
    )
    customers, addresses = [row[0] for row in found], [row[1] for row in found]
    running.people("import", contacts=[{"email_address": one} for one in addresses])
    for dag_id in (PULL, WEBHOOK):
        airflow.unpause(dag_id)
    assert airflow.wait_for_run(PULL, airflow.trigger(PULL)) == "success"

    # The address is asked for before the secret is known; then that is put into the stored connection, as in the UI.
    secret = running.make_webhook()
    stored = {"connection_id": "mailchimp", "conn_type": "mailchimp", "extra": json.dumps({"webhook_secret": secret})}
    airflow.call("PATCH", "/connections/mailchimp?update_mask=extra", stored)
    airflow.wait_until(lambda: running.unsigned_call() == 401, "the secret", 30)

    # The watcher has found no tables until the pull made them: it may be in one of its pauses. Then it is quick.
    took = [running.unsubscribed_after(*one) for one in zip(customers[:2], addresses, strict=False)]
    assert took[1] < 60
    before = len(running.wait_until_quiet())
    for address in addresses[2:]:
        running.people("unsubscribe", email=address)
    running.wait_until_opted_out(*customers)
    runs = running.wait_until_quiet()
    print(f"{took[0]:.1f} s, {took[1]:.1f} s; {before} runs, then {len(runs) - before} for {len(addresses) - 2}")
    assert {(run["run_type"], run["state"]) for run in runs.values()} == {("asset_triggered", "success")}
    assert len(runs) - before <= 15  # not one for each
    trail = "SELECT source, count(*) FROM mailchimp.consent_event WHERE to_status = 'unsubscribed' GROUP BY 1"
    assert running.query(trail) == [("webhook", len(addresses))]
    assert airflow.wait_for_run(PULL, airflow.trigger(PULL)) == "success"
    assert running.query(trail) == [("webhook", len(addresses))]

    logs = [file for file in running.environment.state_dir.rglob("*.log") if file.is_file()]
    told = "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in logs)
    assert "events of webhooks worked off" in told
    assert secret not in told
    assert not [one for one in addresses if one in told]
