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
            time.sleep(0.1)
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
    throttle.slow_down()
    assert throttle.wait_seconds == pytest.approx(0.01)
    assert throttle.throttled == 1


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_being_told_to_slow_down_halves_the_limit_and_time_gives_it_back_one_by_one() -> None:
    clock = Clock()
    throttle = Throttle(8, recovery_seconds=10, clock=clock)
    limits = [throttle.limit]
    for seconds, told in ((1, True), (1, True), (5, False), (6, False), (10, False), (1, True), (300, False)):
        clock.now += seconds
        if told:
            throttle.slow_down()
        limits.append(throttle.limit)
    assert limits == [8, 4, 2, 2, 3, 4, 2, 8]
    assert throttle.throttled == 3


def test_the_limit_never_falls_below_one() -> None:
    throttle = Throttle(4)
    for _ in range(10):
        throttle.slow_down()
    assert throttle.limit == 1


def test_requests_refused_together_lower_the_limit_once() -> None:
    clock = Clock()
    throttle = Throttle(8, clock=clock)
    clock.now += 5
    for began in (1004.0, 1004.5, 1004.9):
        throttle.slow_down(began)
    assert throttle.limit == 4
    clock.now += 1
    throttle.slow_down(began=1005.5)
    assert throttle.limit == 2


def test_fewer_requests_are_in_flight_until_the_limit_has_recovered() -> None:
    throttle = Throttle(4, recovery_seconds=1)
    started = time.monotonic()
    throttle.slow_down()
    throttle.slow_down()
    entered: list[float] = []
    all_entered = threading.Event()

    def call() -> None:
        with throttle.slot():
            entered.append(time.monotonic() - started)
            if len(entered) == 3:
                all_entered.set()
            assert all_entered.wait(20)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _, second, third = entered
    assert second >= 1
    assert 2 <= third < 15  # without the limit's recovery the first would have to leave, after 20 s
    assert throttle.wait_seconds > 1


@pytest.mark.parametrize("limit", [0, 11, -1])
def test_limits_outside_mailchimps_are_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="1 to 10"):
        Throttle(limit)
