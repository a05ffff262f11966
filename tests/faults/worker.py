"""A worker process that does all tasks of one full sync, and goes on where it was killed.

What Airflow's scheduler remembers (which tasks have succeeded, and what they returned) is kept in a folder, so that a
new process repeats exactly what Airflow would: the tasks that were running, no others. A `plan` that has succeeded is
never made again, and of the slices only those are pushed again that were not done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import requests
from sqlalchemy import make_url

from include.config.stores import StoreSettings
from include.extract.connection import open_engine
from include.extract.slices import Extractor
from include.load.audience import read_audience
from include.load.phases import PHASES, Phase
from include.load.plan import plan_phase
from include.load.preflight import check_account
from include.load.push import SlicePush
from include.load.remove import SliceRemoval
from include.load.runs import Mode, RunRequest, begin_run, conclude_run
from include.load.segments import push_segments
from include.load.settle import recover
from include.load.slice_step import Done
from include.load.store import ensure_store, pause_automations, resume_automations
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import NotFound
from include.shops.profile import check_profile, load_profile
from include.state.database import SliceBusy, SliceKey
from include.state.migrate import migrate
from include.state.runs import Run, load_run
from include.state.stores import StoreRef, load_store
from include.transform.entities import ENTITIES, extra_columns
from include.transform.records import BuildContext

_SLICES_AT_A_TIME = 2
_POLL_SECONDS = 0.005
_PATIENCE_SECONDS = 600  # the test's own limit comes first

Result = TypeVar("Result")


@dataclass(frozen=True)
class Assignment:
    """What a worker is told.

    Attributes:
        dag_run_id: the run; a worker that is told the same again goes on with it.
        shop: libpq URL of the shop's database, where the state is kept as well.
        schema: of the state tables; also the name of the worker's database sessions.
        mailchimp: base URL of the API.
        api_key: of the account.
        settings: of the store.
        memory: folder for what Airflow's scheduler would remember.
    """

    dag_run_id: str
    shop: str
    schema: str
    mailchimp: str
    api_key: str
    settings: StoreSettings
    memory: Path


def work(assignment: Assignment) -> None:
    """Do what is left of the run: the target of the process."""
    worker = _Worker(assignment)
    tasks = _Tasks(assignment.memory / assignment.dag_run_id)
    run_ref = tasks.once("prepare", worker.prepare)
    with ThreadPoolExecutor(_SLICES_AT_A_TIME) as slots:
        for phase in PHASES.values():
            slices = tasks.once(f"{phase.name}.plan", partial(worker.plan, phase, run_ref))
            pushes = [
                slots.submit(
                    tasks.once,
                    f"{phase.name}.push.{entity}.{number}",
                    partial(worker.push, phase, SliceKey(run_ref, entity, number)),
                )
                for entity, number in slices
            ]
            for push in pushes:
                push.result()
    tasks.once("segments", partial(worker.segments, run_ref))
    tasks.once("summarise", partial(worker.conclude, run_ref))


def results(assignment: Assignment) -> dict[str, Any]:
    """Return what the tasks that have succeeded returned, by name."""
    folder = assignment.memory / assignment.dag_run_id
    return {file.stem: json.loads(file.read_text()) for file in folder.glob("*.json")}


class _Tasks:
    """Remembers which tasks have succeeded; a file appears as a whole or not at all, whenever the process is killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def once(self, name: str, task: Callable[[], Result]) -> Result:
        file = self._folder / f"{name}.json"
        if not file.exists():
            made = self._folder / f"{name}.new"
            made.write_text(json.dumps(task()))
            made.rename(file)
        found: Result = json.loads(file.read_text())
        return found


class _Worker:
    """The tasks of the DAG (`plugins/mailchimp_airflow/push.py`), without Airflow."""

    def __init__(self, assignment: Assignment) -> None:
        self._told = assignment
        self._settings = assignment.settings
        # Named, so that whoever kills the worker sees when the server has noticed.
        named = {"application_name": assignment.schema}
        self._engine = open_engine(make_url(assignment.shop).update_query_dict(named))
        with self._engine.connect() as connection:
            self._profile = check_profile(load_profile(self._settings.profile), connection)
        self._state = migrate(self._engine, assignment.schema)

    def _client(self) -> MailchimpClient:
        session = requests.Session()
        session.auth = ("any", self._told.api_key)
        return MailchimpClient(session, self._told.mailchimp)

    def _run(self, run_ref: int) -> tuple[Run, StoreRef]:
        with self._state.begin() as connection:
            run = load_run(connection, run_ref)
            return run, load_store(connection, run.store_ref)

    def prepare(self) -> int:
        client = self._client()
        account_id = check_account(client, self._settings)
        with self._engine.connect() as connection:
            extractor = Extractor(connection, self._profile)
            shop, now = extractor.read_store(), extractor.read_at
        audience = read_audience(self._state, client, self._settings, account_id)
        store = ensure_store(self._state, client, self._settings, shop, account_id)
        request = RunRequest(
            "full_sync", self._told.dag_run_id, "manual", Mode.FULL, since=None, until=None, entities=tuple(ENTITIES)
        )
        run = begin_run(self._state, store.store_ref, request, self._settings, now, audience)
        pause_automations(self._state, client, self._settings, run)
        recover(self._state, client, store, timedelta(minutes=5))
        return run.run_ref

    def plan(self, phase: Phase, run_ref: int) -> list[tuple[str, int]]:
        run, _ = self._run(run_ref)
        if phase.name == "carts":
            resume_automations(self._state, self._client(), self._settings, run)
        with self._engine.connect() as connection:
            extractor = Extractor(connection, self._profile, extra=extra_columns(self._settings))
            slices = plan_phase(self._state, extractor, run, phase, self._settings)
        return [(part.entity, part.number) for part in slices]

    def push(self, phase: Phase, key: SliceKey) -> dict[str, int]:
        _, store = self._run(key.run_ref)
        client = self._client()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            work = (SliceRemoval if phase.removes else SlicePush)(
                state=self._state,
                shop=self._engine,
                profile=self._profile,
                client=client,
                store=store,
                settings=self._settings,
                entity=ENTITIES[key.entity],
                context=BuildContext(self._settings, self._profile.profile, "USD"),
                slice_key=key,
            )
            try:
                result = work.step()
            except SliceBusy:  # by the session of the killed worker, whose end the server hasn't noticed
                time.sleep(_POLL_SECONDS)
                continue
            if isinstance(result, Done):
                return result.counts
            self._wait(client, result.batch_ids, deadline)
        raise TimeoutError(f"{key} does not end")

    def _wait(self, client: MailchimpClient, batch_ids: tuple[str, ...], deadline: float) -> None:
        """Wait until one of the batches has ended, as the trigger does."""
        while time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            try:
                if not batch_ids or any(client.get_batch(batch_id).status.is_terminal for batch_id in batch_ids):
                    return
            except NotFound:
                return

    def segments(self, run_ref: int) -> list[str]:
        _, store = self._run(run_ref)
        pushed = push_segments(self._state, self._engine, self._profile, self._client(), store, self._settings)
        return [one.name for one in pushed]

    def conclude(self, run_ref: int) -> dict[str, Any]:
        run, _ = self._run(run_ref)
        try:
            conclusion = conclude_run(self._state, run, self._settings)
        finally:
            resume_automations(self._state, self._client(), self._settings, run)
        return {
            "failure": str(conclusion.failure) if conclusion.failure else None,
            "summaries": {summary.entity: asdict(summary) for summary in conclusion.summaries},
        }
