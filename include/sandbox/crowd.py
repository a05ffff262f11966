"""A crowd: contacts of an audience that nobody wrote down, each rendered from its number when it is asked for.

A million of them take some 40 MB and a few seconds to start. They are the same in every run: some of each status, times
spread over nine years, and one second that up to 5,000 share, as after an import. A member of the crowd that is changed
leaves it and becomes an ordinary, stored one.
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from include.sandbox.records import Document, in_words
from include.sandbox.timeline import Entry

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Groups that members of the crowd choose: id → name. They are of one category.
CATEGORY: Final = ("c0ffee0000", "Crowd")
GROUPS: Final = {"c0ffee0001": "News", "c0ffee0002": "Offers", "c0ffee0003": "Events"}

# Of a hundred numbers in a row: how many have which status.
_SHARES: Final = (
    ("subscribed", 70),
    ("unsubscribed", 14),
    ("cleaned", 4),
    ("pending", 3),
    ("transactional", 6),
    ("archived", 3),
)
_STATUSES: Final = tuple(status for status, _ in _SHARES)
_BEGIN: Final = int(datetime(2016, 1, 1, tzinfo=UTC).timestamp())
_LAST_SIGNUP: Final = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
_END: Final = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
_IMPORTED_AT: Final = int(datetime(2021, 3, 15, 12, tzinfo=UTC).timestamp())
_MOST_IMPORTED: Final = 5000
_REASONS: Final = ("No longer interested", "Too many mails", "None given", "Never signed up")
_FIRST: Final = ("Ada", "Bo", "Cleo", "Dan", "Eve", "Finn", "Gül", "Hugo", "Ida", "Jón", "Kim")
_LAST: Final = ("Muster", "Berg", "Stone", "Novák", "Rossi", "O'Neil", "Wang")
_LANGUAGES: Final = ("en", "de", "fr", "")
_MOST_SHOWN: Final = 20_000
_RARE: Final = 997  # one in so many is a VIP


class Crowd:
    """The members 0 … size − 1 of a crowd.

    Args:
        size: how many.
        address: makes an address of a ``number``.
    """

    def __init__(self, size: int, address: str = "crowd{number}@crowd-demo.shop") -> None:
        self.size = size
        self._address = address
        numbers = np.arange(size, dtype=np.int64)
        self._taken = np.zeros(size, dtype=np.bool_)
        self.left = 0  # how many left the crowd
        bounds = np.cumsum([share for _, share in _SHARES])
        self._status = np.searchsorted(bounds, (numbers * 61 + 17) % 100, side="right").astype(np.uint8)
        self._times = self._spread(numbers)
        digests = b"".join(hashlib.md5(self.email(one).encode(), usedforsecurity=False).digest() for one in range(size))
        self._prefix = np.frombuffer(digests, ">u8")[::2].astype(np.uint64)
        self._by_prefix = np.argsort(self._prefix).astype(np.int32)
        self._sorted = self._prefix[self._by_prefix]
        self._shown: dict[str, int] = {}  # numbers of those whose ids were told last: they are asked for next
        self._orders: dict[tuple[str, str], tuple[int, CrowdTimeline]] = {}

    def email(self, number: int) -> str:
        """Return the address of a member, in lower case."""
        return self._address.format(number=number).lower()

    def hash(self, number: int) -> str:
        """Return the id of a member."""
        return hashlib.md5(self.email(number).encode(), usedforsecurity=False).hexdigest()

    def find(self, member_id: str) -> int | None:
        """Return the number of a member that is (still) one of the crowd."""
        shown = self._shown.get(member_id)
        if shown is not None:
            return None if self._taken[shown] else shown
        try:
            prefix = np.uint64(_prefix_of(member_id))
        except ValueError:
            return None
        position = int(np.searchsorted(self._sorted, prefix))
        if position == self.size:
            return None
        number = int(self._by_prefix[position])
        present = not self._taken[number] and self._prefix[number] == prefix and self.hash(number) == member_id
        return number if present else None

    def show(self, number: int) -> str:
        """Return the id of a member that is going to be looked up again."""
        if len(self._shown) > _MOST_SHOWN:
            self._shown.clear()
        member_id = self.hash(number)
        self._shown[member_id] = number
        return member_id

    def take(self, number: int) -> None:
        """Let a member leave the crowd."""
        self._taken[number] = True
        self.left += 1

    def __len__(self) -> int:
        return self.size - self.left

    def __iter__(self) -> Iterator[str]:
        return (self.hash(int(number)) for number in np.flatnonzero(~self._taken))

    def time(self, field: str, number: int) -> str:
        """Return a time of a member (``created``, ``changed``, ``opt``, ``signup``) in words."""
        return in_words(int(self._times[field][number]))

    def document(self, number: int) -> Document:
        """Return a member as it would be stored."""
        status = _STATUSES[self._status[number]]
        document: Document = {
            "email_address": self.email(number),
            "merge_fields": {"FNAME": _FIRST[number % len(_FIRST)], "LNAME": _LAST[number % len(_LAST)]},
            "source": "Import" if number < self._imported else "Hosted Signup Form",
            "status": status,
            "language": _LANGUAGES[number % len(_LANGUAGES)],
            "vip": number % _RARE == 0,
            "member_rating": 1 + number % 5,
            "timestamp_signup": self.time("signup", number),
            "timestamp_opt": self.time("opt", number),
            "interests": {name: True for at, name in enumerate(GROUPS) if _chooses(number, at)},
        }
        if status == "cleaned" or (status == "unsubscribed" and number % 2):
            document["in_compliance"] = True
        if status == "unsubscribed":
            document["unsubscribed_at"] = self.time("changed", number)
            if number % 2:
                document["unsubscribe_reason"] = _REASONS[number // 2 % len(_REASONS)]
        return document

    def statuses(self) -> dict[str, int]:
        """Return how many of the crowd have each status."""
        counts = np.bincount(self._status[~self._taken], minlength=len(_STATUSES))
        return {status: int(number) for status, number in zip(_STATUSES, counts, strict=True)}

    def chosen(self) -> dict[str, int]:
        """Return how many of the crowd chose each group."""
        numbers = np.flatnonzero(~self._taken)
        return {name: int(_chooses(numbers, at).sum()) for at, name in enumerate(GROUPS)}

    def latest(self, field: str, status: str) -> str:
        """Return the latest time of a kind among the members of a status, "" when there are none."""
        timeline = self.timeline(field, status)
        return in_words(timeline.at(len(timeline) - 1)[0]) if len(timeline) else ""

    def timeline(self, field: str, status: str) -> "CrowdTimeline":
        """Return the members of a status ("": all but the archived ones) in the order of a time."""
        made_at, timeline = self._orders.get((field, status), (-1, None))
        if timeline is not None and made_at != self.left:
            timeline = timeline.only(~self._taken[timeline.numbers])
        if timeline is None:
            wanted = self._status != _STATUSES.index("archived")
            if status:
                wanted = self._status == _STATUSES.index(status)
            timeline = self.ordered(np.flatnonzero(wanted & ~self._taken), field)
        self._orders[field, status] = (self.left, timeline)
        return timeline

    def ordered(self, numbers: Any, field: str) -> "CrowdTimeline":
        """Return members in the order of a time."""
        times = self._times[field][numbers]
        order = np.lexsort((self._prefix[numbers], times))
        return CrowdTimeline(self, numbers[order].astype(np.int32), times[order])

    def between(self, numbers: Any, field: str, after: int | None, before: int | None) -> Mask:
        """Tell whose time is later than one second and earlier than another."""
        times = self._times[field][numbers]
        first, last = 0 if after is None else after, np.iinfo(np.uint32).max if before is None else before
        return (times > first) & (times < last)

    def in_groups(self, numbers: Any, interest_ids: Sequence[str]) -> list[Mask]:
        """Tell, for each of the groups, who chose it."""
        known = list(GROUPS)
        nobody = np.zeros(len(numbers), dtype=np.bool_)
        return [_chooses(numbers, known.index(one)) if one in GROUPS else nobody for one in interest_ids]

    def vips(self, numbers: Any) -> Mask:
        """Tell who is a VIP."""
        return numbers % _RARE == 0

    def with_unique_id(self, numbers: Any, unique_id: str) -> Mask:
        """Tell whose ``unique_email_id`` (the first ten digits of the id) this is."""
        try:
            wanted = np.uint64(int(unique_id, 16))
        except (ValueError, OverflowError):
            return np.zeros(len(numbers), dtype=np.bool_)
        return (self._prefix[numbers] >> np.uint64(24)) == wanted

    def prefixes(self, numbers: Any) -> npt.NDArray[np.uint64]:
        """Return the first 16 digits of the ids as numbers."""
        return self._prefix[numbers]

    def _spread(self, numbers: Numbers) -> dict[str, npt.NDArray[np.uint32]]:
        """Return the times of all members, in seconds; 0: never."""
        self._imported = min(self.size // 4, _MOST_IMPORTED)
        later = np.maximum(numbers - self._imported, 0)
        signup = _BEGIN + later * (_LAST_SIGNUP - _BEGIN) // max(self.size - self._imported, 1)
        changed = signup + _mixed(numbers) % (_END - signup)
        opt = np.minimum(signup + _mixed(numbers + self.size) % 3600, changed)
        for times in (signup, changed, opt):
            times[: self._imported] = _IMPORTED_AT
        opt[np.isin(self._status, [_STATUSES.index("transactional"), _STATUSES.index("pending")])] = 0
        small = {"signup": signup, "changed": changed, "opt": opt}
        times = {name: values.astype(np.uint32) for name, values in small.items()}
        return {**times, "created": times["signup"]}


class CrowdTimeline:
    """Members of a crowd in the order of a time, and of their ids where it is the same."""

    def __init__(self, crowd: Crowd, numbers: npt.NDArray[np.int32], times: npt.NDArray[np.uint32]) -> None:
        self.crowd = crowd
        self.numbers = numbers
        self._times = times

    def __len__(self) -> int:
        return len(self.numbers)

    def only(self, mask: Mask) -> "CrowdTimeline":
        """Return those that a mask leaves."""
        return CrowdTimeline(self.crowd, self.numbers[mask], self._times[mask])

    def rank(self, entry: Entry) -> int:
        """Return how many members come before an entry."""
        moment, member_id = entry
        if moment > np.iinfo(np.uint32).max:
            return len(self)
        start, end = (int(np.searchsorted(self._times, np.uint32(max(moment, 0)), side)) for side in ("left", "right"))
        if moment < 0 or not member_id:
            return start
        same = self.crowd.prefixes(self.numbers[start:end])
        return start + int(np.searchsorted(same, np.uint64(_prefix_of(member_id))))

    def at(self, position: int) -> Entry:
        """Return the entry at a position."""
        return int(self._times[position]), self.crowd.hash(int(self.numbers[position]))

    def between(self, start: int, end: int) -> Iterator[Entry]:
        """Iterate over the entries of a range of positions."""
        for number, moment in zip(self.numbers[start:end].tolist(), self._times[start:end].tolist(), strict=True):
            yield moment, self.crowd.show(number)


def _prefix_of(member_id: str) -> int:
    return int(member_id[:16].ljust(16, "0"), 16)


def _chooses(numbers: Any, group: int) -> Any:
    return numbers // (group + 1) % 3 == 0


def _mixed(numbers: Numbers) -> Numbers:
    """Return a number for each number that looks like chance (splitmix64)."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(2)).astype(np.int64)
