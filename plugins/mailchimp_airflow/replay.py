"""The tasks of a replay: count the rejected records that the form names, then send their current rows.

Between beginning and summary they are those of a push (`mailchimp_airflow.push`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException

from include.load.errors import PreflightFailed
from include.load.retries import RETRIES, TERMINAL
from mailchimp_airflow import push
from mailchimp_airflow.forms import ENTITIES, SHOWN, moment, moment_param

log = logging.getLogger(__name__)

FIRST: Final = "first"
LAST: Final = "last"
NOTHING: Final = "No rejected record fits: nothing is to be sent."


def params() -> dict[str, Param]:
    """Return the form of a replay; what is left empty doesn't confine it."""
    return {
        "error_classes": Param(
            [],
            type="array",
            items={"type": "string"},
            examples=list(RETRIES),
            values_display={name: f"{name} · sent again {retry}" for name, retry in RETRIES.items()},
            title="Error classes",
            description=f"Which rejected records. Empty: all but {', '.join(TERMINAL)}, which only somebody who names "
            "it means: Mailchimp won't take such a contact back from anybody but the contact itself.",
        ),
        "entities": Param(
            [],
            type="array",
            items={"type": "string", "enum": list(ENTITIES)},
            examples=list(ENTITIES),
            values_display=SHOWN,
            title="Entities",
            description="Empty: all. Parents go first.",
        ),
        "seen": Param(
            LAST,
            type="string",
            enum=[LAST, FIRST],
            values_display={LAST: "Rejected last", FIRST: "Rejected first"},
            section="Time",
            title="The times below are about when a record was",
        ),
        "since": moment_param("Since", "Empty: from the beginning.", "Time"),
        "until": moment_param("Until", "Empty: until now.", "Time"),
        "record_ids": Param(
            [],
            type="array",
            items={"type": "string"},
            section="Single records",
            title="Only these ids",
            description="As the view rejected_records has them, or the shop's own; one per line.",
        ),
        "only_count": Param(
            False,
            type="boolean",
            title="Only count",
            description="Nothing is sent: the task count logs which records would be.",
        ),
        "quiet": Param(
            True,
            type="boolean",
            section="Automations",
            title="Hold automations back",
            description="Old orders make nobody get a notification. Meanwhile new ones don't either; carts aren't "
            "affected.",
        ),
    }


def count(store_key: str, context: Mapping[str, Any]) -> dict[str, Any]:
    """Log which records a replay would send; nothing is changed.

    :param store_key: key of the store in the settings file.
    :param context: the task's context.
    :return: the counts: ``records`` that are replayed, and those of each entity and class.
    :raises PreflightFailed: the form contradicts itself, or the store can't be opened.
    """
    from include.load.replay import counts_table, selected

    selection = _selection(context)
    found = _count(store_key, selection)
    chosen = selected(found, selection)
    log.info("rejected records of %s:\n%s", store_key, counts_table(found, selection))
    return {
        "records": sum(one.records for one in chosen),
        "counts": [
            {
                "entity": one.entity,
                "error_class": one.error_class,
                "records": one.records,
                "replayed": one in chosen,
            }
            for one in found
        ],
    }


def begin(store_key: str, context: Mapping[str, Any]) -> int:
    """Register the run, and make the records that the form names owed again.

    :param store_key: key of the store in the settings file.
    :param context: the task's context.
    :return: the run's number in the state tables.
    :raises PreflightFailed: something is wrong; nothing was sent.
    :raises AirflowSkipException: nothing is to be sent.
    """
    from include.load.replay import request_for, select, selected
    from include.state.runs import load_run
    from include.state.stores import load_store
    from mailchimp_airflow.store import open_store

    dag_run, form, selection = context["dag_run"], context["params"], _selection(context)
    if form["only_count"]:
        raise AirflowSkipException("The records are only to be counted: see the task count.")
    chosen = selected(_count(store_key, selection), selection)
    if not chosen:
        raise AirflowSkipException(NOTHING)
    entities = sorted({one.entity for one in chosen})
    run_ref = push.register(store_key, request_for(dag_run.dag_id, dag_run.run_id, entities, quiet=form["quiet"]))
    with open_store(store_key) as store:
        with store.state.begin() as connection:
            run = load_run(connection, run_ref)
            reference = load_store(connection, run.store_ref)
        records = select(store.state, reference, run, selection)
    log.info("run %d replays %d records of %s", run_ref, records, ", ".join(entities))
    return run_ref


def conclude(store_key: str, context: Mapping[str, Any]) -> dict[str, int]:
    """Close the run, and log what became of its records.

    :param store_key: key of the store in the settings file.
    :param context: the task's context.
    :return: the counts.
    :raises RunStopped: a phase is not finished.
    :raises AirflowSkipException: there was nothing to be sent.
    """
    from include.load.replay import outcome, outcome_table
    from include.state.runs import find_run
    from mailchimp_airflow.store import open_store

    dag_run = context["dag_run"]
    counted = context["ti"].xcom_pull(task_ids="count")
    if counted and (context["params"]["only_count"] or not counted["records"]):
        raise AirflowSkipException("Nothing was sent.")
    replayed = None
    with open_store(store_key) as store, store.state.begin() as connection:
        run = find_run(connection, dag_run.dag_id, dag_run.run_id)
    if run is not None:
        with open_store(store_key) as store:
            replayed = outcome(store.state, run)
        log.info("records replayed for %s:\n%s", store_key, outcome_table(replayed))
    push.conclude(store_key, context)
    return replayed.to_json() if replayed else {}


def _count(store_key: str, selection: Any) -> list[Any]:
    from include.config.stores import SettingsError
    from include.load.preflight import check_account
    from include.load.replay import count
    from include.mailchimp.errors import ConnectionSettingsError
    from include.state.migrate import StateNotWritable, migrate
    from include.state.stores import find_store
    from mailchimp_airflow.store import open_store

    try:
        with open_store(store_key) as store:
            migrate(store.engine, store.state_schema)
            account_id = check_account(store.client, store.settings)
            with store.state.begin() as connection:
                reference = find_store(connection, store.settings, account_id)
            return count(store.state, reference.store_ref, selection) if reference else []
    except (SettingsError, ConnectionSettingsError, StateNotWritable, AirflowNotFoundException) as error:
        raise PreflightFailed(str(error)) from None


def _selection(context: Mapping[str, Any]) -> Any:
    """Read which records the form names."""
    from include.load.replay import Selection

    form = context["params"]
    since, until = moment(form["since"]), moment(form["until"])
    if since and until and since >= until:
        raise PreflightFailed(f"The time ends before it begins: since {since}, until {until}.")
    unknown = sorted(set(form["error_classes"]) - set(RETRIES))
    if unknown:
        raise PreflightFailed(f"There is no error class {', '.join(unknown)}; there are {', '.join(RETRIES)}.")
    return Selection(
        error_classes=tuple(form["error_classes"]),
        entities=tuple(form["entities"]),
        seen=form["seen"],
        since=since,
        until=until,
        ids=tuple(one.strip() for one in form["record_ids"] if one.strip()),
    )
