"""Compare a shop, what this project remembers of it (the ledger), and Mailchimp, and mend what has drifted.

A push sends what *changes* in the shop. What somebody changes, deletes or adds **at Mailchimp**, it never sees, nor
what the ledger has wrong. This DAG reads both sides completely, compares them record by record, by id and by content,
and reports, in the log of `report` and in the views `mailchimp.drift` and `mailchimp.reconciliation`:

| found | means | a repair |
|---|---|---|
| `missing` | the ledger says that Mailchimp has it, and Mailchimp doesn't | sends it again; not contacts |
| `stale` | a field differs | sends it again |
| `incomplete` | a line, a variant … is missing or too many | sends it again, deletes what is too many |
| `orphaned` | Mailchimp has it, the shop doesn't | deletes it |
| `duplicated` | likewise, and it doubles an order or a customer of the shop | deletes it, unless orders refer to it |
| `unknown` | equal on both sides, but the ledger has lost it | corrects the ledger, sends nothing |
| `denied` | Mailchimp has it, though the ledger says deleted or rejected | corrects the ledger, sends what differs |
| `gone` | the ledger alone believes in it | corrects the ledger |
| `revenue` | orders or revenue of a month and currency differ | by mending the orders behind it |

Without *Repair* it only reads. A repair corrects the ledger, then **starts `mailchimp_push`**, which sends what is owed
and nothing else; deletions obey `max_deletes` and `max_deletes_percent` there. A ledger that was lost altogether is
rebuilt in this way: everything that is equal counts as acknowledged and isn't sent again.

Consent is never compared: nobody is subscribed, unsubscribed or put back into the audience by this.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, chain, dag, task

from include.config.stores import StoreSettings, load_stores
from mailchimp_airflow import alerts, push, reconcile
from mailchimp_airflow.push_dag import timetable


def reconcile_dag(store: StoreSettings) -> DAG:
    """Build the reconciliation of one store."""

    @dag(
        dag_id=f"mailchimp_reconcile__{store.key}",
        dag_display_name=f"Mailchimp reconcile · {store.key}",
        schedule=timetable(store.schedule_reconcile),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        params=reconcile.params(),
        render_template_as_native_obj=True,
        tags=["mailchimp", "reconcile", store.key],
        doc_md=__doc__,
        default_args={
            "owner": store.owner,
            "retries": 2,
            "retry_delay": timedelta(minutes=5),
            "retry_policy": push.RETRY_POLICY,
            **alerts.of_steps(store),
        },
        **alerts.of_dag(store),
    )
    def mailchimp_reconcile() -> None:
        @task(pool=push.POOL)
        def compare(**context: Any) -> int:
            return reconcile.compare(store.key, context)

        @task
        def report(reconciliation_ref: Any) -> dict[str, Any]:
            return reconcile.report(store.key, reconciliation_ref)

        @task(task_id=reconcile.REPAIR)
        def repair(reconciliation_ref: Any, **context: Any) -> list[str]:
            return reconcile.repair(store.key, reconciliation_ref, context)

        @task.short_circuit
        def anything_to_send(entities: Any) -> bool:
            return bool(entities)

        # Not by an asset: an asset's event carries no conf, and the deletions may have to be allowed.
        send = TriggerDagRunOperator(
            task_id="send",
            trigger_dag_id=f"mailchimp_push__{store.key}",
            trigger_run_id="reconcile__{{ run_id }}",
            conf={"allow_deletes": "{{ params.allow_deletes }}"},
            skip_when_already_exists=True,
        )

        @task(trigger_rule="none_failed", **alerts.of_last_task(store))
        def conclude() -> None:
            """Tell that runs succeed again, if those before had failed."""

        reference = compare()
        repaired = repair(reference)
        chain(report(reference), repaired)
        chain(anything_to_send(repaired), send, conclude())

    return mailchimp_reconcile()


for settings in load_stores().stores:
    if settings.enabled:
        reconcile_dag(settings)
