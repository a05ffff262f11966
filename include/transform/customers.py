"""Customers → ``PUT /ecommerce/stores/{store_id}/customers/{customer_id}``.

API reference: "Ecommerce customers · Add or update customer". The id is derived from the e-mail address
(:mod:`include.transform.identity`); the consent field comes from :mod:`include.transform.consent` alone. Guests are
sent as the store's setting ``guests`` says: with their first name only, in full, or not at all.
"""

from __future__ import annotations

import pandas as pd

from include.documents.encoder import Rows
from include.documents.spec import Document, Text
from include.transform import addresses, consent
from include.transform.identity import customer_ids, normalised, unusable_email
from include.transform.records import BuildContext, Frames, Prepared, keep_rows
from include.transform.rules import ErrorClass, Rule, apply_rules, unusable_id

DOCUMENT = Document(
    "customer",
    (
        Text("id", "record_id"),
        Text("email_address", "email"),
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
        frames: ``main`` = customers, ``related["addresses"]``.
        context: the store's settings.

    Returns:
        One row per address: of several accounts with one address that are read together, the one changed last speaks
        for all, but a no to the newsletter from any of them holds.
    """
    customers = _in_scope(frames.main, context)
    email = normalised(customers["email"])
    customers = customers.assign(
        key=customers["customer_id"],
        email=email,
        record_id=customer_ids(email),
        consent=consent.of_customers(customers["opted_in"]),
        **addresses.customer_columns(customers, frames.related["addresses"]),
    )
    kept, rejected = apply_rules(
        "customers",
        customers,
        "key",
        "record_id",
        [
            Rule(
                unusable_id(customers["key"]),
                ErrorClass.MISSING_VALUE,
                "customer_id",
                "Customer id missing",
                "the shop's customer_id is empty or 0; give every customer an id",
            ),
            Rule(
                email.isna() | (email == ""),
                ErrorClass.MISSING_VALUE,
                "email_address",
                "E-mail address missing",
                "Mailchimp knows customers by e-mail address; add one in the shop or leave the customer out",
            ),
            Rule(
                unusable_email(email),
                ErrorClass.INVALID_VALUE,
                "email_address",
                "E-mail address refused",
                "the address is malformed or of a domain that Mailchimp refuses as fake; correct it in the shop",
            ),
        ],
    )
    rows = keep_rows(Rows(_without_guest_details(customers, context)), kept)
    return Prepared(Rows(_one_per_address(rows.frame)), rejected)


def _in_scope(customers: pd.DataFrame, context: BuildContext) -> pd.DataFrame:
    left_out = customers["is_deleted"].fillna(False)
    if context.settings.guests == "skip":
        left_out |= customers["is_guest"].fillna(False)
    return customers.loc[~left_out.astype(bool)].reset_index(drop=True)


def _without_guest_details(customers: pd.DataFrame, context: BuildContext) -> pd.DataFrame:
    if context.settings.guests != "first_name_only":
        return customers
    account = ~customers["is_guest"].fillna(False).astype(bool)
    return customers.assign(**{column: customers[column].where(account) for column in _ACCOUNT_ONLY})


def _one_per_address(customers: pd.DataFrame) -> pd.DataFrame:
    if customers["record_id"].is_unique:
        return customers
    opted_in = consent.common_opt_in(customers["record_id"], customers["opted_in"])
    customers = customers.assign(consent=consent.of_customers(opted_in))
    newest = customers.sort_values("updated_at", kind="stable").drop_duplicates("record_id", keep="last")
    return newest.sort_index().reset_index(drop=True)
