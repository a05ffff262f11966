"""Bodies of …/customers, and the customer inside an order or a cart."""

from include.mailchimp.contract.body import CustomerAddress, RequestBody
from include.mailchimp.fields import Boolean, Email, ShortIdentifier, Text


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


class OrderCustomerPatch(CustomerPatch):
    """The customer of an order that exists: another ``id`` moves the order to that customer."""

    id: ShortIdentifier = ""


class OrderCustomer(OrderCustomerPatch):
    """The customer of an order or a cart: ``id`` alone when Mailchimp knows it, else with ``email_address``."""

    id: ShortIdentifier
