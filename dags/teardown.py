"""Take a store's integration away again, in two steps: look, then remove.

| task | does |
|---|---|
| `inventory` | lists what this project remembers of the store, and what the store at Mailchimp holds |
| `remove` | removes it, but only if the store's id was typed into the form |

Trigger it without the id first: it only lists. **What this project remembers** (ledger, batches, rejected records,
runs) can be built again by a push, which then sends everything once more. **The store at Mailchimp** can't: its orders,
customers, carts and coupons are deleted there, and with them the revenue that campaigns were credited with. Contacts
of the audience always stay. Pause the store's other DAGs before, and set `enabled: false` after.
"""

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, chain, dag, task

from include.config.stores import StoreSettings, load_stores
from mailchimp_airflow import push, teardown


def teardown_dag(store: StoreSettings) -> DAG:
    """Build the teardown DAG of one store."""

    @dag(
        dag_id=f"mailchimp_teardown__{store.key}",
        dag_display_name=f"Mailchimp teardown · {store.key}",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        max_active_runs=1,
        params=teardown.params(),
        tags=["mailchimp", "teardown", store.key],
        doc_md=__doc__,
        default_args={"owner": store.owner, "retries": 1, "retry_policy": push.RETRY_POLICY},
    )
    def mailchimp_teardown() -> None:
        @task
        def inventory() -> dict[str, Any]:
            return teardown.take_inventory(store.key)

        @task
        def remove(**context: Any) -> bool:
            return teardown.remove(store.key, context)

        chain(inventory(), remove())

    return mailchimp_teardown()


for settings in load_stores().stores:
    teardown_dag(settings)
