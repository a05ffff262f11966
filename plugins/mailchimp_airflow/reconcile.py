"""The tasks of a reconciliation: compare shop, ledger and Mailchimp, tell what has drifted, make the ledger honest.

The functions import the pipeline when they are called, not before: pandas would add a second to every parse of a DAG.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException

from include.load.errors import PreflightFailed
from mailchimp_airflow import push

log = logging.getLogger(__name__)

#: Task that repairs the ledger; its return value says which entities the push then has something to send of.
REPAIR: Final = "repair"


def params() -> dict[str, Param]:
    """Return the form of a reconciliation."""
    form = push.params()
    return {
        "entities": Param(
            list(push.ENTITIES),
            **form["entities"].schema | {"description": "What to compare."},
        ),
        "repair": Param(
            False,
            type="boolean",
            section="Repair",
            title="Repair what has drifted",
            description="Corrects the ledger, then starts a push that sends the difference and nothing else. Without, "
            "the run only reports.",
        ),
        "allow_deletes": form["allow_deletes"],
    }


def compare(store_key: str, context: Mapping[str, Any]) -> int:
    """Compare the records of a store; nothing is sent and the ledger stays as it is.

    :param store_key: key of the store in the settings file.
    :param context: the task's context.
    :return: the comparison's number in the state tables.
    :raises PreflightFailed: the store can't be compared.
    """
    from include.config.stores import SettingsError
    from include.mailchimp.errors import ConnectionSettingsError
    from include.reconcile.compare import Comparer
    from include.shops.profile import ProfileError
    from include.state.migrate import StateNotWritable, migrate
    from mailchimp_airflow.store import open_store

    try:
        with open_store(store_key) as store:
            store.check_profile()
            state = migrate(store.engine, store.state_schema)
            comparer = Comparer(state, store.read_engine, store.profile, store.client, store.settings)
            found = comparer.compare(context["dag_run"].run_id, context["params"]["entities"])
    except (SettingsError, ProfileError, ConnectionSettingsError, StateNotWritable, AirflowNotFoundException) as error:
        raise PreflightFailed(str(error)) from None
    return found.reconciliation_ref


def report(store_key: str, reconciliation_ref: int) -> dict[str, Any]:
    """Log what a comparison has found.

    :param store_key: key of the store.
    :param reconciliation_ref: the comparison.
    :return: its counts, and the months whose revenue differs.
    """
    from include.reconcile.report import load_reconciliation, report_table
    from mailchimp_airflow.store import open_store

    with open_store(store_key) as store, store.state.begin() as connection:
        found = load_reconciliation(connection, reconciliation_ref)
    log.info("%s, shop and Mailchimp compared:\n%s", store_key, report_table(found))
    return {
        "drifted": found.drifted,
        "repairable": found.repairable,
        "records": {entity: dict(counts) for entity, counts in found.counts.items()},
        "wrong months": [f"{one.month} {one.currency}" for one in found.wrong_months],
    }


def repair(store_key: str, reconciliation_ref: int, context: Mapping[str, Any]) -> list[str]:
    """Correct the ledger by what a comparison has found.

    :param store_key: key of the store.
    :param reconciliation_ref: the comparison.
    :param context: the task's context.
    :return: the entities that a push now has something to send of.
    :raises AirflowSkipException: the form says to report only.
    """
    from include.reconcile.repair import repair as repair_ledger
    from mailchimp_airflow.store import open_store

    if not context["params"]["repair"]:
        raise AirflowSkipException("Only reported: trigger the DAG with 'Repair what has drifted' to mend it.")
    with open_store(store_key) as store:
        repaired = repair_ledger(store.state, reconciliation_ref)
    told = ", ".join(f"{action} {count}" for action, count in repaired.counts.items())
    log.info("the ledger of %s is repaired: %s", store_key, told or "nothing to do")
    return list(repaired.to_send)
