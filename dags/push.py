"""Push a shop's changes to its Mailchimp store.

Every run looks at what changed in the shop since the last acknowledged point, compares it with the **ledger** (what
Mailchimp acknowledged) and sends only what differs, through Mailchimp **batches**: products first, then customers,
then orders. A phase begins when the one before it is acknowledged.

| task | does |
|---|---|
| `prepare` | checks settings, shop, profile, API key and audience; creates the store; settles batches left behind |
| `plan` | cuts the changed records into slices (tens of thousands each) |
| `push` | per slice: extract, transform, compare, post batches, **defer** while Mailchimp works, read the results |
| `confirm` | closes the phase and moves the watermark |
| `summarise` | always: prints the run's table; fails the run when it is incomplete or too much was rejected |

**When something fails**, clear the failed task: it continues where it stopped and sends nothing twice. Records that
cannot be sent are in the view `mailchimp.rejected_records` with field and reason; they never hold back the others.

**Trigger it by hand** to choose entities, a window, single ids, or a full comparison of the whole shop.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, CronDataIntervalTimetable, TaskGroup, chain, dag, task, teardown

from include.config.stores import StoreSettings, load_stores
from mailchimp_airflow import push
from mailchimp_airflow.operators.push import MailchimpPushOperator


def push_dag(store: StoreSettings) -> DAG:
    """Build the push DAG of one store."""

    @dag(
        dag_id=f"mailchimp_push__{store.key}",
        dag_display_name=f"Mailchimp push · {store.key}",
        schedule=CronDataIntervalTimetable(store.schedule_push, timezone="UTC") if store.schedule_push else None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        params=dict(push.PARAMS),
        tags=["mailchimp", "push", store.key],
        doc_md=__doc__,
        default_args={
            "owner": store.owner,
            "retries": 3,
            "retry_delay": timedelta(minutes=1),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(minutes=15),
            "retry_policy": push.RETRY_POLICY,
        },
    )
    def mailchimp_push() -> None:
        @task
        def prepare(**context: Any) -> int:
            return push.begin(store.key, context)

        @teardown(on_failure_fail_dagrun=True)
        @task
        def summarise(**context: Any) -> None:
            push.conclude(store.key, context)

        def phase(entity: str, run_ref: Any) -> TaskGroup:
            @task
            def plan(run_ref: int, **context: Any) -> list[dict[str, int]]:
                return push.plan(store.key, entity, run_ref, context)

            @task(trigger_rule="none_failed")
            def confirm(run_ref: int) -> dict[str, int]:
                return push.confirm(store.key, entity, run_ref)

            with TaskGroup(entity) as group:
                slices = plan(run_ref)
                sent = MailchimpPushOperator.partial(
                    task_id="push",
                    store_key=store.key,
                    entity=entity,
                    run_ref=run_ref,
                    pool=push.POOL,
                    map_index_template="{{ slice }}",
                ).expand(part=slices)
                chain(slices, sent, confirm(run_ref))
            return group

        run_ref = prepare()
        chain(run_ref, *[phase(entity, run_ref) for entity in push.ENTITIES], summarise())

    return mailchimp_push()


for settings in load_stores().stores:
    if settings.enabled:
        push_dag(settings)
