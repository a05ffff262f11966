"""A full sync that worker processes do, watched from outside: they are killed, and what they left is looked at."""

from __future__ import annotations

import io
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from signal import SIGKILL
from typing import Any

import requests
from sqlalchemy import Engine, text

from include.config.stores import StoreSettings
from include.mailchimp.archive import read_results
from include.sandbox.api import Reply
from include.sandbox.server import SandboxServer
from tests.faults.worker import Assignment, results, work

#: An operation by what it is about: entity, record id, and the child inside the record if it is about one.
Operation = tuple[str, str, str | None]

_LONGEST_LIFE_SECONDS = 600  # the test's own limit comes first

# New workers are forked from a server that has imported the pipeline once; it ends with this process.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([work.__module__])


@dataclass(frozen=True)
class Moment:
    """When a worker is killed: when this batch of the run arrives at Mailchimp, or so many seconds after that.

    At 0 seconds Mailchimp has the batch, and the worker never hears of it.
    """

    batch: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Kill:
    """What a killed worker left in the state tables.

    Attributes:
        moment: when it was killed.
        slices_done: slices that were worked off.
        slices_open: slices that were planned and not worked off.
        batches_open: batches without an outcome.
        unsettled: the operations in these.
        unknown: of these, the ones in batches that nobody noted the id of: did Mailchimp get them?
    """

    moment: Moment
    slices_done: int
    slices_open: int
    batches_open: int
    unsettled: frozenset[Operation]
    unknown: frozenset[Operation]


@dataclass(frozen=True)
class Result:
    """What a run came to, in the same terms however often its worker was killed.

    Attributes:
        held: what Mailchimp holds: digests and counts by store, contacts by audience, mails that it has sent.
        ledger: every record with its state and the hash of what was acknowledged.
        slices: the plan, and what became of the records of each slice.
    """

    held: dict[str, Any]
    ledger: list[tuple[Any, ...]]
    slices: list[tuple[Any, ...]]


class WatchedSync:
    """One store of one sandbox, filled from a shop by worker processes.

    Args:
        engine: on the shop's database.
        uri: the same as a libpq URL.
        schema: where this store's state is kept; several stores may be filled from one shop.
        sandbox: the Mailchimp, with nothing else in it.
        settings: of the store.
        memory: folder for what Airflow's scheduler would remember.
    """

    def __init__(
        self, engine: Engine, uri: str, schema: str, sandbox: SandboxServer, settings: StoreSettings, memory: Path
    ) -> None:
        self._engine = engine
        self._schema = schema
        self._sandbox = sandbox
        self._uri = uri
        self._settings = settings
        self._memory = memory
        self._watch = _Watch()
        sandbox.state.fault = self._watch

    @property
    def batches_posted(self) -> int:
        """How many batches have arrived at Mailchimp."""
        return self._watch.batches

    def run(self, dag_run_id: str) -> dict[str, Any]:
        """Let a worker do what is left of a run; returns what its tasks have returned, by name."""
        with self._worker(dag_run_id) as worker:
            worker.join(_LONGEST_LIFE_SECONDS)
            assert worker.exitcode == 0, f"the worker did not finish: exit code {worker.exitcode}"
        self._until(lambda: set(self._report("state")["batches"]) <= {"finished"}, "Mailchimp is still working")
        return results(self._assignment(dag_run_id))

    def kill(self, dag_run_id: str, moment: Moment) -> Kill:
        """Let a worker go on with a run, and kill it."""
        with self._worker(dag_run_id) as worker:
            reached = self._watch.for_batch(moment.batch, worker.kill if moment.seconds == 0 else lambda: None)
            self._until(lambda: reached.wait(0.1) or not worker.is_alive(), f"{moment} does not come")
            time.sleep(moment.seconds)
            worker.kill()
            worker.join()
            assert worker.exitcode == -SIGKILL, f"the worker ended before {moment}: exit code {worker.exitcode}"
        # Mailchimp goes on with what it has received: a batch may not be there yet.
        self._until(lambda: not self._sandbox.state.traffic.active, "requests of a killed worker stay")
        # The server may still be at a statement of the dead worker's; what it left stands when its sessions are gone.
        sessions = "SELECT FROM pg_stat_activity WHERE application_name = :schema"
        self._until(lambda: not self.rows(sessions, schema=self._schema), "sessions of a killed worker stay")
        return self._look(moment)

    def _look(self, moment: Moment) -> Kill:
        states = Counter(state for (state,) in self.rows("SELECT state FROM slice"))
        operations = self.rows("""
            SELECT batch_ref, batch_id, entity, record_id, child FROM batch JOIN operation USING (batch_ref)
            WHERE state IN ('intended', 'posted')
        """)
        return Kill(
            moment,
            slices_done=states["done"],
            slices_open=states["open"],
            batches_open=len({batch_ref for batch_ref, *_ in operations}),
            unsettled=frozenset(tuple(operation) for _, _, *operation in operations),
            unknown=frozenset(tuple(operation) for _, batch_id, *operation in operations if batch_id is None),
        )

    def result(self) -> Result:
        state = self._report("state")
        return Result(
            held={
                "stores": state["stores"],
                "contacts": {list_id: audience["members"] for list_id, audience in state["lists"].items()},
                "mails": state["mails"],
            },
            ledger=self.rows(
                "SELECT entity, record_id, state, on_mailchimp, payload_hash, batch_ref FROM ledger ORDER BY 1, 2"
            ),
            slices=self.rows("""
                SELECT entity, number, phase, first_key, last_key, ids, planned, state,
                       extracted, skipped, unchanged, rejected, unknown
                FROM slice ORDER BY run_ref, entity, number
            """),
        )

    def executed(self) -> Counter[Operation]:
        """Count how often Mailchimp has executed each operation, by the results of its batches."""
        named = {
            operation_id: tuple(operation)
            for operation_id, *operation in self.rows("""
                SELECT token || '-' || seq, entity, record_id, child FROM batch JOIN operation USING (batch_ref)
            """)
        }
        counts: Counter[Any] = Counter()
        for batch in self._sandbox.state.batches.batches.values():
            counts.update(named[str(result.operation_id)] for result in read_results(io.BytesIO(batch.archive)))
        assert counts.total() == self._report("requests")["operations"], "batches are gone, so this proves nothing"
        return counts

    def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Query the state tables."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql(f'SET LOCAL search_path TO "{self._schema}"')
            return [tuple(row) for row in connection.execute(text(statement), values)]

    def _report(self, name: str) -> dict[str, Any]:
        report: dict[str, Any] = requests.get(f"{self._sandbox.origin}/sandbox/{name}", timeout=60).json()
        return report

    def _assignment(self, dag_run_id: str) -> Assignment:
        return Assignment(
            dag_run_id=dag_run_id,
            shop=self._uri,
            schema=self._schema,
            mailchimp=self._sandbox.url,
            api_key=self._sandbox.api_key,
            settings=self._settings,
            memory=self._memory,
        )

    @contextmanager
    def _worker(self, dag_run_id: str) -> Iterator[BaseProcess]:
        worker = _PROCESSES.Process(target=work, args=(self._assignment(dag_run_id),), daemon=True)
        worker.start()
        try:
            yield worker
        finally:
            worker.kill()
            worker.join()
            worker.close()

    @staticmethod
    def _until(reached: Any, otherwise: str) -> None:
        deadline = time.monotonic() + _LONGEST_LIFE_SECONDS
        while not reached():
            assert time.monotonic() < deadline, otherwise
            time.sleep(0.01)


class _Watch:
    """Stands at Mailchimp's door and counts the batches that come in; set as the sandbox's `fault`, it changes nothing.

    It is called before Mailchimp looks at a request, by several threads.
    """

    def __init__(self) -> None:
        self.batches = 0
        self._lock = threading.Lock()
        self._awaited: tuple[int, threading.Event, Any] | None = None

    def for_batch(self, number: int, strike: Any) -> threading.Event:
        """Call `strike` when this batch arrives (or the next, if it is there already); returns what is set then."""
        reached = threading.Event()
        with self._lock:
            self._awaited = (number, reached, strike)
        return reached

    def __call__(self, method: str, path: str) -> Reply | None:
        if (method, path) == ("POST", "/batches"):
            with self._lock:
                self.batches += 1
                if self._awaited is not None and self.batches >= self._awaited[0]:
                    _, reached, strike = self._awaited
                    self._awaited = None
                    strike()
                    reached.set()
        return None


def random_moments(seed: int, batches: int, most_seconds: float) -> list[Moment]:
    """Draw three moments, one in each third of a run of so many batches.

    One of them, at random, is the worst there is: Mailchimp has a batch, and the worker dies without knowing.
    """
    chance = Random(seed)
    third = int(batches * 0.75) // 3  # so that the last kill, too, finds much left to do
    worst = chance.randrange(3)
    return [
        Moment(chance.randint(part * third + 1, (part + 1) * third), chance.uniform(0, most_seconds) * (part != worst))
        for part in range(3)
    ]


def table(kills: Sequence[Kill], executed: Counter[Operation]) -> str:
    """Lay out what each kill hit, and how many of the operations unknown at it were executed again."""
    lines = [
        f"{'killed':<24}{'slices done':>12}{'open':>6}{'batches open':>14}{'unsettled':>11}{'unknown':>9}{'re-sent':>9}"
    ]
    for kill in kills:
        when = f"batch {kill.moment.batch} + {1000 * kill.moment.seconds:.0f} ms"
        again = sum(executed[operation] > 1 for operation in kill.unknown)
        left = (kill.slices_done, kill.slices_open, kill.batches_open, len(kill.unsettled), len(kill.unknown), again)
        lines.append(f"{when:<24}" + "".join(f"{number:>14,}" for number in left))
    return "\n".join(lines)
