"""The arithmetic of an order: lines - discount + shipping + tax = total."""

from __future__ import annotations

import numpy as np
import pandas as pd

from include.documents.encoder import ChildRows
from include.transform.money import SCALE, units
from include.transform.records import positions

#: Financial states in which ``order_total`` is what is left of the sum, not the sum.
_REDUCED = ("refunded", "partially_refunded", "cancelled")


def totals_mismatch(orders: pd.DataFrame, lines: ChildRows) -> tuple[pd.Series, pd.Series]:
    """Add up every order in whole hundred-millionths, and compare with ``order_total``.

    Line prices may include tax or not, so the order is right when the sum with ``tax_total`` or without it comes
    within one minor unit of the total. Refunded and cancelled orders carry what was really paid and aren't compared.

    Returns:
        The sum with tax (for the message), and where no sum fits.
    """
    line = lines.rows.frame
    owner = positions(lines)
    count = len(orders)
    goods = np.zeros(count, np.int64)
    np.add.at(goods, owner, units(line["price"]) * line["quantity"].fillna(0).to_numpy(dtype=np.int64))
    line_discount = np.zeros(count, np.int64)
    np.add.at(line_discount, owner, units(line["discount"]))
    stated = orders["discount_total"].notna().to_numpy(dtype=bool)
    discount = np.where(stated, units(orders["discount_total"]), line_discount)
    without_tax = goods - discount + units(orders["shipping_total"])
    with_tax = without_tax + units(orders["tax_total"])
    total = units(orders["order_total"])
    tolerance = 10 ** (SCALE - orders["currency_digits"].fillna(2).to_numpy(dtype=np.int64))
    off = np.minimum(abs(with_tax - total), abs(without_tax - total)) > tolerance
    reduced = orders["financial_status"].isin(_REDUCED) | orders["cancelled_at"].notna()
    return pd.Series(with_tax / 10**SCALE), pd.Series(off & ~reduced.to_numpy(dtype=bool))
