"""Delivers webhooks in the background: form-encoded and signed, again and again until somebody answers.

Nothing here is done under the account's lock but putting a delivery into the queue, so a slow or dead receiver slows
nobody down. What is delivered may arrive late, twice and in another order, as from Mailchimp; when 500 are waiting,
further ones are lost.
"""

import hashlib
import hmac
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

import requests

MAX_WAITING: Final = 500
_SENDERS: Final = 4
_TIMEOUT_SECONDS: Final = 10
_ATTEMPTS: Final = 7  # with the pause doubled each time: over an hour from a minute
_VALIDATOR: Final = "MailChimp.com WebHook Validator"
_FORM: Final = "application/x-www-form-urlencoded"


@dataclass
class Delivery:
    """One event for one webhook, as the log tells it: ``status`` is waiting, delivered, failed, dropped or gone."""

    webhook_id: str
    list_id: str
    type: str
    member_id: str
    fired_at: str
    status: str = "waiting"
    attempts: int = 0
    http_status: int = 0


@dataclass(frozen=True)
class Letter:
    """What is sent and where to."""

    delivery: Delivery
    url: str
    secret: str
    body: bytes
    is_wanted: Callable[[], bool]


def signature(secret: str, moment: int, body: bytes) -> str:
    """Return the header X-Mailchimp-Signature of a body that is sent at a second since 1970."""
    mac = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256)
    return f"t={moment},v1={mac.hexdigest()}"


def status_of(url: str) -> int:
    """Return what a URL answers to the validator's GET, 0 for nothing at all."""
    return _ask("GET", url, headers={"User-Agent": _VALIDATOR})


class Deliveries:
    """The queue, those who work it off, and the log of the latest thousand.

    ``copies`` may be set to more than 1: how often each event is sent.

    Args:
        pause_seconds: before the second attempt; it doubles from attempt to attempt.
    """

    def __init__(self, pause_seconds: float = 60) -> None:
        self.copies = 1
        self.log: deque[Delivery] = deque(maxlen=1000)
        self.counts: Counter[str] = Counter()
        self._pause = pause_seconds
        self._queue: list[tuple[float, int, Letter]] = []
        self._numbers = count()
        self._busy = 0
        self._changed = threading.Condition()
        self._closing = False
        self._senders: list[threading.Thread] = []

    @property
    def is_full(self) -> bool:
        """Whether further events are lost."""
        return len(self._queue) + self._busy >= MAX_WAITING

    def drop(self, delivery: Delivery) -> None:
        """Note an event that is lost."""
        with self._changed:
            delivery.status = "dropped"
            self.log.append(delivery)
            self.counts["dropped"] += 1

    def post(self, letter: Letter) -> None:
        """Queue a letter; returns at once."""
        with self._changed:
            self.log.append(letter.delivery)
            for _ in range(self.copies):
                heappush(self._queue, (time.monotonic(), next(self._numbers), letter))
            if not self._senders and not self._closing:
                self._senders = [threading.Thread(target=self._send, daemon=True) for _ in range(_SENDERS)]
                for sender in self._senders:
                    sender.start()
            self._changed.notify_all()

    def settle(self, timeout: float = 10) -> bool:
        """Wait until nothing is under way or waiting for another attempt; False when the time is over before."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, timeout)

    def overview(self) -> dict[str, Any]:
        """Return how many deliveries ended how, and the log."""
        with self._changed:
            waiting = len(self._queue) + self._busy
            return {**self.counts, "waiting": waiting, "log": [asdict(one) for one in self.log]}

    def close(self) -> None:
        """Stop; who is waiting for an answer is not waited for."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for sender in self._senders:
            sender.join(timeout=0.5)

    def _send(self) -> None:
        while (letter := self._next()) is not None:
            again = False
            try:
                again = self._attempt(letter)
            finally:
                with self._changed:
                    self._busy -= 1
                    if again:
                        pause = self._pause * 2 ** (letter.delivery.attempts - 1)
                        heappush(self._queue, (time.monotonic() + pause, next(self._numbers), letter))
                    self._changed.notify_all()

    def _next(self) -> Letter | None:
        with self._changed:
            while not self._closing:
                if self._queue and (left := self._queue[0][0] - time.monotonic()) <= 0:
                    self._busy += 1
                    return heappop(self._queue)[2]
                self._changed.wait(left if self._queue else None)
        return None

    def _attempt(self, letter: Letter) -> bool:
        """Send a letter and tell whether it has to be sent again."""
        delivery = letter.delivery
        if not letter.is_wanted():
            self._end(delivery, "gone")
            return False
        headers = {"Content-Type": _FORM, "X-Mailchimp-Signature": ""}
        headers["X-Mailchimp-Signature"] = signature(letter.secret, int(time.time()), letter.body)
        delivery.http_status = _ask("POST", letter.url, data=letter.body, headers=headers)
        delivery.attempts += 1
        if 200 <= delivery.http_status < 300:
            self._end(delivery, "delivered")
        elif delivery.attempts >= _ATTEMPTS:
            self._end(delivery, "failed")
        else:
            return True
        return False

    def _end(self, delivery: Delivery, status: str) -> None:
        with self._changed:
            delivery.status = status
            self.counts[status] += 1


def _ask(method: str, url: str, **parts: Any) -> int:
    with requests.Session() as session:
        session.trust_env = False
        try:
            reply = session.request(method, url, timeout=_TIMEOUT_SECONDS, allow_redirects=False, **parts)
        except (requests.RequestException, ValueError):
            return 0
        return reply.status_code
