"""What follows from an API key or OAuth token alone: the address to call and the header to send."""

from __future__ import annotations

import re
from base64 import b64encode
from urllib.parse import urlsplit

from include.mailchimp.errors import ConnectionSettingsError

_API_KEY = re.compile(r"[0-9a-f]{32}-[a-z]{1,8}[0-9]{1,4}", re.IGNORECASE)
_DATACENTRE_SUFFIX = re.compile(r"-([a-z]{1,8}[0-9]{1,4})$", re.IGNORECASE)
API_VERSION = "3.0"


def base_url_for(key_or_token: str, host: str | None) -> str:
    """Find the address of the API.

    Args:
        key_or_token: API key (``<32 hex>-<datacentre>``) or OAuth token.
        host: base URL (``http://127.0.0.1:8099/3.0``), host name (``us6.api.mailchimp.com``) or nothing, in which
            case the key's suffix tells the datacentre.

    Returns:
        The base URL without a trailing slash, ending in ``/3.0``.

    Raises:
        ConnectionSettingsError: the host is not a web address, or there is no host and the key has no suffix.
    """
    host = (host or "").strip()
    if not host:
        return f"https://{_datacentre_of(key_or_token)}.api.mailchimp.com/{API_VERSION}"
    url = host if "://" in host else f"https://{host}"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or parts.username is not None:
        raise ConnectionSettingsError(
            "the host of the Mailchimp connection is not a base URL: use something like "
            "https://us6.api.mailchimp.com/3.0, or leave it empty to follow the API key's suffix"
        )
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}" + ("" if path.endswith(f"/{API_VERSION}") else f"/{API_VERSION}")


def names_datacentre(key_or_token: str) -> bool:
    """Tell whether a key or token carries its datacentre as a suffix, as all API keys do."""
    return _DATACENTRE_SUFFIX.search(key_or_token.strip()) is not None


def masked(key_or_token: str) -> str:
    """Return what may be shown of a key or token: its last four characters, and the suffix of a key."""
    suffix = _DATACENTRE_SUFFIX.search(key_or_token.strip())
    secret = key_or_token.strip().removesuffix(suffix[0] if suffix else "")
    return f"…{secret[-4:] if len(secret) > 16 else ''}{suffix[0] if suffix else ''}"


def authorization_header(key_or_token: str) -> str:
    """Give the value of the Authorization header.

    Args:
        key_or_token: API key or OAuth token.

    Returns:
        HTTP Basic with any user name for an API key, Bearer for everything else.

    Raises:
        ConnectionSettingsError: it is empty, or holds characters that no key has (line breaks, for example).
    """
    secret = key_or_token.strip()
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ConnectionSettingsError(
            "the Mailchimp connection has no usable API key: put the whole key, such as "
            "0123456789abcdef0123456789abcdef-us6, into its password"
        )
    if _API_KEY.fullmatch(secret):
        return "Basic " + b64encode(f"anystring:{secret}".encode("ascii")).decode("ascii")
    return f"Bearer {secret}"


def _datacentre_of(key_or_token: str) -> str:
    suffix = _DATACENTRE_SUFFIX.search(key_or_token.strip())
    if not suffix:
        raise ConnectionSettingsError(
            "cannot tell Mailchimp's datacentre: the API key has no suffix such as -us6 and the connection no host. "
            "Copy the whole key, or for an OAuth token that Mailchimp's login service doesn't know set the extra `dc` "
            "(or the host us6.api.mailchimp.com)"
        )
    return suffix[1].lower()
