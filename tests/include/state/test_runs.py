from __future__ import annotations

import pytest
from sqlalchemy import text

from include.state.database import SliceKey, StateDatabase
from include.state.runs import (
    EntitySummary,
    acknowledged_until,
    add_run_metrics,
    advance_watermark,
    finish_run,
    load_run,
    run_summary,
    start_run,
)
from include.state.slices import close_slice, open_slices
from include.state.stores import StoreRef
from tests.include.state.records import answer, at, chunk, claim_in, moved, post, records


def test_a_retried_run_keeps_its_window_unless_reset(state: StateDatabase, store: StoreRef) -> None:
    with state.begin() as connection:
        first = start_run(connection, store.store_ref, "d", "r", "manual", "full", at(0), at(1))
        finish_run(connection, first.run_ref, "failed")
        again = start_run(connection, store.store_ref, "d", "r", "manual", "full", at(0), at(9))
        assert again == first
        assert load_run(connection, first.run_ref) == first
        reset = start_run(connection, store.store_ref, "d", "r", "manual", "full", None, at(9), reset=True)
        assert (reset.run_ref, reset.window_start, reset.window_end) == (first.run_ref, None, at(9))
        assert connection.scalar(text("SELECT state FROM runs")) == "running"
        with pytest.raises(LookupError, match="clear the run's first task"):
            load_run(connection, 999)


def test_watermark_never_moves_backwards(state: StateDatabase, store: StoreRef) -> None:
    with state.begin() as connection:
        assert acknowledged_until(connection, store.store_ref, "orders") is None
        for minutes in (5, 3):
            advance_watermark(connection, store.store_ref, "orders", at(minutes))
        assert acknowledged_until(connection, store.store_ref, "orders") == at(5)


def test_summary_and_views_agree(state: StateDatabase, store: StoreRef, slice_key: SliceKey) -> None:
    progress = moved(None, "z", 6, unchanged=1, rejected=1)
    batch_ref = claim_in(state, store, slice_key, chunk(records("a", "b", "c", "d"), progress=progress))
    post(state, batch_ref)
    answer(state, batch_ref, "ok", "ok", "invalid", "")
    with state.begin() as connection:
        assert open_slices(connection, slice_key.run_ref) == [("products", "products 0")]
        close_slice(connection, slice_key, 1)
        add_run_metrics(connection, slice_key.run_ref, http_calls=3, bytes_sent=700, wait_seconds=0.5)
        summary = run_summary(connection, slice_key.run_ref)
        assert summary == [EntitySummary("products", 6, 0, 4, 2, 2, 1, 1)]
        assert run_summary(connection, slice_key.run_ref, "products", 0) == summary
        assert run_summary(connection, slice_key.run_ref, "orders") == []
        assert open_slices(connection, slice_key.run_ref) == []
        run = connection.execute(text("SELECT * FROM runs")).mappings().one()
        status = connection.execute(text("SELECT * FROM sync_status")).mappings().one()
    expected = {"extracted": 6, "operations": 4, "acknowledged": 2, "rejected": 2, "unknown": 1, "batches": 1}
    assert {name: run[name] for name in expected} == expected
    assert (run["http_calls"], run["bytes_sent"], run["wait_seconds"]) == (3, 700, 0.5)
    assert (status["synced"], status["rejected"], status["unknown"], status["pending"]) == (2, 1, 1, 0)
    assert status["lag_seconds"] >= 0
