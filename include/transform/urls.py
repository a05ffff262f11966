"""Addresses of pages: the shop's own, and those that a template of the settings makes from a record's columns."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from urllib.parse import quote

import pandas as pd

from include.documents.encoder import to_arrow
from include.transform.records import TEXT

#: Characters that mean the same in every part of an address (RFC 3986, "unreserved").
_PLAIN = r"[A-Za-z0-9._~-]*"


def from_template(template: str | None, columns: Mapping[str, pd.Series]) -> pd.Series:
    """Fill in a template such as ``https://shop/cart?token={checkout_token}``, row by row.

    Args:
        template: the setting; None: the store has none.
        columns: the values by placeholder; they are percent-encoded.

    Returns:
        The addresses; null where there is no template, or where a value that it needs is null or empty.
    """
    index = next(iter(columns.values())).index
    if template is None:
        return pd.Series(None, index, dtype=TEXT)
    address = pd.Series("", index, dtype=TEXT)
    for text, placeholder, _, _ in Formatter().parse(template):
        address = address + text
        if placeholder is not None:
            address = address + encoded(columns[placeholder].replace("", None))
    return address


def absolute(urls: pd.Series) -> pd.Series:
    """Leave out addresses that aren't absolute: Mailchimp has no page to resolve a relative one against."""
    return urls.where(urls.str.match(r"https?://[^/\s]").fillna(False).astype(bool))


def encoded(texts: pd.Series) -> pd.Series:
    """Percent-encode texts to stand in an address as one part; most consist of plain characters and stay."""
    if texts.str.fullmatch(_PLAIN).fillna(True).all():
        return texts
    values = [None if text is None else quote(text, safe="") for text in to_arrow(texts).to_pylist()]
    return pd.Series(values, index=texts.index, dtype=TEXT)
