"""State tables as they are after years: millions of rows, made inside PostgreSQL in seconds."""

from __future__ import annotations

from sqlalchemy import Engine, text

#: What a shop with :rows records in its ledger has besides, in the proportions of three years of pushes.
_FILL = {
    # Three records in five are orders, one in five customers, the rest contacts and products. One in a hundred is
    # rejected, one in fifty deleted. The ids of customers and contacts aren't the shop's keys.
    "ledger": """
        INSERT INTO ledger (store_ref, entity, record_id, source_key, payload_hash, state, on_mailchimp, read_at,
                            updated_at, acknowledged_at)
        SELECT :store, entity, CASE WHEN person THEN md5('person' || i) ELSE 'old-' || i END,
               CASE WHEN person THEN 'old-' || i END, decode(md5(i::text), 'hex'),
               CASE WHEN i % 100 = 0 THEN 'rejected' WHEN i % 50 = 1 THEN 'deleted' ELSE 'synced' END,
               i % 100 <> 0 AND i % 50 <> 1, moment, moment, moment
        FROM (
            SELECT i, now() - i % 1000 * interval '1 day' - interval '1 day' AS moment,
                   CASE WHEN i % 20 < 12 THEN 'orders' WHEN i % 20 < 16 THEN 'customers' WHEN i % 20 < 19 THEN 'members'
                        ELSE 'products' END AS entity,
                   i % 20 BETWEEN 12 AND 18 AS person
            FROM generate_series(1, :rows) AS i
        ) AS made
        ORDER BY entity, person, i
    """,
    "run": """
        INSERT INTO run (store_ref, dag_id, dag_run_id, kind, mode, entities, confirmed, planned, window_start,
                         window_end, state, started_at, finished_at)
        SELECT :store, 'push', 'old-' || i, 'scheduled', 'incremental', '{orders}', '{orders}', '{orders}', moment,
               moment, CASE WHEN i % 50 = 0 THEN 'failed' ELSE 'success' END, moment, moment
        FROM (SELECT i, now() - i * interval '15 minutes' AS moment FROM generate_series(1, :rows / 60) AS i) AS made
    """,
    "slice": """
        INSERT INTO slice (run_ref, entity, number, planned, state, extracted, phase)
        SELECT run_ref, entity, 0, 20, 'done', 20, entity
        FROM run, unnest(ARRAY['orders', 'customers', 'members']) AS entity WHERE dag_run_id LIKE 'old-%'
    """,
    "batch": """
        INSERT INTO batch (store_ref, run_ref, entity, slice_number, token, batch_id, state, operations, body_bytes,
                           succeeded, created_at, posted_at, completed_at, settled_at)
        SELECT :store, run_ref, entity, 0, md5(run_ref || entity), 'old-' || run_ref || entity, 'settled', 20, 20000,
               20, started_at, started_at, started_at, started_at
        FROM run, unnest(ARRAY['orders', 'customers', 'members']) AS entity WHERE dag_run_id LIKE 'old-%'
    """,
    "operation": """
        INSERT INTO operation (batch_ref, seq, record_id, method, payload_hash, updated_at, outcome, status_code)
        SELECT batch_ref, i, 'old-' || batch_ref * 20 + i, 'PUT', decode(md5(i::text), 'hex'), created_at, 'ok', 200
        FROM batch, generate_series(0, 19) AS i WHERE batch_id LIKE 'old-%'
    """,
    "rejected": """
        INSERT INTO rejected (store_ref, entity, record_id, operation, error_class, title, detail, dag_run_id,
                              waits_for)
        SELECT store_ref, entity, record_id, 'PUT', 'invalid', 'Invalid Resource', 'No.',
               'old-' || 1 + (row_number() OVER ()) % greatest(:rows / 60, 1),
               CASE WHEN entity = 'orders' AND record_id LIKE '%00000' THEN 'products:old-0' END
        FROM ledger WHERE state = 'rejected' AND batch_ref IS NULL
    """,
    "removal": """
        INSERT INTO removal (store_ref, entity, record_id, kept_at)
        SELECT store_ref, entity, record_id, now() - interval '1 day' FROM ledger
        WHERE entity = 'customers' AND on_mailchimp AND right(record_id, 2) < '08'
    """,
    "stale_child": """
        INSERT INTO stale_child (store_ref, entity, record_id, child, attempts)
        SELECT store_ref, entity, record_id, 'lines/1', 1000 FROM ledger
        WHERE entity = 'orders' AND on_mailchimp AND right(record_id, 2) = '02'
    """,
    "alias": """
        INSERT INTO alias (store_ref, entity, source_key, record_id)
        SELECT :store, entity, 'former-' || i, md5('person' || i) FROM generate_series(1, :rows / 40) AS i,
               unnest(ARRAY['customers', 'members']) AS entity
    """,
    "carried_contact": """
        INSERT INTO carried_contact (store_ref, record_id, carried_to)
        SELECT :store, md5('before' || i), md5('person' || i) FROM generate_series(1, :rows / 40) AS i
    """,
    "segment": "INSERT INTO segment (store_ref, name, segment_id) VALUES (:store, 'everybody', 4711)",
    "segment_member": """
        INSERT INTO segment_member (store_ref, name, customer_id, member_hash)
        SELECT :store, 'everybody', 'old-' || i, md5('person' || i) FROM generate_series(1, :rows / 40) AS i
    """,
    "replay": """
        INSERT INTO replay (run_ref, entity, record_id, store_ref, source_key, error_class)
        SELECT run_ref, 'orders', 'old-' || run_ref, store_ref, 'old-' || run_ref, 'invalid' FROM run
        WHERE dag_run_id LIKE 'old-%'
    """,
    "reconciliation": """
        INSERT INTO reconciliation (store_ref, dag_run_id, started_at, finished_at)
        SELECT :store, 'old-' || i, now(), now() FROM generate_series(1, 100) AS i
    """,
    "drifted": """
        INSERT INTO drifted (reconciliation_ref, entity, kind, record_id, action, held)
        SELECT reconciliation_ref, 'orders', 'stale', 'old-' || i, 'none', true
        FROM reconciliation, generate_series(1, :rows / 10000) AS i
    """,
}


def age(engine: Engine, store_ref: int, rows: int) -> dict[str, int]:
    """Fill the state tables of a store with so many records of the past; returns how many rows each table has now.

    None of it is owed, and none of it is in the shop.
    """
    with engine.begin() as connection:
        # No checks of foreign keys: what is made here fits.
        connection.exec_driver_sql("SET LOCAL search_path TO mailchimp; SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql("SET LOCAL work_mem = '256MB'; SET LOCAL jit = off")
        # No log of what can be made again.
        connection.exec_driver_sql("ALTER TABLE ledger SET UNLOGGED; ALTER TABLE operation SET UNLOGGED")
        for statement in _FILL.values():
            connection.execute(text(statement), {"store": store_ref, "rows": rows})
        for table in _FILL:
            # Nothing in the background may touch pages while others are counted.
            connection.exec_driver_sql(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("SET search_path TO mailchimp")
        connection.exec_driver_sql(f"VACUUM ANALYZE {', '.join(_FILL)}")
        counts = {table: connection.scalar(text(f"SELECT count(*) FROM {table}")) for table in _FILL}
        connection.exec_driver_sql("RESET search_path")
    return counts
