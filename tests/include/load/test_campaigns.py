"""An order whose campaign Mailchimp doesn't know is sent without it, once; the campaign is remembered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from include.sandbox.server import SandboxServer
from tests.include.load.shop import MortalClient, die_at
from tests.pipeline import Died, Pipeline

KNOWN, UNKNOWN, OTHER = "abcdef0123", "0123456789", "9876543210"


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer.start(seed=1, batch_seconds=0, campaigns=(KNOWN,)) as server:
        yield server


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    """A shop with a product and a customer that were sent."""
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.push()
    return pipeline


def campaigns(pipeline: Pipeline) -> dict[str, str]:
    return {order_id: order.get("campaign_id", "") for order_id, order in pipeline.held("orders").items()}


def test_a_campaign_that_mailchimp_knows_is_kept(pipeline: Pipeline) -> None:
    pipeline.add_order(1, 1, 1, campaign_id=KNOWN)
    assert pipeline.push()["orders"].operations == 1
    assert campaigns(pipeline) == {"1": KNOWN}


def test_a_refused_campaign_is_dropped_and_its_order_sent_once_more(pipeline: Pipeline) -> None:
    pipeline.add_order(1, 1, 1, campaign_id=UNKNOWN)
    pipeline.add_order(2, 1, 1, campaign_id=KNOWN)
    ran = pipeline.push()
    assert (ran["orders"].operations, ran["orders"].acknowledged, ran.failure) == (3, 2, None)
    assert campaigns(pipeline) == {"1": "", "2": KNOWN}
    assert pipeline.rejected() == {}
    assert pipeline.push().operations == 0
    assert pipeline.full_sync().operations == 0


def test_a_refused_campaign_is_not_named_again(pipeline: Pipeline) -> None:
    pipeline.add_order(1, 1, 1, campaign_id=UNKNOWN)
    pipeline.push()
    pipeline.add_order(2, 1, 1, campaign_id=UNKNOWN)
    assert pipeline.push()["orders"].operations == 1
    # Each new one is found out on its own.
    pipeline.add_order(3, 1, 1, campaign_id=OTHER)
    assert pipeline.push()["orders"].operations == 2
    assert set(campaigns(pipeline)) == {"1", "2", "3"}


def test_many_orders_of_refused_campaigns_are_repeated_together(pipeline: Pipeline) -> None:
    pipeline.configure(batch_operations=4)
    for number in range(10):
        pipeline.add_order(number + 1, 1, 1, campaign_id=UNKNOWN if number % 2 else OTHER)
    ran = pipeline.push()
    assert (ran["orders"].acknowledged, ran["orders"].rejected, ran["orders"].unknown) == (10, 0, 0)
    assert ran["orders"].operations <= 20


def test_a_death_before_the_repetition_loses_nothing(pipeline: Pipeline, mortal: MortalClient) -> None:
    pipeline.add_order(1, 1, 1, campaign_id=UNKNOWN)
    mortal.before_post = die_at(2)
    with pytest.raises(Died):
        pipeline.push()
    mortal.before_post = None
    assert pipeline.push()["orders"].operations == 1
    assert campaigns(pipeline) == {"1": ""}
