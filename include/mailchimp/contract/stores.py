"""Bodies of /ecommerce/stores."""

from include.mailchimp.contract.body import RequestBody, StoreAddress
from include.mailchimp.fields import Boolean, Currency, Identifier, Text, Title


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
