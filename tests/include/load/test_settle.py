from __future__ import annotations

import pytest

from include.load.settle import _sequence

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("operation_id", "sequence"),
    [
        (f"{TOKEN}-0", 0),
        (f"{TOKEN}-9", 9),
        (f"{TOKEN}-10", None),
        (f"{TOKEN}--1", None),
        (f"{TOKEN}-", None),
        (f"{TOKEN}-٣", None),
        (f"{TOKEN}-99999999999999999999", None),
        ("fedcba9876543210-0", None),
        ("0", None),
        ("", None),
        (None, None),
    ],
)
def test_only_answers_to_our_own_operations_count(operation_id: str | None, sequence: int | None) -> None:
    assert _sequence(TOKEN, operation_id, operations=10) == sequence
