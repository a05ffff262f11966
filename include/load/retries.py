"""What becomes of rejected records on their own, by error class: which are tried again, and when.

Trying again costs operations, and hides what is wrong. So it is done where time can help, and not where somebody has to
change something first; all the others wait for that, or for a replay. Light to import, because DAG files name it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Retry(StrEnum):
    """When a record that was rejected is sent again without a replay."""

    NEXT_RUN = "with the next run"
    WITH_PARENT = "as soon as its parent is acknowledged"
    ON_CHANGE = "when it changes in the shop"


#: Classes of what Mailchimp answered (`include.load.outcomes.Outcome`) and of rules that a record breaks before it is
#: sent (`include.transform.rules.ErrorClass`, and `too_large`).
RETRIES: Final[dict[str, Retry]] = {
    # No answer, or one that says nothing about the record: the state tables keep it as unknown, and so as owed.
    "transient": Retry.NEXT_RUN,
    "unknown": Retry.NEXT_RUN,
    # Repeated within the run with another method, or without the campaign; here after that has failed three times.
    "exists": Retry.NEXT_RUN,
    "missing": Retry.NEXT_RUN,
    "unsupported": Retry.NEXT_RUN,
    "campaign": Retry.NEXT_RUN,
    "parent_missing": Retry.WITH_PARENT,
    # The record itself is refused: the same payload would be refused again.
    "invalid": Retry.ON_CHANGE,
    "missing_value": Retry.ON_CHANGE,
    "invalid_value": Retry.ON_CHANGE,
    "totals_mismatch": Retry.ON_CHANGE,
    "too_large": Retry.ON_CHANGE,
    "not_expressible": Retry.ON_CHANGE,
    # The contact itself has to act. What changes in the shop is told all the same: it may be an opt-out.
    "compliance": Retry.ON_CHANGE,
}

#: Classes that a replay leaves out unless it names them: for asking again and again Mailchimp suspends accounts.
TERMINAL: Final = ("compliance",)


def retry_of(error_class: str) -> Retry:
    """Tell when records of a class are sent again; of a class that isn't known, when they change."""
    return RETRIES.get(error_class, Retry.ON_CHANGE)
