"""One run of the pipeline in a process of its own, which kills itself at a chosen point.

The points are all there is where a worker can die and somebody else notices: before a statement goes to the database
and after its answer, before each commit, before a request goes to Mailchimp and after the reply. They are counted, so
the same run dies at the same point again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection as Pipe
from signal import SIGKILL
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from sqlalchemy import create_engine, event

from include.config.stores import StoreSettings
from include.load.errors import RunStopped
from include.load.runs import Mode
from include.load.slice_step import Waiting
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import MailchimpError
from include.state.batches import ClaimConflict
from include.transform.entities import ENTITIES
from tests.pipeline import QUICK, Pipeline

WORKER = "faults worker"
"""What database sessions of workers are called."""

_PATIENCE = 3  # times that the same batches are waited for in vain

requests.Session()  # what this looks up the first time is inherited by all workers


@dataclass(frozen=True)
class Errand:
    """What a worker is told.

    Attributes:
        dag_run_id: the run; the same again is one that was cleared.
        uri: of the shop's database.
        url: of the API.
        api_key: of the account.
        settings: of the store.
        mode: of the run.
        entities: of the run.
        ids: of a run of mode `ids`.
        since: of a run with a window of its own.
        kind: of the run.
        dies_at: the point at which it dies; None: never.
    """

    dag_run_id: str
    uri: str
    url: str
    api_key: str
    settings: StoreSettings
    mode: Mode = Mode.INCREMENTAL
    entities: tuple[str, ...] = tuple(ENTITIES)
    ids: tuple[str, ...] = ()
    since: datetime | None = None
    kind: str = "manual"
    dies_at: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended: after so many points, with so many operations, or why not (the name of the error)."""

    points: int
    operations: int = 0
    stopped: str | None = None


class Stuck(RunStopped):
    """Mailchimp doesn't end a batch; Airflow's deferred task would wait on."""


@dataclass
class _Points:
    """Counts the points of this process, and ends it at one of them."""

    dies_at: int | None
    passed: int = 0

    def pass_one(self, *_args: Any, **_kwargs: Any) -> None:
        self.passed += 1
        # More than that: several threads count, and one may be overtaken between the two lines.
        if self.dies_at is not None and self.passed >= self.dies_at:
            os.kill(os.getpid(), SIGKILL)

    def watch(self, engine: Any) -> None:
        for moment in ("before_cursor_execute", "after_cursor_execute", "commit"):
            event.listen(engine, moment, self.pass_one)


class _Wire(HTTPAdapter):
    def __init__(self, points: _Points) -> None:
        super().__init__()
        self._points = points

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        self._points.pass_one()
        response = super().send(request, **options)
        self._points.pass_one()
        return response


@dataclass(frozen=True)
class _Elsewhere:
    """The sandbox, which is in another process."""

    url: str
    api_key: str


@dataclass
class _Worker(Pipeline):
    points: _Points = field(default_factory=lambda: _Points(None))
    waited_for: tuple[str, ...] | None = None
    in_vain: int = 0

    def new_client(self) -> MailchimpClient:
        session = requests.Session()
        session.auth = ("any", self.sandbox.api_key)
        session.mount(self.sandbox.url, _Wire(self.points))
        session.trust_env = False
        return MailchimpClient(session, self.sandbox.url, retry=QUICK)

    def wait(self, waiting: Waiting) -> None:
        """Mailchimp has worked off all it can before it answers (see `Mailchimp` in town.py)."""
        self.in_vain = self.in_vain + 1 if waiting.batch_ids == self.waited_for else 0
        self.waited_for = waiting.batch_ids
        if self.in_vain > _PATIENCE:
            raise Stuck(f"{len(waiting.batch_ids)} batches do not end")


def work(errand: Errand, report: Pipe) -> None:
    """Do the run and report its `Outcome`, or die: the target of the process."""
    points = _Points(errand.dies_at)
    engine = create_engine(
        errand.uri.replace("postgresql://", "postgresql+psycopg2://", 1), connect_args={"application_name": WORKER}
    )
    points.watch(engine)
    elsewhere: Any = _Elsewhere(errand.url, errand.api_key)
    worker = _Worker(engine, elsewhere, errand.settings, points=points)
    try:
        ran = worker.push(
            mode=errand.mode,
            entities=errand.entities,
            ids=errand.ids,
            since=errand.since,
            kind=errand.kind,
            allow_deletes=True,
            dag_run_id=errand.dag_run_id,
        )
        outcome = Outcome(points.passed, ran.operations, ran.failure)
    except (MailchimpError, RunStopped, ClaimConflict) as error:  # what Airflow would show as a failed task
        outcome = Outcome(points.passed, stopped=type(error).__name__)
    report.send(outcome)
    report.close()
    engine.dispose()
