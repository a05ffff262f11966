"""Runs a DAG of this project to its end, in this process: real DAG runs in the metadata database, no scheduler.

Airflow reads its settings when it is imported, so it is imported here only after they are set, and everything that it
and the tasks print goes into a log file.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from local.environment import PROJECT_ROOT, LocalSetupError
from local.processes import STOP_SIGNALS, StopRequested


class DagRunner:
    """Runs DAGs one after the other, as ``airflow dags test`` does, without starting anew each time.

    Args:
        variables: the environment of the state folder; becomes this process's own.
        log: file that takes Airflow's and the tasks' output.
    """

    def __init__(self, variables: Mapping[str, str], log: Path) -> None:
        self._log = log
        os.environ.clear()
        os.environ.update(variables)
        sys.path[:0] = [str(PROJECT_ROOT), str(PROJECT_ROOT / "plugins")]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back Airflow's connections, before the database is stopped."""
        from airflow import settings

        with self._output_to_log():
            settings.dispose_orm()

    def run(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Run a DAG and wait for it.

        Args:
            dag_id: which.
            conf: values for its params.

        Returns:
            The id of the DAG run.

        Raises:
            LocalSetupError: there is no such DAG, or the run did not succeed.
            StopRequested: Ctrl-C or a termination signal.
        """
        with self._output_to_log(), insistent_stop():
            from airflow.dag_processing.dagbag import DagBag

            # Parsed anew each time: a test run leaves its params behind in the DAG object.
            bag = DagBag(dag_folder=str(PROJECT_ROOT / "dags"))
            dag_run = bag.dags[dag_id].test(run_conf=conf) if dag_id in bag.dags else None
        if dag_run is None:
            errors = "\n".join(bag.import_errors.values()) or "no file defines it"
            raise LocalSetupError(f"There is no DAG {dag_id}:\n{errors}")
        if dag_run.state != "success":
            raise LocalSetupError(f"The run of {dag_id} ended as {dag_run.state}; see {self._log}.")
        return str(dag_run.run_id)

    @contextmanager
    def _output_to_log(self) -> Iterator[None]:
        """Send both output streams to the log, those of C libraries and of handlers made meanwhile included."""
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        with self._log.open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            try:
                yield
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                for stream, descriptor in enumerate(kept, start=1):
                    os.dup2(descriptor, stream)
                    os.close(descriptor)


@contextmanager
def insistent_stop() -> Iterator[None]:
    """Repeat a request to stop each second: a task that is interrupted by it only fails, and would be tried again."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, 1)
        raise StopRequested

    before = {number: signal.signal(number, stop) for number in (*STOP_SIGNALS, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
