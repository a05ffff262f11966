"""The arithmetic of an order: lines - discount + shipping + tax = total."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from include.documents.encoder import ChildRows
from include.transform.money import SCALE, too_large, units
from include.transform.records import positions

#: Financial states in which ``order_total`` is what is left of the sum, not the sum.
_REDUCED = ("refunded", "partially_refunded", "cancelled")
#: What whole hundred-millionths can hold, with room for rounding.
_LARGEST = 0.99 * 2**63
#: Pieces of an order whose rounding is allowed for.
_MOST_PIECES = 10_000


@dataclass(frozen=True)
class Totals:
    """Orders added up: the sum in major units, where it isn't ``order_total``, and where it can't be worked out."""

    total: pd.Series
    mismatch: pd.Series
    too_large: pd.Series


def add_up(orders: pd.DataFrame, lines: ChildRows, prices: Literal["gross", "net"] | None) -> Totals:
    """Add up every order in whole hundred-millionths, and compare with ``order_total``.

    An order is right when its sum comes as near to the total as rounding explains: one minor unit for the order, and
    half of one for each piece, since shops round prices, discounts and tax by the piece or by the line. Refunded and
    cancelled orders carry what was really paid and aren't compared.

    Args:
        orders: with amounts, ``currency_digits``, ``financial_status`` and ``cancelled_at``.
        lines: their lines.
        prices: the setting: line prices include tax (gross), so that ``tax_total`` isn't added; or they don't (net);
            None: either sum may be the total.
    """
    line = lines.rows.frame
    owner = positions(lines)
    price, line_discount = units(line["price"]), units(line["discount"])
    quantity = line["quantity"].fillna(0).to_numpy(dtype=np.int64)
    shipping, tax, total = (units(orders[name]) for name in ("shipping_total", "tax_total", "order_total"))
    goods, line_discounts = (_per_order(values, owner, len(orders)) for values in (price * quantity, line_discount))
    stated = orders["discount_total"].notna().to_numpy(dtype=bool)
    discount = np.where(stated, units(orders["discount_total"]), line_discounts)
    without_tax = goods - discount + shipping
    sums = {"gross": (without_tax,), "net": (without_tax + tax,), None: (without_tax + tax, without_tax)}[prices]
    minor = 10 ** (SCALE - orders["currency_digits"].fillna(2).to_numpy(dtype=np.int64))
    pieces = np.clip(_per_order(np.clip(quantity, 0, _MOST_PIECES), owner, len(orders)), 0, _MOST_PIECES)
    tolerance = minor + minor * pieces // 2
    off = np.min([abs(each - total) for each in sums], axis=0) > tolerance
    reduced = orders["financial_status"].isin(_REDUCED) | orders["cancelled_at"].notna()

    # The same once more in floats, which don't wrap around.
    magnitude = _per_order(abs(price.astype(float) * quantity) + abs(line_discount.astype(float)), owner, len(orders))
    magnitude += sum(abs(each.astype(float)) for each in (discount, shipping, tax, total))
    beyond = (magnitude > _LARGEST) | _unreadable(orders, line, owner)
    return Totals(
        total=pd.Series(sums[0] / 10**SCALE, orders.index),
        mismatch=pd.Series(off & ~reduced.to_numpy(dtype=bool), orders.index),
        too_large=pd.Series(beyond, orders.index),
    )


def _per_order(values: np.ndarray, owner: np.ndarray, orders: int) -> np.ndarray:
    """Add up the values of lines per order, in their own type."""
    sums = np.zeros(orders, values.dtype)
    np.add.at(sums, owner, values)
    return sums


def _unreadable(orders: pd.DataFrame, line: pd.DataFrame, owner: np.ndarray) -> np.ndarray:
    """Tell which orders have an amount that `units` can't hold, their own or a line's."""
    found = np.zeros(len(orders), bool)
    for name in ("discount_total", "shipping_total", "tax_total", "order_total"):
        found |= too_large(orders[name])
    found[owner[too_large(line["price"]) | too_large(line["discount"])]] = True
    return found
