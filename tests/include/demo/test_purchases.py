from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from include.demo.catalogue import read_products
from include.demo.columns import microseconds
from include.demo.purchases import Purchases, read_purchases
from include.demo.scale import SCALES

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)


def _read(orders: int) -> Purchases:
    return read_purchases(SCALES["small"], orders, read_products()["product_id"].to_numpy(), UNTIL)


@pytest.fixture(scope="module")
def repeated() -> Purchases:
    return _read(12_000)


def test_baskets_repeat_with_new_numbers_when_there_are_too_few(repeated: Purchases) -> None:
    baskets = repeated.baskets
    assert len(baskets) == 12_000
    assert baskets["copy"].max() >= 1
    assert not baskets.duplicated(["basket_id", "copy"]).any()
    assert baskets["placed_at"].is_monotonic_increasing
    assert baskets["placed_at"].max() < microseconds(UNTIL)


def test_repeated_baskets_have_the_same_lines(repeated: Purchases) -> None:
    baskets, lines = repeated.baskets, repeated.lines
    twice = baskets[baskets.duplicated("basket_id", keep=False)]
    first, second = twice[twice["basket_id"] == twice["basket_id"].iloc[0]].index[:2]
    columns = ["product_id", "quantity", "price", "discount", "coupon"]
    one, other = (lines.loc[lines["order"] == order, columns].to_numpy() for order in (first, second))
    np.testing.assert_array_equal(one, other)


def test_lines_are_sorted_complete_and_capped(repeated: Purchases) -> None:
    lines = repeated.lines
    assert lines["order"].is_monotonic_increasing
    counts = lines.groupby("order").size()
    assert list(counts.index) == list(range(12_000))
    assert counts.max() == SCALES["small"].lines_per_order
    assert lines["product_id"].nunique() <= 500
    assert (lines["quantity"] >= 1).all()
    assert (lines["discount"] <= lines["price"] * lines["quantity"]).all()


def test_a_year_is_sampled_evenly() -> None:
    placed_at = _read(400).baskets["placed_at"].to_numpy()
    quarters = np.histogram(placed_at, bins=4)[0]
    assert quarters.min() > 60
