"""What is decided of an opt-out of which nobody knows when it was: the shop's opt-in stays, and both times are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.pull.consent import HIDDEN, ShopConsent, decide
from include.state.members import StatusChange

OPTED_IN_AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
CHANGED_AT = OPTED_IN_AT + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("status", "opted_in", "opted_in_at", "stays"),
    [
        ("unsubscribed", True, OPTED_IN_AT, True),
        ("unsubscribed", True, None, False),
        ("unsubscribed", None, None, False),
        ("cleaned", True, OPTED_IN_AT, False),
    ],
    ids=["opted in at a known time", "opted in some time", "never asked", "the address is dead"],
)
def test_only_an_opt_in_with_a_time_stands_against_an_opt_out_without_one(
    status: str, opted_in: bool | None, opted_in_at: datetime | None, stays: bool
) -> None:
    change = StatusChange(1, "hash", "subscribed", status, CHANGED_AT, CHANGED_AT)
    decision = decide({"hash": change}, [ShopConsent("7", "hash", opted_in, opted_in_at)], {"hash": HIDDEN})
    assert [one.customer_id for one in decision.changes] == ([] if stays else ["7"])
    assert [(one.shop_at, one.remote_at, one.rule) for one in decision.conflicts] == (
        [(OPTED_IN_AT, CHANGED_AT, HIDDEN)] if stays else []
    )
