"""Bodies of …/carts and their lines."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from include.mailchimp.contract.body import RequestBody
from include.mailchimp.contract.customers import CustomerPatch, OrderCustomer
from include.mailchimp.fields import Currency, Identifier, Integer, LineIdentifier, Number, Text, Title


class CartLinePatch(RequestBody):
    """PATCH …/carts/{id}/lines/{line_id}; ``price`` is the unit price."""

    product_id: Title = ""
    product_variant_id: Title = ""
    quantity: Integer = 0
    price: Number = 0.0


class CartLine(CartLinePatch):
    """A line of a cart; product and variant must exist in the store."""

    id: LineIdentifier
    product_id: Title
    product_variant_id: Title
    quantity: Integer
    price: Number


def _distinct_lines(lines: list[CartLine]) -> list[CartLine]:
    """Refuse repeated lines as an order does (inferred)."""
    if len({line.id for line in lines}) < len(lines):
        raise PydanticCustomError("repeated_cart_line", "A cart may not contain the same line item id more than once.")
    return lines


class CartPatch(RequestBody):
    """PATCH …/carts/{id}: lines are merged by id. A cart keeps its customer: another one needs DELETE and POST."""

    customer: CustomerPatch = CustomerPatch()
    campaign_id: Text = ""
    checkout_url: Text = ""
    currency_code: Currency = ""
    order_total: Number = 0.0
    tax_total: Number = 0.0
    lines: Annotated[list[CartLine], AfterValidator(_distinct_lines)] = Field(default_factory=list)


class Cart(CartPatch):
    """POST …/carts; the abandoned-cart mail needs ``checkout_url``."""

    id: Identifier
    customer: OrderCustomer
    currency_code: Currency
    order_total: Number
    lines: Annotated[list[CartLine], Field(min_length=1), AfterValidator(_distinct_lines)]
