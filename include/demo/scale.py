"""How much of the source becomes a shop: three scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Scale:
    """One size of the sample shop.

    Attributes:
        name: as given to `--scale`.
        highest_household: households with a larger id are left out.
        best_sellers: how many products, most bought first, orders may contain; None: all.
        orders: how many orders, spread evenly over the year; None: every basket.
        lines_per_order: lines beyond this number are left out; None: all are kept.
        unsold_products: further products that no order contains; half of them soft-deleted.
    """

    name: str
    highest_household: int
    best_sellers: int | None
    orders: int | None
    lines_per_order: int | None
    unsold_products: int


SCALES: Final = {
    scale.name: scale
    for scale in (
        Scale("small", highest_household=100, best_sellers=500, orders=2_000, lines_per_order=8, unsold_products=20),
        Scale(
            "medium",
            highest_household=2_500,
            best_sellers=6_000,
            orders=52_000,
            lines_per_order=12,
            unsold_products=100,
        ),
        Scale(
            "large",
            highest_household=2_500,
            best_sellers=None,
            orders=None,
            lines_per_order=None,
            unsold_products=200,
        ),
    )
}

#: The planted records need this many orders to stand on.
FEWEST_ORDERS: Final = 300
