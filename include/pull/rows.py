"""Members as the API shows them, by columns as the state tables take them; without address and names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from include.mailchimp.client import Json
from include.mailchimp.errors import redact
from include.pull.pages import moment
from include.state.members import MemberRows

#: What Mailchimp gives to choose from or says itself. Anything else is in somebody's own words, and isn't kept.
REASONS = frozenset(
    {
        "Abuse complaint",
        "N/A (Unsubscribed by admin)",
        "Never signed up",
        "No longer interested",
        "None given",
        "Too many mails",
    }
)
OTHER_REASON = "other"

_BEGINNING = "1970-01-01T00:00:00+00:00"


def columns_of(members: Iterable[Json]) -> MemberRows:
    """Turn members into columns; of one who is there twice the later counts."""
    distinct: Sequence[Json] = list({member["id"]: member for member in members}.values())
    return MemberRows(
        hashes=[one["id"] for one in distinct],
        statuses=[one["status"] for one in distinct],
        changed=[_time(one.get("last_changed")) or _BEGINNING for one in distinct],
        opted=[_time(one.get("timestamp_opt")) for one in distinct],
        reasons=[_reason(one.get("unsubscribe_reason")) for one in distinct],
        sources=[_text(one.get("source")) for one in distinct],
        languages=[_text(one.get("language")) for one in distinct],
        vips=[bool(one.get("vip")) for one in distinct],
        ratings=[one.get("member_rating") for one in distinct],
        tags=[json.dumps(sorted(_text(tag["name"]) or "" for tag in one.get("tags") or ())) for one in distinct],
        groups=[json.dumps(sorted(key for key, on in (one.get("interests") or {}).items() if on)) for one in distinct],
    )


def addresses_of(members: Iterable[Json]) -> dict[str, str]:
    """Return the addresses of members by the hash."""
    return {one["id"]: one.get("email_address") or "" for one in members}


def _reason(value: str | None) -> str | None:
    return (value if value in REASONS else OTHER_REASON) if value else None


def _text(value: Any) -> str | None:
    """People write what they like, an address included."""
    return redact(str(value)) if value else None


def _time(value: str | None) -> str | None:
    read = moment(value)
    return None if read is None else read.isoformat()
