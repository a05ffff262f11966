"""Works off what webhooks said: asks Mailchimp for the contacts that they were about.

A webhook is a hint, the contact itself is the truth: it is read and saved as the pull does it, and an opt-out is in the
shop in the same transaction. The events are marked when that is done, so a killed run begins with them again; to read a
contact twice changes nothing. No bookmark moves: the scheduled pull reads the same changes once more.

After a mass unsubscribe it is cheaper to read what changed than to ask for each contact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from include.pull.members import MemberPull
from include.state.bookmarks import pull_lock
from include.state.webhooks import WaitingContact, forget_processed, mark_processed, waiting_contacts

#: As many contacts are asked for one by one; of more, the listing of what changed is read. As many as Mailchimp queues.
MOST_SINGLE: Final = 500
_MOST: Final = 50_000


def work_off(pull: MemberPull, store_ref: int, patience: timedelta) -> int:
    """Read the contacts that webhooks were about, until nothing is waiting.

    Args:
        pull: of the store's audience; what it has done is in its `pulled`.
        store_ref: the store.
        patience: how long to wait for another pull of the audience.

    Returns:
        How many events were worked off.

    Raises:
        PullBusy: another pull is reading the audience; what is waiting goes on waiting.
        WriteBackFailed: the shop's database refuses an opt-out.
        MailchimpError: Mailchimp can't be reached.
    """
    single = replace(pull, mirror=replace(pull.mirror, source="webhook"))
    worked_off = 0
    while contacts := _waiting(pull, store_ref, _MOST):
        if len(contacts) <= MOST_SINGLE:
            with pull_lock(pull.state, pull.mirror.account_id, pull.mirror.list_id, patience):
                single.pull_contacts([one.member_hash for one in contacts])
        else:
            with pull_lock(pull.state, pull.mirror.account_id, pull.mirror.list_id, patience):
                pass  # it is free by now; the pull takes it itself
            pull.pull(compares=False)
        with pull.state.begin() as connection:
            worked_off += mark_processed(connection, contacts)
    with pull.state.begin() as connection:
        forget_processed(connection, store_ref)
    return worked_off


def _waiting(pull: MemberPull, store_ref: int, limit: int) -> Sequence[WaitingContact]:
    with pull.state.begin() as connection:
        return waiting_contacts(connection, store_ref, limit)
