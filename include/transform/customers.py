"""Customers → ``PUT /ecommerce/stores/{store_id}/customers/{customer_id}``.

API reference: "Ecommerce customers · Add or update customer". The id is derived from the e-mail address
(:mod:`include.transform.identity`), so there is one customer per address, whichever accounts have it
(:mod:`include.transform.people`); the consent field comes from :mod:`include.transform.consent` alone. Guests are
sent as the store's setting ``guests`` says: with their first name only, in full, or not at all.
"""

from __future__ import annotations

import pandas as pd

from include.documents.encoder import Rows
from include.documents.spec import Document, Text
from include.transform import addresses, consent, people
from include.transform.identity import excluded
from include.transform.records import BuildContext, Frames, Prepared
from include.transform.rules import apply_rules

DOCUMENT = Document(
    "customer",
    (
        Text("id", "record_id"),
        Text("email_address", "email", clears=False),
        consent.FIELD,
        Text("company", "company"),
        Text("first_name", "first_name"),
        Text("last_name", "last_name"),
        addresses.customer_address(),
    ),
)

#: What a guest's document leaves out under ``guests: first_name_only``.
_ACCOUNT_ONLY = ("company", "last_name", *(f"address_{name}" for name in addresses.PLACE))


def prepare(frames: Frames, context: BuildContext) -> Prepared:
    """Derive customer documents from the ``customers`` extract (and ``addresses``, where the shop has its own table).

    Args:
        frames: ``main`` = customers, ``related["same_address"]`` = all customers with one of their addresses,
            ``related["addresses"]``.
        context: settings and audience of the store.

    Returns:
        One row per address; the account that speaks for it may be one outside of the chunk.
    """
    customers = people.of_chunk(frames, guests=context.settings.guests != "skip", erased=context.erased)
    left_out = excluded(customers["email"], context.settings.exclude_emails)
    customers = customers.loc[~left_out].reset_index(drop=True)
    customers = customers.assign(
        consent=consent.of_customers(
            customers["opted_in"],
            customers["record_id"].isin(context.archived),
            consent.policy(context.settings, context.audience),
        ),
        **addresses.customer_columns(customers, frames.related["addresses"]),
    )
    kept, rejected = apply_rules("customers", customers, "key", "record_id", people.rules(customers))
    everybody, customers = customers.loc[kept], people.one_each(customers.loc[kept])
    return Prepared(
        Rows(_without_guest_details(customers, context)), rejected, aliases=people.aliases(everybody, customers)
    )


def _without_guest_details(customers: pd.DataFrame, context: BuildContext) -> pd.DataFrame:
    if context.settings.guests != "first_name_only":
        return customers
    account = ~people.is_set(customers["is_guest"])
    return customers.assign(**{column: customers[column].where(account) for column in _ACCOUNT_ONLY})
