"""The tasks of a pull: read audiences and contacts from Mailchimp, and bring opt-outs into the shop.

The functions import the pipeline when they are called, not before: pandas would add a second to every parse of a DAG.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException

from include.load.errors import PreflightFailed

if TYPE_CHECKING:
    from include.config.stores import StoreSettings
    from include.pull.members import MemberPull, Pulled
    from mailchimp_airflow.store import OpenStore

log = logging.getLogger(__name__)

#: The entities that are people, or name the customer they belong to.
NAMES_PEOPLE: Final = frozenset({"members", "customers", "orders", "carts"})

_MOST_CONNECTIONS: Final = 2
_PATIENCE: Final = timedelta(minutes=1)
_FRESH: Final = timedelta(minutes=30)  # a compare of a million contacts takes less


def connections(settings: StoreSettings) -> int:
    """Return how many requests a task of a pull has in flight: as many as it takes slots of the pool.

    :param settings: of the store.
    """
    return min(settings.max_connections, _MOST_CONNECTIONS)


def params() -> dict[str, Param]:
    """Return the form of a pull."""
    return {
        "full": Param(
            False,
            type="boolean",
            title="Read everything",
            description="Reads all contacts, not only those that have changed: finds what was missed, and who was "
            "deleted at Mailchimp. Happens by itself every seven days.",
        ),
    }


def audiences(store_key: str, context: Mapping[str, Any]) -> int:
    """Read all audiences of the account.

    :param store_key: key of the store in the settings file.
    :param context: the task's context.
    :return: how many there are.
    :raises PreflightFailed: the store can't be pulled.
    :raises AirflowSkipException: they were read a short while ago.
    """
    from include.pull.audiences import audiences_due, pull_audiences
    from include.state.migrate import migrate

    with _opened(store_key) as (store, account_id):
        state = migrate(store.engine, store.state_schema)
        if context["dag_run"].run_type != "manual" and not audiences_due(state, account_id):
            raise AirflowSkipException("The audiences were read less than an hour ago.")
        return pull_audiences(state, store.client, account_id, connections(store.settings))


def members(store_key: str, context: Mapping[str, Any]) -> dict[str, Any]:
    """Read the contacts of the store's audience that have changed, and tell the shop of opt-outs.

    :param store_key: key of the store in the settings file.
    :param context: the task's context.
    :return: what was done, in numbers.
    :raises PreflightFailed: the store can't be pulled.
    :raises PullBusy: everything is to be read, and another pull is reading the audience.
    """
    from include.state.bookmarks import PullBusy

    full = bool(context["params"]["full"])
    with _member_pull(store_key, context["dag_run"].run_id) as work:
        try:
            work.pull(full=full)
        except PullBusy as busy:
            if full:
                raise
            log.info("%s The shop was told of what that has found so far.", busy)
    _log_pulled(store_key, work.pulled)
    return asdict(work.pulled)


def before_push(store_key: str, context: Mapping[str, Any]) -> dict[str, Any]:
    """Read what has changed of contacts before people are pushed, so that no run works on a consent that is withdrawn.

    The compare that is due every seven days stays with the pull. Of an audience that was never read everything is read,
    once. While another pull reads the audience, what that has found counts, if it began with what changed a short while
    ago.

    :param store_key: key of the store in the settings file.
    :param context: the task's context.
    :return: what was done, in numbers; nothing for a run that sends no people.
    :raises PreflightFailed: the store can't be pulled.
    :raises PullBusy: another pull reads the audience, and what changed was last read too long ago.
    """
    chosen = context["params"].get("entities") or NAMES_PEOPLE  # a replay's form is left empty for all
    if NAMES_PEOPLE.isdisjoint(chosen):
        log.info("%s: the run sends nothing about people", store_key)
        return {}
    from include.state.bookmarks import PullBusy

    with _member_pull(store_key, context["dag_run"].run_id) as work:
        try:
            work.pull(compares=False, patience=_PATIENCE)
        except PullBusy as busy:
            if not work.was_read_since(_FRESH):
                raise
            log.info("%s What changed was read a short while ago.", busy)
    _log_pulled(store_key, work.pulled)
    return asdict(work.pulled)


def of_webhooks(store_key: str, context: Mapping[str, Any]) -> dict[str, Any]:
    """Read the contacts that Mailchimp's webhooks were about, and tell the shop of opt-outs.

    While another pull reads the audience for longer than a minute, they go on waiting; the watcher tells of them again.

    :param store_key: key of the store in the settings file.
    :param context: the task's context.
    :return: what was done, in numbers; `worked_off` counts the events.
    :raises PreflightFailed: the store can't be pulled.
    """
    from include.pull.waiting import work_off
    from include.state.bookmarks import PullBusy

    with _member_pull(store_key, context["dag_run"].run_id) as work:
        worked_off = 0
        try:
            worked_off = work_off(work, work.shop.store_ref, _PATIENCE)
        except PullBusy as busy:
            log.info("%s What webhooks said goes on waiting.", busy)
    log.info("%s: %d events of webhooks worked off", store_key, worked_off)
    _log_pulled(store_key, work.pulled)
    return {"worked_off": worked_off, **asdict(work.pulled)}


def _log_pulled(store_key: str, pulled: Pulled) -> None:
    log.info(
        "%s: %d contacts read%s, %d changes of consent, %d customers opted out in the shop and %d in, %d contacts gone",
        store_key,
        pulled.read,
        " (everything)" if pulled.full else "",
        pulled.events,
        pulled.written_back,
        pulled.opted_in,
        pulled.vanished,
    )


@contextmanager
def _member_pull(store_key: str, dag_run_id: str) -> Iterator[MemberPull]:
    """Open what it takes to read contacts of a store's audience, for a run."""
    from include.pull.members import MemberPull
    from include.pull.write_back import WriteBack
    from include.shops.write_back import check_write_back
    from include.state.members import Mirror
    from include.state.migrate import migrate
    from include.state.stores import register_store

    with _opened(store_key) as (store, account_id):
        settings, profile = store.settings, store.profile
        state = migrate(store.engine, store.state_schema)
        with store.engine.connect() as connection:
            check_write_back(profile.profile, connection, both_ways=settings.two_way_sync)
        with state.begin() as connection:
            store_ref = register_store(connection, settings, account_id).store_ref
        yield MemberPull(
            state,
            store.client,
            Mirror(account_id, settings.list_id, dag_run_id),
            WriteBack(store.engine, profile, settings, store_ref),
            connections(settings),
            timedelta(minutes=settings.window_overlap_minutes),
        )


@contextmanager
def _opened(store_key: str) -> Iterator[tuple[OpenStore, str]]:
    """Open a store whose account and audience are there; yields it with the account's id."""
    from include.config.stores import SettingsError
    from include.load.preflight import check_account
    from include.mailchimp.errors import ConnectionSettingsError
    from include.shops.profile import ProfileError
    from include.state.migrate import StateNotWritable
    from mailchimp_airflow.store import open_store

    try:
        with open_store(store_key) as store:
            yield store, check_account(store.client, store.settings)
    except (SettingsError, ProfileError, ConnectionSettingsError, StateNotWritable, AirflowNotFoundException) as error:
        raise PreflightFailed(str(error)) from None
