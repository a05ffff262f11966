"""The pieces that `make up` and `make demo` are put together from: each starts or prepares one thing."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from local.environment import LOOPBACK, LocalEnvironment, LocalSetupError, Ports, local_environment
from local.processes import Child, Processes, StopSignals

AIRFLOW_COMPONENTS = {
    "api-server": ["airflow", "api-server"],
    # The log servers would listen on all interfaces; every process here shares one log folder instead.
    "scheduler": ["airflow", "scheduler", "--skip-serve-logs"],
    "dag-processor": ["airflow", "dag-processor"],
    "triggerer": ["airflow", "triggerer", "--skip-serve-logs"],
}
HEALTH_TIMEOUT_SECONDS = 180.0
SANDBOX_TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 0.5


@contextmanager
def local_run(state_dir: Path, ports: Ports) -> Iterator[tuple[LocalEnvironment, Processes]]:
    """Open a state folder for a command: signals handled, database running, leftovers ended; all stopped at the end.

    Args:
        state_dir: the folder.
        ports: the loopback ports the command will use.

    Yields:
        The environment, and the (still empty) set of its processes.

    Raises:
        LocalSetupError: the folder is in use.
        StopRequested: Ctrl-C or a termination signal.
    """
    signals = StopSignals()
    signals.install()
    with ExitStack() as stack:
        with signals.shielded():
            environment = stack.enter_context(local_environment(state_dir, ports))
        record = environment.state_dir / "processes.json"
        processes = stack.enter_context(Processes(environment.logs, record, signals))
        yield environment, processes


def require_free_ports(*ports: int) -> None:
    """Make sure that nothing listens on these loopback ports.

    Raises:
        LocalSetupError: one is taken.
    """
    for port in ports:
        with socket.socket() as probe:
            # As the servers do: a port whose last connections are still closing counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as error:
                raise LocalSetupError(
                    f"Port {port} on {LOOPBACK} is taken ({error.strerror}). Stop what uses it, or choose others: "
                    "make up API_PORT=8081 SANDBOX_PORT=8100"
                ) from error


def start_metadata(environment: LocalEnvironment, processes: Processes) -> Child:
    """Start the preparation of Airflow's database (schema, pool, connections); finish it with `processes.finish`."""
    return processes.start("metadata", ["python", "-m", "local.metadata"], environment.variables())


def load_shop(environment: LocalEnvironment, processes: Processes, scale: str) -> str | None:
    """Load the sample shop, unless the folder's database has one already.

    Args:
        environment: whose database `shop` is filled.
        processes: watched meanwhile.
        scale: small, medium or large.

    Returns:
        The scale of the sample that was there already, None when this call loaded it.

    Raises:
        ChildFailed: the loading failed.
    """
    # A note beside the database, written last: a loading that was cut short is done again from the start.
    loaded = environment.state_dir / "shop.loaded"
    if loaded.exists():
        return loaded.read_text(encoding="utf-8")
    command = ["python", "-m", "include.demo", "--dsn", environment.shop_url, "--scale", scale, "--reset"]
    processes.finish(processes.start("demo-shop", command, environment.variables()))
    loaded.write_text(scale, encoding="utf-8")
    return None


def start_sandbox(environment: LocalEnvironment, processes: Processes, *, hurried: bool = False) -> Child:
    """Start the sandbox Mailchimp on its port, with what it held last time, and wait until it answers.

    Args:
        environment: whose sandbox.
        processes: watched meanwhile.
        hurried: let a batch take no longer than its work.

    Raises:
        ChildFailed: it ended.
        LocalSetupError: it doesn't get ready.
    """
    command = ["python", "-m", "include.sandbox", "--host", LOOPBACK, "--port", str(environment.ports.sandbox)]
    command += ["--file", str(environment.sandbox_file)]
    # One key only, so that a wrong one can be tried: the form's Test button says what is the matter.
    command += ["--api-key", str(environment.connections["mailchimp"]["password"])]
    if hurried:
        command += ["--batch-seconds", "0"]
    variables = environment.variables(connections=False)
    child = processes.start("sandbox", command, variables, serves_others=True)
    _wait(
        processes,
        lambda: b"READY" in child.log.read_bytes(),
        SANDBOX_TIMEOUT_SECONDS,
        f"The sandbox is not ready after {SANDBOX_TIMEOUT_SECONDS:.0f} s; see {child.log}.",
    )
    return child


def start_airflow(environment: LocalEnvironment, processes: Processes) -> None:
    """Start Airflow's four components and wait until all report that they are healthy.

    The connections are those stored by `start_metadata`.

    Raises:
        ChildFailed: one ended.
        LocalSetupError: they don't get healthy.
    """
    variables = environment.variables(connections=False)
    for name, command in AIRFLOW_COMPONENTS.items():
        # Tasks report to the API server while the scheduler lets them finish.
        processes.start(name, command, variables, serves_others=name == "api-server")
    _wait(
        processes,
        lambda: _healthy(environment.ports.api),
        HEALTH_TIMEOUT_SECONDS,
        f"Airflow is not healthy after {HEALTH_TIMEOUT_SECONDS:.0f} s; see the logs in {environment.logs}.",
    )


def watch(processes: Processes) -> None:
    """Return never: check that all children run until one ends or a stop is requested.

    Raises:
        ChildFailed: one ended.
        StopRequested: Ctrl-C or a termination signal.
    """
    while True:
        processes.check()
        time.sleep(POLL_SECONDS)


def _wait(processes: Processes, ready: Callable[[], bool], timeout_seconds: float, complaint: str) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not ready():
        processes.check()
        if time.monotonic() > deadline:
            raise LocalSetupError(complaint)
        time.sleep(POLL_SECONDS)


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", "/api/v2/monitor/health")
        report = json.load(connection.getresponse())
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    components = ("metadatabase", "scheduler", "dag_processor", "triggerer")
    return all((report.get(component) or {}).get("status") == "healthy" for component in components)
