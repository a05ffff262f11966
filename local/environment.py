"""One state folder (`.demo/`) with all that Airflow needs to run on this machine: database, secrets, settings.

`local_environment` starts the embedded PostgreSQL of the folder and describes the rest; nothing else is running yet.
The folder can be deleted at any time when nothing runs in it (`make clean`); the next start makes it again.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from include.embedded_postgres import EmbeddedPostgres

PROJECT_ROOT = Path(__file__).resolve().parent.parent
DEFAULT_STATE_DIR = PROJECT_ROOT / ".demo"
LOOPBACK = "127.0.0.1"
METADATA_DATABASE = "airflow"
SHOP_DATABASE = "shop"
LOGIN = "admin"
PASSWORD = "admin"  # noqa: S105 - the well-known login of a server that listens on loopback only


class LocalSetupError(RuntimeError):
    """This machine can't run the project right now; the message says why and what to do."""


@dataclass(frozen=True)
class Ports:
    """The two loopback ports: Airflow's API server with its UI, and the sandbox Mailchimp."""

    api: int = 8080
    sandbox: int = 8099


@dataclass(frozen=True)
class LocalEnvironment:
    """What runs where, and with which settings, for one state folder.

    Attributes:
        state_dir: the folder; everything written at run time is below it.
        ports: the loopback ports.
        postgres: its running server, with the databases `airflow` (metadata) and `shop`.
    """

    state_dir: Path
    ports: Ports
    postgres: EmbeddedPostgres

    @property
    def airflow_home(self) -> Path:
        """Airflow's own folder: task logs and the login file."""
        return self.state_dir / "airflow"

    @property
    def logs(self) -> Path:
        """The folder with one log file per process."""
        return self.state_dir / "logs"

    @property
    def sandbox_file(self) -> Path:
        """Where the sandbox Mailchimp keeps what it was sent."""
        return self.state_dir / "sandbox.sqlite"

    @property
    def shop_url(self) -> str:
        """The libpq URL of the shop database."""
        return self.postgres.uri(SHOP_DATABASE)

    @property
    def ui_url(self) -> str:
        """Airflow's UI."""
        return f"http://{LOOPBACK}:{self.ports.api}"

    @property
    def sandbox_page(self) -> str:
        """The sandbox's page for people; its API is below `/3.0`."""
        return f"http://{LOOPBACK}:{self.ports.sandbox}"

    @cached_property
    def connections(self) -> dict[str, dict[str, Any]]:
        """The two connections by id, in the fields of Airflow's JSON form.

        The port of `mailchimp` repeats the one in its host: the UI's Test button of Airflow 3.3 refuses
        a stored connection without a port.
        """
        return {
            "shop_db": {
                "conn_type": "postgres",
                "host": _socket_folder(self.postgres),
                "port": 5432,
                "login": "postgres",
                "schema": SHOP_DATABASE,
            },
            "mailchimp": {
                "conn_type": "mailchimp",
                "host": f"{self.sandbox_page}/3.0",
                "port": self.ports.sandbox,
                "password": self._secrets["mailchimp_key"],
            },
        }

    def variables(self, *, connections: bool = True) -> dict[str, str]:
        """The complete environment of a process of this folder (Airflow's components, `airflow …`, the pipeline).

        Args:
            connections: include `AIRFLOW_CONN_…`. Leave them out when they are stored in the metadata database,
                where people can edit them in the UI: an environment variable would win over their edit.

        Returns:
            This process's variables, without any Airflow setting it may have inherited, plus those of the folder.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        settings = inherited | self._airflow_settings() | _plain_settings(inherited)
        if connections:
            for conn_id, fields in self.connections.items():
                settings[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(fields)
        return settings

    def _airflow_settings(self) -> dict[str, str]:
        # The driver takes the socket folder from `?host=`; Airflow derives the asyncpg URL from this one.
        metadata = f"postgresql+psycopg2://postgres@/{METADATA_DATABASE}?host={quote(_socket_folder(self.postgres))}"
        return {
            "AIRFLOW_HOME": str(self.airflow_home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT_ROOT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT_ROOT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            # The sandbox is quicker than Mailchimp: a task that waits for it is woken after 2 s instead of 10 s.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__CORE__FERNET_KEY": self._secrets["fernet_key"],
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{LOGIN}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.airflow_home / "passwords.json"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.ui_url}/execution/",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata,
            "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "AIRFLOW__API__HOST": LOOPBACK,
            "AIRFLOW__API__PORT": str(self.ports.api),
            "AIRFLOW__API__BASE_URL": self.ui_url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": self._secrets["api_secret"],
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secrets["jwt_secret"],
            # A new DAG file shows after seconds instead of five minutes.
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.airflow_home / "logs"),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }

    @cached_property
    def _secrets(self) -> dict[str, str]:
        file = self.state_dir / "secrets.json"
        if not file.exists():
            made = {
                "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "jwt_secret": secrets.token_urlsafe(48),
                "api_secret": secrets.token_urlsafe(48),
                # The form of a real key; it opens nothing but the sandbox.
                "mailchimp_key": f"{secrets.token_hex(16)}-us0",
            }
            with open(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as stream:
                json.dump(made, stream)
        kept: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        return kept


@contextmanager
def local_environment(state_dir: Path = DEFAULT_STATE_DIR, ports: Ports | None = None) -> Iterator[LocalEnvironment]:
    """Open a state folder: lock it, start its PostgreSQL, create the two databases; stop the server at the end.

    Args:
        state_dir: the folder; made when missing.
        ports: the loopback ports, 8080 and 8099 by default.

    Yields:
        The environment of the folder.

    Raises:
        LocalSetupError: another process uses the folder.
    """
    state_dir = state_dir.resolve()
    state_dir.mkdir(parents=True, exist_ok=True)
    with _exclusive(state_dir), _postgres(state_dir / "postgres") as postgres:
        for database in (METADATA_DATABASE, SHOP_DATABASE):
            if not postgres.has_database(database):
                postgres.create_database(database)
        environment = LocalEnvironment(state_dir, ports or Ports(), postgres)
        for folder in (environment.airflow_home, environment.logs):
            folder.mkdir(exist_ok=True)
        (environment.airflow_home / "passwords.json").write_text(json.dumps({LOGIN: PASSWORD}), encoding="utf-8")
        yield environment


@contextmanager
def _exclusive(state_dir: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system releases even if this process is killed."""
    with open(state_dir / "lock", "a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise LocalSetupError(
                f"{state_dir} is in use by process {lock.read().strip() or '(unknown)'}, another `make up` or "
                "`make demo`. Stop that one first (Ctrl-C in its terminal), or choose another folder with --state-dir."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _postgres(data_dir: Path) -> EmbeddedPostgres:
    # The package counts the server's users in this file and stops it with the last. A killed process stays in the
    # count for ever; as we hold the folder's lock, whoever is in it now is gone.
    (data_dir / ".handle_pids.json").unlink(missing_ok=True)
    with warnings.catch_warnings():
        # Its search for a folder for the socket warns on systems without XDG_RUNTIME_DIR, where /tmp is fine.
        warnings.simplefilter("ignore")
        return EmbeddedPostgres.start(data_dir)


def _socket_folder(postgres: EmbeddedPostgres) -> str:
    folder = postgres.engine(METADATA_DATABASE).url.query["host"]
    return folder if isinstance(folder, str) else folder[0]


def _plain_settings(inherited: dict[str, str]) -> dict[str, str]:
    """What every child needs besides Airflow's settings: its imports, this interpreter's commands, no telemetry."""
    loopback = f"{LOOPBACK},localhost"
    no_proxy = ",".join(filter(None, [inherited.get("no_proxy") or inherited.get("NO_PROXY"), loopback]))
    return {
        "PYTHONPATH": str(PROJECT_ROOT),
        "PYTHONUNBUFFERED": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)]),
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "SCARF_ANALYTICS": "false",
        "DO_NOT_TRACK": "1",
    }
