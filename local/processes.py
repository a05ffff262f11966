"""Child processes that belong together: started in order, watched, and stopped with everything they started.

Every child gets a session of its own, so that Ctrl-C reaches only us and we decide the order; the session's number
also finds its grandchildren (Airflow's task processes, which have process groups of their own).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]

from local.environment import PROJECT_ROOT, LocalSetupError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 10.0
KILL_SECONDS = 30.0
LOG_TAIL_LINES = 20


class ChildFailed(LocalSetupError):
    """A process ended that should run; the message names it and ends with its last log lines."""


class StopRequested(BaseException):
    """Ctrl-C or a termination signal (not an `Exception`, so that no handler of errors swallows it)."""


class StopSignals:
    """Turns SIGINT, SIGTERM and SIGHUP into `StopRequested`, but never in the middle of a shielded step."""

    def __init__(self) -> None:
        self._depth = 0
        self._requested = False

    def install(self) -> None:
        """Handle the signals from now on."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._handle)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """A step that must be whole: a signal that arrives during it counts when it is over."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        self._raise_if_due()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        self._raise_if_due()

    def _raise_if_due(self) -> None:
        if self._requested and self._depth == 0:
            self._requested = False
            raise StopRequested


@dataclass
class Child:
    """One running process and its log file."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]
    serves_others: bool = False

    @property
    def exit_code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.poll()

    def failure(self) -> ChildFailed:
        """The error that says that and how it ended."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        tail = "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"
        return ChildFailed(f"{self.name} ended with exit code {self.exit_code}. Last lines of {self.log}:\n{tail}")


@dataclass
class Processes:
    """The children of one state folder, as a context manager that stops them all.

    Args:
        log_dir: one file `<name>.log` per child, begun anew at each start.
        record: file that lists the running children, so that the next start can end what a killed one left.
        signals: how a request to stop arrives.
    """

    log_dir: Path
    record: Path
    signals: StopSignals
    children: list[Child] = field(default_factory=list)

    def __enter__(self) -> Self:
        with self.signals.shielded():
            _end_leftovers(self.record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str], *, serves_others: bool = False) -> Child:
        """Start a child in the project's root, its output going to its log file.

        Args:
            name: what people call it; also names the log file.
            command: the program and its arguments; `python` stands for this interpreter.
            env: its complete environment.
            serves_others: other children talk to it while they stop, so it is stopped after them.
        """
        log = self.log_dir / f"{name}.log"
        program = [sys.executable if command[0] == "python" else command[0], *command[1:]]
        with self.signals.shielded(), log.open("wb") as output:
            process = subprocess.Popen(
                program,
                env=dict(env),
                cwd=PROJECT_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            child = Child(name, log, process, serves_others)
            self.children.append(child)
            self._write_record()
        return child

    def finish(self, child: Child) -> None:
        """Wait for a child that does one job (a migration, loading data) while the others must go on running.

        Raises:
            ChildFailed: it, or one of the others, ended with an error.
        """
        while child.exit_code is None:
            self.check(except_for=child)
            time.sleep(0.1)
        if child.exit_code != 0:
            raise child.failure()
        self.children.remove(child)
        self._write_record()

    def check(self, except_for: Child | None = None) -> None:
        """Make sure that every child runs.

        Raises:
            ChildFailed: one has ended.
        """
        for child in self.children:
            if child is not except_for and child.exit_code is not None:
                raise child.failure()

    def stop(self) -> None:
        """Stop all children, those that serve others last; what is left after the time of grace is killed."""
        with self.signals.shielded():
            for serving in (False, True):
                wave = [child for child in self.children if child.serves_others is serving]
                _end_sessions([child.process.pid for child in wave], GRACE_SECONDS)
                for child in wave:
                    child.process.wait()
                    self.children.remove(child)
                self._write_record()

    def _write_record(self) -> None:
        running = [
            {"name": child.name, "pid": child.process.pid, "started": psutil.Process(child.process.pid).create_time()}
            for child in self.children
            if child.exit_code is None
        ]
        self.record.write_text(json.dumps(running), encoding="utf-8")


def _live_members(sessions: Collection[int]) -> dict[int, int]:
    """The live processes of some sessions: process id → session."""
    members = {}
    for process in psutil.process_iter():
        try:
            session = os.getsid(process.pid)
            if session in sessions and process.status() != psutil.STATUS_ZOMBIE:
                members[process.pid] = session
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return members


def _end_sessions(leaders: Collection[int], grace_seconds: float) -> None:
    """Ask the leaders to stop, give their sessions time, kill the rest and see them gone."""
    _signal(leaders, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while (members := _live_members(leaders)) and time.monotonic() < deadline:
        # Where the leader is gone, nobody else tells its children.
        _signal([pid for pid, leader in members.items() if leader not in members], signal.SIGTERM)
        time.sleep(0.1)
    # The kernel takes a killed process down in its own time; until then it holds its ports.
    deadline = time.monotonic() + KILL_SECONDS
    while members and time.monotonic() < deadline:
        _signal(members, signal.SIGKILL)
        time.sleep(0.02)
        members = _live_members(leaders)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _end_leftovers(record: Path) -> None:
    """End children of an earlier start that was itself killed: they would hold the ports and work on old settings."""
    if not record.exists():
        return
    ours = []
    for entry in json.loads(record.read_text(encoding="utf-8") or "[]"):
        try:
            # A process number is used again some day; the time of its start tells whether it is still ours.
            if abs(psutil.Process(entry["pid"]).create_time() - entry["started"]) < 1:
                ours.append(entry["pid"])
        except psutil.NoSuchProcess:
            continue
    _end_sessions(ours, GRACE_SECONDS)
    record.unlink()
