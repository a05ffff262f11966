"""Faults that a sandbox can be told to commit, each at a chosen occasion or at random ones by a seed.

::

    inject(server.state, Fault.REPLY_LOST, at=2)  # the second batch from now on is accepted, but nobody hears of it
    inject_at_random(server.state, seed=7, rates={Fault.THROTTLED: 0.05, Fault.BATCH_VANISHED: 0.2})
    server.state.faults.committed, server.state.faults.affected  # how often, and how many operations were hit
    heal(server.state)

Whether a fault is committed at its n-th occasion depends on the seed, the fault and n alone, so a schedule is the same
however threads interleave.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Final, Protocol

from include.mailchimp.contract import Operation
from include.sandbox.problems import (
    FieldError,
    Problem,
    bad_request,
    invalid_fields,
    server_error,
    too_many_connections,
)
from include.sandbox.records import pack

TOO_MANY_PENDING_TEXT: Final = "You have more than 500 pending batches."
_PAGE: Final = b"<HTML><HEAD>\n<TITLE>Access Denied</TITLE>\n</HEAD><BODY>\n<H1>Access Denied</H1>\n</BODY></HTML>\n"
_SHARE: Final = 0.2  # of a batch's operations whose results are missing, or that fail


class Fault(StrEnum):
    """What can go wrong. The value names it in reports; the groups say what its occasions are."""

    # Any call to the API.
    THROTTLED = "429"
    PAGE_403 = "403 with a page"
    PAGE_503 = "503 with a page"
    SERVER_ERROR = "500 after the work is done"  # never to a POST

    # Each POST of a batch.
    REPLY_LOST = "reply lost"  # the batch is accepted and runs
    REQUEST_LOST = "request lost"  # the same answer, but there is no batch
    TOO_MANY_PENDING = "500 pending batches"
    BATCH_REFUSED = "batch refused for one operation"  # this operation is refused in whatever batch, until `heal`
    BATCHES_REFUSED = "batch refused for no operation's sake"
    BATCH_DROPPED = "batch gone before it ran"
    BATCH_VANISHED = "batch gone after it ran"
    BATCH_NEVER_ENDS = "batch never ends"  # half of it is executed
    LINK_MISSING = "finished without a link"
    RESULTS_MISSING = "operations missing from the archive"  # though they were executed
    OPERATIONS_FAIL = "operations fail on the way"  # 500; every second one was executed all the same

    # Each download of an archive.
    LINK_EXPIRED = "link expired"
    ARCHIVE_TRUNCATED = "archive truncated"


CALL_FAULTS: Final = (Fault.THROTTLED, Fault.PAGE_403, Fault.PAGE_503, Fault.SERVER_ERROR)
BATCH_FAULTS: Final = tuple(
    fault for fault in Fault if fault not in {*CALL_FAULTS, Fault.LINK_EXPIRED, Fault.ARCHIVE_TRUNCATED}
)
DOWNLOAD_FAULTS: Final = (Fault.LINK_EXPIRED, Fault.ARCHIVE_TRUNCATED)

Occasions = Callable[[int], bool]
"""Tells whether a fault is committed at its n-th occasion, the first being 1."""


@dataclass(frozen=True)
class Answered:
    """A status and a body in place of the API's own."""

    status: int
    body: bytes


@dataclass
class Doom:
    """What is going to happen to an accepted batch."""

    faults: frozenset[Fault] = frozenset()
    chance: Random = field(default_factory=lambda: Random(0))  # noqa: S311 - chooses victims, protects nothing

    def __contains__(self, fault: Fault) -> bool:
        return fault in self.faults

    def victims(self, count: int) -> list[int]:
        """Choose some of a batch's operations: at least one, in random order."""
        return self.chance.sample(range(count), max(1, round(count * _SHARE))) if count else []


@dataclass
class Faults:
    """The faults of one sandbox.

    Attributes:
        committed: how often each was.
        affected: operations of the batches that it hit; none for faults of single calls.
    """

    committed: Counter[Fault] = field(default_factory=Counter)
    affected: Counter[Fault] = field(default_factory=Counter)
    _planned: dict[Fault, Occasions] = field(default_factory=dict)
    _occasions: Counter[Fault] = field(default_factory=Counter)
    _refused: set[tuple[str, str, str]] = field(default_factory=set)
    _seed: int = 0
    _posts: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, fault: Fault, occasions: Occasions, seed: int) -> None:
        """Commit a fault on some of its occasions, counted from now on."""
        with self._lock:
            self._planned[fault], self._occasions[fault] = occasions, 0
            self._seed, self._posts = seed, 0

    def clear(self) -> None:
        """Plan nothing any more; batches that never end stay as they are."""
        with self._lock:
            self._planned.clear()
            self._refused.clear()

    def on_call(self, method: str) -> Answered | Fault | None:
        """Return what answers a call in the API's place, or a fault to commit once the API has answered."""
        if self._strikes(Fault.THROTTLED):
            return Answered(429, pack(too_many_connections().document("")))
        for fault, status in ((Fault.PAGE_403, 403), (Fault.PAGE_503, 503)):
            if self._strikes(fault):
                return Answered(status, _PAGE)
        return Fault.SERVER_ERROR if method != "POST" and self._strikes(Fault.SERVER_ERROR) else None

    def on_post(self, operations: Sequence[Operation]) -> Doom:
        """Refuse a batch, or return what is going to happen to it.

        Raises:
            Problem: it is refused.
        """
        struck = [fault for fault in BATCH_FAULTS if self._strikes(fault, len(operations))]
        with self._lock:
            self._posts += 1
            chance = Random(f"{self._seed} {self._posts}")  # noqa: S311 - as above
        if Fault.REQUEST_LOST in struck:
            raise server_error()
        if Fault.TOO_MANY_PENDING in struck:
            raise bad_request(TOO_MANY_PENDING_TEXT)
        if Fault.BATCHES_REFUSED in struck:
            raise bad_request("Batch operations are not available.")  # inferred: any text that names no operation
        if Fault.BATCH_REFUSED in struck and operations:
            with self._lock:
                self._refused.add(_identity(chance.choice(operations)))
        self._refuse(operations)
        return Doom(frozenset(struck), chance)

    def on_download(self, archive: bytes) -> bytes | None:
        """Return what a download yields; None: its link has expired."""
        if self._strikes(Fault.LINK_EXPIRED):
            return None
        if self._strikes(Fault.ARCHIVE_TRUNCATED):
            number = self._occasions[Fault.ARCHIVE_TRUNCATED]
            return archive[: Random(f"{self._seed} {number}").randrange(len(archive))]  # noqa: S311 - as above
        return archive

    def _strikes(self, fault: Fault, affected: int = 0) -> bool:
        with self._lock:
            self._occasions[fault] += 1
            occasions = self._planned.get(fault)
            if occasions is None or not occasions(self._occasions[fault]):
                return False
            self.committed[fault] += 1
            self.affected[fault] += affected
            return True

    def _refuse(self, operations: Sequence[Operation]) -> None:
        with self._lock:
            refused = set(self._refused)
        for number, operation in enumerate(operations if refused else ()):
            if _identity(operation) in refused:
                raise _refusal(number)


class FaultySandbox(Protocol):
    """A sandbox, as far as its faults go."""

    @property
    def faults(self) -> Faults:
        """Its faults."""


def _identity(operation: Operation) -> tuple[str, str, str]:
    return operation.method, operation.path, operation.body


def _refusal(number: int) -> Problem:
    message = "Schema describes object, array found instead"
    return invalid_fields(FieldError(f"operations.item:{number}", message))


def inject(sandbox: FaultySandbox, name: Fault, at: int = 1, times: int = 1, seed: int = 0) -> None:
    """Commit a fault at one occasion, or at several in a row.

    Args:
        sandbox: `SandboxServer.state`.
        name: the fault.
        at: which of its occasions, counted from now on; 1 is the next.
        times: how many in a row.
        seed: of the choice among a batch's operations.
    """
    sandbox.faults.plan(name, lambda occasion: at <= occasion < at + times, seed)


def inject_at_random(sandbox: FaultySandbox, seed: int, rates: Mapping[Fault, float], most: int | None = None) -> None:
    """Commit faults at random occasions.

    Args:
        sandbox: `SandboxServer.state`.
        seed: the same seed commits the same faults at the same occasions.
        rates: how probable each fault is at each of its occasions.
        most: occasions per fault after which it isn't committed any more; None: for ever.
    """
    for fault, rate in rates.items():
        sandbox.faults.plan(fault, _by_chance(seed, fault, rate, most), seed)


def heal(sandbox: FaultySandbox) -> None:
    """Commit no more faults; batches that never end go on not ending until they are deleted."""
    sandbox.faults.clear()


def _by_chance(seed: int, fault: Fault, rate: float, most: int | None) -> Occasions:
    def strikes(occasion: int) -> bool:
        within = most is None or occasion <= most
        return within and Random(f"{seed} {fault} {occasion}").random() < rate  # noqa: S311 - as above

    return strikes
