"""How a run begins and how its phases are planned: the same for a real run, task by task, and for a rehearsal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from include.config.stores import StoreSettings
from include.extract.slices import Extractor
from include.load.audience import read_audience
from include.load.phases import Phase
from include.load.plan import PlannedSlice, plan_phase
from include.load.preflight import check_same_account
from include.load.runs import RunRequest, begin_run
from include.load.settle import recover
from include.load.store import ensure_store, pause_automations, resume_automations
from include.mailchimp.client import MailchimpClient
from include.state.database import StateDatabase
from include.state.runs import Run, load_run, reopen_run
from include.state.stores import StoreRef, load_store, register_store


def prepare_run(
    state: StateDatabase,
    client: MailchimpClient,
    settings: StoreSettings,
    request: RunRequest,
    shop: dict[str, Any],
    now: datetime,
    account_id: str,
) -> tuple[Run, StoreRef]:
    """Register a run: read the audience's rules, ensure the store, settle what earlier runs left behind.

    Args:
        state: the state tables.
        client: of the account.
        settings: of the store.
        request: what was asked for.
        shop: the row of the ``store`` extract.
        now: the shop database's time, aware UTC.
        account_id: the Mailchimp account.

    Raises:
        PreflightFailed: audience or store can't be used. Nothing was sent.
    """
    audience = read_audience(state, client, settings, account_id)
    if settings.ecommerce:
        store = ensure_store(state, client, settings, shop, account_id)
    else:
        with state.begin() as connection:
            store = register_store(connection, settings, account_id)
        request = request.without_ecommerce()
    run = begin_run(state, store.store_ref, request, settings, now, audience)
    if settings.ecommerce:
        pause_automations(state, client, settings, run)
    recover(state, client, store, timedelta(minutes=settings.batch_timeout_minutes))
    return run, store


def go_on(
    state: StateDatabase, client: MailchimpClient, settings: StoreSettings, run_ref: int, *, fills: bool = False
) -> tuple[Run, StoreRef]:
    """Take up a run in another of its tasks.

    Args:
        state: the state tables.
        client: of the account.
        settings: of the store.
        run_ref: the run.
        fills: whether the task may send old orders. If the run has ended and the task was cleared, automations that
            rested during the run have to rest again.

    Raises:
        PreflightFailed: the connection leads to another account by now, whose ledger is another one.
    """
    with state.begin() as connection:
        run = load_run(connection, run_ref)
        store = load_store(connection, run.store_ref)
    check_same_account(client, store)
    with state.begin() as connection:
        reopened = reopen_run(connection, run_ref)
    if reopened and fills and settings.ecommerce and run.is_quiet:
        pause_automations(state, client, settings, run)
    return run, store


def plan(
    state: StateDatabase,
    client: MailchimpClient,
    settings: StoreSettings,
    extractor: Extractor,
    run: Run,
    phase: Phase,
    ids: Sequence[str] = (),
    *,
    allow_deletes: bool = False,
) -> list[PlannedSlice]:
    """Cut what a phase has to do into slices; before the carts, let automations work again.

    Args:
        state: the state tables.
        client: of the account.
        settings: of the store.
        extractor: reads the shop.
        run: the run.
        phase: what to plan.
        ids: the shop's ids to look at in a run of mode `ids`.
        allow_deletes: delete more than the store's settings allow.

    Raises:
        TooManyDeletions: the phase would delete more than the settings allow; it deletes nothing.
    """
    if phase.name == "carts" and settings.ecommerce and run.kind != "backfill":
        # Everything else is there; a cart that comes into being while the store is quiet is never reminded of.
        resume_automations(state, client, settings, run)
    return plan_phase(state, extractor, run, phase, settings, ids, allow_deletes=allow_deletes)
