"""The tasks of a push run: what each does with one store, between opening it and closing it.

The functions import the pipeline when they are called, not before: pandas would add a second to every parse of a DAG.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final

from airflow.sdk import ExceptionRetryPolicy, Param, RetryAction, RetryRule
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException

from include.load.errors import PreflightFailed, RunStopped
from mailchimp_airflow.forms import ENTITIES, SHOWN, moment, moment_param

log = logging.getLogger(__name__)

#: The pool that limits how many push tasks of an account work at a time (README, "Production").
POOL: Final = "mailchimp"

#: The phases of a run, in order (`include.load.phases`, which would import pandas into every parse of a DAG).
PHASES: Final = (
    "products",
    "members",
    "customers",
    "promo_rules",
    "promo_codes",
    "closed_carts",
    "orders",
    "carts",
    "removals",
)


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


def params(mode: str = "incremental") -> dict[str, Param]:
    """Return the form of a run that is triggered by hand.

    :param mode: which records it looks at unless something else is chosen.
    """
    return {
        "mode": Param(
            mode,
            type="string",
            enum=["incremental", "full"],
            values_display={"incremental": "What changed", "full": "Everything"},
            title="Which records",
            description="Everything: compares the whole shop with the ledger, sends what differs and deletes what is "
            "gone; an unchanged record costs no operation either way.",
        ),
        "entities": Param(
            list(ENTITIES),
            type="array",
            items={"type": "string", "enum": list(ENTITIES)},
            examples=list(ENTITIES),
            values_display=SHOWN,
            minItems=1,
            title="Entities",
            description="What to push. Products that orders or carts need are sent along.",
        ),
        "since": moment_param(
            "Changed since",
            "Empty: from the oldest change that Mailchimp has not acknowledged yet, or everything. "
            "A full sync confines orders and carts by it, and compares the rest completely.",
        ),
        "until": moment_param("Changed until", "Empty: until now."),
        "ids": Param(
            [],
            type="array",
            items={"type": "string"},
            section="Single records",
            title="Only these ids",
            description="The shop's own ids, one per line; choose exactly one entity with them. Window and mode are "
            "ignored.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Only show what would be sent",
            description="Writes nothing anywhere: the task dry_run logs what the run would send, and how long it would "
            "take.",
        ),
        "allow_deletes": Param(
            False,
            type="boolean",
            section="Deletions",
            title="Delete whatever is gone",
            description="Delete records at Mailchimp that the shop no longer has, even if they are more than "
            "max_deletes and max_deletes_percent allow.",
        ),
    }


def begin(store_key: str, context: Mapping[str, Any]) -> int:
    """Check everything that a run depends on, then register the run.

    :param store_key: key of the store in the settings file.
    :param context: the task's context.
    :return: the run's number in the state tables.
    :raises PreflightFailed: something is wrong; nothing was sent.
    :raises AirflowSkipException: nothing is to be sent.
    """
    if is_dry(context):
        raise AirflowSkipException("Only what would be sent is to be shown: see the task dry_run.")
    return register(store_key, run_request(context))


def register(store_key: str, request: Any) -> int:
    """Check everything that a run depends on, then register it.

    :param store_key: key of the store in the settings file.
    :param request: an ``include.load.runs.RunRequest``.
    :return: the run's number in the state tables.
    :raises PreflightFailed: something is wrong; nothing was sent.
    """
    from include.config.stores import SettingsError
    from include.load import preflight
    from include.load.drive import prepare_run
    from include.mailchimp.errors import ConnectionSettingsError
    from include.mailchimp.retry import RetryPolicy
    from include.shops.profile import ProfileError
    from include.state.migrate import StateNotWritable, migrate
    from mailchimp_airflow.store import open_store

    try:
        # A short patience: this task has done nothing yet, so Airflow's own retry costs nothing.
        with open_store(store_key, RetryPolicy(attempts=3, total_seconds=10)) as store:
            store.check_profile()
            with store.extractor() as extractor:
                shop, now = extractor.read_store(), extractor.read_at
            preflight.check_currency(store.settings, shop)
            account_id = preflight.check_account(store.client, store.settings)
            migrate(store.engine, store.state_schema)
            run, _ = prepare_run(store.state, store.client, store.settings, request, shop, now, account_id)
    except (SettingsError, ProfileError, ConnectionSettingsError, StateNotWritable, AirflowNotFoundException) as error:
        raise PreflightFailed(str(error)) from None
    log.info("run %d covers changes from %s until %s", run.run_ref, run.window_start or "the first", run.window_end)
    return run.run_ref


def is_dry(context: Mapping[str, Any]) -> bool:
    """Tell whether a run is only to show what it would send.

    :param context: a task's context.
    """
    return bool(context["params"].get("dry_run", False))


def rehearse(store_key: str, context: Mapping[str, Any]) -> dict[str, Any]:
    """Log what a run would send; nothing is written anywhere.

    :param store_key: key of the store in the settings file.
    :param context: the task's context.
    :return: the figures of the forecast.
    :raises PreflightFailed: the run couldn't begin.
    """
    from include.config.stores import SettingsError
    from include.mailchimp.errors import ConnectionSettingsError
    from include.rehearse.run import Rehearsal
    from include.rehearse.table import forecast_table
    from include.shops.profile import ProfileError
    from include.state.migrate import StateOutdated
    from mailchimp_airflow.store import open_store

    request, params = run_request(context), context["params"]
    try:
        with open_store(store_key) as store:
            store.check_profile()
            rehearsal = Rehearsal(
                store.engine, store.state_schema, store.read_engine, store.profile, store.client, store.settings
            )
            forecast = rehearsal.forecast(request, params["ids"], allow_deletes=params.get("allow_deletes", False))
    except (SettingsError, ProfileError, ConnectionSettingsError, StateOutdated, AirflowNotFoundException) as error:
        raise PreflightFailed(str(error)) from None
    log.info("what a run of %s would send now:\n%s", store_key, forecast_table(forecast))
    return forecast.counts()


def plan(store_key: str, phase: str, run_ref: int, context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Cut what a phase has to do into slices.

    :param store_key: key of the store.
    :param phase: what to plan.
    :param run_ref: the run.
    :param context: the task's context.
    :return: one entry per slice, with its entity, its number and how many records it holds; no ids, they stay in the
        state tables.
    """
    from include.load.drive import go_on
    from include.load.drive import plan as plan_phase
    from include.load.phases import PHASES as DEFINITIONS
    from mailchimp_airflow.store import open_store

    params = context["params"]
    with open_store(store_key) as store:
        run, _ = go_on(store.state, store.client, store.settings, run_ref)
        with store.extractor() as extractor:
            slices = plan_phase(
                store.state,
                store.client,
                store.settings,
                extractor,
                run,
                DEFINITIONS[phase],
                params.get("ids", ()),
                allow_deletes=params.get("allow_deletes", False),
            )
    log.info("%s: %d records in %d slices", phase, sum(part.records for part in slices), len(slices))
    return [asdict(part) for part in slices]


def push_slice(store_key: str, phase: str, run_ref: int, entity: str, number: int) -> Progress:
    """Work on one slice until Mailchimp has to be waited for, or until it is done.

    :return: the counts of a slice that is done, or which batches to wait for, and how long at most.
    """
    from include.load.drive import go_on
    from include.load.phases import PHASES as DEFINITIONS
    from include.load.push import SlicePush
    from include.load.remove import SliceRemoval
    from include.load.slice_step import Done
    from include.state.database import SliceKey
    from include.transform.entities import ENTITIES as TRANSFORMS
    from include.transform.records import BuildContext
    from mailchimp_airflow.store import open_store

    with open_store(store_key) as store:
        _, reference = go_on(store.state, store.client, store.settings, run_ref, fills=phase == "orders")
        work = (SliceRemoval if DEFINITIONS[phase].removes else SlicePush)(
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


def push_segments(store_key: str, run_ref: int) -> dict[str, int]:
    """Bring tags and static segments up to date.

    :return: how many contacts joined and left, over all of them.
    """
    from include.load.drive import go_on
    from include.load.segments import push_segments as push
    from mailchimp_airflow.store import open_store

    with open_store(store_key) as store:
        _, reference = go_on(store.state, store.client, store.settings, run_ref)
        counts = push(store.state, store.read_engine, store.profile, store.client, reference, store.settings)
    for one in counts:
        log.info("%s: %d joined, %d left, %d wait for their contact", one.name, one.joined, one.left, one.waiting)
    return {"joined": sum(one.joined for one in counts), "left": sum(one.left for one in counts)}


def count_new_subscribers(store_key: str, run_ref: int, ids: Sequence[str]) -> int:
    """Count the contacts that a run would subscribe for the first time, as far as the store's limit.

    :param store_key: key of the store.
    :param run_ref: number of the run.
    :param ids: the shop's ids that it was given.
    :return: their number; beyond the limit it is not counted on.
    """
    from include.load.subscribers import count_new_subscribers as count
    from include.state.runs import load_run
    from include.transform.records import BuildContext
    from mailchimp_airflow.store import open_store

    with open_store(store_key) as store:
        with store.state.begin() as connection:
            run = load_run(connection, run_ref)
        context = BuildContext(store.settings, store.profile.profile, store.currency())
        with store.extractor() as extractor:
            return count(store.state, extractor, run, context, ids)


def conclude(store_key: str, context: Mapping[str, Any]) -> None:
    """Close a run, let the store's automations work again, and log what the run did.

    :param store_key: key of the store.
    :param context: the task's context.
    :raises RunStopped: a phase is not finished, or more records were rejected than the store allows.
    :raises AirflowSkipException: there was nothing to be sent.
    """
    from include.load.runs import conclude_run, summary_table
    from include.load.store import resume_automations
    from include.state.migrate import migrate
    from include.state.runs import find_run
    from mailchimp_airflow.store import open_store

    if is_dry(context):
        raise AirflowSkipException("Nothing was sent.")
    dag_run = context["dag_run"]
    with open_store(store_key) as store:
        with migrate(store.engine, store.state_schema).begin() as connection:
            run = find_run(connection, dag_run.dag_id, dag_run.run_id)
        if run is None:
            raise RunStopped("The run never began, nothing was sent: see the log of the task prepare.")
        try:
            conclusion = conclude_run(store.state, run, store.settings)
        finally:
            if store.settings.ecommerce:
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
    since, until = moment(params["since"]), moment(params["until"])
    if kind in {"scheduled", "backfill"}:
        since = since or context.get("data_interval_start")
        until = until or context.get("data_interval_end")
    if since and until and since >= until:
        raise PreflightFailed(f"The window ends before it begins: since {since}, until {until}.")
    return RunRequest(dag_run.dag_id, dag_run.run_id, kind, mode, since, until, entities)
