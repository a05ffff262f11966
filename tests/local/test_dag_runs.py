"""Runs of DAGs in this process: what Airflow makes of a request to stop."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import pytest

from local.dag_runs import insistent_stop
from local.processes import StopRequested


def run_a_task_that_swallows_the_stop() -> None:
    with insistent_stop():
        with suppress(StopRequested):  # as Airflow does with whatever ends a task
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        time.sleep(10)


def test_a_stop_that_a_task_swallowed_is_asked_for_again() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(StopRequested):
        run_a_task_that_swallows_the_stop()
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
