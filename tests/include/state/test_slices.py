from __future__ import annotations

from types import SimpleNamespace

import pytest

from include.state.database import SliceKey, StateDatabase
from include.state.slices import load_slice, save_slices
from tests.include.state.records import moved

RANGES = [
    SimpleNamespace(first_key="1", last_key="5", records=5),
    SimpleNamespace(first_key="6", last_key="9", records=4),
]


def test_a_new_plan_replaces_the_old_one(state: StateDatabase, slice_key: SliceKey) -> None:
    with state.begin() as connection:
        plan = save_slices(connection, slice_key.run_ref, "products", RANGES, ["x", "y", "x", "z"], slice_records=2)
    assert plan == [(0, 5), (1, 4), (2, 2), (3, 1)]
    with state.begin() as connection:
        assert save_slices(connection, slice_key.run_ref, "products", []) == []
        with pytest.raises(LookupError, match="clear the plan task"):
            load_slice(connection, slice_key)


def test_named_records_are_worked_off_in_order(state: StateDatabase, slice_key: SliceKey) -> None:
    from include.state.slices import advance

    with state.begin() as connection:
        save_slices(connection, slice_key.run_ref, "products", [], ["x", "y", "z"])
        fresh = load_slice(connection, slice_key)
        assert fresh.remaining_ids(2) == ("x", "y")
        assert advance(connection, slice_key, moved(None, "y", 2))
        assert not advance(connection, slice_key, moved(None, "z", 2))
        later = load_slice(connection, slice_key)
        assert (later.remaining_ids(2), later.exhausted) == (("z",), False)
        assert advance(connection, slice_key, moved("y", "z", 1))
        assert load_slice(connection, slice_key).exhausted
