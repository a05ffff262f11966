"""The pipeline's own way, exactly as a push task does it: extractor, transform, columnar encoder, batch bodies.

Unlike the other variants it also checks every rule and adds up every order.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Final

from sqlalchemy import Connection, Engine

from benchmarks.batches import (
    COLLECTION,
    OPERATION_PREFIX,
    OPERATIONS_PER_BATCH,
    ORDERS_PER_CHUNK,
    STORE,
    Batch,
    Batches,
)
from include.extract.slices import Extractor, Window
from include.load.operations import Endpoint, batch_body
from include.shops.profile import CheckedProfile, check_profile, load_profile
from include.transform.entities import ENTITIES
from include.transform.records import BuildContext

EVERYTHING: Final = Window(None, datetime(9999, 1, 1, tzinfo=UTC))


def prepare(engine: Engine) -> Batches:
    """Check the profile against the database.

    Args:
        engine: of a database with the reference shop.
    """
    with engine.connect() as connection:
        return partial(_batches, check_profile(load_profile(STORE.profile), connection))


def _batches(profile: CheckedProfile, connection: Connection, orders: int) -> Iterator[Batch]:
    entity = ENTITIES["orders"]
    context = BuildContext(STORE, profile.profile, "USD")
    extractor = Extractor(connection, profile)
    chunk = min(orders, ORDERS_PER_CHUNK)
    for bounds in extractor.plan(entity.extract, EVERYTHING, chunk)[: -(-orders // chunk)]:
        frame = extractor.read_range(entity.extract, None, bounds.last_key, chunk, EVERYTHING, first=bounds.first_key)
        built = entity.build(extractor, frame, context)
        for start in range(0, len(built.bodies), OPERATIONS_PER_BATCH):
            ids, bodies = (column[start : start + OPERATIONS_PER_BATCH] for column in (built.record_ids, built.bodies))
            yield Batch(batch_body(OPERATION_PREFIX, ["PUT"] * len(ids), Endpoint(COLLECTION), ids, bodies), len(ids))
