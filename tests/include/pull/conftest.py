from __future__ import annotations

import pytest

from tests.include.pull.pulling import Puller
from tests.pipeline import Pipeline


@pytest.fixture
def puller(pipeline: Pipeline) -> Puller:
    return Puller(pipeline)
