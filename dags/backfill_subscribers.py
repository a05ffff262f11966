"""Bring subscribers to Mailchimp whom only the shop knows: once, and only those whose opt-in it can prove.

After the first push, which may have been confined to a window or to other entities, a push looks at what changes:
customers from before, or an old newsletter list, are not subscribed by the way. **Trigger this** when you have decided
to bring them. It goes through the whole shop and chooses who has said yes, **with the time of it on record**
(`opted_in` and `opted_in_at` of `customers.sql`), and isn't known to the audience: not to the ledger, and not to
`mailchimp.member`, which the pull fills. `always_opt_in` counts for nothing here. Run `mailchimp_pull` before, so that
the contacts who came to Mailchimp in other ways are known.

| task | does |
|---|---|
| `count` | counts people: with evidence, without, opted out, contacts already, excluded, invalid (its log and XCom) |
| `prepare` | with *Only show who would be subscribed* (the default) nothing more happens; else checks, and chooses |
| `new_subscribers` | asks when they are more than `max_new_subscribers`; without that setting `prepare` refuses |
| `members` | the phase of `mailchimp_push`, for exactly these people: read anew, judged anew, sent in batches |
| `summarise` | closes the run and prints its table |

What is sent counts for addresses that are new to the audience only; nobody's status there is changed. Who opts out
while the run waits for its answer is left out. Trigger it as often as you like: whom Mailchimp has is not sent again.
"""

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, chain, dag, task, teardown

from include.config.stores import StoreSettings, load_stores
from mailchimp_airflow import alerts, backfill_subscribers, push
from mailchimp_airflow.push_dag import approval, phases, task_defaults


def backfill_subscribers_dag(store: StoreSettings) -> DAG:
    """Build the DAG of one store."""

    @dag(
        dag_id=f"mailchimp_backfill_subscribers__{store.key}",
        dag_display_name=f"Mailchimp existing subscribers · {store.key}",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        max_active_runs=1,
        params=backfill_subscribers.params(),
        tags=["mailchimp", "subscribers", store.key],
        doc_md=__doc__,
        default_args=task_defaults(store),
        **alerts.of_dag(store),
    )
    def mailchimp_backfill_subscribers() -> None:
        @task
        def count() -> dict[str, int]:
            return backfill_subscribers.count(store.key)

        @task(pool=push.POOL)
        def prepare(**context: Any) -> int:
            return backfill_subscribers.begin(store.key, context)

        @teardown(on_failure_fail_dagrun=True)
        @task(**alerts.of_last_task(store))
        def summarise(**context: Any) -> None:
            backfill_subscribers.conclude(store.key, context)

        run_ref = prepare()
        # It always asks: without the setting, no run gets so far.
        members = phases(store, [backfill_subscribers.PHASE], run_ref)
        chain(count(), run_ref, approval(store, run_ref), *members, summarise())

    return mailchimp_backfill_subscribers()


for settings in load_stores().stores:
    if settings.enabled:
        backfill_subscribers_dag(settings)
