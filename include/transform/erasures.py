"""People who asked to be erased: who they are now, and what remains of their orders.

While the request stands nothing of a person is sent, neither as contact or customer nor in a cart. Their orders are
revenue and stay, but Mailchimp knows no order without a customer: all of them belong to one customer of the store who
is nobody, and have lost names, addresses, landing page and parcel number.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from include.documents.encoder import Rows, encode
from include.documents.spec import Document, Object, Text
from include.extract.slices import Extractor
from include.transform import addresses, consent
from include.transform.identity import customer_ids, normalised, unusable_email
from include.transform.records import TEXT, Erased

NOBODY: Final = "erased-customer"
"""Id of the customer to whom the orders of erased people belong, and what its address begins with."""

_FLAG: Final = pd.ArrowDtype(pa.bool_())

#: What of an order leads to a person, besides the buyer.
_PERSONAL: Final = (
    *(f"{kind}_{name}" for kind in ("shipping", "billing") for name in addresses.RECIPIENT),
    "landing_site",
    "tracking_number",
    "tracking_url",
)
_CUSTOMER: Final = Object(
    "customer", (Text("id", "customer_record_id"), Text("email_address", "new_email", clears=False), consent.FIELD)
)
_ANONYMOUS_ORDER: Final = Document(
    "order",
    (
        _CUSTOMER,
        addresses.order_address("shipping"),
        addresses.order_address("billing"),
        *(Text(name, name) for name in ("landing_site", "tracking_number", "tracking_url")),
    ),
)


def read_requests(extractor: Extractor) -> pd.DataFrame:
    """Read the requests, with the address that a named customer has in the shop now.

    Returns:
        The columns of the extract ``erasures``, ``email`` in normal form, and ``account_email``.
    """
    asked = extractor.read_all("erasures")
    named = extractor.read_ids("customers", asked["customer_id"], columns=("customer_id", "email"))
    account = named.set_index("customer_id")["email"].reindex(asked["customer_id"]).reset_index(drop=True)
    return asked.assign(email=normalised(asked["email"]), account_email=normalised(account.astype(TEXT)))


def read_erased(extractor: Extractor) -> Erased:
    """Read who must not be sent; a person is an address, so every account that has it is meant."""
    if not extractor.yields("erasures", "erasure_id"):
        return Erased()
    asked = read_requests(extractor)
    if asked.empty:
        return Erased()
    emails = pd.concat([asked["email"], asked["account_email"]], ignore_index=True)
    ids = customer_ids(emails.where(emails != "").dropna().drop_duplicates())
    return Erased(frozenset(asked["customer_id"].dropna()), frozenset(ids), nobodys_address(extractor.read_store()))


def nobodys_address(shop: dict[str, Any]) -> str | None:
    """Make the address of the customer who is nobody: one at the shop's own domain.

    Args:
        shop: the row of the ``store`` extract.

    Returns:
        None where the shop has no domain that Mailchimp would take: orders of erased people are then deleted.
    """
    for domain in (shop.get("domain"), (shop.get("email") or "").rpartition("@")[2]):
        host = re.sub(r"^\s*[a-z]+://|[/:?#].*$|\s", "", (domain or "").lower())
        address = f"{NOBODY}@{host.removeprefix('www.')}"
        if not unusable_email(pd.Series([address], dtype=TEXT)).any():
            return address
    return None


def are_erased(keys: pd.Series, record_ids: pd.Series, erased: Erased) -> pd.Series:
    """Tell which rows are of erased people, by the shop's id of the customer or the customer's at Mailchimp."""
    return (keys.isin(list(erased.customer_ids)) | record_ids.isin(list(erased.record_ids))).astype(bool)


def without_people(orders: pd.DataFrame, erased: Erased) -> pd.DataFrame:
    """Take the people out of orders of erased ones (column ``buyer_erased``), or leave these orders out."""
    gone = orders["buyer_erased"]
    if not gone.any():
        return orders
    nobody = {"customer_record_id": NOBODY, "new_email": erased.nobodys_address, "customer_usable": True}
    replaced = {column: orders[column].mask(gone, value) for column, value in nobody.items()}
    emptied = {column: orders[column].mask(gone) for column in ("customer_key", *_PERSONAL)}
    left_out = orders["left_out"] | (gone & (erased.nobodys_address is None))
    return orders.assign(**replaced, **emptied, consent=orders["consent"].mask(gone, False), left_out=left_out)


def anonymous_order(nobodys_address: str) -> dict[str, Any]:
    """Return the update that takes the person out of an order at Mailchimp."""
    columns = {"customer_record_id": NOBODY, "new_email": nobodys_address}
    texts = {name: pd.Series([columns.get(name)], dtype=TEXT) for name in (*columns, *_PERSONAL)}
    frame = pd.DataFrame(texts).assign(consent=consent.of_introduced(pd.Series([True], dtype=_FLAG)))
    document: dict[str, Any] = json.loads(encode(_ANONYMOUS_ORDER, Rows(frame), clear=True)[0].as_py())
    return document
