"""Who placed an order or left a cart: the shop's account, or an address that the record itself introduces.

Orders and carts share this. Of a customer who is sent on his own a document names nothing but the id; one about whom
the shop has no (live) row comes into being at Mailchimp through the document, which then carries the e-mail address
(API reference, "Add order": ``customer``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from include.documents.encoder import to_arrow
from include.transform import consent
from include.transform.erasures import are_erased
from include.transform.identity import customer_ids, excluded, normalised, unusable_email
from include.transform.records import BuildContext, ParentLinks, look_up

_OF_ACCOUNT = {"account_id": "customer_id", "address": "email", "guest": "is_guest", "opted_in": "opted_in"}


def with_buyer(records: pd.DataFrame, customers: pd.DataFrame, context: BuildContext) -> pd.DataFrame:
    """Attach the buyer: by the shop's id where the record has one, else by the record's own e-mail address.

    An account that is deleted, or that the shop has no row of, is not sent as a customer; its orders are revenue all
    the same, so they introduce their buyer as guests' orders do, by their own address or the one the account had.

    Args:
        records: orders or carts, with ``customer_id`` and ``email``.
        customers: the ``customers`` extract of these ids.
        context: the store's settings.

    Returns:
        The records with these columns besides: ``customer_record_id``, the customer at Mailchimp; ``customer_usable``,
        whether there is an address that Mailchimp takes; ``customer_key``, the shop's id of a customer who is sent on
        his own, null of others; ``new_email`` and ``consent``, what the document says of a customer it introduces;
        ``buyer_opted_in``, the stored answer to the newsletter, null unknown; ``buyer_is_guest``; ``left_out``, true
        where the settings keep the buyer from Mailchimp; ``buyer_erased``, true where the buyer asked to be erased.
    """
    account = look_up(customers, "customer_id", records["customer_id"], _OF_ACCOUNT)
    deleted = customers.loc[customers["is_deleted"].fillna(False).astype(bool), "customer_id"]
    known = account["account_id"].notna() & ~account["account_id"].isin(deleted)
    address = normalised(account["address"].where(known, records["email"].fillna(account["address"])))
    guest = account["guest"].fillna(False).astype(bool) | records["customer_id"].isna()
    by_address = _by_address(address, context.settings.exclude_emails)
    return records.assign(
        customer_record_id=by_address["record_id"],
        customer_usable=by_address["usable"].fillna(False).astype(bool),
        customer_key=account["account_id"].where(known),
        new_email=address.mask(known),
        consent=consent.of_introduced(~known),
        buyer_opted_in=account["opted_in"].where(known),
        buyer_is_guest=guest,
        buyer_erased=are_erased(records["customer_id"], by_address["record_id"], context.erased),
        left_out=by_address["excluded"].fillna(False).astype(bool) | (guest & (context.settings.guests == "skip")),
    )


def customer_link(records: pd.DataFrame) -> ParentLinks:
    """Return which records need which customers: those who are sent on their own."""
    known = np.flatnonzero(records["customer_key"].notna().to_numpy(dtype=bool))
    customers = records[["customer_record_id", "customer_key"]].iloc[known]
    return ParentLinks(
        "customers",
        "customer.id",
        known,
        to_arrow(customers["customer_record_id"]),
        to_arrow(customers["customer_key"]),
    )


def _by_address(addresses: pd.Series, patterns: Sequence[str]) -> pd.DataFrame:
    """Derive what depends on the address alone, once per address: buyers come back."""
    encoded = to_arrow(addresses).dictionary_encode()
    distinct = pd.Series(pd.arrays.ArrowExtensionArray(encoded.dictionary))
    derived = {
        "record_id": customer_ids(distinct),
        "usable": ~unusable_email(distinct),
        "excluded": excluded(distinct, patterns),
    }
    return pd.DataFrame(
        {
            name: pd.arrays.ArrowExtensionArray(to_arrow(pa.array(column)).take(encoded.indices))
            for name, column in derived.items()
        },
        index=addresses.index,
    )
