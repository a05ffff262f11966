"""A replay of rejected records, as the DAG does it."""

from __future__ import annotations

from typing import Any

from include.load import replay
from include.load.phases import PHASES
from include.load.replay import Replay, Selection
from include.state.database import SliceKey
from tests.pipeline import Pipeline


def run_replay(pipeline: Pipeline, *, quiet: bool = True, dag_run_id: str | None = None, **selection: Any) -> Replay:
    """Select rejected records, and send them through the phases of an ordinary run."""
    chosen = Selection(**selection)
    [(store_ref,)] = pipeline.sql("SELECT store_ref FROM mailchimp.store WHERE is_current")
    counts = replay.selected(replay.count(pipeline.state, store_ref, chosen), chosen)
    entities = {one.entity for one in counts}
    request = replay.request_for("replay", "unused", tuple(entities), quiet=quiet)
    run, store = pipeline.begin(mode=request.mode, entities=request.entities, kind=request.kind, dag_run_id=dag_run_id)
    assert replay.select(pipeline.state, store, run, chosen) == sum(one.records for one in counts)
    for phase in PHASES.values():
        for part in pipeline.plan(run, phase):
            pipeline.finish(SliceKey(run.run_ref, part.entity, part.number), store, removes=phase.removes)
    pipeline.conclude(run)
    return replay.outcome(pipeline.state, run)
