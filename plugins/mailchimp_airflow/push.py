"""The tasks of a push run: what each does with one store, between opening it and closing it.

The functions import the pipeline when they are called, not before: pandas would add a second to every parse of a DAG.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from airflow.sdk import ExceptionRetryPolicy, Param, RetryAction, RetryRule
from airflow.sdk.exceptions import AirflowNotFoundException

from include.load.errors import PreflightFailed, RunStopped

log = logging.getLogger(__name__)

#: The pool that limits how many push tasks of an account work at a time (README, "Operate").
POOL: Final = "mailchimp"

#: What is pushed, parents first.
ENTITIES: Final = ("products", "customers", "orders")


@dataclass(frozen=True)
class Progress:
    """How far a slice is: its counts once it is done; until then the batches to wait for, and for how long at most."""

    counts: dict[str, int] | None = None
    waiting_for: tuple[str, ...] = ()
    conn_id: str = ""
    patience: timedelta = timedelta()


#: Errors that only a person can mend end a task at once.
RETRY_POLICY: Final = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=RunStopped, action=RetryAction.FAIL, reason="needs a change of settings, connection or shop"
        )
    ]
)


def _moment_param(title: str, description: str) -> Param:
    return Param(
        None, type=["null", "string"], format="date-time", section="Window", title=title, description=description
    )


#: The form of a run that is triggered by hand.
PARAMS: Final[Mapping[str, Param]] = {
    "mode": Param(
        "incremental",
        type="string",
        enum=["incremental", "full"],
        values_display={"incremental": "What changed", "full": "Everything"},
        title="Which records",
        description="Everything: compares the whole shop with the ledger and sends what differs; "
        "an unchanged record costs no operation either way.",
    ),
    "entities": Param(
        list(ENTITIES),
        type="array",
        items={"type": "string", "enum": list(ENTITIES)},
        examples=list(ENTITIES),
        minItems=1,
        title="Entities",
        description="What to push. Orders need their products and customers to be at Mailchimp already.",
    ),
    "since": _moment_param("Changed since", "Empty: from the oldest change that Mailchimp has not acknowledged yet."),
    "until": _moment_param("Changed until", "Empty: until now."),
    "ids": Param(
        [],
        type="array",
        items={"type": "string"},
        section="Single records",
        title="Only these ids",
        description="The shop's own ids, one per line; choose exactly one entity with them. Window and mode are "
        "ignored.",
    ),
}


def begin(store_key: str, context: Mapping[str, Any]) -> int:
    """Check everything that a run depends on, then register the run.

    :param store_key: key of the store in the settings file.
    :param context: the task's context.
    :return: the run's number in the state tables.
    :raises PreflightFailed: something is wrong; nothing was sent.
    """
    from include.config.stores import SettingsError
    from include.load import preflight
    from include.load.runs import begin_run
    from include.load.settle import recover
    from include.load.store import ensure_store, pause_automations
    from include.mailchimp.errors import ConnectionSettingsError
    from include.mailchimp.retry import RetryPolicy
    from include.shops.profile import ProfileError
    from include.state.migrate import StateNotWritable, migrate
    from include.state.stores import forget_acknowledgements, register_store
    from mailchimp_airflow.store import open_store

    request = run_request(context)
    try:
        # A short patience: this task has done nothing yet, so Airflow's own retry costs nothing.
        with open_store(store_key, RetryPolicy(attempts=3, total_seconds=10)) as store:
            store.check_profile()
            with store.extractor() as extractor:
                shop, now = extractor.read_store(), extractor.read_at
            preflight.check_currency(store.settings, shop)
            account_id = preflight.check_account(store.client, store.settings)
            migrate(store.engine, store.state_schema)
            created = ensure_store(store.client, store.settings, shop)
            with store.state.begin() as connection:
                reference = register_store(connection, store.settings, account_id)
                if created:
                    forget_acknowledgements(connection, reference.store_ref)
            run = begin_run(store.state, reference.store_ref, request, store.settings, now)
            pause_automations(store.state, store.client, store.settings, run)
            recover(store.state, store.client, reference, timedelta(minutes=store.settings.batch_timeout_minutes))
    except (SettingsError, ProfileError, ConnectionSettingsError, StateNotWritable, AirflowNotFoundException) as error:
        raise PreflightFailed(str(error)) from None
    log.info("run %d covers changes from %s until %s", run.run_ref, run.window_start or "the first", run.window_end)
    return run.run_ref


def plan(store_key: str, entity: str, run_ref: int, context: Mapping[str, Any]) -> list[dict[str, int]]:
    """Cut the records of one entity into slices.

    :param store_key: key of the store.
    :param entity: what to plan.
    :param run_ref: the run.
    :param context: the task's context.
    :return: one entry per slice, with its number and how many records it holds; no ids, they stay in the state tables.
    """
    from include.load.runs import plan_entity
    from include.state.runs import load_run
    from mailchimp_airflow.store import open_store

    with open_store(store_key) as store:
        with store.state.begin() as connection:
            run = load_run(connection, run_ref)
        with store.extractor() as extractor:
            slices = plan_entity(store.state, extractor, run, entity, store.settings, context["params"]["ids"])
    log.info("%d %s in %d slices", sum(records for _, records in slices), entity, len(slices))
    return [{"number": number, "records": records} for number, records in slices]


def push_slice(store_key: str, entity: str, run_ref: int, number: int) -> Progress:
    """Work on one slice until Mailchimp has to be waited for, or until it is done.

    :return: the counts of a slice that is done, or which batches to wait for, and how long at most.
    """
    from include.load.push import Done, SlicePush
    from include.state.database import SliceKey
    from include.state.runs import load_run
    from include.state.stores import load_store
    from include.transform.entities import ENTITIES as TRANSFORMS
    from include.transform.records import BuildContext
    from mailchimp_airflow.store import open_store

    with open_store(store_key) as store:
        with store.state.begin() as connection:
            reference = load_store(connection, load_run(connection, run_ref).store_ref)
        work = SlicePush(
            state=store.state,
            shop=store.read_engine,
            profile=store.profile,
            client=store.client,
            store=reference,
            settings=store.settings,
            entity=TRANSFORMS[entity],
            context=BuildContext(store.settings, store.profile.profile, store.currency()),
            slice_key=SliceKey(run_ref, entity, number),
        )
        result = work.step()
    if isinstance(result, Done):
        return Progress(counts=result.counts)
    return Progress(
        waiting_for=result.batch_ids,
        conn_id=store.settings.mailchimp_conn_id,
        patience=timedelta(minutes=store.settings.batch_timeout_minutes),
    )


def confirm(store_key: str, entity: str, run_ref: int) -> dict[str, int]:
    """Close the phase of one entity: every slice is worked off, its children may follow.

    :return: the counts of the phase.
    """
    from include.load.runs import confirm_entity
    from include.state.runs import load_run
    from mailchimp_airflow.store import open_store

    with open_store(store_key) as store:
        with store.state.begin() as connection:
            run = load_run(connection, run_ref)
        summary = confirm_entity(store.state, run, entity)
    return {name: count for name, count in asdict(summary).items() if name != "entity"} if summary else {}


def conclude(store_key: str, context: Mapping[str, Any]) -> None:
    """Close a run, let the store's automations work again, and log what the run did.

    :param store_key: key of the store.
    :param context: the task's context.
    :raises RunStopped: a phase is not finished, or more records were rejected than the store allows.
    """
    from include.load.runs import conclude_run, summary_table
    from include.load.store import resume_automations
    from include.state.migrate import migrate
    from include.state.runs import find_run
    from mailchimp_airflow.store import open_store

    dag_run = context["dag_run"]
    with open_store(store_key) as store:
        with migrate(store.engine, store.state_schema).begin() as connection:
            run = find_run(connection, dag_run.dag_id, dag_run.run_id)
        if run is None:
            raise RunStopped("The run never began, nothing was sent: see the log of the task prepare.")
        try:
            conclusion = conclude_run(store.state, run, store.settings)
        finally:
            resume_automations(store.state, store.client, store.settings, run)
    log.info("run %d of %s:\n%s", run.run_ref, store_key, summary_table(conclusion.summaries))
    if conclusion.failure:
        raise conclusion.failure


def run_request(context: Mapping[str, Any]) -> Any:
    """Read what a run was asked to do from its kind, its data interval and its params.

    :param context: a task's context.
    :return: an ``include.load.runs.RunRequest``.
    :raises PreflightFailed: the params contradict each other.
    """
    from include.load.runs import Mode, RunRequest

    dag_run, params = context["dag_run"], context["params"]
    kind = str(getattr(dag_run.run_type, "value", dag_run.run_type))
    entities = tuple(entity for entity in ENTITIES if entity in params["entities"])
    mode = Mode.IDS if params["ids"] else Mode(params["mode"])
    if mode is Mode.IDS and len(entities) != 1:
        raise PreflightFailed(f"Ids belong to one entity, but {', '.join(entities)} are chosen; choose one.")
    since, until = _moment(params["since"]), _moment(params["until"])
    if kind in {"scheduled", "backfill"}:
        since = since or context.get("data_interval_start")
        until = until or context.get("data_interval_end")
    if since and until and since >= until:
        raise PreflightFailed(f"The window ends before it begins: since {since}, until {until}.")
    return RunRequest(dag_run.dag_id, dag_run.run_id, kind, mode, since, until, entities)


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise PreflightFailed(f"The time {text} has no time zone; write it like 2026-11-21T10:00:00+00:00.")
    return moment
