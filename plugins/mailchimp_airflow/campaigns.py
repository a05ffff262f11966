"""The tasks that read results of campaigns: figures, then activity.

The functions import the pipeline when they are called, not before: it would slow down every parse of a DAG.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowNotFoundException

from include.load.errors import PreflightFailed

if TYPE_CHECKING:
    from mailchimp_airflow.store import OpenStore

log = logging.getLogger(__name__)


def read_figures(store_key: str) -> dict[str, int]:
    """Read the campaigns of a store's audience, with their statistics and revenue.

    :param store_key: key of the store in the settings file.
    :return: how many campaigns there are, of how many there are figures, and how many are gone.
    :raises PreflightFailed: settings, connection or audience are not what they should be.
    """
    from include.pull.campaigns import pull_campaigns

    with _ready(store_key) as (store, account_id):
        counts = pull_campaigns(store.state, store.client, store.settings, account_id)
    log.info("%s: %d campaigns, %d with figures, %d gone", store_key, *vars(counts).values())
    return dict(vars(counts))


def read_activity(store_key: str) -> dict[str, int]:
    """Read what contacts did with the store's campaigns, and which orders came of them.

    :param store_key: key of the store in the settings file.
    :return: how many campaigns were looked into, and how many events were new.
    :raises PreflightFailed: settings, connection or audience are not what they should be.
    """
    from include.pull.activity import pull_activity

    with _ready(store_key) as (store, account_id):
        counts = pull_activity(store.state, store.client, store.settings, account_id)
    log.info("%s: %d campaigns looked into, %d new events", store_key, *vars(counts).values())
    return dict(vars(counts))


@contextmanager
def _ready(store_key: str) -> Iterator[tuple[OpenStore, str]]:
    """Open a store whose account, audience and state tables are there. Gives the account's id too."""
    from include.config.stores import SettingsError
    from include.load.preflight import check_account
    from include.mailchimp.errors import ConnectionSettingsError
    from include.state.migrate import StateNotWritable, migrate
    from include.state.stores import register_store
    from mailchimp_airflow.store import open_store

    try:
        with open_store(store_key) as store:
            state = migrate(store.engine, store.state_schema)
            account_id = check_account(store.client, store.settings)
            with state.begin() as connection:
                register_store(connection, store.settings, account_id)
            yield store, account_id
    except (SettingsError, ConnectionSettingsError, StateNotWritable, AirflowNotFoundException) as error:
        raise PreflightFailed(str(error)) from None
