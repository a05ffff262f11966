"""Lets Mailchimp ask contacts again who opted in at the shop after they had unsubscribed (`two_way_sync`).

No run subscribes somebody who opted out. Where the shop's opt-in lifts the opt-out, by the rules of
`include.transform.two_way`, the contact becomes *pending*: Mailchimp mails it, and its own confirmation subscribes it
(API reference: "List members · Update list member"; for who unsubscribed itself there is no other way). Once per
opt-in, by single calls right before the members of a chunk are sent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from include.config.stores import StoreSettings
from include.documents.encoder import to_arrow
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import Invalid, MethodNotAllowed, NotFound
from include.mailchimp.opt_outs import left_since
from include.state.consent import Conflict, note_conflicts
from include.state.database import SliceBusy, StateDatabase
from include.state.members import Mirror
from include.state.opt_ins import ASKED, RemoteOptOut, begin_requests, finish_request, standing_opt_outs_of
from include.state.stores import StoreRef
from include.transform.consent import asking_again
from include.transform.records import Built
from include.transform.two_way import weigh

log = logging.getLogger(__name__)

_OUTCOME: Final = "Mailchimp asks the contact to confirm"
_UNSUBSCRIBED: Final = "unsubscribed"
_PATIENCE_SECONDS: Final = 60


def ask_again(
    state: StateDatabase,
    client: MailchimpClient,
    store: StoreRef,
    settings: StoreSettings,
    dag_run_id: str,
    built: Built,
) -> int:
    """Let Mailchimp ask the contacts of a chunk whose opt-in in the shop lifts their opt-out.

    Args:
        state: the state tables.
        client: of the account.
        store: the store.
        settings: names the audience, and who has the priority.
        dag_run_id: the run.
        built: members, with the columns that `include.transform.consent` makes.

    Returns:
        How many it asks.

    Raises:
        MailchimpError: Mailchimp can't be reached, or refuses everything; the next try goes on with who wasn't asked.
        SliceBusy: another run asks the same contacts.
    """
    mirror = Mirror(store.account_id, settings.list_id, dag_run_id)
    opt_ins = _opt_ins(built)
    with state.begin() as connection:
        opt_outs = standing_opt_outs_of(connection, store.account_id, settings.list_id, list(opt_ins))
    lifted = {one: rule for one, out in opt_outs.items() if (rule := _lifts(opt_ins[one][1], out, settings))}
    if not lifted:
        return 0
    with state.begin() as connection:
        waiting = begin_requests(connection, mirror, {one: opt_ins[one][1] for one in lifted})
    asked = 0
    for one in sorted(waiting):
        customer_id, opted_in_at = opt_ins[one]
        with _alone(state, one):
            told = _ask(client, settings.list_id, opt_outs[one], opted_in_at)
        outcome = _OUTCOME if told == ASKED else f"Mailchimp was not let to ask: {told}"
        conflict = Conflict(
            one, customer_id, True, opted_in_at, _UNSUBSCRIBED, opt_outs[one].happened_at, lifted[one], outcome
        )
        with state.begin() as connection:
            finish_request(connection, mirror, one, opted_in_at, told)
            note_conflicts(connection, mirror, [conflict], replaces=True)
        asked += told == ASKED
    log.info("%d contacts opted in after they had unsubscribed; Mailchimp asks %d of them", len(waiting), asked)
    return asked


def _opt_ins(built: Built) -> Mapping[str, tuple[str, datetime]]:
    """Return (the shop's id, when it opted in) of each member of a chunk who opted in."""
    frame = built.source.frame
    rows = zip(
        built.record_ids.to_pylist(),
        to_arrow(frame["customer_id"]).to_pylist(),
        built.methods(),
        to_arrow(frame["opted_in"]).to_pylist(),
        to_arrow(frame["opted_in_at"]).to_pylist(),
        strict=True,
    )
    return {one: (customer, at) for one, customer, method, yes, at in rows if method == "PUT" and yes and at}


def _lifts(opted_in_at: datetime, out: RemoteOptOut, settings: StoreSettings) -> str | None:
    """Return the rule by which an opt-in lifts an opt-out, if it does."""
    counts, rule = weigh(
        opted_in_at, out.happened_at, out.known_at, has_priority=settings.sync_priority == "local_wins"
    )
    return rule if counts else None


@contextmanager
def _alone(state: StateDatabase, member_hash: str) -> Iterator[None]:
    """Let no other run ask the same contact at the same time: who comes second sees that it is asked.

    Raises:
        SliceBusy: another run does, for long.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        with state.named_lock(f"ask {member_hash}") as free:
            if free:
                yield
                return
        if time.monotonic() > until:
            raise SliceBusy("Another run lets Mailchimp ask the same contacts; try again when it has ended.")
        time.sleep(0.2)


def _ask(client: MailchimpClient, list_id: str, out: RemoteOptOut, opted_in_at: datetime) -> str:
    """Ask one contact, if it still is what it was; returns what came of it."""
    path = f"/lists/{list_id}/members/{out.member_hash}"
    try:
        member = client.get(path, params={"fields": "status,last_changed"}) or {}
        if member.get("status") == asking_again()["status"]:
            return ASKED  # by a try that was killed
        if member.get("status") != _UNSUBSCRIBED:
            return f"it is {member.get('status')} by now"
        if datetime.fromisoformat(member["last_changed"]) > out.happened_at:
            left, all_of_them = left_since(client, list_id, opted_in_at)
            if out.member_hash in left or not all_of_them:
                return "it may have unsubscribed once more since the opt-in"
        client.patch(path, json=asking_again())
    except NotFound:
        return "gone from Mailchimp"
    except (Invalid, MethodNotAllowed) as error:
        return f"refused: {error.title}"
    return ASKED
