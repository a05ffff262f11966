"""The rules by which an opt-in on one side lifts the opt-out on the other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.transform.two_way import BY_PRIORITY, CHANGE_OF_MIND, OPT_OUT_COUNTS, weigh

OPTED_OUT = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("opted_in_at", "known_at", "without_priority", "with_priority"),
    [
        pytest.param(OPTED_OUT - MINUTE, None, OPT_OUT_COUNTS, OPT_OUT_COUNTS, id="an older opt-in never counts"),
        pytest.param(OPTED_OUT, None, OPT_OUT_COUNTS, OPT_OUT_COUNTS, id="nor does one of the same second"),
        pytest.param(
            OPTED_OUT + timedelta(milliseconds=900),
            OPTED_OUT,
            OPT_OUT_COUNTS,
            OPT_OUT_COUNTS,
            id="since Mailchimp tells seconds only",
        ),
        pytest.param(OPTED_OUT + 2 * MINUTE, OPTED_OUT + MINUTE, True, True, id="who knew has changed their mind"),
        pytest.param(OPTED_OUT + MINUTE, OPTED_OUT + 2 * MINUTE, False, True, id="who didn't know needs the priority"),
        pytest.param(OPTED_OUT + MINUTE, None, False, True, id="as does who doesn't know yet"),
        pytest.param(OPTED_OUT + MINUTE, OPTED_OUT + MINUTE, True, True, id="who hears of it in that moment knew"),
    ],
)
def test_an_opt_in_lifts_an_older_opt_out(
    opted_in_at: datetime, known_at: datetime | None, without_priority: bool | str, with_priority: bool | str
) -> None:
    for has_priority, expected in ((False, without_priority), (True, with_priority)):
        counts, rule = weigh(opted_in_at, OPTED_OUT, known_at, has_priority=has_priority)
        if expected == OPT_OUT_COUNTS:
            assert (counts, rule) == (False, OPT_OUT_COUNTS)
        else:
            assert counts is expected
            assert rule == (CHANGE_OF_MIND if known_at and known_at <= opted_in_at else BY_PRIORITY)
