from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine

from include.state.database import SliceKey, StateDatabase
from include.state.migrate import migrate
from include.state.runs import start_run
from include.state.slices import save_slices
from include.state.stores import StoreRef, register_store

DEMO = SimpleNamespace(key="demo", store_id="demo-shop", list_id="a1b2c3d4e5")
UNTIL = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def state(database: Engine) -> StateDatabase:
    return migrate(database)


@pytest.fixture
def store(state: StateDatabase) -> StoreRef:
    with state.begin() as connection:
        return register_store(connection, DEMO, "account-1")


@pytest.fixture
def slice_key(state: StateDatabase, store: StoreRef) -> SliceKey:
    with state.begin() as connection:
        run = start_run(connection, store.store_ref, "push", "run-1", "manual", "full", None, UNTIL)
        bounds = SimpleNamespace(first_key="a", last_key="z", records=10)
        save_slices(connection, run.run_ref, "products", [bounds])
    return SliceKey(run.run_ref, "products", 0)
