"""Currencies and exact amounts."""

from __future__ import annotations

from decimal import Decimal

import pandas as pd
import pyarrow as pa

from include.transform.money import currency_digits, too_large, units

AMOUNT = pd.ArrowDtype(pa.decimal128(24, 8))


def test_digits_follow_iso_4217() -> None:
    codes = pd.Series(["EUR", "JPY", "KWD", "CLF", "XXX", None], dtype=pd.ArrowDtype(pa.string()))
    assert currency_digits(codes).to_list() == [2, 0, 3, 4, pd.NA, pd.NA]


def test_units_are_exact_and_signed() -> None:
    amounts = pd.Series([Decimal("0.1"), Decimal("-12.34"), None, Decimal("90000000000")], dtype=AMOUNT)
    assert units(amounts).tolist() == [10_000_000, -1_234_000_000, 0, 9 * 10**18]
    assert units(amounts.iloc[1:2]).tolist() == [-1_234_000_000]


def test_amounts_that_do_not_fit_are_told_and_count_as_nothing() -> None:
    amounts = pd.Series([Decimal("93000000000"), None, Decimal("-93000000000"), Decimal(1)], dtype=AMOUNT)
    assert too_large(amounts).tolist() == [True, False, True, False]
    assert units(amounts).tolist() == [0, 0, 0, 10**8]
