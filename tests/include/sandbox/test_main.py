"""The command: READY line, options, clean end."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).resolve().parents[3]


def command(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "include.sandbox", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_ready_serves_and_stops(number: signal.Signals) -> None:
    crowd = ("--crowd", "40", "--crowd-address", "c{number}@kauf-demo.shop", "--webhook-retry-seconds", "1")
    process = command("--port", "0", "--list", "abc:Shop:double", "--api-key", "k", "--log-requests", *crowd)
    assert process.stdout is not None
    word, url = process.stdout.readline().split()
    assert (word, url.startswith("http://127.0.0.1:"), url.endswith("/3.0")) == ("READY", True, True)
    lists = requests.get(f"{url}/lists", auth=("any", "k"), timeout=30).json()["lists"]
    assert [(one["id"], one["name"], one["double_optin"]) for one in lists] == [("abc", "Shop", True)]
    member = requests.get(f"{url}/lists/abc/members/c39@kauf-demo.shop", auth=("any", "k"), timeout=30)
    assert member.status_code == 200
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "GET /lists 200" in errors


def test_a_taken_port_is_told_clearly() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = command("--port", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Choose another --port" in errors
    assert "Traceback" not in errors


def test_an_unusable_file_is_told_clearly(tmp_path: Path) -> None:
    process = command("--port", "0", "--file", str(tmp_path / "missing" / "state.sqlite"))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Choose another --file" in errors
    assert "Traceback" not in errors


def test_a_wrong_list_is_told_clearly() -> None:
    process = command("--list", "abc:Shop:tripple")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "is not ID[:name[:double]]" in errors
