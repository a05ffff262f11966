"""The phases of a run: which records are dealt with in which order, and what is done with them.

A phase begins when Mailchimp has acknowledged the one before it. Parents come before children; contacts before
customers, because a customer that is new to the audience makes a contact without asking; a cart is deleted before its
order is written; what others may refer to is deleted last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from include.transform.entities import ENTITIES


@dataclass(frozen=True)
class Phase:
    """One part of a run.

    Attributes:
        name: of its task group, and in the state tables.
        entities: whose slices it has.
        removes: whether it deletes what the shop no longer yields, instead of sending what it yields.
    """

    name: str
    entities: tuple[str, ...]
    removes: bool = False


CLOSED_CARTS: Final = "closed_carts"
REMOVALS: Final = "removals"

PHASES: Final = {
    phase.name: phase
    for phase in (
        Phase("products", ("products",)),
        Phase("members", ("members",)),
        Phase("customers", ("customers",)),
        Phase("promo_rules", ("promo_rules",)),
        Phase("promo_codes", ("promo_codes",)),
        Phase(CLOSED_CARTS, ("carts",), removes=True),
        Phase("orders", ("orders",)),
        Phase("carts", ("carts",)),
        Phase(
            REMOVALS, tuple(entity.name for entity in reversed(list(ENTITIES.values())) if entity.deletes), removes=True
        ),
    )
}
"""The phases by name, in order."""
