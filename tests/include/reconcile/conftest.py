"""A little store that is in step with its shop, and a way to compare and repair it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from include.reconcile.compare import Comparer
from include.reconcile.repair import Repaired, repair
from include.reconcile.report import Kind, Reconciliation
from include.transform.entities import ENTITIES
from tests.pipeline import Pipeline

COUPON = "INSERT INTO coupons (coupon_id, title, description, type, amount) VALUES (7, 'Spring', 'd', 'fixed', 5)"
CODES = "INSERT INTO coupon_codes (code_id, coupon_id, code) VALUES (70, 7, 'SAVE'), (71, 7, 'MORE')"


@dataclass
class Reconciler:
    """Compares a pipeline's shop, ledger and sandbox."""

    pipeline: Pipeline
    runs: int = 0
    last: Reconciliation | None = None

    def compare(self, *entities: str) -> Reconciliation:
        self.runs += 1
        self.last = self.comparer().compare(f"reconcile {self.runs}", entities or tuple(ENTITIES))
        return self.last

    def comparer(self) -> Comparer:
        pipeline = self.pipeline
        return Comparer(pipeline.state, pipeline.engine, pipeline.profile, pipeline.client, pipeline.settings)

    def repair(self) -> Repaired:
        assert self.last is not None
        return repair(self.pipeline.state, self.last.reconciliation_ref)

    def drift(self) -> dict[tuple[str, str], str]:
        """What the newest comparison found, but for revenue: (entity, id) → kind."""
        rows = self.pipeline.sql("SELECT entity, record_id, kind FROM mailchimp.drift WHERE kind <> :r", r=Kind.REVENUE)
        return {(entity, record_id): kind for entity, record_id, kind in rows}

    def fields(self, entity: str, record_id: str) -> list[str]:
        [(fields,)] = self.pipeline.sql(
            "SELECT fields FROM mailchimp.drift WHERE entity = :entity AND record_id = :id", entity=entity, id=record_id
        )
        return list(fields)

    def found(self, *entities: Sequence[str]) -> dict[tuple[str, str], str]:
        """Compare, and return what has drifted."""
        self.compare(*entities)
        return self.drift()


@pytest.fixture
def in_step(pipeline: Pipeline) -> Pipeline:
    """Three products, customers (two subscribed, one opted out) and orders, an open cart and a coupon: all pushed."""
    for number in (1, 2, 3):
        pipeline.add_product(number, variants=2)
        pipeline.add_customer(number, opted_in=number != 3, last_name=f"Name {number}")
        pipeline.add_order(number, number, 1, number)
    pipeline.add_cart(1, 1, 2)
    pipeline.sql(COUPON)
    pipeline.sql(CODES)
    pipeline.push()
    assert pipeline.push().operations == 0
    return pipeline


@pytest.fixture
def reconciler(in_step: Pipeline) -> Reconciler:
    return Reconciler(in_step)
