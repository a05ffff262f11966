"""`make demo` for real, on the small shop: every figure it shows is checked by itself, twice in one folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from local.environment import PROJECT_ROOT
from tests.free_port import free_port


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_keeps_its_promises_and_can_be_repeated(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local.demo", "--scale", "small", "--state-dir", str(tmp_path / "demo")]
    for act in ("the shop goes to Mailchimp", "everything is compared with last time"):
        played = subprocess.run(
            [*command, "--sandbox-port", str(free_port())],
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert played.returncode == 0, played.stdout[-3000:] + played.stderr
        assert f"Act 1: {act}" in played.stdout
        assert "who opted out at Mailchimp, is still unsubscribed" in played.stdout
