"""What a rehearsal names is what the sandbox then executes, operation by operation."""

from __future__ import annotations

import random
from typing import Any

import pytest

from include.load.runs import Mode
from tests.include.rehearse.rehearsals import comes_true
from tests.include.rehearse.scenarios import (
    SCENARIOS,
    Step,
    a_customer_goes_whose_orders_stay,
    a_line_is_changed,
    fill,
    mix,
    more_is_deleted_than_allowed,
)
from tests.pipeline import STORE, Pipeline


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    fill(pipeline)
    return pipeline


def test_a_first_load(pipeline: Pipeline) -> None:
    """There is neither a store at Mailchimp nor anything in the state tables."""
    pipeline.add_product(1)
    pipeline.add_customer(1, opted_in=True)
    pipeline.add_order(1, 1, 1)
    forecast, operations = comes_true(pipeline)
    assert operations["PUT", f"{STORE}/orders/1"] == 1
    assert (forecast["products"].creates, forecast["products"].updates) == (1, 0)
    assert forecast.direct["POST /ecommerce/stores"] == 1


@pytest.mark.parametrize("happens", SCENARIOS, ids=lambda step: step.__name__)
def test_whatever_has_happened(filled: Pipeline, happens: Step) -> None:
    happens(filled)
    forecast, operations = comes_true(filled)
    assert operations or forecast.failures or forecast.segments or happens is a_customer_goes_whose_orders_stay


@pytest.mark.slow
@pytest.mark.parametrize("happens", SCENARIOS, ids=lambda step: step.__name__)
def test_whatever_a_full_sync_finds(filled: Pipeline, happens: Step) -> None:
    happens(filled)
    comes_true(filled, mode=Mode.FULL)
    comes_true(filled)  # what is left to do after it


def test_a_full_sync_of_an_unchanged_shop_costs_nothing(filled: Pipeline) -> None:
    forecast, operations = comes_true(filled, mode=Mode.FULL)
    assert not operations
    assert forecast["orders"].unchanged == 4


def test_the_brake_on_deletions_can_be_released(filled: Pipeline) -> None:
    more_is_deleted_than_allowed(filled)
    stopped, _ = comes_true(filled)
    assert "Delete whatever is gone" in stopped.failures[0]
    forecast, _ = comes_true(filled, allow_deletes=True)
    assert forecast["products"].deletes == 15


@pytest.mark.parametrize(
    "request_",
    [
        {"mode": Mode.IDS, "entities": ("orders",), "ids": ("1", "2")},
        {"entities": ("orders", "products")},
        {"kind": "backfill"},
    ],
)
def test_runs_that_look_at_a_part_only(filled: Pipeline, request_: dict[str, Any]) -> None:
    a_line_is_changed(filled)
    comes_true(filled, **request_)


def test_many_batches(pipeline: Pipeline) -> None:
    pipeline.configure(batch_operations=10, max_open_batches=2)
    for product in range(1, 48):
        pipeline.add_product(product)
    forecast, _ = comes_true(pipeline)
    assert (forecast["products"].operations, forecast["products"].batches) == (47, 5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_any_mix(filled: Pipeline, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(3):
        print(mix(filled, chance))
        comes_true(filled, mode=chance.choice([Mode.INCREMENTAL, Mode.FULL]), allow_deletes=chance.random() < 0.5)
