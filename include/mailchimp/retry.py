"""When a request to Mailchimp is repeated: only where a repeat is safe, with exponential back-off and full jitter.

Mailchimp has no idempotency keys. GET, PUT, PATCH and DELETE may be repeated after any transient failure; a POST only
when it was certainly not processed: refused at once (429, HTML page), or never sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from include.mailchimp.errors import (
    ConnectionFailed,
    MailchimpError,
    RefusedAtEdge,
    Throttled,
    TooManyPendingBatches,
    redact,
)

log = logging.getLogger(__name__)
Reply = TypeVar("Reply")

# A bare `<H1>Bad Request</H1>` is spurious now and then, yet may be our own fault: it gets a few attempts, not all. So
# does an account with 500 pending batches: room comes in minutes, which are better waited for without a worker.
_FEW_ATTEMPTS = 3


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long a request is repeated.

    Attributes:
        attempts: requests in all, the first included.
        total_seconds: no repeat starts later than this after the first request.
        first_wait_seconds: upper bound of the first (random) wait; doubles with every attempt.
        longest_wait_seconds: upper bound of any wait.
    """

    attempts: int = 8
    total_seconds: float = 240.0
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 30.0

    def run(self, request: Callable[[], Reply], *, method: str, path: str, sleep: Callable[[float], None]) -> Reply:
        """Send a request until it succeeds, fails for good or the policy is used up.

        Args:
            request: sends it once; raises MailchimpError.
            method: its HTTP method, which decides what is safe.
            path: its path, for the log.
            sleep: waits the given seconds.

        Returns:
            What `request` returns.

        Raises:
            MailchimpError: the last failure.
        """

        def note(state: RetryCallState) -> None:
            failure = state.outcome.exception() if state.outcome else None
            log.warning(
                "%s %s: attempt %d failed (%s); again in %.1f s",
                method,
                redact(path),
                state.attempt_number,
                type(failure).__name__,
                state.upcoming_sleep,
            )

        def stop(state: RetryCallState) -> bool:
            failure = state.outcome.exception() if state.outcome else None
            bad_request = isinstance(failure, RefusedAtEdge) and failure.status == 400
            few = bad_request or isinstance(failure, TooManyPendingBatches)
            attempts = min(self.attempts, _FEW_ATTEMPTS) if few else self.attempts
            return stop_after_attempt(attempts)(state) or stop_before_delay(self.total_seconds)(state)

        retrying = Retrying(
            retry=retry_if_exception(lambda failure: may_repeat(method, failure)),
            wait=wait_random_exponential(multiplier=self.first_wait_seconds, max=self.longest_wait_seconds),
            stop=stop,
            before_sleep=note,
            sleep=sleep,
            reraise=True,
        )
        return retrying(request)


def may_repeat(method: str, failure: BaseException) -> bool:
    """Tell whether a failed request may be sent again without risk of doing something twice.

    Args:
        method: HTTP method of the request.
        failure: how it failed.

    Returns:
        True for transient failures, for POST only those that happened before the request was processed.
    """
    if not isinstance(failure, MailchimpError) or not failure.transient:
        return False
    if method.upper() != "POST" or isinstance(failure, Throttled):
        return True
    return isinstance(failure, ConnectionFailed) and not failure.request_sent
