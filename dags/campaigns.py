"""Read what campaigns achieved: their figures, what each contact did, and the orders that came of them.

| task | reads | into |
|---|---|---|
| `figures` | all campaigns of the store's audience, with statistics and revenue | `mailchimp.campaign_results` |
| `activity` | who was sent it, opened, clicked, bounced, unsubscribed, complained; which orders are ascribed to it | \
`mailchimp.campaign_activity_of_customers`, `mailchimp.campaign_orders`, `mailchimp.campaign_revenue` |

Only what is new is read, and only while a campaign's statistics say that there is something. The activity of a campaign
is followed until `activity_update_interval_days` (90) after it was sent. To leave one out, switch it off:

```sql
UPDATE mailchimp.campaign SET receives_activity = false WHERE campaign_id = '42694e9e57';
```

Its figures are read all the same. Switched on again, what was missed is read. Contacts are kept as hashes of their
addresses; a killed run goes on where it stopped. Nothing is sent to Mailchimp.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, chain, dag, task

from include.config.stores import StoreSettings, load_stores
from mailchimp_airflow import alerts, campaigns, push
from mailchimp_airflow.push_dag import timetable


def campaigns_dag(store: StoreSettings) -> DAG:
    """Build the DAG that reads the results of one store's campaigns."""

    @dag(
        dag_id=f"mailchimp_campaigns__{store.key}",
        dag_display_name=f"Mailchimp campaigns · {store.key}",
        schedule=timetable(store.schedule_campaigns),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        tags=["mailchimp", "campaigns", store.key],
        doc_md=__doc__,
        default_args={
            "owner": store.owner,
            "retries": 2,
            "retry_delay": timedelta(minutes=5),
            "retry_policy": push.RETRY_POLICY,
            "pool": push.POOL,
            **alerts.of_steps(store),
        },
        **alerts.of_dag(store),
    )
    def mailchimp_campaigns() -> None:
        @task
        def figures() -> dict[str, int]:
            return campaigns.read_figures(store.key)

        @task(**alerts.of_last_task(store))
        def activity() -> dict[str, Any]:
            return campaigns.read_activity(store.key)

        chain(figures(), activity())

    return mailchimp_campaigns()


for settings in load_stores().stores:
    if settings.enabled:
        campaigns_dag(settings)
