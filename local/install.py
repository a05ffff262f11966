"""`python3 -m local.install`: make `.venv` from the lock file. Needs Python with pip and nothing else (run by `make`).

The packages are installed by uv, at the pinned version below, because it takes seconds where pip takes minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent
VENV = PROJECT_ROOT / ".venv"
LOCK = PROJECT_ROOT / "requirements-dev.lock"
UV = "uv==0.13.8"
OLDEST, FIRST_UNTRIED = (3, 11), (3, 15)


def main() -> int:
    """Make the environment, or bring the one that is there to what the lock says.

    Returns:
        The exit code: 0, or 1 with a message that says which step failed.
    """
    if not OLDEST <= sys.version_info[:2] < FIRST_UNTRIED:
        return _complain(f"Python {sys.version.split()[0]} can't be used; 3.11 to 3.14 can: make PYTHON=python3.12 …")
    python = str(VENV / "bin" / "python")
    made_by_another = (
        VENV.exists() and not (VENV / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}").exists()
    )
    # pip of the outer Python installs into the new environment: so Debian's split-off `ensurepip` isn't needed.
    steps = [
        [sys.executable, "-m", "venv", "--without-pip", *(["--clear"] if made_by_another else []), str(VENV)],
        [sys.executable, "-m", "pip", "--python", python, "install", "-qq", UV],
        [str(VENV / "bin" / "uv"), "pip", "sync", "--quiet", "--python", python, str(LOCK)],
        # Airflow learns connection types from installed distributions alone, hence the project's own.
        [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--python", python, "--no-deps", "-e", "."],
    ]
    environment = os.environ | _index_of_pip()
    for step in steps:
        result = subprocess.run(step, cwd=PROJECT_ROOT, env=environment, check=False)
        if result.returncode != 0:
            return _complain(f"Installing failed (see above) at: {' '.join(step)}")
    return 0


def _index_of_pip() -> dict[str, str]:
    """Where pip is set up to use another package index, uv shall use it too."""
    if any(name in os.environ for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")):
        return {}
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    configured = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    index = os.environ.get("PIP_INDEX_URL") or configured
    return {"UV_DEFAULT_INDEX": index} if index else {}


def _complain(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
