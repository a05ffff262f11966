"""Records that Mailchimp can't take, planted so that the demo has rejected records to show.

They have the same ids at every scale. No other record of the sample shop breaks a rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Customers without orders (an order can't be sent without its customer) and their unusable e-mail addresses.
BROKEN_EMAILS: Final = {
    90_001: "no-at-sign",
    90_002: "two@@mail.completejourney-shop.dev",
    90_003: "domain.missing@",
}
#: The first line of this order has a negative quantity (and so the totals don't add up either).
NEGATIVE_QUANTITY_ORDER: Final = 101
#: The total of this order is five dollars more than its parts.
WRONG_TOTAL_ORDER: Final = 202
WRONG_BY_CENTS: Final = 500


@dataclass(frozen=True, slots=True)
class PlantedReject:
    """A record that has to end up among the rejected ones.

    Attributes:
        entity: `customers` or `orders`.
        record_id: the shop's own id, as text.
        reason: what is wrong with it.
    """

    entity: str
    record_id: str
    reason: str


def planted_rejects() -> tuple[PlantedReject, ...]:
    """Every record of the sample shop that can't be expressed at Mailchimp, whatever the scale."""
    customers = (PlantedReject("customers", str(customer_id), "broken e-mail address") for customer_id in BROKEN_EMAILS)
    return (
        *customers,
        PlantedReject("orders", str(NEGATIVE_QUANTITY_ORDER), "negative quantity"),
        PlantedReject("orders", str(WRONG_TOTAL_ORDER), "totals don't add up"),
    )
