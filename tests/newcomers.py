"""The run that brings people to the audience whom only the shop knows, in this process, as the DAG does it."""

from __future__ import annotations

from collections.abc import Callable

from include.extract.slices import Extractor
from include.load import drive, newcomers
from include.load.audience import read_audience
from include.load.newcomers import Survey
from include.load.phases import PHASES
from include.load.preflight import check_account
from include.load.runs import Mode
from include.load.subscribers import count_new_subscribers
from include.state.database import SliceKey
from include.state.runs import SUBSCRIBERS, Run
from include.state.stores import StoreRef, register_store
from include.transform.records import BuildContext
from tests.pipeline import Pipeline, Ran


def look(pipeline: Pipeline) -> Survey:
    """The task `count`."""
    account_id = check_account(pipeline.client, pipeline.settings)
    with pipeline.state.begin() as connection:
        store = register_store(connection, pipeline.settings, account_id)
    audience = read_audience(pipeline.state, pipeline.client, pipeline.settings, account_id)
    with pipeline.engine.connect() as connection:
        extractor = Extractor(connection, pipeline.profile)
        context = BuildContext(pipeline.settings, pipeline.profile.profile, "EUR", audience)
        return newcomers.survey(pipeline.state, extractor, store, context)


def counts(pipeline: Pipeline) -> dict[str, int]:
    """What the task `count` tells, without the zeros."""
    return {name: count for name, count in look(pipeline).to_json().items() if count}


def begin(pipeline: Pipeline, dag_run_id: str | None = None) -> tuple[Run, StoreRef]:
    """The task `prepare`."""
    newcomers.check_limit(pipeline.settings)
    run, store = pipeline.begin(mode=Mode.IDS, entities=("members",), kind=SUBSCRIBERS, dag_run_id=dag_run_id)
    with pipeline.engine.connect() as connection:
        context = BuildContext(pipeline.settings, pipeline.profile.profile, "EUR")
        newcomers.choose(pipeline.state, Extractor(connection, pipeline.profile), store, run, context)
    return run, store


def asked_about(pipeline: Pipeline, run: Run) -> int:
    """How many people the task `count_new_subscribers` finds."""
    with pipeline.engine.connect() as connection:
        context = BuildContext(pipeline.settings, pipeline.profile.profile, "EUR")
        return count_new_subscribers(pipeline.state, Extractor(connection, pipeline.profile), run, context)


def bring(
    pipeline: Pipeline,
    *,
    meanwhile: Callable[[], None] | None = None,
    dies: Callable[[], None] | None = None,
    dag_run_id: str | None = None,
) -> Ran:
    """A whole run; `meanwhile` happens while it waits for an answer, `dies` before each step of a slice."""
    run, store = begin(pipeline, dag_run_id)
    if meanwhile is not None:
        meanwhile()
    with pipeline.engine.connect() as connection:
        extractor = Extractor(connection, pipeline.profile)
        planned = drive.plan(pipeline.state, pipeline.client, pipeline.settings, extractor, run, PHASES["members"])
    for part in planned:
        pipeline.finish(SliceKey(run.run_ref, part.entity, part.number), store, dies=dies)
    return pipeline.conclude(run)
