"""Counts and removes everything that is kept of one store."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, text

from include.state.bookmarks import no_pull_until_the_end
from include.state.campaign_results import forget_campaigns, forget_orders
from include.state.pull_tables import pull_metadata
from include.state.tables import audience, audience_group, metadata, store


class StoreInUse(RuntimeError):
    """Runs of the store are at work; `dag_run_ids` names them."""

    def __init__(self, dag_run_ids: list[str]) -> None:
        self.dag_run_ids = dag_run_ids
        super().__init__(f"in use by {', '.join(dag_run_ids)}")


@dataclass(frozen=True)
class Remains:
    """What is kept of a store: records by entity, rejected ones among them, runs, and batches without an outcome."""

    records: Mapping[str, int]
    rejected: int
    runs: int
    open_batches: int


def remaining(connection: Connection, store_ref: int) -> Remains:
    """Count what is kept of a store."""
    arguments = {"store_ref": store_ref}
    records = connection.execute(
        text("SELECT entity, count(*) FROM ledger WHERE store_ref = :store_ref GROUP BY entity ORDER BY entity"),
        arguments,
    )
    rejected, runs, open_batches = connection.execute(
        text("""
            SELECT (SELECT count(*) FROM rejected WHERE store_ref = :store_ref),
                   (SELECT count(*) FROM run WHERE store_ref = :store_ref),
                   (SELECT count(*) FROM batch WHERE store_ref = :store_ref AND state IN ('intended', 'posted'))
        """),
        arguments,
    ).one()
    return Remains({row[0]: row[1] for row in records}, rejected, runs, open_batches)


def running_runs(connection: Connection, store_ref: int, *, besides: int | None = None) -> list[str]:
    """Return the DAG run ids of a store's runs at work, but for `besides`; one older than a day counts as dead."""
    rows = connection.execute(
        text("""
            SELECT dag_run_id FROM run
            WHERE store_ref = :store_ref AND state = 'running' AND run_ref IS DISTINCT FROM CAST(:besides AS bigint)
              AND started_at > now() - interval '1 day'
            ORDER BY run_ref
        """),
        {"store_ref": store_ref, "besides": besides},
    )
    return list(rows.scalars())


def remove_store_state(connection: Connection, store_ref: int, *, besides: int | None = None) -> dict[str, int]:
    """Delete every row about a store; with the account's last store also what is known of its audiences.

    Args:
        connection: a transaction on the state tables.
        store_ref: the store.
        besides: a run that doesn't count as running: the one that asks.

    Returns:
        How many rows were deleted, by table (rows that go with those of another table are not counted).

    Raises:
        StoreInUse: a run is at work, or a pull reads the audience.
    """
    # Whoever registers a run needs this row too: either we see that run, or it finds no store.
    found = connection.execute(
        select(store.c.account_id, store.c.list_id).where(store.c.store_ref == store_ref).with_for_update()
    ).one_or_none()
    account_id = found.account_id if found else None
    in_use = running_runs(connection, store_ref, besides=besides)
    if found and not no_pull_until_the_end(connection, found.account_id, found.list_id):
        in_use.append(f"a pull of the audience {found.list_id}")
    if in_use:
        raise StoreInUse(in_use)
    deleted = {"campaign_order": forget_orders(connection, store_ref)}
    for table in reversed([*metadata.sorted_tables, *pull_metadata.sorted_tables]):  # children first
        if "store_ref" in table.c:
            deleted[table.name] = connection.execute(delete(table).where(table.c.store_ref == store_ref)).rowcount
    if connection.scalar(select(store.c.store_ref).where(store.c.account_id == account_id).limit(1)) is None:
        for table in (*pull_metadata.sorted_tables, audience_group, audience):
            gone = connection.execute(delete(table).where(table.c.account_id == account_id)).rowcount
            deleted[table.name] = deleted.get(table.name, 0) + gone
        deleted["campaign"] = forget_campaigns(connection, str(account_id))
    return {table: count for table, count in deleted.items() if count}
