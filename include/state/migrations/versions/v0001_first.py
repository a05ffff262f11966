"""The first state tables and the views for people.

Revision ID: 0001
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE store (
    store_ref smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store_key text NOT NULL,
    account_id text NOT NULL,
    store_id text NOT NULL,
    list_id text NOT NULL,
    order_verb text CONSTRAINT order_verb_known CHECK (order_verb IN ('put', 'post_patch')),
    is_current boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (store_key, account_id, store_id)
);

CREATE TABLE run (
    run_ref bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store_ref smallint NOT NULL REFERENCES store,
    dag_id text NOT NULL,
    dag_run_id text NOT NULL,
    kind text NOT NULL,
    mode text NOT NULL,
    entities text[] NOT NULL,
    confirmed text[] NOT NULL DEFAULT '{}',
    window_start timestamptz,
    window_end timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'running' CONSTRAINT state_known CHECK (state IN ('running', 'success', 'failed')),
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    http_calls bigint NOT NULL DEFAULT 0,
    bytes_sent bigint NOT NULL DEFAULT 0,
    wait_seconds real NOT NULL DEFAULT 0,
    UNIQUE (store_ref, dag_id, dag_run_id)
);

CREATE TABLE slice (
    run_ref bigint NOT NULL REFERENCES run ON DELETE CASCADE,
    entity text COLLATE "C" NOT NULL,
    number integer NOT NULL,
    first_key text,
    last_key text,
    ids text[],
    planned integer NOT NULL,
    cursor text,
    state text NOT NULL DEFAULT 'open' CONSTRAINT state_known CHECK (state IN ('open', 'done')),
    extracted integer NOT NULL DEFAULT 0,
    skipped integer NOT NULL DEFAULT 0,
    unchanged integer NOT NULL DEFAULT 0,
    rejected integer NOT NULL DEFAULT 0,
    unknown integer NOT NULL DEFAULT 0,
    PRIMARY KEY (run_ref, entity, number)
);

CREATE TABLE batch (
    batch_ref bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store_ref smallint NOT NULL REFERENCES store,
    run_ref bigint NOT NULL REFERENCES run,
    entity text COLLATE "C" NOT NULL,
    slice_number integer NOT NULL,
    token text NOT NULL UNIQUE,
    batch_id text,
    state text NOT NULL DEFAULT 'intended'
        CONSTRAINT state_known CHECK (state IN ('intended', 'posted', 'settled', 'lost')),
    operations integer NOT NULL,
    body_bytes integer NOT NULL,
    succeeded integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    rejected integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    posted_at timestamptz,
    completed_at timestamptz,
    settled_at timestamptz
);
CREATE INDEX batch_of_slice ON batch (run_ref, entity, slice_number);
CREATE INDEX batch_open ON batch (store_ref) WHERE state IN ('intended', 'posted');

CREATE TABLE operation (
    batch_ref bigint NOT NULL REFERENCES batch ON DELETE CASCADE,
    seq integer NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    method text NOT NULL,
    payload_hash bytea NOT NULL,
    updated_at timestamptz,
    outcome text,
    status_code smallint,
    PRIMARY KEY (batch_ref, seq)
);

CREATE TABLE ledger (
    store_ref smallint NOT NULL REFERENCES store,
    entity text COLLATE "C" NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    source_key text COLLATE "C",
    payload_hash bytea,
    state text NOT NULL
        CONSTRAINT state_known CHECK (state IN ('pending', 'synced', 'rejected', 'unknown', 'deleted')),
    on_mailchimp boolean NOT NULL DEFAULT false,
    batch_ref bigint,
    read_at timestamptz,
    updated_at timestamptz,
    acknowledged_at timestamptz,
    attempts smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (store_ref, entity, record_id)
);
CREATE INDEX ledger_unfinished ON ledger (store_ref, entity, record_id) WHERE state IN ('pending', 'unknown');
-- Records by the shop's key where that is not the id: parents that are waited for, rejections that are mended.
CREATE INDEX ledger_source ON ledger (store_ref, entity, source_key) WHERE source_key IS NOT NULL;

CREATE TABLE rejected (
    store_ref smallint NOT NULL REFERENCES store,
    entity text COLLATE "C" NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    operation text,
    error_class text NOT NULL,
    title text NOT NULL,
    detail text NOT NULL,
    field text,
    waits_for text COLLATE "C",
    parent_id text COLLATE "C",
    attempts integer NOT NULL DEFAULT 1,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    dag_run_id text NOT NULL,
    PRIMARY KEY (store_ref, entity, record_id)
);
CREATE INDEX rejected_waiting ON rejected (store_ref, entity, waits_for) WHERE waits_for IS NOT NULL;

CREATE TABLE watermark (
    store_ref smallint NOT NULL REFERENCES store,
    entity text COLLATE "C" NOT NULL,
    acknowledged_until timestamptz NOT NULL,
    PRIMARY KEY (store_ref, entity)
);
"""

# Every acknowledged record passes through `ledger` twice per change; vacuum early, the table is large.
_STORAGE = """
ALTER TABLE ledger SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
"""

_VIEWS = """
CREATE VIEW sync_status AS
SELECT s.store_key,
       l.entity,
       count(*) FILTER (WHERE l.state = 'synced') AS synced,
       count(*) FILTER (WHERE l.state = 'pending') AS pending,
       count(*) FILTER (WHERE l.state = 'rejected') AS rejected,
       count(*) FILTER (WHERE l.state = 'unknown') AS unknown,
       count(*) FILTER (WHERE l.state = 'deleted') AS deleted,
       max(l.acknowledged_at) AS last_acknowledged_at,
       coalesce(
           greatest(
               extract(epoch FROM now() - min(l.updated_at) FILTER (WHERE l.state IN ('pending', 'unknown'))), 0),
           0)::double precision AS lag_seconds
FROM ledger l
JOIN store s USING (store_ref)
WHERE s.is_current
GROUP BY s.store_key, l.entity;

CREATE VIEW rejected_records AS
SELECT s.store_key, r.entity, r.record_id, r.operation, r.error_class, r.title, r.detail, r.field, r.attempts,
       r.first_seen_at, r.last_seen_at, r.dag_run_id
FROM rejected r
JOIN store s USING (store_ref)
WHERE s.is_current;

CREATE VIEW batches AS
SELECT s.store_key, b.entity, b.batch_id, b.state, b.operations, b.succeeded, b.failed, b.rejected, b.body_bytes,
       b.created_at, b.posted_at, b.completed_at, b.settled_at,
       extract(epoch FROM b.completed_at - b.posted_at)::double precision AS mailchimp_seconds,
       r.dag_id, r.dag_run_id, b.slice_number
FROM batch b
JOIN store s USING (store_ref)
JOIN run r USING (run_ref);

CREATE VIEW runs AS
SELECT s.store_key, r.dag_id, r.dag_run_id, r.kind, r.mode, r.state, r.window_start, r.window_end,
       r.started_at, r.finished_at,
       coalesce(c.extracted, 0) AS extracted,
       coalesce(c.skipped, 0) AS skipped,
       coalesce(o.operations, 0) AS operations,
       coalesce(o.acknowledged, 0) AS acknowledged,
       coalesce(c.rejected, 0) + coalesce(o.rejected, 0) AS rejected,
       coalesce(c.unchanged, 0) AS unchanged,
       coalesce(c.unknown, 0) AS unknown,
       coalesce(o.batches, 0) AS batches,
       r.http_calls, r.bytes_sent, r.wait_seconds
FROM run r
JOIN store s USING (store_ref)
LEFT JOIN LATERAL (
    SELECT sum(extracted) AS extracted, sum(skipped) AS skipped, sum(rejected) AS rejected, sum(unchanged) AS unchanged,
           sum(unknown) AS unknown
    FROM slice WHERE slice.run_ref = r.run_ref
) c ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS batches, sum(operations) AS operations, sum(succeeded) AS acknowledged,
           sum(batch.rejected) AS rejected
    FROM batch
    JOIN slice ON (slice.run_ref, slice.entity, slice.number) = (batch.run_ref, batch.entity, batch.slice_number)
    WHERE batch.run_ref = r.run_ref AND batch.batch_id IS NOT NULL
) o ON true;
"""


def upgrade() -> None:
    """Create tables, indexes and views in the schema the connection's search path names."""
    for statement in (_TABLES, _STORAGE, _VIEWS):
        op.execute(statement)


def downgrade() -> None:
    """Remove them again."""
    op.execute("DROP VIEW runs, batches, rejected_records, sync_status")
    op.execute("DROP TABLE watermark, rejected, ledger, operation, batch, slice, run, store")
