"""Bring back to the shop what people and marketers do at Mailchimp: opt-outs first of all.

1. **members** reads the contacts of the store's audience that have changed since the last pull, the archived ones too,
   into `mailchimp.member`. Each change of a contact's status is a row of `mailchimp.consent_event`. Who unsubscribed,
   bounced or was archived is opted out in the shop's own table, by the profile's statement `consent_write_back`, in the
   transaction that records it; unless the shop has an opt-in that is newer (`mailchimp.consent_conflict`), or the
   opt-out is the shop's own, which a push has sent. Nobody is ever opted in.
2. **audiences** reads all audiences of the account with their groups, merge fields and statistics, each completely:
   when they were last read more than an hour ago, and whenever the DAG is triggered by hand.

Of stores that share an audience one reads it at a time; the others tell their shops what it has found.

The first pull reads everything. So does *Read everything*, and by itself a pull every seven days: it finds what was
missed, and who was deleted. A pull that was killed goes on with the page it was at.

Look at `mailchimp.members` and `mailchimp.consent_events`: contacts are hashes there, with the shop's own customer ids.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, chain, dag, task

from include.config.stores import StoreSettings, load_stores
from mailchimp_airflow import alerts, pull, push
from mailchimp_airflow.push_dag import timetable


def pull_dag(store: StoreSettings) -> DAG:
    """Build the pull of one store."""

    @dag(
        dag_id=f"mailchimp_pull__{store.key}",
        dag_display_name=f"Mailchimp pull · {store.key}",
        schedule=timetable(store.schedule_pull),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        params=pull.params(),
        tags=["mailchimp", "pull", store.key],
        doc_md=__doc__,
        default_args={
            "owner": store.owner,
            "retries": 3,
            "retry_delay": timedelta(minutes=1),
            "retry_policy": push.RETRY_POLICY,
            "pool": push.POOL,
            "pool_slots": pull.connections(store),
            **alerts.of_steps(store),
        },
        **alerts.of_dag(store),
    )
    def mailchimp_pull() -> None:
        last = alerts.of_last_task(store)

        @task
        def members(**context: Any) -> dict[str, Any]:
            return pull.members(store.key, context)

        @task(**last, on_skipped_callback=last.get("on_success_callback"))
        def audiences(**context: Any) -> int:
            return pull.audiences(store.key, context)

        # Opt-outs come first: an audience that can't be read must not hold them up.
        chain(members(), audiences())

    return mailchimp_pull()


for settings in load_stores().stores:
    if settings.enabled:
        pull_dag(settings)
