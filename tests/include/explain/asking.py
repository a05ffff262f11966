"""Ask for an explanation, as tests do."""

from __future__ import annotations

import json
from typing import Any

from include.explain.answer import explain
from include.explain.explanation import Explanation
from tests.pipeline import Pipeline


def ask(pipeline: Pipeline, entity: str, record: str | int) -> Explanation:
    """Explain a record; whatever the answer, it is made of JSON values and whole sentences."""
    found = explain(pipeline.state, pipeline.engine, pipeline.profile, pipeline.settings, entity, str(record))
    assert json.loads(json.dumps(found.to_json())) == found.to_json()
    assert found.sentence.endswith(".")
    assert found.next_step.endswith(".")
    return found


def values(explanation: Explanation, step: str) -> dict[str, Any]:
    return next(one.visible(private=True) for one in explanation.steps if one.name == step)


def told(explanation: Explanation, step: str) -> str:
    return next(one.told for one in explanation.steps if one.name == step)
