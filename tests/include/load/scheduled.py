"""What Airflow makes of a schedule, in small: intervals, their runs, and backfills; and a shop that keeps changing.

As Airflow does it, a backfill that reprocesses a run keeps that run's id and makes it a backfill run, whatever it was
before; what it reprocesses are `missing`, `failed` or `completed` runs, each of them including those before it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from include.load.runs import Mode
from include.sandbox.server import SandboxServer
from include.state.migrate import migrate
from include.state.runs import find_run
from tests.pipeline import Died, Pipeline

Reprocess = Literal["missing", "failed", "completed"]
Interval = tuple[datetime, datetime]
CUSTOMERS = (1, 2, 3, 4)
SOLD = (1, 2, 3)
# Nobody has ordered them: an order keeps what it was sent with when its product goes, until it changes itself.
COME_AND_GO = (4, 5)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class Schedule:
    """The intervals so far; of those that were run, the id of the run and whether it succeeded."""

    intervals: list[Interval] = field(default_factory=list)
    runs: dict[Interval, tuple[str, bool]] = field(default_factory=dict)

    def elapse(self, pipeline: Pipeline) -> Interval:
        """End the present interval; the next one begins."""
        [(now,)] = pipeline.sql("SELECT clock_timestamp()")
        self.intervals.append((self.intervals[-1][1] if self.intervals else LONG_AGO, now))
        return self.intervals[-1]

    def run(
        self, pipeline: Pipeline, interval: Interval, kind: str = "scheduled", dies: Callable[[], None] | None = None
    ) -> None:
        """Run an interval, for the first time or once more."""
        name, _ = self.runs.get(interval, (f"{kind}__{interval[0].isoformat()}", False))
        since, until = interval
        try:
            ran = pipeline.push(kind=kind, since=since, until=until, dies=dies, dag_run_id=name)
            succeeded = ran.failure is None
        except Died:
            succeeded = False
        self.runs[interval] = (name, succeeded)

    def to_backfill(self, among: Sequence[Interval], reprocess: Reprocess) -> list[Interval]:
        """Return the intervals that a backfill runs."""
        found = [(interval, self.runs.get(interval)) for interval in among]
        return [
            interval
            for interval, run in found
            if run is None or reprocess == "completed" or (reprocess == "failed" and not run[1])
        ]

    def tear_down(self, pipeline: Pipeline, interval: Interval) -> None:
        """What Airflow does after a run's tasks have failed, if it gets to it."""
        with pipeline.state.begin() as connection:
            run = find_run(connection, "push", self.runs[interval][0])
        if run is not None:
            pipeline.conclude(run)


@dataclass
class LivelyShop:
    """Things happen in a shop, by a seed."""

    pipeline: Pipeline
    chance: random.Random
    happened: int = 0

    def open(self) -> None:
        for product_id in (*SOLD, *COME_AND_GO):
            self.pipeline.add_product(product_id)
        for customer_id in CUSTOMERS:
            self.pipeline.add_customer(customer_id, opted_in=customer_id % 2 == 0)

    def change(self) -> None:
        """One more thing happens."""
        self.happened += 1
        pipeline, number = self.pipeline, self.happened
        product, seldom = self.chance.choice(SOLD), self.chance.choice(COME_AND_GO)
        customer = self.chance.choice(CUSTOMERS)
        order, cart = self._any("orders", "order_id"), self._any("carts", "cart_id")
        match self.chance.randrange(10):
            case 0 | 1:
                pipeline.add_order(number, customer, product)
            case 2:
                pipeline.sql("UPDATE orders SET tracking_number = :n WHERE order_id = :id", n=f"T{number}", id=order)
            case 3:
                pipeline.sql("DELETE FROM order_lines WHERE order_id = :id", id=order)
                pipeline.sql("DELETE FROM orders WHERE order_id = :id", id=order)
            case 4:
                pipeline.sql("UPDATE products SET title = :t WHERE product_id = :id", t=f"Title {number}", id=product)
            case 5:
                pipeline.sql("UPDATE products SET deleted_at = clock_timestamp() WHERE product_id = :id", id=seldom)
            case 6:
                pipeline.sql("UPDATE products SET deleted_at = NULL")
            case 7:
                pipeline.sql(
                    "UPDATE customers SET first_name = :n WHERE customer_id = :id", n=f"N{number}", id=customer
                )
            case 8:
                pipeline.add_cart(number, customer, product)
            case 9:
                pipeline.sql("DELETE FROM cart_lines WHERE cart_id = :id", id=cart)
                pipeline.sql("DELETE FROM carts WHERE cart_id = :id", id=cart)

    def _any(self, table: str, key: str) -> int | None:
        ids = [found for (found,) in self.pipeline.sql(f"SELECT {key} FROM {table} ORDER BY {key}")]
        return self.chance.choice(ids) if ids else None


@contextmanager
def fully_synced(pipeline: Pipeline) -> Iterator[Pipeline]:
    """The same shop after a full sync into an empty store of another account, with a state of its own."""
    with SandboxServer.start(seed=2, batch_seconds=0) as sandbox:
        fresh = Pipeline(pipeline.engine, sandbox, pipeline.settings)
        fresh.state = migrate(pipeline.engine, "fresh")
        assert fresh.push(mode=Mode.FULL).failure is None
        yield fresh
