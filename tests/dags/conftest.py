"""A shop, a sandbox Mailchimp and Airflow's connections to both, for tests that run tasks and whole DAGs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from sqlalchemy import Engine, text

from include.embedded_postgres import EmbeddedPostgres
from include.sandbox.server import SandboxServer
from tests.airflow_home import isolate_airflow, socket_folder
from tests.include.demo.sample import sample_shop

isolate_airflow()


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Airflow's metadata tables, made once."""
    from airflow.utils import db

    db.upgradedb()


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer.start(batch_seconds=0.02) as server:
        yield server


DAGS = Path(__file__).resolve().parents[2] / "dags"


def load_dag(dag_id: str) -> Any:
    """Parse the DAG files anew: a run by `dag.test` changes the params of its DAG."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(DAGS))
    assert bag.import_errors == {}
    return bag.dags[dag_id]


@dataclass
class Stage:
    """The small sample shop and an empty sandbox Mailchimp, with Airflow's connections to them in the environment."""

    shop: Engine
    sandbox: SandboxServer
    monkeypatch: pytest.MonkeyPatch
    folder: Path
    runs: int = field(default=0)

    def connect(self, conn_id: str, **fields: Any) -> None:
        """Set an Airflow connection."""
        self.monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    def configure(self, **settings: Any) -> None:
        """Use a settings file of its own."""
        known = {"key": "demo", "store_id": "demo-shop", "list_id": "a1b2c3d4e5", "profile": "reference"}
        file = self.folder / "stores.yaml"
        file.write_text(json.dumps({"stores": [known | settings]}), encoding="utf-8")  # JSON is YAML
        self.monkeypatch.setenv("STORES_FILE", str(file))

    def connect_mailchimp(self, **fields: Any) -> None:
        known = {"conn_type": "mailchimp", "host": self.sandbox.url, "password": self.sandbox.api_key}
        self.connect("mailchimp", **(known | fields))

    def context(self, **params: Any) -> dict[str, Any]:
        """What Airflow hands to a task of a run that was triggered by hand."""
        from mailchimp_airflow.push import params as form

        self.runs += 1
        defaults = {name: param.value for name, param in form().items()}
        dag_run = SimpleNamespace(dag_id="mailchimp_push__demo", run_id=f"run {self.runs}", run_type="manual")
        return {"dag_run": dag_run, "params": defaults | params}

    def held(self) -> dict[str, int]:
        """How many records the sandbox holds, by entity; nothing before the store exists."""
        stores = requests.get(f"{self.sandbox.origin}/sandbox/state", timeout=30).json()["stores"]
        return stores["demo-shop"]["counts"] if stores else {}

    def operations(self) -> int:
        """How many batch operations the sandbox was sent so far."""
        report = requests.get(f"{self.sandbox.origin}/sandbox/requests", timeout=30).json()
        return int(report["operations"])

    def mails(self) -> int:
        """How many mails the sandbox's automations would have sent."""
        return int(requests.get(f"{self.sandbox.origin}/sandbox/mails", timeout=30).json()["total"])

    def store(self) -> dict[str, Any]:
        """The store as Mailchimp shows it."""
        url, key = f"{self.sandbox.url}/ecommerce/stores/demo-shop", self.sandbox.api_key
        return requests.get(url, auth=("x", key), timeout=30).json()

    def write(self, path: str, body: dict[str, Any], method: str = "PATCH") -> None:
        """Write to Mailchimp as somebody else."""
        url, key = f"{self.sandbox.url}{path}", self.sandbox.api_key
        requests.request(method, url, json=body, auth=("x", key), timeout=30).raise_for_status()

    def query(self, sql: str, **values: Any) -> list[Any]:
        """Rows of the shop's database, where the state is too."""
        with self.shop.begin() as connection:
            result = connection.execute(text(sql), values)
            return [tuple(row) for row in result] if result.returns_rows else []


@pytest.fixture
def stage(
    postgres: EmbeddedPostgres, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Stage]:
    with sample_shop(postgres) as shop:
        stage = Stage(shop, sandbox, monkeypatch, tmp_path)
        stage.connect(
            "shop_db", conn_type="postgres", host=socket_folder(postgres), login="postgres", schema=shop.url.database
        )
        stage.connect_mailchimp()
        yield stage
