"""Bodies of …/orders and their lines."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from include.mailchimp.contract.body import Address, RequestBody
from include.mailchimp.contract.customers import OrderCustomer, OrderCustomerPatch
from include.mailchimp.fields import MAX_ID, Currency, Identifier, Integer, LineIdentifier, Number, Text, Time, Title


class OrderLinePatch(RequestBody):
    """PATCH …/orders/{id}/lines/{line_id}; ``price`` is the unit price."""

    product_id: Title = ""
    product_variant_id: Title = ""
    quantity: Integer = 0
    price: Number = 0.0
    discount: Number = 0.0


class OrderLine(OrderLinePatch):
    """A line of an order; product and variant must exist in the store."""

    id: LineIdentifier
    product_id: Title
    product_variant_id: Title
    quantity: Integer
    price: Number


class Promo(RequestBody):
    """A discount applied to an order, in major units; free shipping is ``fixed`` with 0."""

    code: Text
    type: Literal["fixed", "percentage"]
    amount_discounted: Number


class Outreach(RequestBody):
    """The outreach that led to an order."""

    id: Text = ""


def _distinct_lines(lines: list[OrderLine]) -> list[OrderLine]:
    if len({line.id for line in lines}) < len(lines):
        raise PydanticCustomError("repeated_line", "An order may not contain the same line item id more than once.")
    return lines


class OrderPatch(RequestBody):
    """PATCH …/orders/{id}: promos are replaced as a whole, lines merged by id; the customer may become another one.

    Money in major units of ``currency_code``; ``order_total`` is what the customer pays, tax and shipping included.
    ``cancelled_at_foreign`` cancels the order whatever its value: leave it out of a live one.
    """

    customer: OrderCustomerPatch = OrderCustomerPatch()
    currency_code: Currency = ""
    order_total: Number = 0.0
    lines: Annotated[list[OrderLine], AfterValidator(_distinct_lines)] = Field(default_factory=list)
    campaign_id: Text = ""
    cart_id: Annotated[Text, StringConstraints(max_length=MAX_ID)] = ""
    landing_site: Text = ""
    financial_status: Text = ""
    fulfillment_status: Text = ""
    order_url: Text = ""
    discount_total: Number = 0.0
    tax_total: Number = 0.0
    shipping_total: Number = 0.0
    tracking_code: Literal["prec"] = "prec"
    processed_at_foreign: Time = ""
    cancelled_at_foreign: Time = ""
    updated_at_foreign: Time = ""
    shipping_address: Address = Address()
    billing_address: Address = Address()
    promos: list[Promo] = Field(default_factory=list)
    outreach: Outreach = Outreach()
    tracking_number: Text = ""
    tracking_carrier: Text = ""
    tracking_url: Text = ""


class Order(OrderPatch):
    """POST …/orders and PUT …/orders/{id}."""

    id: Identifier
    customer: OrderCustomer
    currency_code: Currency
    order_total: Number
    lines: Annotated[list[OrderLine], Field(min_length=1), AfterValidator(_distinct_lines)]
