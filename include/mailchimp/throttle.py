"""Keeps the number of requests in flight within what Mailchimp allows, and lowers it while Mailchimp says "too many".

The limit of 10 connections is the account's, shared with programs that we know nothing of. So a 429, or a page (403,
503) from the servers in front of the API, halves what this process allows itself; each quarter of a minute without
another one gives one connection back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MOST_CONNECTIONS = 10  # Mailchimp's limit per user, across all applications
_RECOVERY_SECONDS = 15.0

log = logging.getLogger(__name__)


class Throttle:
    """Lets at most `max_connections` requests of this process be in flight; thread-safe, shareable by clients.

    Attributes:
        calls: requests sent, repeats included.
        wait_seconds: time spent waiting for a free connection or before a repeat, summed over threads.
        throttled: replies that told us to slow down.
    """

    def __init__(
        self,
        max_connections: int = 4,
        recovery_seconds: float = _RECOVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with all connections allowed.

        Args:
            max_connections: requests in flight at most, 1 to 10.
            recovery_seconds: after being told to slow down, how long until one connection more is allowed again.
            clock: seconds that only ever grow.
        """
        if not 1 <= max_connections <= MOST_CONNECTIONS:
            raise ValueError(f"max_connections is {max_connections}; Mailchimp allows 1 to {MOST_CONNECTIONS}")
        self.max_connections = max_connections
        self.calls = 0
        self.wait_seconds = 0.0
        self.throttled = 0
        self._recovery_seconds = recovery_seconds
        self._clock = clock
        self._in_flight = 0
        self._lowered_to = max_connections
        self._lowered_at = clock()
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        recovered = int((self._clock() - self._lowered_at) / self._recovery_seconds)
        return min(self.max_connections, self._lowered_to + recovered)

    @contextmanager
    def slot(self) -> Iterator[float]:
        """Hold one connection for the time of one request.

        Yields:
            The seconds waited for it.
        """
        started = time.monotonic()
        with self._changed:
            while self._in_flight >= self.limit:
                self._changed.wait(self._until_recovery())
            self._in_flight += 1
            waited = time.monotonic() - started
            self.calls += 1
            self.wait_seconds += waited
        try:
            yield waited
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify()

    def _until_recovery(self) -> float | None:
        """Seconds until one request more is allowed, which nobody tells; None when all are."""
        if self.limit == self.max_connections:
            return None
        return self._recovery_seconds - (self._clock() - self._lowered_at) % self._recovery_seconds

    def sleep(self, seconds: float) -> None:
        """Wait before a repeat, outside of any slot, so that others can go on.

        Args:
            seconds: how long.
        """
        with self._changed:
            self.wait_seconds += seconds
        time.sleep(seconds)

    def slow_down(self, began: float | None = None) -> None:
        """Note a reply that told us to slow down, and allow half as many requests in flight for a while.

        Args:
            began: when the request was sent, by the clock. One that was on its way when the limit was last lowered
                says nothing new: several refused at once lower the limit once.
        """
        with self._changed:
            self.throttled += 1
            now = self._clock()
            if began is not None and began < self._lowered_at:
                return
            self._lowered_to, self._lowered_at = max(self.limit // 2, 1), now
        log.warning("Mailchimp is short of connections: %d at a time for now.", self._lowered_to)
