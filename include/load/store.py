"""The life of the e-commerce store at Mailchimp: created, kept up to date, and quiet while it is being filled.

``is_syncing`` holds back a store's automations (order notifications, abandoned carts), which would otherwise write to
thousands of customers during a first load. A run that looks at everything, and a backfill, sets it; the last of them to
end clears it, and every run checks that none was left behind.
"""

from __future__ import annotations

import logging
from typing import Any

from include.config.stores import StoreSettings
from include.load.errors import PreflightFailed
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import Invalid, NotFound
from include.state.database import StateDatabase
from include.state.runs import Run, quiet_runs
from include.transform.store import PLATFORM, store_payload

log = logging.getLogger(__name__)


def ensure_store(client: MailchimpClient, settings: StoreSettings, shop: dict[str, Any]) -> bool:
    """Create the store where Mailchimp doesn't have it yet; bring its name, address, currency … up to date.

    Args:
        client: of the account.
        settings: names store and audience.
        shop: the row of the ``store`` extract.

    Returns:
        Whether it was created: then it is empty, whatever was sent to a store of this id before.

    Raises:
        PreflightFailed: a store with this id belongs to another audience or to another integration, or another store
            has this domain.
    """
    payload = store_payload(settings, shop)
    try:
        found = client.get(_path(settings)) or {}
    except NotFound:
        # Quiet from its first moment: whichever run fills it clears this at its end.
        _write(client, settings, "POST", payload | {"is_syncing": True})
        log.info("store %s created at Mailchimp", settings.store_id)
        return True
    if found.get("list_id") != settings.list_id:
        raise PreflightFailed(
            f"Store {settings.store_id!r} at Mailchimp belongs to audience {found.get('list_id')!r}, but the settings "
            f"of {settings.key!r} say {settings.list_id!r}. A store can't move: set list_id back, or choose another "
            f"store_id to begin a new store."
        )
    if found.get("platform") not in {PLATFORM, ""}:
        raise PreflightFailed(
            f"Store {settings.store_id!r} at Mailchimp was made by another integration "
            f"({found.get('platform')!r}); two must never write to one store. Choose another store_id."
        )
    changes = {name: value for name, value in payload.items() if _differs(value, found.get(name))}
    if changes:
        _write(client, settings, "PATCH", changes)
        log.info("store %s updated at Mailchimp: %s", settings.store_id, ", ".join(sorted(changes)))
    return False


def pause_automations(state: StateDatabase, client: MailchimpClient, settings: StoreSettings, run: Run) -> None:
    """Make the store quiet for a run that fills it; for another run, clear what a dead one left behind.

    Args:
        state: the state tables.
        client: of the account.
        settings: names the store.
        run: the run that begins.
    """
    if run.is_quiet:
        client.patch(_path(settings), json={"is_syncing": True})
    else:
        resume_automations(state, client, settings, run)


def resume_automations(state: StateDatabase, client: MailchimpClient, settings: StoreSettings, run: Run) -> None:
    """Let the store's automations work again, unless another run is filling it.

    Args:
        state: the state tables.
        client: of the account.
        settings: names the store.
        run: the run that asks; it doesn't count.
    """
    with state.begin() as connection:
        others = quiet_runs(connection, run.store_ref, besides=run.run_ref)
    if others:
        log.info("the store stays quiet for %s", ", ".join(others))
        return
    found = client.get(_path(settings), params={"fields": "is_syncing"}) or {}
    if found.get("is_syncing"):
        client.patch(_path(settings), json={"is_syncing": False})
        log.info("automations of store %s work again", settings.store_id)


def _write(client: MailchimpClient, settings: StoreSettings, method: str, body: dict[str, Any]) -> None:
    try:
        if method == "POST":
            client.post("/ecommerce/stores", json=body)
        else:
            client.patch(_path(settings), json=body)
    except Invalid as error:
        raise PreflightFailed(
            f"Mailchimp refuses the store {settings.store_id!r}: {error}. Correct what the store extract of profile "
            f"{settings.profile!r} yields; a domain can belong to one store of an account only."
        ) from None


def _differs(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, dict):
        return any(value != (found or {}).get(name) for name, value in wanted.items())
    return bool(wanted != found)


def _path(settings: StoreSettings) -> str:
    return f"/ecommerce/stores/{settings.store_id}"
