from __future__ import annotations

import pytest

from tests.pipeline import Pipeline


@pytest.fixture
def shop(pipeline: Pipeline) -> Pipeline:
    """A product and a customer that were sent."""
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.push()
    return pipeline
