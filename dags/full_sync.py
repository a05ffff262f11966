"""Bring everything of a shop to Mailchimp: the first upload, and "sync all" whenever the two have drifted apart.

A full sync compares **every** record of the chosen entities with the ledger and sends what differs, in slices that run
in parallel; unchanged records cost nothing. It also finds what the shop no longer has, by comparing ids, and deletes it
(within `max_deletes` and `max_deletes_percent`, unless *Delete whatever is gone* is switched on).

While it runs, the store is marked as syncing (`is_syncing`), so that Mailchimp's automations write to nobody about old
orders. The mark is cleared before open carts are sent, at the latest by the last task, whatever happens.

It can be interrupted at any time: clear the failed tasks, or trigger it again, and it goes on with what is missing.

**Choose** entities, or *Changed since* and *until* to bring a part of the orders only; products, customers and coupons,
which they refer to, are always compared completely. A first load that is confined in this way stays so: the pushes go
on from its end, and older orders come when they change, or with a full sync without dates. The phases and tasks are
those of `mailchimp_push`.
"""

from include.config.stores import load_stores
from mailchimp_airflow.push_dag import push_dag

for store in load_stores().stores:
    if store.enabled:
        push_dag(
            store,
            dag_id=f"mailchimp_full_sync__{store.key}",
            name="Mailchimp full sync",
            schedule=store.schedule_full_sync,
            mode="full",
            tags=["full sync"],
            doc_md=__doc__,
        )
