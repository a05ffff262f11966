"""What the Mailchimp Marketing API 3.0 accepts: typed models of the request bodies this project writes.

Source: the official 3.0.55/3.0.91 swagger and recorded refusals of the live API. The models are the strict reading of
it: where the server also takes a looser form (numeric strings, integers as ids), only the documented form is valid.

* An optional property may be left out but never be null (the server answers "Schema describes number, NULL found
  instead"), hence defaults such as ``""`` instead of ``None``; ``model_dump(exclude_unset=True)`` gives what was sent.
* Unknown properties are tolerated and dropped, as official plugins send undocumented ones.
* Validation errors never show their input: bodies hold e-mail addresses and names.

Use ``Model.model_validate_json(body)``. A violation is pydantic's ``ValidationError``; the sandbox turns it into
Mailchimp's own error document.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from include.mailchimp.fields import (
    MAX_ID,
    Boolean,
    Currency,
    Email,
    Identifier,
    Integer,
    LineIdentifier,
    Number,
    ShortIdentifier,
    Text,
    Time,
    Title,
)

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class RequestBody(BaseModel):
    """Base of all bodies: unknown properties tolerated, instances immutable, inputs hidden in error texts."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class CustomerAddress(RequestBody):
    """Address of a customer (all properties optional)."""

    address1: Text = ""
    address2: Text = ""
    city: Text = ""
    province: Text = ""
    province_code: Text = ""
    postal_code: Text = ""
    country: Text = ""
    country_code: Text = ""


class StoreAddress(CustomerAddress):
    """Address of a store: a customer's address plus coordinates (degrees)."""

    longitude: Number = 0.0
    latitude: Number = 0.0


class Address(StoreAddress):
    """Shipping or billing address of an order."""

    name: Text = ""
    phone: Text = ""
    company: Text = ""


class StoreUpdate(RequestBody):
    """PATCH /ecommerce/stores/{id}. ``list_id`` is listed only because sending another one is refused."""

    list_id: Text = ""
    name: Title = ""
    currency_code: Currency = ""
    platform: Text = ""
    domain: Text = ""
    is_syncing: Boolean = False
    email_address: Text = ""
    money_format: Text = ""
    primary_locale: Text = ""
    timezone: Text = ""
    phone: Text = ""
    address: StoreAddress = StoreAddress()


class StoreCreate(StoreUpdate):
    """POST /ecommerce/stores."""

    id: Identifier
    list_id: Title
    name: Title
    currency_code: Currency


class CustomerPatch(RequestBody):
    """PATCH …/customers/{id}. ``email_address`` may be repeated but not changed."""

    email_address: Email = ""
    opt_in_status: Boolean = False
    company: Text = ""
    first_name: Text = ""
    last_name: Text = ""
    address: CustomerAddress = CustomerAddress()
    sms_phone_number: Text = ""


class Customer(CustomerPatch):
    """POST …/customers and PUT …/customers/{id}."""

    id: ShortIdentifier
    email_address: Email
    opt_in_status: Boolean


class OrderCustomer(CustomerPatch):
    """The customer of an order: ``id`` alone when Mailchimp knows it, else with ``email_address``."""

    id: ShortIdentifier


class VariantPatch(RequestBody):
    """PATCH …/variants/{id}; price in major units of the store's currency."""

    id: Identifier = ""
    title: Text = ""
    url: Text = ""
    sku: Text = ""
    price: Number = 0.0
    inventory_quantity: Integer = 0
    image_url: Text = ""
    backorders: Text = ""
    visibility: Text = ""


class Variant(VariantPatch):
    """A product's variant, inline or by POST/PUT …/variants."""

    id: Identifier
    title: Text


class ProductImagePatch(RequestBody):
    """PATCH …/images/{id}."""

    id: ShortIdentifier = ""
    url: Text = ""
    variant_ids: list[Text] = []


class ProductImage(ProductImagePatch):
    """A product's image, inline or by POST …/images."""

    id: ShortIdentifier
    url: Text


class ProductPatch(RequestBody):
    """PATCH …/products/{id}: variants and images are merged by id, never removed."""

    title: Title = ""
    handle: Text = ""
    url: Text = ""
    description: Text = ""
    type: Text = ""
    vendor: Text = ""
    image_url: Text = ""
    variants: list[Variant] = []
    images: list[ProductImage] = []
    published_at_foreign: Time = ""


class Product(ProductPatch):
    """POST …/products, and PUT …/products/{id} where it creates."""

    id: Identifier
    title: Title
    variants: Annotated[list[Variant], Field(min_length=1)]


class ProductPut(ProductPatch):
    """PUT …/products/{id} of a product that exists: only the id is required."""

    id: Identifier


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
    """PATCH …/orders/{id}: promos are replaced as a whole, lines merged by id.

    Money in major units of ``currency_code``; ``order_total`` is what the customer pays, tax and shipping included.
    ``cancelled_at_foreign`` cancels the order whatever its value: leave it out of a live one.
    """

    customer: CustomerPatch = CustomerPatch()
    currency_code: Currency = ""
    order_total: Number = 0.0
    lines: Annotated[list[OrderLine], AfterValidator(_distinct_lines)] = []
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
    promos: list[Promo] = []
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


class Operation(RequestBody):
    """One operation of a batch: ``path`` relative to /3.0, ``body`` the JSON body as a string."""

    method: Method
    path: Annotated[Text, StringConstraints(pattern=r"^/")]
    params: dict[str, Any] = {}
    headers: dict[str, Any] = {}
    body: Text = ""
    operation_id: Text = ""


class Batch(RequestBody):
    """POST /batches: at most 1,000 operations; one malformed operation refuses all of them."""

    operations: Annotated[list[Operation], Field(min_length=1, max_length=1000)]
