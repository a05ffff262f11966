"""Which members a listing shows and in which order: the filters of ``GET /lists/{id}/members``.

A listing by status and by the time it is sorted by is read from orders that are kept in step, however many members
there are. The other filters look at each member once; what they found is remembered until a member changes.

Bounds are exclusive and in whole seconds: *since* a second means after it. Without ``sort_field`` the order is that of
creation (inferred).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast, get_args

from include.sandbox.account import Audience
from include.sandbox.audiences import STATUSES
from include.sandbox.member_records import VISIBLE, TimeField, moment_of
from include.sandbox.problems import bad_request
from include.sandbox.records import Document, in_seconds
from include.sandbox.timeline import Sequence, Timeline, merged, within

Match = Literal["any", "all", "none"]
Bounds = tuple[int | None, int | None]

_SORTED_BY: Final[Mapping[str, TimeField]] = {
    "": "created",
    "timestamp_opt": "opt",
    "timestamp_signup": "signup",
    "last_changed": "changed",
}
_BOUNDED: Final[Mapping[TimeField, str]] = {"changed": "last_changed", "opt": "timestamp_opt"}
_MOST_REMEMBERED: Final = 8


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a caller asked for, apart from the page."""

    status: str = VISIBLE
    sort: TimeField = "created"
    descending: bool = False
    bounds: Mapping[TimeField, Bounds] = field(default_factory=dict)
    unsubscribed_since: int | None = None
    interest_ids: tuple[str, ...] = ()
    match: Match = "any"
    vip_only: bool = False
    unique_email_id: str = ""

    @classmethod
    def of(cls, audience: Audience, query: Mapping[str, str]) -> "Listing":
        """Read the query.

        Raises:
            Problem: 400 for a value that isn't one, or a filter without the others it needs (texts inferred).
        """
        status = _choice(query, "status", STATUSES)
        if query.get("unsubscribed_since") and status != "unsubscribed":
            raise bad_request("The unsubscribed_since parameter needs the status unsubscribed.")
        bounds = {
            name: (_time(query, f"since_{word}"), _time(query, f"before_{word}")) for name, word in _BOUNDED.items()
        }
        return cls(
            status=status,
            sort=_SORTED_BY[_choice(query, "sort_field", tuple(_SORTED_BY)[1:])],
            descending=_choice(query, "sort_dir", ("ASC", "DESC")) == "DESC",
            bounds={name: both for name, both in bounds.items() if both != (None, None)},
            unsubscribed_since=_time(query, "unsubscribed_since"),
            interest_ids=_interests(audience, query),
            match=cast(Match, _choice(query, "interest_match", get_args(Match)) or "any"),
            vip_only=query.get("vip_only", "").lower() == "true",
            unique_email_id=query.get("unique_email_id", ""),
        )

    @property
    def is_plain(self) -> bool:
        """Whether the orders alone can answer it."""
        others = self.unsubscribed_since is not None or self.interest_ids or self.vip_only or self.unique_email_id
        return not others and set(self.bounds) <= {self.sort}

    @property
    def first_sort(self) -> TimeField:
        """The order in which to look for those that match: one that a bound narrows down, where there is one."""
        return next(iter(self.bounds), self.sort)


def select(audience: Audience, listing: Listing, start: int, end: int) -> tuple[list[str], int]:
    """Return the ids of a page and how many members the listing has in all."""
    stored, crowd = _plain(audience, listing, listing.sort) if listing.is_plain else _found(audience, listing)
    total = len(stored) + len(crowd)
    if listing.descending:
        start, end = max(0, total - end), max(0, total - start)
    ids = [member_id for _, member_id in merged(stored, crowd, start, end)]
    return ids[::-1] if listing.descending else ids, total


def _plain(audience: Audience, listing: Listing, by: TimeField) -> tuple[Sequence, Sequence]:
    """Return the stored members and the crowd's, as far as the status and one bound tell."""
    after, before = listing.bounds.get(by, (None, None))
    if before is not None:
        after = after or 0  # who has no such time is on no side of it
    members = audience.members
    stored = within(members.timeline(by, listing.status), after, before)
    return stored, within(members.crowd_timeline(by, listing.status), after, before)


def _found(audience: Audience, listing: Listing) -> tuple[Sequence, Sequence]:
    members = audience.members
    version, found = audience.found.get(repr(listing), (-1, None))
    if found is None or version != members.version:
        candidates, _ = _plain(audience, listing, listing.first_sort)
        entries = []
        for _, member_id in candidates.between(0, len(candidates)):
            if (record := members.record(member_id)) is None:
                continue
            document = json.loads(record.body)
            times = {name: moment_of(name, record, document) for name in {*listing.bounds, listing.sort}}
            if _matches(listing, member_id, document, times):
                entries.append((times[listing.sort], member_id))
        found = Timeline(entries), _found_in_crowd(audience, listing)
        while len(audience.found) >= _MOST_REMEMBERED:
            del audience.found[next(iter(audience.found))]
        audience.found[repr(listing)] = (members.version, found)
    return found


def _matches(listing: Listing, member_id: str, document: Document, times: Mapping[TimeField, int]) -> bool:
    interests = document.get("interests", {})
    chosen = [interests.get(one, False) for one in listing.interest_ids]
    return (
        all(_is_within(times[name], both) for name, both in listing.bounds.items())
        and (not chosen or {"any": any(chosen), "all": all(chosen), "none": not any(chosen)}[listing.match])
        and (not listing.vip_only or document.get("vip", False))
        and member_id.startswith(listing.unique_email_id)
        and _is_within(in_seconds(document.get("unsubscribed_at", "")), (listing.unsubscribed_since, None))
    )


def _is_within(moment: int, bounds: Bounds) -> bool:
    after, before = bounds
    if after is None and before is None:
        return True
    return moment > (after or 0) and (before is None or moment < before)


def _found_in_crowd(audience: Audience, listing: Listing) -> Sequence:
    crowd = audience.members.crowd
    if crowd is None:
        return Timeline()
    numbers = crowd.timeline(listing.sort, listing.status).numbers
    mask = crowd.in_groups(numbers, listing.interest_ids)
    if listing.interest_ids:
        found = mask[0]
        for one in mask[1:]:
            found = found & one if listing.match == "all" else found | one
        numbers = numbers[~found if listing.match == "none" else found]
    for name, (after, before) in listing.bounds.items():
        numbers = numbers[crowd.between(numbers, name, after, before)]
    if listing.unsubscribed_since is not None:
        numbers = numbers[crowd.between(numbers, "changed", listing.unsubscribed_since, None)]
    if listing.vip_only:
        numbers = numbers[crowd.vips(numbers)]
    if listing.unique_email_id:
        numbers = numbers[crowd.with_unique_id(numbers, listing.unique_email_id)]
    return crowd.ordered(numbers, listing.sort)


def _choice(query: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    value = query.get(name, "")
    if value and value not in choices:
        raise bad_request(f"The {name} parameter must be one of: {', '.join(choices)}.")
    return value


def _time(query: Mapping[str, str], name: str) -> int | None:
    """Read a time in ISO 8601. A plus sign that arrived as a blank (unescaped in the URL) is one all the same."""
    text = query.get(name, "").strip()
    if not text:
        return None
    moment = in_seconds(text) or in_seconds(text.replace(" ", "+"))
    if not moment:
        raise bad_request(f"The {name} parameter must be a time such as 2026-11-20T10:00:00+00:00.")
    return moment


def _interests(audience: Audience, query: Mapping[str, str]) -> tuple[str, ...]:
    names = ("interest_category_id", "interest_ids", "interest_match")
    given = [bool(query.get(name)) for name in names]
    if not any(given):
        return ()
    if not all(given):
        raise bad_request(f"These parameters need each other: {', '.join(names)}.")
    ids = tuple(one.strip() for one in query["interest_ids"].split(",") if one.strip())
    interests = audience.records["interests"]
    for one in ids:
        if (interests.get(one) or {}).get("category_id") != query["interest_category_id"]:
            raise bad_request(f"The interest category has no interest '{one}'.")
    return ids
