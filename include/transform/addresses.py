"""Postal addresses: the nested object of customers and orders, from columns or from the shop's own address table."""

from __future__ import annotations

import pandas as pd

from include.documents.spec import Object, Text
from include.transform.records import look_up

#: The columns of a place, as the API names them.
PLACE = ("address1", "address2", "city", "province", "province_code", "postal_code", "country", "country_code")
#: The columns of an order's address: the place, and who is there.
RECIPIENT = ("name", *PLACE, "phone", "company")


def customer_address() -> Object:
    """Declare a customer's address (API reference, "Add or update customer")."""
    return Object("address", tuple(Text(name, f"address_{name}") for name in PLACE))


def order_address(kind: str) -> Object:
    """Declare an order's ``shipping`` or ``billing`` address (API reference, "Add order")."""
    return Object(
        f"{kind}_address",
        tuple(Text(name, f"{kind}_{name}") for name in RECIPIENT),
    )


def customer_columns(customers: pd.DataFrame, addresses: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the columns that :func:`customer_address` names, from the address table or the customer's own row."""
    if customers["address_id"].notna().any():
        return look_up(addresses, "address_id", customers["address_id"], {f"address_{name}": name for name in PLACE})
    return {f"address_{name}": customers[name] for name in PLACE}


def order_columns(orders: pd.DataFrame, addresses: pd.DataFrame, kind: str) -> dict[str, pd.Series]:
    """Return the columns that :func:`order_address` names; empty where the order's own row already has them."""
    ids = orders[f"{kind}_address_id"]
    if not ids.notna().any():
        return {}
    return look_up(addresses, "address_id", ids, {f"{kind}_{name}": name for name in RECIPIENT})
