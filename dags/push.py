"""Push a shop's changes to its Mailchimp store.

Every run looks at what changed in the shop since the last acknowledged point, compares it with the **ledger** (what
Mailchimp acknowledged) and sends only what differs, through Mailchimp **batches**. It does so in phases; a phase begins
when the one before it is acknowledged.

| phase | does |
|---|---|
| `products` | products with variants and images |
| `members` | subscriptions and opt-outs recorded in the shop; never raises the status of a contact the audience has |
| `customers` | customers; somebody who is new to the audience becomes a contact by this |
| `promo_rules`, `promo_codes` | coupons and their codes |
| `closed_carts` | deletes carts that were ordered, emptied or given up, before an order is written |
| `orders` | orders; a product that one needs and Mailchimp lacks is sent along |
| `carts` | carts that nobody has touched for a while |
| `removals` | deletes what the shop no longer has; stops when that is more than the settings allow |

| task | does |
|---|---|
| `prepare` | checks settings, shop, profile, API key and audience; creates the store; settles batches left behind |
| `dry_run` | with *Only show what would be sent*: logs the forecast, writes nothing; all other tasks are skipped |
| `plan` | cuts what a phase has to look at into slices (tens of thousands of records each) |
| `push` | per slice: extract, transform, compare, post batches, **defer** while Mailchimp works, read the results |
| `pull_consent` | after the products: reads what contacts told Mailchimp since, and opts them out in the shop |
| `segments` | where the store has tags or segments: sends who joined and who left |
| `summarise` | always: moves the watermarks, prints the run's table; fails the run when it is incomplete |

**When something fails**, clear the failed task: it continues where it stopped and sends nothing twice. Records that
cannot be sent are in the view `mailchimp.rejected_records` with field and reason; they never hold back the others.

**Trigger it by hand** to choose entities, a window, single ids, or a full comparison of the whole shop.
"""

from include.config.stores import load_stores
from mailchimp_airflow.push_dag import push_dag

for store in load_stores().stores:
    if store.enabled:
        push_dag(
            store,
            dag_id=f"mailchimp_push__{store.key}",
            name="Mailchimp push",
            schedule=store.schedule_push,
            mode="incremental",
            tags=["push"],
            doc_md=__doc__,
        )
