"""Read contacts as soon as Mailchimp's webhooks say that something happened to them.

The API server takes Mailchimp's calls at `/mailchimp/webhooks/<key>` and stores whom they are about, as hashes. A
watcher in the triggerer sees them within seconds and updates the asset that starts this DAG. Many at once make one run.

**contacts** asks Mailchimp for each of these contacts: a call is only a hint, the contact itself is the truth. It is
saved as the pull does it: a change of its status is a row of `mailchimp.consent_event` (source `webhook`), and an
opt-out is in the shop's own table in the same transaction. After a mass unsubscribe, of more than 500 contacts, the
listing of what changed is read instead, in a few calls.

No bookmark moves by it, so `mailchimp_pull` reads the same changes once more and finds nothing new. Leave that switched
on: calls may be lost. Triggered by hand, this DAG works off whatever is waiting.

There is one of it for each store with the setting `webhooks: true`.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, dag, task

from include.config.stores import StoreSettings, load_stores
from mailchimp_airflow import alerts, pull, push
from mailchimp_airflow.triggers.webhooks import MailchimpWebhookTrigger


def webhook_dag(store: StoreSettings, state_schema: str) -> DAG:
    """Build the DAG of one store's webhooks."""
    watcher = AssetWatcher(
        name=f"mailchimp_webhooks__{store.key}",
        trigger=MailchimpWebhookTrigger(store.key, store.shop_conn_id, state_schema),
    )
    told = Asset(f"mailchimp_webhooks__{store.key}", uri=f"mailchimp://{store.key}/webhooks", watchers=[watcher])

    @dag(
        dag_id=f"mailchimp_webhook__{store.key}",
        dag_display_name=f"Mailchimp webhook · {store.key}",
        schedule=[told],
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
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
    def mailchimp_webhook() -> None:
        @task(**alerts.of_last_task(store))
        def contacts(**context: Any) -> dict[str, Any]:
            return pull.of_webhooks(store.key, context)

        contacts()

    return mailchimp_webhook()


known = load_stores()
for settings in known.stores:
    if settings.enabled and settings.webhooks:
        webhook_dag(settings, known.state_schema)
