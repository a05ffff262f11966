from __future__ import annotations

from decimal import Decimal

import numpy as np

from include.demo.columns import integers, money, whole_cents


def test_money_is_exact_also_below_zero_and_far_up() -> None:
    cents = np.array([0, 1, -1, 1999, -250, 10**12, -(10**12) - 1])
    assert money(cents).to_pylist() == [Decimal(int(value)).scaleb(-2) for value in cents]


def test_dollars_become_the_nearest_cent() -> None:
    assert whole_cents(np.array([0.1 + 0.2, 59.2999999, 1.005, 0.0])).tolist() == [30, 5930, 100, 0]


def test_absent_integers_are_null() -> None:
    assert integers(np.array([1, 2]), absent=np.array([False, True])).to_pylist() == [1, None]
