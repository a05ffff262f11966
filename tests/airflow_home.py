"""An Airflow of the tests' own, set before anything imports airflow: temporary home, embedded PostgreSQL."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
from pathlib import Path

from include.embedded_postgres import EmbeddedPostgres
from tests.server_folder import make_server_folder

ROOT = Path(__file__).resolve().parents[1]


def isolate_airflow() -> None:
    """Point Airflow at a home of its own; does nothing when that has been done, or airflow is loaded already."""
    if os.environ.get("AIRFLOW__CORE__UNIT_TEST_MODE") == "True" or "airflow" in sys.modules:
        return
    for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
        del os.environ[name]
    home = make_server_folder("mailchimp-airflow-")
    server = EmbeddedPostgres.start(home / "postgres")
    server.create_database("airflow")
    os.environ.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__UNIT_TEST_MODE="True",
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"postgresql+psycopg2://postgres@/airflow?host={socket_folder(server)}",
        AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS="False",
        AIRFLOW__LOGGING__LOGGING_LEVEL="INFO",
        # Tests that resume deferred tasks have no worker whose end the scheduler must hear of first.
        AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL="0",
    )
    atexit.register(_remove, server, home)


def socket_folder(server: EmbeddedPostgres) -> str:
    """Return the folder of a server's socket."""
    return str(server.engine("postgres").url.query["host"])


def _remove(server: EmbeddedPostgres, home: Path) -> None:
    server.stop()
    shutil.rmtree(home, ignore_errors=True)
