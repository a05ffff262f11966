"""PostgreSQL builds the JSON (order_json.sql), the client only joins it: the obvious fast way without a framework.

Same ranges of 10,000 orders, same session settings and the same COPY as the pipeline's own extraction.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
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
from benchmarks.columnar import EVERYTHING
from include.extract.connection import cursor_of
from include.extract.slices import Extractor
from include.shops.profile import CheckedProfile, check_profile, load_profile

_SELECT: Final = Path(__file__).with_name("order_json.sql").read_text(encoding="utf-8")
# JSON text contains no control characters, so with these nothing is ever quoted or escaped.
_RAW_LINES: Final = r"(FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01', ENCODING 'UTF8')"


def prepare(engine: Engine) -> Batches:
    """Check the profile, which the planning of ranges needs.

    Args:
        engine: of a database with the reference shop.
    """
    with engine.connect() as connection:
        return partial(_batches, check_profile(load_profile(STORE.profile), connection))


def _batches(profile: CheckedProfile, connection: Connection, orders: int) -> Iterator[Batch]:
    extractor = Extractor(connection, profile)  # begins the snapshot and sets up the session
    chunk = min(orders, ORDERS_PER_CHUNK)
    for bounds in extractor.plan("orders", EVERYTHING, chunk)[: -(-orders // chunk)]:
        buffer = BytesIO()
        with cursor_of(connection) as cursor:
            values = {
                "collection": COLLECTION,
                "token": OPERATION_PREFIX,
                "operations": OPERATIONS_PER_BATCH,
                "first": int(bounds.first_key),
                "last": int(bounds.last_key),
            }
            select = cursor.mogrify(_SELECT, values).decode()
            cursor.copy_expert(f"COPY ({select}) TO STDOUT WITH {_RAW_LINES}", buffer)
        operations = buffer.getvalue().splitlines()
        for start in range(0, len(operations), OPERATIONS_PER_BATCH):
            batch = operations[start : start + OPERATIONS_PER_BATCH]
            yield Batch(b"[" + b",".join(batch) + b"]", len(batch))
