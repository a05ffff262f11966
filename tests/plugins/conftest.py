"""An Airflow of the tests' own: temporary home, SQLite. Set before anything imports airflow."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def isolate_airflow() -> None:
    """Point Airflow at a temporary home; does nothing when another conftest has done it already."""
    if os.environ.get("AIRFLOW__CORE__UNIT_TEST_MODE") == "True" or "airflow" in sys.modules:
        return
    home = tempfile.mkdtemp(prefix="mailchimp-airflow-tests-")
    os.environ.update(
        AIRFLOW_HOME=home,
        AIRFLOW__CORE__UNIT_TEST_MODE="True",
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home}/airflow.db",
        AIRFLOW__LOGGING__LOGGING_LEVEL="INFO",
    )


isolate_airflow()

from tests.include.mailchimp.scripted_server import ScriptedServer  # noqa: E402


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.stop()
