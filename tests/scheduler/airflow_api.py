"""Airflow's REST API, as far as a person would use its UI."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import requests

ENDED = {"success", "failed"}


class AirflowApi:
    """Logged in as the administrator of a local Airflow.

    `watch` is called while something is waited for, and may raise.
    """

    def __init__(self, url: str, login: str, password: str, watch: Callable[[], None]) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._watch = watch
        token = self._session.post(f"{url}/auth/token", json={"username": login, "password": password}, timeout=30)
        token.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        reply = self._session.request(method, f"{self._url}/api/v2{path}", json=body, timeout=60)
        assert reply.ok, f"{method} {path}: {reply.status_code} {reply.text}"
        return dict(reply.json())

    def unpause(self, dag_id: str) -> None:
        """Switch a DAG on, as soon as Airflow knows it."""
        found: dict[str, Any] = {}

        def is_known() -> bool:
            found.update(self.call("GET", f"/dags?dag_id_pattern={dag_id}"))
            return bool(found["dags"])

        self.wait_until(is_known, f"DAG {dag_id}", 120)
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, **conf: Any) -> str:
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"])

    def runs(self, dag_id: str) -> dict[str, dict[str, Any]]:
        """The DAG's runs by id."""
        return {run["dag_run_id"]: run for run in self.call("GET", f"/dags/{dag_id}/dagRuns?limit=100")["dag_runs"]}

    def wait_for_run(self, dag_id: str, run_id: str, seconds: float = 1200) -> str:
        """Wait until a run has ended; returns how."""
        self.wait_until(lambda: self.runs(dag_id)[run_id]["state"] in ENDED, f"{dag_id} {run_id}", seconds)
        return str(self.runs(dag_id)[run_id]["state"])

    def mark_failed(self, dag_id: str, run_id: str) -> None:
        self.call("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", {"state": "failed"})

    def backfill(self, dag_id: str, since: datetime, until: datetime, **options: Any) -> int:
        body = {"dag_id": dag_id, "from_date": since.isoformat(), "to_date": until.isoformat()}
        return int(self.call("POST", "/backfills", body | options)["id"])

    def wait_for_backfill(self, number: int, seconds: float = 1200) -> None:
        """Wait until Airflow counts a backfill as complete; until then there can't be another one."""
        self.wait_until(lambda: self.call("GET", f"/backfills/{number}")["completed_at"], f"backfill {number}", seconds)

    def wait_until(self, ready: Callable[[], Any], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            self._watch()
            assert time.monotonic() < deadline, f"{what}: not after {seconds:.0f} s"
            time.sleep(0.5)
