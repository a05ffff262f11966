"""The consent firewall: the only module that writes a field which can subscribe or unsubscribe somebody.

Mailchimp's rules for the e-commerce field (API reference "Add or update customer"; contract of this project, README
"Consent"): ``true`` subscribes an address that is new to the audience, ``false`` makes it a transactional contact;
neither changes the status of a contact that the audience already has, except that a later ``true`` subscribes a
transactional one. So ``true`` is sent for a stored opt-in and for nothing else, and an opt-out is never expressed here.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from include.documents.spec import Boolean

#: The consent field of a customer document; reads the column ``consent`` that the functions here make.
FIELD = Boolean("opt_in_status", "consent")


def of_customers(opted_in: pd.Series) -> pd.Series:
    """Turn stored consent into the e-commerce field.

    Args:
        opted_in: the shop's record: true (opted in), false (opted out or declined), null (never asked).

    Returns:
        True only where an opt-in is stored. Never asked is not a yes; the API takes no third value.
    """
    return opted_in.fillna(False).astype(pd.ArrowDtype(pa.bool_()))


def common_opt_in(record_ids: pd.Series, opted_in: pd.Series) -> pd.Series:
    """Agree on one answer for accounts that share an address: any no is a no for the address.

    Args:
        record_ids: who the accounts are at Mailchimp.
        opted_in: what each of them said.

    Returns:
        For each account: false where any account of its address said no, else its own answer.
    """
    refused = record_ids[(~opted_in).fillna(False).astype(bool)]
    return opted_in.mask(record_ids.isin(refused), False)


def of_introduced(new: pd.Series) -> pd.Series:
    """Return the field for customers that come into being through an order or cart.

    Args:
        new: true where the document introduces a customer about whom the shop has no row.

    Returns:
        False for those, since nothing is stored about their consent; absent for customers that were sent before.
    """
    return new.map({True: False, False: None}).astype(pd.ArrowDtype(pa.bool_()))
