"""The wiring that the push and the full sync share: one task group per phase, between a beginning and a summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import (
    DAG,
    CronDataIntervalTimetable,
    DeltaDataIntervalTimetable,
    TaskGroup,
    chain,
    dag,
    task,
    teardown,
)

from include.config.stores import INTERVALS, StoreSettings
from mailchimp_airflow import alerts, pull, push
from mailchimp_airflow.erase import erase_people, erases
from mailchimp_airflow.operators.push import MailchimpPushOperator

#: How long an approval is waited for; nobody's answer is a no.
PATIENCE = timedelta(hours=24)

#: An empty phase is skipped without holding back the next one; after a skipped ``prepare``, everything is.
AFTER_PREPARE = "none_failed_min_one_success"


def push_dag(
    store: StoreSettings, *, dag_id: str, name: str, schedule: str | None, mode: str, tags: list[str], doc_md: str
) -> DAG:
    """Build a DAG that pushes a store.

    :param store: the store.
    :param dag_id: id of the DAG.
    :param name: what people call it.
    :param schedule: cron expression (UTC) or the name of an interval, None for none.
    :param mode: which records its runs look at: ``incremental`` or ``full``.
    :param tags: what it is found by.
    :param doc_md: its documentation.
    """

    @dag(
        dag_id=dag_id,
        dag_display_name=f"{name} · {store.key}",
        schedule=timetable(schedule),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        params=push.params(mode),
        tags=["mailchimp", *tags, store.key],
        doc_md=doc_md,
        default_args=task_defaults(store),
        **alerts.of_dag(store, has_deadline=mode == "incremental"),
    )
    def mailchimp_push() -> None:
        @task(pool=push.POOL)
        def prepare(**context: Any) -> int:
            return push.begin(store.key, context)

        @task(trigger_rule="all_skipped", pool=push.POOL)
        def dry_run(**context: Any) -> dict[str, Any]:
            return push.rehearse(store.key, context)

        @task(pool=push.POOL)
        def erase(run_ref: Any, **context: Any) -> dict[str, int]:
            return erase_people(store.key, run_ref, context)

        @task(pool=push.POOL)
        def segments(run_ref: Any) -> dict[str, int]:
            return push.push_segments(store.key, run_ref)

        @teardown(on_failure_fail_dagrun=True)
        @task(**alerts.of_last_task(store))
        def summarise(**context: Any) -> None:
            push.conclude(store.key, context)

        run_ref = prepare()
        steps: list[Any] = [run_ref]
        if erases(store.profile):
            steps.append(erase(run_ref))
        if store.max_new_subscribers is not None:
            steps.append(approval(store, run_ref))
        steps += phases(store, push.PHASES, run_ref)
        if store.tags or store.segments:
            steps.append(segments.override(trigger_rule=AFTER_PREPARE)(run_ref))
        chain(*steps, summarise())
        chain(run_ref, dry_run())

    return mailchimp_push()


def task_defaults(store: StoreSettings) -> dict[str, Any]:
    """Return what all tasks of a run have in common.

    :param store: the store.
    """
    return {
        "owner": store.owner,
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": 2,  # with a jitter of up to as much again
        "max_retry_delay": timedelta(minutes=15),
        "retry_policy": push.RETRY_POLICY,
        **alerts.of_tasks(store),
    }


def phases(store: StoreSettings, names: Sequence[str], run_ref: Any) -> Iterator[Any]:
    """Make the tasks of a run's phases, in order.

    Right before people are pushed, what they have told Mailchimp meanwhile is read, and the shop is told who opted out.
    It is a task of the run, and not an asset that the pull updates: so it is newest when it counts, after an approval
    that took a day too, and a store whose pull is never scheduled has it as well.

    :param store: the store.
    :param names: of the phases.
    :param run_ref: the run's number.
    """

    @task(trigger_rule=AFTER_PREPARE, pool=push.POOL, pool_slots=pull.connections(store))
    def pull_consent(run_ref: Any, **context: Any) -> dict[str, Any]:
        return pull.before_push(store.key, context)

    for name in names:
        if name == "members":
            yield pull_consent(run_ref)
        yield phase(store, name, run_ref)


def phase(store: StoreSettings, name: str, run_ref: Any) -> TaskGroup:
    """Make the tasks of one phase: a plan, and a push for each of its slices.

    :param store: the store.
    :param name: of the phase.
    :param run_ref: the run's number.
    """

    @task(trigger_rule=AFTER_PREPARE)
    def plan(run_ref: int, **context: Any) -> list[dict[str, Any]]:
        return push.plan(store.key, name, run_ref, context)

    with TaskGroup(name) as group:
        MailchimpPushOperator.partial(
            task_id="push",
            store_key=store.key,
            phase=name,
            run_ref=run_ref,
            pool=push.POOL,
            map_index_template="{{ slice }}",
        ).expand(part=plan(run_ref))
    return group


def timetable(schedule: str | None) -> CronDataIntervalTimetable | DeltaDataIntervalTimetable | None:
    """Return the timetable of a schedule; either kind gives each run the interval since the one before it.

    :param schedule: as the settings have it.
    """
    if schedule is None:
        return None
    if schedule in INTERVALS:
        return DeltaDataIntervalTimetable(INTERVALS[schedule])
    return CronDataIntervalTimetable(schedule, timezone="UTC")


def approval(store: StoreSettings, run_ref: Any) -> TaskGroup:
    """Stop a run that would subscribe more new contacts than the store allows, until somebody has agreed.

    :param store: the store.
    :param run_ref: the run's number.
    """

    @task.branch
    def count_new_subscribers(run_ref: Any, **context: Any) -> list[str]:
        found = push.count_new_subscribers(store.key, run_ref, context["params"].get("ids") or ())
        return ["new_subscribers.approve"] if found > (store.max_new_subscribers or 0) else []

    with TaskGroup("new_subscribers") as group:
        approve = ApprovalOperator(
            task_id="approve",
            subject=f"Subscribe more than {store.max_new_subscribers} new contacts of {store.key}?",
            body=f"This run would subscribe more than {store.max_new_subscribers} people (max_new_subscribers) to the "
            f"audience {store.list_id} for the first time. All of them have an opt-in in the shop, or always_opt_in is "
            "switched on. Nothing has been sent yet. **Reject** ends the run; without an answer within "
            f"{PATIENCE.total_seconds() / 3600:.0f} hours it is rejected.",
            defaults=["Reject"],
            response_timeout=PATIENCE,
            fail_on_reject=True,
            retries=0,
        )
        chain(count_new_subscribers(run_ref), approve)
    return group
