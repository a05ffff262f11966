"""Rehearse a run, make it, and compare what was foretold with what the sandbox executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from include.load.errors import RunStopped
from include.load.runs import Mode, RunRequest
from include.rehearse.forecast import Forecast
from include.rehearse.run import Rehearsal
from include.transform.entities import ENTITIES
from tests.pipeline import Pipeline

Operations = Counter[tuple[str, str]]


def rehearse(
    pipeline: Pipeline,
    *,
    mode: Mode = Mode.INCREMENTAL,
    entities: Sequence[str] = tuple(ENTITIES),
    since: datetime | None = None,
    until: datetime | None = None,
    ids: Sequence[str] = (),
    kind: str = "manual",
    allow_deletes: bool = False,
    watch: Callable[[str, str], None] | None = None,
    **options: Any,
) -> Forecast:
    """Rehearse the run that `Pipeline.push` would make of the same arguments."""
    rehearsal = Rehearsal(
        engine=pipeline.engine,
        schema=pipeline.state.schema,
        shop=pipeline.engine,
        profile=pipeline.profile,
        client=pipeline.client,
        settings=pipeline.settings,
        watch=watch,
        **options,
    )
    request = RunRequest("push", "rehearsal", kind, mode, since, until, tuple(entities))
    return rehearsal.forecast(request, ids, allow_deletes=allow_deletes)


def foretold(pipeline: Pipeline, **request: Any) -> tuple[Forecast, Operations]:
    """The forecast, and the operations that it counted."""
    operations: Operations = Counter()
    forecast = rehearse(pipeline, watch=lambda method, path: operations.update([(method, path)]), **request)
    assert forecast.operations == operations.total()
    return forecast, operations


def executed(pipeline: Pipeline, **request: Any) -> tuple[Operations, str | None]:
    """Make a run; the operations that the sandbox executes during it, and why it failed, if it did."""
    operations: Operations = Counter()
    pipeline.sandbox.state.operation_fault = lambda method, path: operations.update([(method, path)])
    try:
        failure = pipeline.push(**request).failure
    except RunStopped as stopped:
        failure = str(stopped)
    finally:
        pipeline.sandbox.state.operation_fault = None
    return operations, failure


def direct_calls(pipeline: Pipeline) -> Counter[str]:
    """How often Mailchimp was called to write something other than a batch, by method; refused calls too."""
    calls: Counter[str] = Counter()
    for name, count in pipeline.requests().items():
        method, route = name.split()[:2]
        if method not in {"GET", "operation"} and route != "/batches":
            calls[method] += count
    return calls


def comes_true(pipeline: Pipeline, **request: Any) -> tuple[Forecast, Operations]:
    """Rehearse a run, make it, and assert that it did what was foretold; returns the forecast and its operations."""
    forecast, expected = foretold(pipeline, **request)
    before = direct_calls(pipeline)
    operations, failure = executed(pipeline, **request)
    assert operations == expected
    assert direct_calls(pipeline) - before == +Counter(name.split()[0] for name in forecast.direct.elements())
    assert forecast.failures == ([failure] if failure else [])
    return forecast, operations
