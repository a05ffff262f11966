from __future__ import annotations

import threading
import time

import pytest

from include.mailchimp.throttle import Throttle


def test_never_more_than_the_limit_at_once() -> None:
    throttle = Throttle(2)
    inside, most, lock = 0, 0, threading.Lock()

    def call() -> None:
        nonlocal inside, most
        with throttle.slot():
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2
    assert throttle.calls == 8
    assert throttle.wait_seconds > 0.02


def test_a_failed_request_frees_its_slot() -> None:
    throttle = Throttle(1)
    for _ in range(3):
        with pytest.raises(RuntimeError), throttle.slot():
            raise RuntimeError
    assert throttle.calls == 3


def test_waiting_before_a_repeat_counts() -> None:
    throttle = Throttle(1)
    throttle.sleep(0.01)
    throttle.count_throttled()
    assert throttle.wait_seconds == pytest.approx(0.01)
    assert throttle.throttled == 1


@pytest.mark.parametrize("limit", [0, 11, -1])
def test_limits_outside_mailchimps_are_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="1 to 10"):
        Throttle(limit)
