"""Where a test session's PostgreSQL servers live."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOMY_BYTES = 6 * 1024**3


def make_server_folder(prefix: str) -> Path:
    """Make a folder in memory where there is plenty, else on disk.

    A database per test is hundreds of small files: made in 0.02 s in memory, in 0.5 s on some disks. pytest's tmp_path
    won't do: its long names exceed what a Unix socket's path may have.
    """
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOMY_BYTES
    return Path(tempfile.mkdtemp(prefix=prefix, dir=_MEMORY if in_memory else None))
