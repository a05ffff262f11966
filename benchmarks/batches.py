"""What the variants have in common: the unit of work, and where the operations go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

from sqlalchemy import Connection, Engine

from include.config.stores import StoreSettings

ORDERS_PER_CHUNK: Final = 10_000
OPERATIONS_PER_BATCH: Final = 500
STORE: Final = StoreSettings(key="bench", store_id="bench-shop", list_id="a1b2c3d4e5", profile="reference")
COLLECTION: Final = f"/ecommerce/stores/{STORE.store_id}/orders"
OPERATION_PREFIX: Final = "0123456789abcdef"


class Batch(NamedTuple):
    """A request body (a JSON array of operations, UTF-8), and how many operations it has."""

    body: bytes
    operations: int


#: Yields the batches of the first so-many orders, by key, on a fresh connection.
Batches: TypeAlias = Callable[[Connection, int], Iterator[Batch]]
#: Makes ready what isn't measured: settings, SQL files, the check of the profile.
Prepare: TypeAlias = Callable[[Engine], Batches]
