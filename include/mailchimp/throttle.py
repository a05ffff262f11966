"""Keeps the number of requests in flight within what Mailchimp allows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

MOST_CONNECTIONS = 10  # Mailchimp's limit per user, across all applications


class Throttle:
    """Lets at most `max_connections` requests of this process be in flight; thread-safe, shareable by clients.

    Attributes:
        calls: requests sent, repeats included.
        wait_seconds: time spent waiting for a free connection or before a repeat, summed over threads.
        throttled: replies that told us to slow down.
    """

    def __init__(self, max_connections: int = 4) -> None:
        if not 1 <= max_connections <= MOST_CONNECTIONS:
            raise ValueError(f"max_connections is {max_connections}; Mailchimp allows 1 to {MOST_CONNECTIONS}")
        self.max_connections = max_connections
        self.calls = 0
        self.wait_seconds = 0.0
        self.throttled = 0
        self._slots = threading.BoundedSemaphore(max_connections)
        self._counters = threading.Lock()

    @contextmanager
    def slot(self) -> Iterator[float]:
        """Hold one connection for the time of one request.

        Yields:
            The seconds waited for it.
        """
        started = time.monotonic()
        with self._slots:
            waited = time.monotonic() - started
            with self._counters:
                self.calls += 1
                self.wait_seconds += waited
            yield waited

    def sleep(self, seconds: float) -> None:
        """Wait before a repeat, outside of any slot, so that others can go on.

        Args:
            seconds: how long.
        """
        with self._counters:
            self.wait_seconds += seconds
        time.sleep(seconds)

    def count_throttled(self) -> None:
        """Note a reply that told us to slow down."""
        with self._counters:
            self.throttled += 1
