"""What all request bodies have in common, and the addresses that several of them carry."""

from pydantic import BaseModel, ConfigDict

from include.mailchimp.fields import Number, Text


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
