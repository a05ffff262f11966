"""The tasks of a teardown: say what would be removed, then remove it, if the store's id was typed in."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from airflow.sdk import Param

from include.load.errors import PreflightFailed

log = logging.getLogger(__name__)

STATE: Final = "state"
STATE_AND_STORE: Final = "state and store"


def params() -> dict[str, Param]:
    """Return the form of a teardown."""
    return {
        "remove": Param(
            STATE,
            type="string",
            enum=[STATE, STATE_AND_STORE],
            values_display={
                STATE: "What this project remembers of the store",
                STATE_AND_STORE: "That, and the store at Mailchimp with everything in it",
            },
            title="What to remove",
            description="Contacts of the audience always stay. Without the ledger, the next push compares nothing and "
            "sends everything once more.",
        ),
        "store_id": Param(
            "",
            type="string",
            title="Type the store's id to confirm",
            description="Left empty, the run only lists what there is to remove (log of the task inventory).",
        ),
    }


def take_inventory(store_key: str) -> dict[str, Any]:
    """Log what a teardown would remove; nothing is changed.

    :param store_key: key of the store in the settings file.
    :return: the counts, here and at Mailchimp.
    """
    from include.load.preflight import check_account
    from include.load.teardown import inventory, inventory_table
    from include.state.migrate import migrate
    from mailchimp_airflow.store import open_store

    with open_store(store_key) as store:
        migrate(store.engine, store.state_schema)
        account_id = check_account(store.client, store.settings)
        found = inventory(store.state, store.client, store.settings, account_id)
    log.info("store %s:\n%s", found.store_id, inventory_table(found))
    return {
        "here": dict(found.local.records) if found.local else None,
        "at Mailchimp": dict(found.remote) if found.remote is not None else None,
    }


def remove(store_key: str, context: Mapping[str, Any]) -> bool:
    """Remove what the form says, if the store's id was typed in.

    :param store_key: key of the store.
    :param context: the task's context.
    :return: whether anything was removed.
    :raises PreflightFailed: another id was typed in; nothing was removed.
    :raises RunStopped: a run of the store is at work; nothing was removed.
    """
    from include.load.preflight import check_account
    from include.load.teardown import check_unused, remove_state, remove_store
    from include.state.stores import find_store
    from mailchimp_airflow.store import open_store

    typed, what = context["params"]["store_id"].strip(), context["params"]["remove"]
    with open_store(store_key) as store:
        expected = store.settings.store_id
        if not typed:
            log.info("Nothing is removed: the store's id was not typed in. To go on, trigger again with %s.", expected)
            return False
        if typed != expected:
            raise PreflightFailed(
                f"The id typed in, {typed!r}, is not the store's, {expected!r}. Nothing was removed; trigger the DAG "
                "again with the right one."
            )
        account_id = check_account(store.client, store.settings)
        with store.state.begin() as connection:
            reference = find_store(connection, store.settings, account_id)
        if reference is not None:
            check_unused(store.state, reference.store_ref)
        if what == STATE_AND_STORE:
            remove_store(store.client, store.settings, typed)
        if reference is not None:
            remove_state(store.state, reference.store_ref)
    return True
