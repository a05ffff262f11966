"""The store itself → ``POST /ecommerce/stores`` (API reference: "Ecommerce stores · Add store")."""

from __future__ import annotations

from typing import Any

from include.config.stores import StoreSettings
from include.transform.addresses import PLACE

#: Marks the stores of this project at Mailchimp.
PLATFORM = "shop database"


def store_payload(settings: StoreSettings, shop: dict[str, Any]) -> dict[str, Any]:
    """Return the body that creates the store.

    Args:
        settings: the store's id and audience.
        shop: the row of the ``store`` extract, None where there is no value.

    Returns:
        The body; what the shop doesn't know is left out.
    """
    address = {name: shop[name] for name in PLACE}
    body = {
        "id": settings.store_id,
        "list_id": settings.list_id,
        "name": shop["name"],
        "platform": PLATFORM,
        "domain": shop["domain"],
        "email_address": shop["email"],
        "currency_code": shop["currency_code"],
        "money_format": shop["money_format"],
        "primary_locale": shop["primary_locale"],
        "timezone": shop["timezone"],
        "phone": shop["phone"],
        "address": {name: value for name, value in address.items() if value},
    }
    return {name: value for name, value in body.items() if value}
