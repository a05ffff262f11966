"""Send rejected records once more, as the shop has them now.

A record that Mailchimp or one of our own rules refuses never holds back the others: it is kept in the view
`mailchimp.rejected_records`, with class, field and reason, and leaves it when it succeeds or when the shop no longer
has it. Most need no replay: what failed for Mailchimp's sake is sent with the next run, what waits for a product or
customer as soon as that is acknowledged, and everything else when it changes in the shop.

**Trigger this** when something was mended that the shop's rows don't show: a setting, the profile's SQL, a row changed
without its `updated_at`, or something at Mailchimp (a group, a merge field, a limit).

| task | does |
|---|---|
| `count` | counts what the form names, by entity and error class (its log and XCom); with *Only count* that is all |
| `prepare` | checks what every run checks, then makes the records owed: should this run die, the next push sends them |
| phases | those of `mailchimp_push`, for exactly these records: their **current** rows are read, judged and sent |
| `summarise` | how many succeeded, how many are rejected again and why; records rejected again fail no run |

An empty form means everything, except the class `compliance`: such contacts have opted out in a way that only they can
take back, so it has to be named. What a run may do to anybody's consent is the same as ever.
"""

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, chain, dag, task, teardown

from include.config.stores import StoreSettings, load_stores
from mailchimp_airflow import alerts, push, replay
from mailchimp_airflow.push_dag import approval, phases, task_defaults


def replay_dag(store: StoreSettings) -> DAG:
    """Build the replay DAG of one store."""

    @dag(
        dag_id=f"mailchimp_replay__{store.key}",
        dag_display_name=f"Mailchimp replay · {store.key}",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        max_active_runs=1,
        params=replay.params(),
        tags=["mailchimp", "replay", store.key],
        doc_md=__doc__,
        default_args=task_defaults(store),
        **alerts.of_dag(store),
    )
    def mailchimp_replay() -> None:
        @task
        def count(**context: Any) -> dict[str, Any]:
            return replay.count(store.key, context)

        @task(pool=push.POOL)
        def prepare(**context: Any) -> int:
            return replay.begin(store.key, context)

        @teardown(on_failure_fail_dagrun=True)
        @task(**alerts.of_last_task(store))
        def summarise(**context: Any) -> dict[str, int]:
            return replay.conclude(store.key, context)

        run_ref = prepare()
        steps: list[Any] = [count(), run_ref]
        if store.max_new_subscribers is not None:
            steps.append(approval(store, run_ref))
        chain(*steps, *phases(store, push.PHASES, run_ref), summarise())

    return mailchimp_replay()


for settings in load_stores().stores:
    if settings.enabled:
        replay_dag(settings)
