"""Taking the integration away: what there is, removing the pipeline's own state, removing the store at Mailchimp.

In this order nothing is left half done: first the store at Mailchimp (if at all), then the state. A teardown that died
in between is simply repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from include.config.stores import StoreSettings
from include.load.errors import PreflightFailed, RunStopped
from include.load.store import check_ours, find_remote_store
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import NotFound
from include.state.database import StateDatabase
from include.state.stores import find_store
from include.state.teardown import Remains, StoreInUse, remaining, remove_store_state, running_runs

log = logging.getLogger(__name__)

#: What a store at Mailchimp holds: our name → the collection's path.
_COLLECTIONS: Final = {
    "products": "products",
    "customers": "customers",
    "promo_rules": "promo-rules",
    "carts": "carts",
    "orders": "orders",
}


@dataclass(frozen=True)
class Inventory:
    """What a teardown could remove.

    Attributes:
        store_id: the store at Mailchimp.
        list_id: its audience, whose contacts stay in any case.
        local: the state that is kept of the store; None when there is none.
        remote: how many records Mailchimp holds, by entity; None when it has no such store.
    """

    store_id: str
    list_id: str
    local: Remains | None
    remote: Mapping[str, int] | None


def inventory(state: StateDatabase, client: MailchimpClient, settings: StoreSettings, account_id: str) -> Inventory:
    """Count what there is, here and at Mailchimp; nothing is changed.

    Args:
        state: the state tables.
        client: of the account.
        settings: names the store.
        account_id: the Mailchimp account.

    Returns:
        The counts.
    """
    with state.begin() as connection:
        reference = find_store(connection, settings, account_id)
        local = None if reference is None else remaining(connection, reference.store_ref)
    remote = None
    if find_remote_store(client, settings) is not None:
        remote = {entity: _total(client, settings, path) for entity, path in _COLLECTIONS.items()}
    return Inventory(settings.store_id, settings.list_id, local, remote)


def inventory_table(found: Inventory) -> str:
    """Lay an inventory out as a text table, with what a teardown does to it.

    Args:
        found: the inventory.

    Returns:
        Lines for a log.
    """
    local, remote = found.local, found.remote
    entities = sorted({*(local.records if local else ()), *(remote or ())})
    lines = [f"{'entity':<14}{'known here':>14}{'at Mailchimp':>14}"]
    for entity in entities:
        here = f"{local.records.get(entity, 0):,}" if local else "-"
        there = f"{remote[entity]:,}" if remote and entity in remote else "-"
        lines.append(f"{entity:<14}{here:>14}{there:>14}")
    if local:
        lines.append(
            f"Also known here: {local.rejected:,} rejected records, {local.runs:,} runs, "
            f"{local.open_batches:,} batches that Mailchimp has not answered."
        )
    else:
        lines.append("No state is kept of this store.")
    if remote is None:
        lines.append(f"Mailchimp has no store {found.store_id!r}.")
    lines.append(f"The contacts of audience {found.list_id!r} stay, with their tags and groups, whatever is removed.")
    return "\n".join(lines)


def check_unused(state: StateDatabase, store_ref: int, *, besides: int | None = None) -> None:
    """Check that no run of a store is at work: the first thing before anything is removed.

    Args:
        state: the state tables.
        store_ref: the store.
        besides: the run that asks, if it is one.

    Raises:
        RunStopped: there is one.
    """
    with state.begin() as connection:
        running = running_runs(connection, store_ref, besides=besides)
    if running:
        raise _in_use(running)


def remove_state(state: StateDatabase, store_ref: int, *, besides: int | None = None) -> dict[str, int]:
    """Delete all that is kept of a store, in one transaction; its shop and Mailchimp are not touched.

    Args:
        state: the state tables.
        store_ref: the store.
        besides: the run that asks, if it is one; it doesn't count as running, and is deleted with the rest.

    Returns:
        How many rows were deleted, by table.

    Raises:
        RunStopped: a run of the store is at work. Nothing was deleted.
    """
    try:
        with state.begin() as connection:
            deleted = remove_store_state(connection, store_ref, besides=besides)
    except StoreInUse as error:
        raise _in_use(error.dag_run_ids) from None
    log.info("state removed: %s", ", ".join(f"{count:,} {table}" for table, count in deleted.items()) or "none")
    return deleted


def remove_store(client: MailchimpClient, settings: StoreSettings, typed_store_id: str) -> bool:
    """Delete the store at Mailchimp with all its products, customers, carts, orders and coupons.

    Args:
        client: of the account.
        settings: names the store.
        typed_store_id: what a person typed to confirm.

    Returns:
        Whether there was one.

    Raises:
        PreflightFailed: something else was typed, or the store is not one of this project. Nothing was deleted.
    """
    if typed_store_id != settings.store_id:
        raise PreflightFailed(
            f"To delete the store at Mailchimp with everything in it, type its id exactly: {settings.store_id} (typed "
            f"was {typed_store_id!r}). Nothing was deleted."
        )
    found = find_remote_store(client, settings)
    if found is None:
        log.info("Mailchimp has no store %s", settings.store_id)
        return False
    check_ours(settings, found)
    with suppress(NotFound):  # a repeat after a lost reply
        client.delete(f"/ecommerce/stores/{settings.store_id}")
    log.info("store %s deleted at Mailchimp; the contacts of its audience stay", settings.store_id)
    return True


def _in_use(dag_run_ids: Sequence[str]) -> RunStopped:
    return RunStopped(
        f"The store is in use by {', '.join(dag_run_ids)}. Pause its DAGs, let these runs end (or mark them "
        "as failed), and try again; nothing was removed."
    )


def _total(client: MailchimpClient, settings: StoreSettings, path: str) -> int:
    params = {"count": 1, "fields": "total_items"}
    reply = client.get(f"/ecommerce/stores/{settings.store_id}/{path}", params=params) or {}
    return int(reply.get("total_items", 0))
