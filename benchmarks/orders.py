"""`python -m benchmarks.orders`: CPU, time and memory per order of three ways to make batch bodies out of a shop.

Starts its own PostgreSQL, loads the sample shop (`include.demo`, scale large) twice – a small one for the comparison
and one four times as large, for the growth of memory – and stops it again. CPU time of client and PostgreSQL backend
together is the dependable figure on a machine that does other things as well. Needs about three minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.equality import Documents, DocumentsDiffer, compare, documents
from benchmarks.measure import VARIANTS, Measurement
from include.demo.scale import FEWEST_ORDERS
from include.embedded_postgres import EmbeddedPostgres

COLUMNAR: Final = VARIANTS[0]
#: How many times as much CPU a variant has to take as the pipeline's own.
LEAST_RATIO: Final = {"postgres_json": 1.5, "textbook_pandas": 20.0}
#: How many times as many orders the large shop has, and how much more memory it may take.
GROWTH: Final = 4
MOST_MEMORY: Final = 1.2


@dataclass(frozen=True)
class Plan:
    """How much is measured: orders per variant, orders compared, and rounds."""

    orders: Mapping[str, int]
    compared: int
    rounds: int


class Shops:
    """The databases of one benchmark."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server

    def load(self, orders: int, scale: str) -> str:
        """Load a sample shop.

        Args:
            orders: its number of orders.
            scale: one of `include.demo.scale.SCALES`.

        Returns:
            The database's URL.
        """
        name = f"orders_{orders}"
        self._server.create_database(name)
        uri = self._server.uri(name)
        # In a process of its own, whose memory is gone afterwards.
        _run("include.demo", "--dsn", uri, "--scale", scale, "--orders", str(orders))
        return uri


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, report, and compare with the targets.

    Args:
        arguments: the command line without the program; default: the process's own.

    Returns:
        The exit code: 0, or 1 if documents differ or a target is missed.
    """
    options = _parser().parse_args(arguments)
    orders = FEWEST_ORDERS * GROWTH if options.quick else options.orders
    small = orders // GROWTH
    plan = Plan(
        orders={name: min(small, 5_000) if name == "textbook_pandas" else small for name in VARIANTS},
        compared=min(small, 2_000),
        rounds=1 if options.quick else 3,
    )
    with _shops() as shops:
        _say(f"Loading sample shops of {small:,} and {orders:,} orders …")
        small_shop, large_shop = (shops.load(count, "small" if options.quick else "large") for count in (small, orders))
        try:
            _say(_check_equality(small_shop, plan.compared))
        except DocumentsDiffer as error:
            _say(f"MISSED: documents differ: {error}")
            return 1
        runs: dict[str, list[Measurement]] = {name: [] for name in VARIANTS}
        for _ in range(plan.rounds):  # interleaved, so that other work on the machine hits all variants alike
            for name in VARIANTS:
                runs[name].append(_measure(name, small_shop, plan.orders[name]))
        large = _measure(COLUMNAR, large_shop, orders)
    medians = {name: _median(measured) for name, measured in runs.items()}
    _say("\n".join(_table(medians)))
    _say(_memory_line(medians[COLUMNAR], large))
    if options.quick:
        return 0
    missed = list(_missed(medians, large))
    _say("\n".join(missed) if missed else "All targets are met.")
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orders", description=__doc__)
    parser.add_argument(
        "--orders",
        type=_enough_orders,
        default=400_000,
        help=f"orders of the large shop, of which the other has one in {GROWTH} (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="few orders, one round, no targets: does it work at all?")
    return parser


def _enough_orders(text: str) -> int:
    orders = int(text)
    if orders < FEWEST_ORDERS * GROWTH:
        raise argparse.ArgumentTypeError(f"must be at least {FEWEST_ORDERS * GROWTH}")
    return orders


@contextmanager
def _shops() -> Iterator[Shops]:
    folder = Path(tempfile.mkdtemp(prefix="orders-benchmark-"))
    try:
        with EmbeddedPostgres.start(folder / "postgres") as server:
            yield Shops(server)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(module: str, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if finished.returncode:
        raise SystemExit(f"{module} failed, see above")
    return finished.stdout


def _measure(variant: str, database: str, orders: int) -> Measurement:
    return Measurement(**json.loads(_run("benchmarks.measure", variant, database, str(orders))))


def _check_equality(database: str, orders: int) -> str:
    found: dict[str, Documents] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in VARIANTS:
            file = Path(folder) / name
            _run("benchmarks.measure", name, database, str(orders), str(file))
            found[name] = documents(file.read_bytes().splitlines())
    reference = found.pop(COLUMNAR)
    rejected = compare(reference, found)
    return (
        f"{len(reference):,} documents of the first {orders:,} orders are equal in all variants; "
        f"{len(rejected)} orders break a rule that only {COLUMNAR} checks."
    )


def _median(runs: Sequence[Measurement]) -> Measurement:
    """The median of each figure over the runs of a variant."""
    return Measurement(
        orders=runs[0].orders,
        client_cpu=median(run.client_cpu for run in runs),
        postgres_cpu=median(run.postgres_cpu for run in runs),
        wall=median(run.wall for run in runs),
        peak_rss=median(run.peak_rss for run in runs),
    )


def _cpu_per_order(measured: Measurement) -> float:
    """Microseconds of CPU, client and PostgreSQL."""
    return (measured.client_cpu + measured.postgres_cpu) / measured.orders * 1e6


def _table(medians: Mapping[str, Measurement]) -> Iterator[str]:
    yield "\nCPU µs per order, median of the runs"
    yield f"{'':16}{'orders':>9}{'client':>9}{'PostgreSQL':>12}{'total':>9}{'ratio':>8}{'orders/s':>10}{'peak RSS':>11}"
    own = _cpu_per_order(medians[COLUMNAR])
    for name, run in medians.items():
        client, postgres = (seconds / run.orders * 1e6 for seconds in (run.client_cpu, run.postgres_cpu))
        total = _cpu_per_order(run)
        yield (
            f"{name:16}{run.orders:>9,}{client:>9.1f}{postgres:>12.1f}{total:>9.1f}{total / own:>8.2f}"
            f"{run.orders / run.wall:>10,.0f}{run.peak_rss:>8.0f} MB"
        )
    yield f"({COLUMNAR} includes rules and totals, which the others don't have.)"


def _memory_line(small: Measurement, large: Measurement) -> str:
    return (
        f"{COLUMNAR}, peak RSS: {small.peak_rss:.0f} MB for {small.orders:,} orders, {large.peak_rss:.0f} MB for "
        f"{large.orders:,} ({_cpu_per_order(large):.1f} µs per order, {large.orders / large.wall:,.0f} orders/s)"
    )


def _missed(medians: Mapping[str, Measurement], large: Measurement) -> Iterator[str]:
    own = medians[COLUMNAR]
    for name, least in LEAST_RATIO.items():
        ratio = _cpu_per_order(medians[name]) / _cpu_per_order(own)
        if ratio < least:
            yield f"MISSED: {name} takes {ratio:.2f} times the CPU of {COLUMNAR}; the target is at least {least:g}."
    growth = large.peak_rss / own.peak_rss
    if growth > MOST_MEMORY:
        yield (
            f"MISSED: {GROWTH} times the orders take {growth:.2f} times the memory of {COLUMNAR}; "
            f"the target is at most {MOST_MEMORY:g}."
        )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
