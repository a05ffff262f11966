"""The address of a clicked link, without what may tell who clicked it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

LONGEST: Final = 500  # characters that are kept; it is part of a key, which PostgreSQL limits

_PERSONAL: Final = re.compile(r"@|%40", re.IGNORECASE)
HIDDEN: Final = "*"


def without_person(url: str) -> str:
    """Return the address of a link without query, fragment and credentials; parts of its path with an @ are hidden.

    Args:
        url: as Mailchimp reports it.

    Returns:
        Scheme, host and path; of a link that isn't to a web page (mailto:, tel:) the scheme alone.
    """
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return HIDDEN
    if not parts.netloc:
        return f"{parts.scheme}:" if parts.scheme else HIDDEN
    host = parts.netloc.rpartition("@")[2]
    path = "/".join(HIDDEN if _PERSONAL.search(part) else part for part in parts.path.split("/"))
    return f"{parts.scheme}://{host}{path}"[:LONGEST].replace("\x00", "")
