"""`make up` for real: everything healthy on loopback, connections editable, a signal leaves nothing behind."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from local.environment import PROJECT_ROOT
from tests.free_port import free_port

pytestmark = pytest.mark.slow


class Up:
    """A running `python -m local.up`."""

    def __init__(self, state_dir: Path) -> None:
        self.api_port, self.sandbox_port = free_port(), free_port()
        self.state_dir = state_dir
        self.output = state_dir.parent / "up.log"
        command = [sys.executable, "-m", "local.up", "--state-dir", str(state_dir), "--scale", "small"]
        command += ["--api-port", str(self.api_port), "--sandbox-port", str(self.sandbox_port)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=output, stderr=subprocess.STDOUT)

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 240
        while "Ctrl-C stops everything" not in self.text():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.5)

    def call(self, path: str, body: dict[str, Any] | None = None, token: str | None = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.api_port}{path}", data=json.dumps(body).encode() if body is not None else None
        )
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("up") / "state")
    try:
        running.wait_until_ready()
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
            running.process.wait(timeout=120)


@pytest.fixture(scope="module")
def token(up: Up) -> str:
    answer = up.call("/auth/token", {"username": "admin", "password": "admin"})
    return str(answer["access_token"])


def test_the_connections_are_in_the_ui_and_the_mailchimp_one_tests_well(up: Up, token: str) -> None:
    stored = {each["connection_id"]: each for each in up.call("/api/v2/connections", token=token)["connections"]}
    assert set(stored) == {"mailchimp", "shop_db"}
    # What the form's Test button sends for a stored connection.
    form = {
        name: stored["mailchimp"][name] for name in ("connection_id", "conn_type", "host", "port", "login", "schema")
    }
    answer = up.call("/api/v2/connections/test", {**form, "password": "***"}, token)
    assert answer == {"status": True, "message": "Everything's Chimpy!"}


def test_the_pool_bounds_the_requests(up: Up, token: str) -> None:
    pools = {pool["name"]: pool for pool in up.call("/api/v2/pools", token=token)["pools"]}
    assert pools["mailchimp"]["slots"] == 4
    assert not pools["mailchimp"]["include_deferred"]


def ping(up: Up, key: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{up.sandbox_port}/3.0/ping")
    request.add_header("Authorization", f"Basic {base64.b64encode(f'any:{key}'.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code


def test_the_sandbox_takes_the_connections_key_and_no_other(up: Up) -> None:
    secrets = json.loads((up.state_dir / "secrets.json").read_text(encoding="utf-8"))
    assert ping(up, secrets["mailchimp_key"]) == 200
    assert ping(up, f"{'0' * 32}-us0") == 401


def look_at(process: psutil.Process) -> tuple[list[str], set[str]]:
    """A process's command line, and where it listens; nothing of the DAG processor's children that end meanwhile."""
    try:
        sockets = process.net_connections(kind="inet")
        return process.cmdline(), {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN}
    except psutil.NoSuchProcess:
        return [], set()


def lives(process: psutil.Process) -> bool:
    """Whether it is at work: one whose parent ended first is kept by the system until init hears of its end."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_stop_leaves_nothing_behind(up: Up) -> None:
    family = psutil.Process(up.process.pid).children(recursive=True)
    seen = [look_at(process) for process in family]
    assert {"scheduler", "triggerer", "dag-processor"} <= {word for words, _ in seen for word in words}
    assert {address for _, addresses in seen for address in addresses} == {"127.0.0.1"}
    os.kill(up.process.pid, signal.SIGINT)
    assert up.process.wait(timeout=120) == 0
    assert up.text().endswith("stopped\n")
    assert [process for process in family if lives(process)] == []
    state_dir = str(up.output.parent)
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if any(state_dir in part for part in p.info["cmdline"] or ())
    ]
