"""The tasks that bring people to the audience whom only the shop knows: count them, then choose them for a run.

Between beginning and summary they are those of a push (`mailchimp_airflow.push`). The functions import the pipeline
when they are called, not before: pandas would add a second to every parse of a DAG.
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

#: The one phase of such a run.
PHASE: Final = "members"
#: Of the counts, the people who would be subscribed (`include.transform.evidence.Finding`).
CHOSEN: Final = "with_evidence"


def params() -> dict[str, Param]:
    """Return the form."""
    return {
        "dry_run": Param(
            True,
            type="boolean",
            title="Only show who would be subscribed",
            description="Sends nothing: the task count logs how many people there are with a stored opt-in, and how "
            "many are left out for which reason. Switch it off once the numbers are what you expect.",
        ),
    }


def count(store_key: str) -> dict[str, int]:
    """Log how many people the run would subscribe, and how many it leaves out for which reason.

    :param store_key: key of the store in the settings file.
    :return: the counts.
    :raises PreflightFailed: the store can't be looked into.
    """
    from include.config.stores import SettingsError
    from include.load.audience import read_audience
    from include.load.newcomers import survey, survey_table
    from include.load.preflight import check_account
    from include.mailchimp.errors import ConnectionSettingsError
    from include.shops.profile import ProfileError
    from include.state.migrate import StateNotWritable, migrate
    from include.state.stores import register_store
    from include.transform.records import BuildContext
    from mailchimp_airflow.store import open_store

    try:
        with open_store(store_key) as store:
            store.check_profile()
            account_id = check_account(store.client, store.settings)
            state = migrate(store.engine, store.state_schema)
            with state.begin() as connection:
                reference = register_store(connection, store.settings, account_id)
            audience = read_audience(state, store.client, store.settings, account_id)
            context = BuildContext(store.settings, store.profile.profile, store.currency(), audience)
            with store.extractor() as extractor:
                found = survey(state, extractor, reference, context)
    except (SettingsError, ProfileError, ConnectionSettingsError, StateNotWritable, AirflowNotFoundException) as error:
        raise PreflightFailed(str(error)) from None
    log.info("people of the shop %s:\n%s", store_key, survey_table(found))
    return found.to_json()


def begin(store_key: str, context: Mapping[str, Any]) -> int:
    """Register the run, and choose the people whom it brings to the audience.

    :param store_key: key of the store in the settings file.
    :param context: the task's context.
    :return: the run's number in the state tables.
    :raises PreflightFailed: something is wrong, or the store has no limit for new subscribers; nothing was sent.
    :raises AirflowSkipException: nobody is to be subscribed.
    """
    from include.config.stores import load_stores
    from include.load.newcomers import check_limit, choose, request_for
    from include.state.runs import load_run
    from include.state.stores import load_store
    from include.transform.audience import Audience
    from include.transform.evidence import Finding
    from include.transform.records import BuildContext
    from mailchimp_airflow.store import open_store

    if _sends_nothing(context):
        raise AirflowSkipException("Nobody is to be subscribed: see the task count.")
    check_limit(load_stores().store(store_key))
    dag_run = context["dag_run"]
    run_ref = push.register(store_key, request_for(dag_run.dag_id, dag_run.run_id))
    with open_store(store_key) as store:
        with store.state.begin() as connection:
            run = load_run(connection, run_ref)
            reference = load_store(connection, run.store_ref)
        audience = Audience.from_json(run.audience) if run.audience else None
        build = BuildContext(store.settings, store.profile.profile, store.currency(), audience)
        with store.extractor() as extractor:
            chosen = choose(store.state, extractor, reference, run, build).counts[Finding.WITH_EVIDENCE]
    log.info("run %d brings %d people of %s to the audience", run_ref, chosen, store_key)
    return run_ref


def conclude(store_key: str, context: Mapping[str, Any]) -> None:
    """Close the run, and log what it did.

    :param store_key: key of the store in the settings file.
    :param context: the task's context.
    :raises RunStopped: the phase is not finished, or too many were rejected.
    :raises AirflowSkipException: there was nothing to be sent.
    """
    if _sends_nothing(context):
        raise AirflowSkipException("Nothing was sent.")
    push.conclude(store_key, context)


def _sends_nothing(context: Mapping[str, Any]) -> bool:
    counted = context["ti"].xcom_pull(task_ids="count")
    return push.is_dry(context) or (counted is not None and not counted[CHOSEN])
