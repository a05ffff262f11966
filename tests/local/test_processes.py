"""Children end with us, in order and with everything they started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from local import processes as module
from local.processes import ChildFailed, Processes, StopRequested, StopSignals

SLEEP = ["python", "-c", "import time; print('up', flush=True); time.sleep(60)"]
# Starts a child in a process group of its own (as Airflow's task runner does), notes its id, ignores SIGTERM itself.
STUBBORN = [
    "python",
    "-c",
    "import os, signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
    "child = subprocess.Popen(sleep, preexec_fn=lambda: os.setpgid(0, 0))\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(60)",
]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    children = Processes(tmp_path, tmp_path / "processes.json", StopSignals())
    with children:
        yield children


def wait_for_output(log: Path) -> str:
    deadline = time.monotonic() + 30
    while not (text := log.read_text(encoding="utf-8")).endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return text.strip()


def test_a_job_that_succeeds_is_forgotten(processes: Processes) -> None:
    processes.finish(processes.start("job", ["python", "-c", "pass"], os.environ))
    assert processes.children == []


def test_a_child_that_fails_is_named_with_its_last_words(processes: Processes) -> None:
    child = processes.start("loader", ["python", "-c", "print('no such shop'); raise SystemExit(3)"], os.environ)
    with pytest.raises(ChildFailed, match=r"(?s)loader ended with exit code 3.*no such shop"):
        processes.finish(child)


def test_a_service_that_ends_is_noticed_while_a_job_runs(processes: Processes) -> None:
    processes.start("service", ["python", "-c", "pass"], os.environ)
    with pytest.raises(ChildFailed, match="service ended with exit code 0"):
        processes.finish(processes.start("job", SLEEP, os.environ))


def test_stopping_ends_grandchildren_and_the_stubborn(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.5)
    stubborn = processes.start("stubborn", STUBBORN, os.environ)
    grandchild = int(wait_for_output(stubborn.log))
    assert os.getpgid(grandchild) != stubborn.process.pid
    processes.stop()
    assert stubborn.exit_code == -signal.SIGKILL
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE


def test_what_serves_others_stops_after_them(processes: Processes, tmp_path: Path) -> None:
    note = tmp_path / "order"
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        f"    open({str(note)!r}, 'a').write(sys.argv[1] + ' ')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up', flush=True)\n"
        "time.sleep(60)"
    )
    for name, serves in (("server", True), ("client", False)):
        child = processes.start(name, ["python", "-c", code, name], os.environ, serves_others=serves)
        wait_for_output(child.log)
    processes.stop()
    assert note.read_text(encoding="utf-8").split() == ["client", "server"]


def test_the_next_start_ends_what_a_killed_one_left(tmp_path: Path) -> None:
    record = tmp_path / "processes.json"
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    started = psutil.Process(left.pid).create_time()
    # The same number with another start time is somebody else's process: this test's own survives being listed.
    stranger = {"name": "stranger", "pid": os.getpid(), "started": started - 1000}
    record.write_text(
        json.dumps([{"name": "sandbox", "pid": left.pid, "started": started}, stranger]), encoding="utf-8"
    )
    with Processes(tmp_path, record, StopSignals()):
        assert left.wait(timeout=30) == -signal.SIGTERM


def test_a_signal_waits_for_a_shielded_step() -> None:
    signals = StopSignals()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signals.install()
    try:
        done = False

        def step() -> None:
            nonlocal done
            with signals.shielded():
                os.kill(os.getpid(), signal.SIGTERM)
                done = True

        with pytest.raises(StopRequested):
            step()
        assert done
        with pytest.raises(StopRequested):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
