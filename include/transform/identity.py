"""Who a customer is at Mailchimp: one customer per e-mail address and store.

Mailchimp refuses a new e-mail address on a known customer id, and the same address under a second id, so the id is
derived from the address: the MD5 of its trimmed lower-case form, as Mailchimp's own plugins do it. It is an
identifier, not a secret.
"""

from __future__ import annotations

import hashlib

import pandas as pd

from include.documents.encoder import to_arrow
from include.transform.records import TEXT

#: What Mailchimp takes for an address, as far as that can be told without asking: one @, a dot in the domain, no
#: spaces or list separators.
_ADDRESS = r"[^@\s,;:<>()\[\]\\\"]+@[^@\s,;:<>()\[\]\\\".]+(\.[^@\s,;:<>()\[\]\\\".]+)*\.[^@\s\d.,;:<>()\[\]\\\"]{2,}"
#: Domains of the documentation RFCs and of sloppy test data, which Mailchimp answers with "looks fake or invalid".
_FAKE_DOMAIN = r".*@(.*\.)?(example\.(com|net|org)|test\.com|invalid|localhost)"


def normalised(emails: pd.Series) -> pd.Series:
    """Trim and lower-case addresses: the form that identifies a customer."""
    return emails.str.strip().str.lower()


def customer_ids(emails: pd.Series) -> pd.Series:
    """Derive customer ids from addresses in normal form; null where the address is."""
    ids = [
        None if email is None else hashlib.md5(email.encode(), usedforsecurity=False).hexdigest()
        for email in to_arrow(emails).to_pylist()
    ]
    return pd.Series(ids, index=emails.index, dtype=TEXT)


def unusable_email(emails: pd.Series) -> pd.Series:
    """Tell which addresses (in normal form, null included) Mailchimp would refuse."""
    well_formed = emails.str.fullmatch(_ADDRESS).fillna(False)
    fake = emails.str.fullmatch(_FAKE_DOMAIN).fillna(False)
    return ~well_formed | fake
