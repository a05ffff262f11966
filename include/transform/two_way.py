"""Two-way sync: when an opt-in on one side lifts the opt-out on the other. Pure: nothing is read or written.

An opt-out counts unless an explicit opt-in came after it, by the times both sides tell. Where it did,

| the side that has the opt-in | the opt-in |
|---|---|
| knew of the opt-out by then | counts: somebody changed their mind |
| did not | counts if that side has the priority (`sync_priority`): both changed without knowing of each other |
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

Priority = Literal["remote_wins", "local_wins"]

CHANGE_OF_MIND: Final = "the opt-in came after its side knew of the opt-out"
BY_PRIORITY: Final = "both sides changed without knowing of each other, the opt-in later: sync_priority decides"
OPT_OUT_COUNTS: Final = "an opt-out counts unless the opt-in is known to be newer"


def weigh(
    opted_in_at: datetime, opted_out_at: datetime, known_at: datetime | None, *, has_priority: bool
) -> tuple[bool, str]:
    """Tell whether an opt-in on one side lifts the opt-out on the other, and by which rule.

    Args:
        opted_in_at: when the opt-in happened; aware, like all times here.
        opted_out_at: when the opt-out happened, or the latest time at which it can have.
        known_at: since when the side with the opt-in has known of the opt-out; None: it doesn't.
        has_priority: whether that side is the one that counts in doubt.
    """
    if second(opted_in_at) <= opted_out_at:
        return False, OPT_OUT_COUNTS
    return weigh_newer(opted_in_at, known_at, has_priority=has_priority)


def weigh_newer(opted_in_at: datetime, known_at: datetime | None, *, has_priority: bool) -> tuple[bool, str]:
    """Do the same with an opt-in that is the later of the two."""
    if known_at is not None and known_at <= opted_in_at:
        return True, CHANGE_OF_MIND
    return has_priority, BY_PRIORITY


def second(moment: datetime) -> datetime:
    """Return the second of a moment, as Mailchimp tells times."""
    return moment.replace(microsecond=0)
