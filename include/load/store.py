"""The life of the e-commerce store at Mailchimp: created, kept up to date, and quiet while it is being filled.

``is_syncing`` holds back a store's automations (order notifications, abandoned carts), which would otherwise write to
thousands of customers during a first load. A run that looks at everything, and a backfill, sets it; the last of them to
end clears it, and every run checks that none was left behind.

A store belongs to one site: nothing is written to one of another audience, of another integration, or of another
domain that this project has never sent anything to.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from include.config.stores import StoreSettings
from include.load.errors import PreflightFailed
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import Invalid, MailchimpError, NotFound
from include.state.database import StateDatabase, lock_account, lock_automations, lock_creation
from include.state.runs import Run, quiet_runs
from include.state.stores import StoreRef, find_store, forget_acknowledgements, has_sent, register_store
from include.transform.addresses import PLACE
from include.transform.store import PLATFORM, store_payload

log = logging.getLogger(__name__)


def ensure_store(
    state: StateDatabase, client: MailchimpClient, settings: StoreSettings, shop: dict[str, Any], account_id: str
) -> StoreRef:
    """Register the store; create it where Mailchimp doesn't have it, else bring its name, address … up to date.

    A store that Mailchimp has no more is created empty. That nothing was sent to it is on record before it is created,
    so that a crash between the two never leaves an empty store that counts as filled.

    Args:
        state: the state tables.
        client: of the account.
        settings: names store and audience.
        shop: the row of the ``store`` extract.
        account_id: the Mailchimp account.

    Returns:
        The registered store.

    Raises:
        PreflightFailed: a store with this id belongs to another audience, another integration or another site, or
            another store has this domain. Nothing was written.
    """
    payload = store_payload(settings, shop)
    found = find_remote_store(client, settings)
    if found is None:
        with state.begin() as connection:
            lock_creation(connection, account_id, settings.store_id)
            found = find_remote_store(client, settings)  # another run may have created it meanwhile
            if found is None:
                return _create(state, client, settings, payload, account_id)
    check_ours(settings, found)
    if _host(found.get("domain")) != _host(payload.get("domain")):
        _check_same_site(state, settings, account_id, found["domain"] or "", payload.get("domain", ""))
        _check_domain_free(client, settings, payload)
    with state.begin() as connection:
        reference = register_store(connection, settings, account_id)
    _update(client, settings, payload, found)
    return reference


def _create(
    state: StateDatabase, client: MailchimpClient, settings: StoreSettings, payload: dict[str, Any], account_id: str
) -> StoreRef:
    _check_domain_free(client, settings, payload)
    reference = _register_anew(state, client, settings, account_id)
    # Quiet from its first moment: whichever run fills it clears this at its end.
    _write(client, settings, "POST", payload | {"is_syncing": True})
    log.info("store %s created at Mailchimp", settings.store_id)
    return reference


def find_remote_store(client: MailchimpClient, settings: StoreSettings) -> dict[str, Any] | None:
    """Return the store as Mailchimp has it, None where it has none of this id."""
    try:
        return client.get(_path(settings)) or {}
    except NotFound:
        return None


def check_ours(settings: StoreSettings, found: dict[str, Any]) -> None:
    """Check that a store at Mailchimp is one this project may touch.

    Args:
        settings: of the store.
        found: the store as Mailchimp has it.

    Raises:
        PreflightFailed: it belongs to another audience, or to another integration.
    """
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


def pause_automations(state: StateDatabase, client: MailchimpClient, settings: StoreSettings, run: Run) -> None:
    """Make the store quiet for a run that fills it; for another run, clear what a dead one left behind.

    Args:
        state: the state tables.
        client: of the account.
        settings: names the store.
        run: the run that begins.
    """
    if not run.is_quiet:
        resume_automations(state, client, settings, run)
        return
    with state.begin() as connection:
        lock_automations(connection, run.store_ref)
        client.patch(_path(settings), json={"is_syncing": True})


def resume_automations(state: StateDatabase, client: MailchimpClient, settings: StoreSettings, run: Run) -> None:
    """Let the store's automations work again, unless another run is filling it.

    Args:
        state: the state tables.
        client: of the account.
        settings: names the store.
        run: the run that asks; it doesn't count.
    """
    with state.begin() as connection:
        lock_automations(connection, run.store_ref)
        others = quiet_runs(connection, run.store_ref, besides=run.run_ref)
        if others:
            log.info("the store stays quiet for %s", ", ".join(others))
            return
        found = client.get(_path(settings), params={"fields": "is_syncing"}) or {}
        if found.get("is_syncing"):
            client.patch(_path(settings), json={"is_syncing": False})
            log.info("automations of store %s work again", settings.store_id)


def _register_anew(state: StateDatabase, client: MailchimpClient, settings: StoreSettings, account_id: str) -> StoreRef:
    with state.begin() as connection:
        lock_account(connection, account_id)
        reference = register_store(connection, settings, account_id)
        outstanding = forget_acknowledgements(connection, reference.store_ref)
    _stop(client, outstanding)
    return replace(reference, order_verb=None)


def _stop(client: MailchimpClient, batch_ids: Iterable[str]) -> None:
    """Keep what was sent to the old store from reaching the new one."""
    for batch_id in batch_ids:
        try:
            client.delete_batch(batch_id)
        except MailchimpError as error:
            log.info("batch %s cannot be stopped: %s", batch_id, error)


def _check_same_site(state: StateDatabase, settings: StoreSettings, account_id: str, theirs: str, ours: str) -> None:
    """Refuse a store of another domain, unless it was this project that filled it: then the shop has moved."""
    with state.begin() as connection:
        reference = find_store(connection, settings, account_id)
        known = reference is not None and has_sent(connection, reference.store_ref)
    if theirs and not known:
        raise PreflightFailed(
            f"Store {settings.store_id!r} at Mailchimp belongs to the site {theirs!r}, but the shop of "
            f"{settings.key!r} {f'is {ours!r}' if ours else 'names no domain'}, and nothing was ever sent from here to "
            f"that store. "
            f"Two sites must never share a store: choose another store_id. If it is the same shop, let the store "
            f"extract of profile {settings.profile!r} yield the domain {theirs!r} for the first run, or delete the "
            f"store at Mailchimp to have it made anew."
        )


def _check_domain_free(client: MailchimpClient, settings: StoreSettings, payload: dict[str, Any]) -> None:
    """Mailchimp takes a domain once per account, whatever path follows it (mc-magento#794)."""
    host = _host(payload.get("domain"))
    if not host:
        return
    for other in client.list_all("/ecommerce/stores", "stores", fields=["id", "domain", "list_id"]):
        if other.get("id") != settings.store_id and _host(other.get("domain")) == host:
            raise PreflightFailed(
                f"The domain {payload['domain']!r} of {settings.key!r} belongs to another store of this Mailchimp "
                f"account: {other.get('id')!r}, of audience {other.get('list_id')!r}. A domain can belong to one store "
                f"only: set store_id (and list_id) to that store, delete it at Mailchimp, or let the store extract of "
                f"profile {settings.profile!r} yield another domain or none."
            )


def _update(client: MailchimpClient, settings: StoreSettings, payload: dict[str, Any], found: dict[str, Any]) -> None:
    if "address" in payload:  # as a whole: what is left of a former address would make a wrong one
        payload = payload | {"address": dict.fromkeys(PLACE, "") | payload["address"]}
    changes = {name: value for name, value in payload.items() if _differs(value, found.get(name))}
    if changes:
        _write(client, settings, "PATCH", changes)
        log.info("store %s updated at Mailchimp: %s", settings.store_id, ", ".join(sorted(changes)))


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
        return any(value != (found or {}).get(name, "") for name, value in wanted.items())
    return bool(wanted != found)


def _host(domain: str | None) -> str:
    """Return what makes a domain unique: no scheme, no path."""
    return (domain or "").strip().lower().rpartition("://")[2].partition("/")[0]


def _path(settings: StoreSettings) -> str:
    return f"/ecommerce/stores/{settings.store_id}"
