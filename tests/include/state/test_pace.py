"""After an account said "too many", half as many tasks call it at a time, whichever processes they are in."""

from __future__ import annotations

from contextlib import ExitStack

from sqlalchemy import text

from include.state.database import StateDatabase
from include.state.pace import lane, slow_down
from include.state.stores import StoreRef


def places(state: StateDatabase, account_id: str, tasks: int) -> list[bool]:
    """Which of so many tasks at a time have a place."""
    with ExitStack() as working:
        return [working.enter_context(lane(state, account_id, 4)) for _ in range(tasks)]


def test_half_of_the_tasks_have_a_place_until_the_account_is_well_again(state: StateDatabase, store: StoreRef) -> None:
    assert places(state, store.account_id, 5) == [True] * 5
    with state.begin() as connection:
        slow_down(connection, store.account_id)
    assert places(state, store.account_id, 4) == [True, True, False, False]
    assert places(state, store.account_id, 2) == [True, True]  # who has ended gives the place back
    assert places(state, "another account", 3) == [True] * 3
    with state.begin() as connection:
        connection.execute(text("UPDATE store SET slow_until = slow_until - interval '61 seconds'"))
    assert places(state, store.account_id, 4) == [True] * 4
