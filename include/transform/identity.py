"""Who a customer is at Mailchimp: one customer per e-mail address and store.

Mailchimp refuses a new e-mail address on a known customer id, and the same address under a second id, so the id is
derived from the address: the MD5 of its trimmed lower-case form, as Mailchimp's own plugins do it. It is an
identifier, not a secret.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

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


def contact_hashes(emails: pd.Series) -> list[str]:
    """Return the hashes of addresses as the shop has them, without those that are missing."""
    return customer_ids(normalised(emails)).dropna().tolist()


def unusable_email(emails: pd.Series) -> pd.Series:
    """Tell which addresses (in normal form, null included) Mailchimp would refuse."""
    well_formed = emails.str.fullmatch(_ADDRESS).fillna(False)
    fake = emails.str.fullmatch(_FAKE_DOMAIN).fillna(False)
    return ~well_formed | fake


def excluded(emails: pd.Series, patterns: Sequence[str]) -> pd.Series:
    """Tell which addresses are left out of everything: marketplace relays, role accounts, the shop's own list.

    Args:
        emails: addresses in normal form.
        patterns: the setting ``exclude_emails``: ``*`` stands for any text, ``?`` for one character, case is ignored.

    Returns:
        True where any pattern fits the whole address; false for null.
    """
    if not patterns:
        return pd.Series(False, index=emails.index)
    expression = "|".join(map(_expression, patterns))
    return emails.str.fullmatch(f"(?s:{expression})").fillna(False).astype(bool)


def _expression(pattern: str) -> str:
    return re.escape(pattern.strip().lower()).replace(r"\*", ".*").replace(r"\?", ".")
