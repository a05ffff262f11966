"""Counts the contacts that a run would subscribe, before it subscribes any of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from include.extract.slices import Extractor, Window
from include.load.newcomers import check_limit, only_with_evidence
from include.load.runs import Mode
from include.state.database import StateDatabase
from include.state.ledger import acknowledged, leftovers
from include.state.members import ArchivedContacts
from include.state.replays import replayed_keys
from include.state.runs import SUBSCRIBERS, Run
from include.state.stores import load_store
from include.transform.audience import Audience
from include.transform.entities import ENTITIES
from include.transform.records import BuildContext

_ROWS = 5_000  # customers that are looked at together
_OF_PEOPLE = ("members", "customers")


def count_new_subscribers(
    state: StateDatabase, extractor: Extractor, run: Run, context: BuildContext, ids: Sequence[str] = ()
) -> int:
    """Count the people in a run's window whom it would subscribe for the first time, as members or as customers.

    People who are contacts already, but whom this project never sent, are counted too: what Mailchimp knows of them
    doesn't change by the run, but that is not known here.

    Args:
        state: the state tables.
        extractor: reads the shop.
        run: the run, with its audience.
        context: settings and profile of the store.
        ids: the shop's ids that a run of mode `ids` was given; those of a replay are known.

    Returns:
        Their number, not counted further once it is above the store's `max_new_subscribers`.

    Raises:
        PreflightFailed: the run has to ask, but the store has no limit any more.
    """
    if run.kind == SUBSCRIBERS:
        check_limit(context.settings)
    members, most = ENTITIES["members"], context.settings.max_new_subscribers
    if most is None or set(_OF_PEOPLE).isdisjoint(run.entities):
        return 0
    if run.audience:
        context = replace(context, audience=Audience.from_json(run.audience))
    with state.begin() as connection:
        store = load_store(connection, run.store_ref)
    archived = ArchivedContacts(state, store.account_id, context.settings.list_id)
    context = replace(context, archived_among=archived)
    found: set[str] = set()
    for frame in _customers(state, extractor, run, ids):
        if run.kind == SUBSCRIBERS:
            frame = only_with_evidence(extractor, frame, context)
        built = members.build(extractor, frame, context)
        subscribed = [
            record_id
            for record_id, method in zip(built.record_ids.to_pylist(), built.methods(), strict=True)
            if method == "PUT"
        ]
        with state.begin() as connection:
            found |= set(subscribed) - acknowledged(connection, run.store_ref, "members", subscribed)
        if len(found) > most:
            break
    return len(found)


def _customers(state: StateDatabase, extractor: Extractor, run: Run, ids: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield the customers that a run looks at, page by page; some may come twice."""
    members = ENTITIES["members"]
    window, after = Window(*run.window(members.name)), None
    with state.begin() as connection:
        if run.mode == Mode.IDS:
            named = {*ids, *(key for name in _OF_PEOPLE for key in replayed_keys(connection, run.run_ref, name))}
        elif window.since is None:
            named = set()  # a window without a start has them
        else:  # whom other runs left, a replay that was not approved among them
            sent = [name for name in _OF_PEOPLE if name in run.entities]
            named = {key for name in sent for key in leftovers(connection, run.store_ref, name)}
    keys = sorted(named)
    for first in range(0, len(keys), _ROWS):
        there = extractor.existing(members.extract, keys[first : first + _ROWS])
        yield extractor.read_ids(members.extract, sorted(there))
    if run.mode == Mode.IDS:
        return
    for part in extractor.plan(members.extract, window, 10**9):  # one range: from the first to the last key
        while True:
            frame = extractor.read_range(members.extract, after, part.last_key, _ROWS, window, part.first_key)
            yield frame
            if len(frame) < _ROWS:
                break
            after = str(frame[members.key].iloc[-1])
