"""Understands what Mailchimp's webhooks say: who sent a call, and whom it is about. Pure: nothing is read or written.

A call is believed if its signature was made with the audience's secret, over the time and the very bytes of the body,
and the time is now. What it says is a hint all the same: calls come twice, late, in another order or not at all. So
nothing of it is kept but whom it is about, as the hash of the address.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl

SIGNATURE_HEADER: Final = "X-Mailchimp-Signature"
MOST_BYTES: Final = 64 * 1024

#: How far the time of a signature may be from ours, in either direction.
TOLERANCE: Final = timedelta(seconds=300)

#: The types that are about contacts, each with the fields that have their addresses. All others are ignored.
ADDRESSES: Final = {
    "subscribe": ("data[email]",),
    "unsubscribe": ("data[email]",),
    "profile": ("data[email]",),
    "cleaned": ("data[email]",),
    "upemail": ("data[old_email]", "data[new_email]"),
}

_SIGNATURE: Final = re.compile(r"t=(?P<moment>\d{1,12}),v1=(?P<mac>[0-9a-f]{64})", re.ASCII)
_ADDRESS: Final = re.compile(r"[^\s@]+@[^\s@]+")
_LONGEST_ADDRESS: Final = 320
_MOST_FIELDS: Final = 1000


class NotSigned(ValueError):
    """A call has no signature of Mailchimp's, or an old one. Says why, and nothing of the call."""


class Malformed(ValueError):
    """A signed call is no event of the audience. Says why, and nothing of the call."""


@dataclass(frozen=True)
class WebhookEvent:
    """What a call says: its type, when it was made by Mailchimp's clock, and the contacts, by hash."""

    type: str
    fired_at: datetime
    member_hashes: tuple[str, ...]


def verify(header: str | None, body: bytes, secrets: Sequence[str], now: datetime) -> str:
    """Check who sent a call, and when.

    Args:
        header: the value of `SIGNATURE_HEADER`; None if the call has none.
        body: as it came.
        secrets: of the audience's webhooks; several while one replaces another.
        now: aware.

    Returns:
        The signature, which no other call has: Mailchimp signs each attempt anew.

    Raises:
        NotSigned: the call is not to be believed.
    """
    if header is None:
        raise NotSigned(f"the header {SIGNATURE_HEADER} is missing")
    found = _SIGNATURE.fullmatch(header.strip())
    if found is None:
        raise NotSigned(f"the header {SIGNATURE_HEADER} is not of the form t=…,v1=…")
    signed = f"{found['moment']}.".encode() + body
    # All are compared, whichever fits, and each in constant time.
    fitting = [hmac.compare_digest(found["mac"], _mac(secret, signed)) for secret in secrets]
    if not any(fitting):
        raise NotSigned("the signature is not by the secret of this store's webhook")
    if abs(now.timestamp() - int(found["moment"])) > TOLERANCE.total_seconds():
        raise NotSigned(f"the signature is more than {TOLERANCE.total_seconds():.0f} seconds away from this clock")
    return found["mac"]


def read_event(body: bytes, list_id: str) -> WebhookEvent | None:
    """Read what a verified call says.

    Args:
        body: a form.
        list_id: the store's audience.

    Returns:
        The event; None for one that is about no contact, or of a type that is not known here.

    Raises:
        Malformed: it is no event, or another audience's.
    """
    fields = _fields(body)
    kind = _only(fields, "type")
    if kind not in ADDRESSES:
        return None
    if _only(fields, "data[list_id]") != list_id:
        raise Malformed("the event is about another audience than the store's")
    fired = _only(fields, "fired_at")
    try:
        fired_at = datetime.strptime(f"{fired} +0000", "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        raise Malformed("fired_at is not a time like 2026-01-31 23:59:59") from None
    hashes = dict.fromkeys(_hash(name, _only(fields, name)) for name in ADDRESSES[kind])
    return WebhookEvent(kind, fired_at.astimezone(UTC), tuple(hashes))


def _mac(secret: str, signed: bytes) -> str:
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def _fields(body: bytes) -> dict[str, list[str]]:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Malformed("the body is not a form in UTF-8 of a sensible number of fields") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def _only(fields: dict[str, list[str]], name: str) -> str:
    values = fields.get(name, [])
    if len(values) != 1:
        raise Malformed(f"the body has {'several fields' if values else 'no field'} {name}")
    return values[0]


def _hash(name: str, value: str) -> str:
    address = value.strip().lower()
    if len(address) > _LONGEST_ADDRESS or not _ADDRESS.fullmatch(address):
        raise Malformed(f"{name} is no e-mail address")
    return hashlib.md5(address.encode(), usedforsecurity=False).hexdigest()
