"""A sorted sequence of (time, id) that stays cheap to change and to page through with a million entries."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import accumulate, islice
from typing import Protocol

Entry = tuple[int, str]

_BLOCK = 2048


class Timeline:
    """Entries in order, in blocks of a few thousand: a change moves one block, a position is found by their lengths."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        ordered = sorted(entries)
        self._blocks = [ordered[start : start + _BLOCK] for start in range(0, len(ordered), _BLOCK)]
        self._firsts = [block[0] for block in self._blocks]
        self._starts: list[int] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    def add(self, entry: Entry) -> None:
        """Insert an entry that isn't there."""
        self._starts = None
        if not self._blocks:
            self._blocks, self._firsts = [[entry]], [entry]
            return
        number = self._block_of(entry)
        block = self._blocks[number]
        insort(block, entry)
        self._firsts[number] = block[0]
        if len(block) > 2 * _BLOCK:
            self._blocks[number : number + 1] = [block[:_BLOCK], block[_BLOCK:]]
            self._firsts[number : number + 1] = [block[0], block[_BLOCK]]

    def discard(self, entry: Entry) -> None:
        """Take an entry out, if it is there."""
        if not self._blocks:
            return
        number = self._block_of(entry)
        block = self._blocks[number]
        position = bisect_left(block, entry)
        if position == len(block) or block[position] != entry:
            return
        self._starts = None
        del block[position]
        if block:
            self._firsts[number] = block[0]
        else:
            del self._blocks[number], self._firsts[number]

    def rank(self, entry: Entry) -> int:
        """Return how many entries come before this one."""
        if not self._blocks:
            return 0
        number = self._block_of(entry)
        return self._start_of(number) + bisect_left(self._blocks[number], entry)

    def at(self, position: int) -> Entry:
        """Return the entry at a position."""
        number, inside = self._find(position)
        return self._blocks[number][inside]

    def between(self, start: int, end: int) -> Iterator[Entry]:
        """Iterate over the entries of a range of positions."""
        if start >= min(end, len(self)):
            return
        number, inside = self._find(start)
        rest = (one for block in islice(self._blocks, number + 1, None) for one in block)
        yield from islice(self._blocks[number], inside, inside + end - start)
        yield from islice(rest, max(0, end - start - (len(self._blocks[number]) - inside)))

    def _block_of(self, entry: Entry) -> int:
        number = bisect_left(self._firsts, entry)
        found = number < len(self._firsts) and self._firsts[number] == entry
        return number if found else max(0, number - 1)

    def _start_of(self, number: int) -> int:
        if self._starts is None:
            self._starts = list(accumulate(map(len, self._blocks), initial=0))
        return self._starts[number]

    def _find(self, position: int) -> tuple[int, int]:
        self._start_of(0)
        starts = self._starts or [0]
        number = bisect_left(starts, position + 1) - 1
        return number, position - starts[number]


class Sequence(Protocol):
    """Entries in order, however they are kept."""

    def __len__(self) -> int:
        """How many there are."""

    def rank(self, entry: Entry) -> int:
        """Return how many entries come before this one."""

    def at(self, position: int) -> Entry:
        """Return the entry at a position."""

    def between(self, start: int, end: int) -> Iterator[Entry]:
        """Iterate over the entries of a range of positions."""


@dataclass(frozen=True)
class Window:
    """A range of positions of a sequence, as a sequence of its own."""

    whole: Sequence
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def rank(self, entry: Entry) -> int:
        """Return how many entries come before this one."""
        return min(max(self.whole.rank(entry), self.start), self.end) - self.start

    def at(self, position: int) -> Entry:
        """Return the entry at a position."""
        return self.whole.at(self.start + position)

    def between(self, start: int, end: int) -> Iterator[Entry]:
        """Iterate over the entries of a range of positions."""
        return self.whole.between(self.start + start, min(self.start + end, self.end))


def within(whole: Sequence, after: int | None, before: int | None) -> Window:
    """Return the entries later than one second and earlier than another; None: without that bound."""
    start = 0 if after is None else whole.rank((after + 1, ""))
    end = len(whole) if before is None else whole.rank((before, ""))
    return Window(whole, start, max(start, end))


def merged(first: Sequence, second: Sequence, start: int, end: int) -> list[Entry]:
    """Return a range of what two sequences are together, without walking to its start."""
    end = min(end, len(first) + len(second))
    if start >= end:
        return []
    # Of the `start` entries before the range, those of the first sequence are the ones that rank lower in the whole.
    taken = bisect_left(range(len(first)), start, key=lambda one: one + second.rank(first.at(one)))
    left, wanted = start - taken, end - start
    ours = first.between(taken, min(taken + wanted, len(first)))
    theirs = second.between(left, min(left + wanted, len(second)))
    return list(islice(merge(ours, theirs), wanted))
