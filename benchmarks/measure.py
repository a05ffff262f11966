"""`python -m benchmarks.measure <variant> <database URL> <orders> [<file for the bodies>]`: one measured run.

A process of its own per run, so that memory and CPU time are the variant's alone; prints one JSON object.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]
from sqlalchemy import Connection

from benchmarks.batches import Batch, Batches, Prepare
from include.extract.connection import open_engine

VARIANTS: Final = ("columnar", "postgres_json", "textbook_pandas")


@dataclass(frozen=True)
class Measurement:
    """What one run took: CPU seconds of both processes, wall seconds, and the client's peak memory in MB."""

    orders: int
    client_cpu: float
    postgres_cpu: float
    wall: float
    peak_rss: float


def preparation(variant: str) -> Prepare:
    """Import a variant and return its `prepare`."""
    prepare: Prepare = importlib.import_module(f"benchmarks.{variant}").prepare
    return prepare


def main(arguments: Sequence[str]) -> None:
    """Run one variant.

    Args:
        arguments: see the module.
    """
    variant, database, orders = arguments[0], arguments[1], int(arguments[2])
    engine = open_engine(database)
    batches = preparation(variant)(engine)
    with engine.connect() as connection:
        if len(arguments) > 3:
            lines = (batch.body for batch in batches(connection, orders))
            Path(arguments[3]).write_bytes(b"\n".join(lines))
        else:
            sys.stdout.write(json.dumps(asdict(_measured(batches, connection, orders))) + "\n")


def _measured(batches: Batches, connection: Connection, orders: int) -> Measurement:
    backend = psutil.Process(_backend_pid(connection))
    before, client, started = _cpu(backend), time.process_time(), time.perf_counter()
    operations = _consume(batches(connection, orders))
    client, wall = time.process_time() - client, time.perf_counter() - started
    return Measurement(operations, client, _cpu(backend) - before, wall, _peak_rss())


def _consume(batches: Iterator[Batch]) -> int:
    return sum(batch.operations for batch in batches)


def _backend_pid(connection: Connection) -> int:
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection to the database was closed")
    pid: int = driver.info.backend_pid
    return pid


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _peak_rss() -> float:
    # Not ru_maxrss where there is better: on Linux it survives exec, so it may be that of the parent process.
    status = Path("/proc/self/status")
    if status.exists():
        kilobytes = status.read_text(encoding="ascii").partition("VmHWM:")[2].split()[0]
        return int(kilobytes) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main(sys.argv[1:])
