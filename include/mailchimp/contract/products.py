"""Bodies of …/products, …/variants and …/images."""

from typing import Annotated

from pydantic import Field

from include.mailchimp.contract.body import RequestBody
from include.mailchimp.fields import Identifier, Integer, Number, ShortIdentifier, Text, Time, Title


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
    variant_ids: list[Text] = Field(default_factory=list)


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
    variants: list[Variant] = Field(default_factory=list)
    images: list[ProductImage] = Field(default_factory=list)
    published_at_foreign: Time = ""


class Product(ProductPatch):
    """POST …/products, and PUT …/products/{id} where it creates."""

    id: Identifier
    title: Title
    variants: Annotated[list[Variant], Field(min_length=1)]


class ProductPut(ProductPatch):
    """PUT …/products/{id} of a product that exists: only the id is required."""

    id: Identifier
