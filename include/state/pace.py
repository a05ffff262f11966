"""How many tasks may call an account at a time, across processes: fewer for a minute after it said "too many".

Within a process `include.mailchimp.throttle` does the same for its requests; what processes know of each other is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, text

from include.state.database import StateDatabase

SLOW_SECONDS: Final = 60


def slow_down(connection: Connection, account_id: str) -> None:
    """Record that Mailchimp has just told a task of the account to slow down."""
    connection.execute(
        text("""
            UPDATE store SET slow_until = clock_timestamp() + :seconds * interval '1 second'
            WHERE account_id = :account_id
        """),
        {"account_id": account_id, "seconds": SLOW_SECONDS},
    )


@contextmanager
def lane(state: StateDatabase, account_id: str, most: int) -> Iterator[bool]:
    """Take part in the account's traffic for the length of the block; yields whether there is a place.

    There always is, unless the account is slow: then half as many tasks as usual have one. Who has none comes again.

    Args:
        state: the state tables.
        account_id: the Mailchimp account.
        most: tasks that usually call the account at a time.
    """
    with state.begin() as connection:
        is_slow = connection.scalar(
            text("SELECT bool_or(slow_until > clock_timestamp()) FROM store WHERE account_id = :account_id"),
            {"account_id": account_id},
        )
    if not is_slow:
        yield True
        return
    for number in range(max(most // 2, 1)):
        with state.named_lock(f"account/{account_id}/lane/{number}") as free:
            if free:
                yield True
                return
    yield False
