"""Reads an audience's members forward by the time of their last change, page by page, several pages at a time.

API reference: "List members info". An offset into a listing shifts while members change: whoever changes goes to its
end, and everybody behind moves up. So an offset is never counted from the beginning, but within one second: the next
request asks for what changed from the second of the last row on, and skips no more than the rows of that second that
were read before. Pages overlap by a few rows; one that doesn't begin with a row that is known already has moved up
further than that, and its second is read again from the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from include.mailchimp.client import MOST_PER_PAGE, Json, MailchimpClient
from include.mailchimp.errors import UnexpectedReply

#: What is asked of each member. The address stays in memory: it finds customers that no push has met.
FIELDS: Final = (
    "id",
    "email_address",
    "status",
    "last_changed",
    "timestamp_opt",
    "unsubscribe_reason",
    "source",
    "language",
    "vip",
    "member_rating",
    "tags",
    "interests",
)

_SECOND: Final = timedelta(seconds=1)
_OVERLAP: Final = 5
_MOST_OVERLAP: Final = 500
_MOST_GAPS: Final = 20  # at one place; an audience that changes so fast settles down some time
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Page:
    """Members that were read, in the order of their last change, and the second of the last of them."""

    members: list[Json]
    reached_at: datetime


@dataclass
class _Place:
    """Where the next request goes on: behind `offset` rows of those that changed after `since`.

    `tail` are the last rows before, which the next page has to begin with; `in_second` is how many of the rows that
    were read changed in the second of the last of them.
    """

    since: datetime | None
    offset: int = 0
    tail: tuple[tuple[str, str], ...] = ()
    last: datetime | None = None
    in_second: int = 0


class MemberListing:
    """One listing of an audience's members: those that are in it, or those that were archived.

    Args:
        client: of the account.
        list_id: the audience.
        status: `archived`, which Mailchimp lists only when asked; None: all others.
        connections: how many pages are fetched at a time.
        per_page: members of a page.
    """

    def __init__(
        self,
        client: MailchimpClient,
        list_id: str,
        *,
        status: str | None = None,
        connections: int = 1,
        per_page: int = MOST_PER_PAGE,
    ) -> None:
        self._client = client
        self._path = f"/lists/{list_id}/members"
        self._query = {
            "status": status,
            "sort_field": "last_changed",
            "sort_dir": "ASC",
            "count": per_page,
            "fields": ",".join([*(f"members.{name}" for name in FIELDS), "total_items"]),
        }
        self._connections = connections
        self._per_page = per_page
        self._overlap = _OVERLAP
        self._inclusive = False  # whether "changed since" a second includes that second

    def pages(self, from_second: datetime | None) -> Iterator[Page]:
        """Read what changed in a second or later.

        Args:
            from_second: the second; None: everything.

        Yields:
            Pages with at least one member that was not in the page before.

        Raises:
            UnexpectedReply: the listing changes faster than it can be read, has another form, or a page isn't full
                although more is left.
        """
        place = _Place(None if from_second is None else from_second - _SECOND)
        expected, gaps = 1, 0
        with ThreadPoolExecutor(self._connections, thread_name_prefix="members") as pool:
            while expected:
                step = self._per_page - self._overlap
                offsets = [place.offset + number * step for number in range(min(expected, self._connections))]
                replies = pool.map(lambda offset, since=place.since: self._fetch(since, offset), offsets)
                for offset, (members, total) in zip(offsets, replies, strict=True):
                    if offset:
                        moved_up = _moved_up(members, place.tail)
                        if moved_up is None:
                            gaps += 1
                            place = self._again(place, gaps)
                            expected = 1
                            break
                        place.in_second -= moved_up
                    elif members and place.since and _second(members[0]) <= place.since:
                        self._inclusive = True
                    fresh = [one for one in members if _key(one) not in place.tail]
                    if fresh:
                        place, moved = _passed(place, fresh, self._overlap)
                        gaps = 0 if moved else gaps
                        yield Page(fresh, place.last or _BEGINNING)
                    left = total - offset - len(members)
                    if left > 0 and len(members) < self._per_page:
                        told = f"{len(members)} contacts at {offset} of {total}; read it again"
                        raise UnexpectedReply("Incomplete listing", told)
                    expected = -(-left // step) if left > 0 else 0
                    if not expected:
                        break
                place = self._next(place)

    def total(self) -> int:
        """Ask how many contacts it has."""
        reply = self._client.get(
            self._path, params={"status": self._query["status"], "count": 1, "fields": "total_items"}
        )
        total: Any = (reply or {}).get("total_items")
        if not isinstance(total, int):
            raise UnexpectedReply("Unexpected reply", "no total_items")
        return total

    def _again(self, place: _Place, gaps: int) -> _Place:
        """Go back to the beginning of the second in which rows may have been passed over, with a larger overlap."""
        if gaps > _MOST_GAPS:
            raise UnexpectedReply("Restless listing", "members change faster than they can be read; try again")
        self._overlap = min(4 * self._overlap, self._per_page // 2, _MOST_OVERLAP)
        return _Place(place.since, last=place.last)

    def _next(self, place: _Place) -> _Place:
        """Count from the second of the last row on; nothing of it is skipped that the overlap doesn't cover."""
        if place.last is None:
            return place
        skipped = max(place.in_second - self._overlap, 0)
        since = place.last if self._inclusive else place.last - _SECOND
        return _Place(since, skipped, place.tail, place.last, place.in_second)

    def _fetch(self, since: datetime | None, offset: int) -> tuple[list[Json], int]:
        query = {**self._query, "offset": offset, "since_last_changed": since and since.isoformat()}
        reply = self._client.get(self._path, params=query) or {}
        members: Any = reply.get("members")
        total: Any = reply.get("total_items")
        if not isinstance(members, list) or not isinstance(total, int):
            raise UnexpectedReply("Unexpected reply", "no list of members with total_items")
        return members, total


def moment(text: str | None) -> datetime | None:
    """Read a time of Mailchimp's, which is empty text where there is none."""
    if not text:
        return None
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def _key(member: Json) -> tuple[str, str]:
    return member["id"], member.get("last_changed") or ""


def _second(member: Json) -> datetime:
    return moment(member.get("last_changed")) or _BEGINNING


def _moved_up(members: Sequence[Json], tail: tuple[tuple[str, str], ...]) -> int | None:
    """Tell by how many rows a page has moved up since the one before was read; None: by more than the overlap."""
    first = _key(members[0]) if members else None
    return tail.index(first) if first in tail else None


def _passed(place: _Place, fresh: Sequence[Json], overlap: int) -> tuple[_Place, bool]:
    """Move behind rows; also tell whether that leads into another second."""
    seconds = [_second(one) for one in fresh]
    last = seconds[-1]
    moved = last != place.last
    known = 0 if moved else place.in_second
    tail = (*place.tail, *map(_key, fresh))[-overlap:]
    return _Place(place.since, place.offset, tail, last, known + seconds.count(last)), moved
