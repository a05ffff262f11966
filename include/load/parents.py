"""Sends parents again that Mailchimp turns out not to hold, although the ledger says it acknowledged them."""

from collections.abc import Callable, Sequence

from include.state import settlement
from include.state.database import SliceKey, StateDatabase
from include.state.ledger import demote
from include.state.rejected import orphans, wait_for_parents
from include.state.stores import StoreRef
from include.transform.products import PLACEHOLDER_ID
from include.transform.records import Built

FORCED = "products"
"""The entity whose absence Mailchimp reports; a missing customer is created by the order itself."""


def force_parents(
    state: StateDatabase,
    store: StoreRef,
    key: SliceKey,
    build: Callable[[Sequence[str]], Built],
    limit: int,
    put_placeholder: Callable[[], None],
) -> None:
    """Make the next run send the products of a slice's refused orders; the orders wait for them.

    Mailchimp does not say which product it misses, so all of a refused record's products are sent again. A record that
    is refused too often is left among the rejected ones: then it is not a matter of its parents' state.

    Args:
        state: the state tables.
        store: the store.
        key: the slice whose records were refused.
        build: reads and builds records by the shop's keys.
        limit: how many records to read at a time.
        put_placeholder: makes the placeholder, which no row of the shop yields.
    """
    while True:
        with state.begin() as connection:
            found = orphans(
                connection, key.run_ref, key.entity, key.number, max_attempts=settlement.MAX_ATTEMPTS, limit=limit
            )
        if not found:
            return
        built = build([orphan.source_key for orphan in found])
        ids = built.record_ids.to_pylist()
        waits = dict.fromkeys((orphan.record_id for orphan in found), "")
        parents: set[str] = set()
        for links in built.parents:
            if links.entity != FORCED:
                continue
            for child, parent in zip(links.positions.tolist(), links.parent_ids.to_pylist(), strict=True):
                if ids[child] in waits:
                    parents.add(parent)
                    waits[ids[child]] = f"{FORCED}:{parent}"
        if PLACEHOLDER_ID in parents:
            put_placeholder()
        with state.begin() as connection:
            demote(connection, store, FORCED, sorted(parents - {PLACEHOLDER_ID}))
            wait_for_parents(connection, store.store_ref, key.entity, list(waits), list(waits.values()))
