"""What operating a store needs to remember: one constant per feature.

Revision ID: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Which rejected records a run was asked to send once more.
_REPLAY_TABLES = """
CREATE TABLE replay (
    run_ref bigint NOT NULL REFERENCES run,
    entity text COLLATE "C" NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    store_ref smallint NOT NULL REFERENCES store,
    source_key text COLLATE "C" NOT NULL,
    error_class text NOT NULL,
    PRIMARY KEY (run_ref, entity, record_id)
);
"""

# What was found when shop, ledger and Mailchimp were compared, and what is to be done about each record.
_RECONCILE_TABLES = """
CREATE TABLE reconciliation (
    reconciliation_ref bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store_ref smallint NOT NULL REFERENCES store,
    dag_run_id text NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    repaired_at timestamptz,
    http_calls bigint NOT NULL DEFAULT 0,
    counts jsonb NOT NULL DEFAULT '{}',
    revenue jsonb NOT NULL DEFAULT '[]',
    UNIQUE (store_ref, dag_run_id)
);

CREATE TABLE drifted (
    reconciliation_ref bigint NOT NULL REFERENCES reconciliation ON DELETE CASCADE,
    entity text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    fields text[] NOT NULL DEFAULT '{}',
    action text NOT NULL,
    held boolean NOT NULL,
    source_key text COLLATE "C",
    payload_hash bytea,
    read_at timestamptz,
    updated_at timestamptz,
    repaired_at timestamptz,
    PRIMARY KEY (reconciliation_ref, entity, kind, record_id)
);

-- What the newest comparison of each store found.
CREATE VIEW drift AS
SELECT s.store_key, c.dag_run_id, c.started_at AS found_at, d.entity, d.kind, d.record_id, d.fields, d.action,
       d.repaired_at
FROM store s
JOIN LATERAL (
    SELECT * FROM reconciliation WHERE store_ref = s.store_ref AND finished_at IS NOT NULL
    ORDER BY reconciliation_ref DESC LIMIT 1
) c ON true
JOIN drifted d USING (reconciliation_ref)
WHERE s.is_current;
"""

# Which of Mailchimp's batches are ours: a batch whose reply was lost is looked for among the others.
_HAND_OFF_TABLES = "CREATE INDEX batch_at_mailchimp ON batch (batch_id) WHERE batch_id IS NOT NULL"

# Of tables that grow with the years, what every run asks for: each serves one query (tables.py says which).
_INDEXES = """
CREATE INDEX run_running ON run (store_ref) WHERE state = 'running';
CREATE INDEX rejected_of_run ON rejected (store_ref, dag_run_id);
CREATE INDEX removal_due ON removal (store_ref, entity, kept_at);
CREATE INDEX stale_child_open ON stale_child (store_ref, entity, record_id) WHERE attempts < 1000;
CREATE INDEX segment_contact ON segment_member (store_ref, name, member_hash);
"""

_COLUMNS = """
ALTER TABLE store ADD COLUMN slow_until timestamptz;
ALTER TABLE run ADD COLUMN quiet boolean NOT NULL DEFAULT false;
UPDATE run SET quiet = mode = 'full' OR window_start IS NULL OR kind = 'backfill';
"""

# The proofs that people were erased.
_ERASURE_TABLES = """
CREATE TABLE erasure (
    store_ref smallint NOT NULL REFERENCES store,
    erasure_id text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C",
    requested_at timestamptz,
    erased_at timestamptz,
    contacts integer NOT NULL DEFAULT 0,
    customers integer NOT NULL DEFAULT 0,
    carts integer NOT NULL DEFAULT 0,
    orders integer NOT NULL DEFAULT 0,
    dag_run_id text NOT NULL,
    PRIMARY KEY (store_ref, erasure_id)
);

CREATE VIEW erasures AS
SELECT s.store_key, e.erasure_id, e.customer_id, e.requested_at, e.erased_at, e.contacts, e.customers, e.carts,
       e.orders, e.dag_run_id
FROM erasure e
JOIN store s USING (store_ref);
"""


def upgrade() -> None:
    """Add the tables."""
    op.execute(_COLUMNS)
    op.execute(_ERASURE_TABLES)
    op.execute(_REPLAY_TABLES)
    op.execute(_RECONCILE_TABLES)
    op.execute(_HAND_OFF_TABLES)
    op.execute(_INDEXES)


def downgrade() -> None:
    """Remove them again."""
    op.execute("DROP VIEW erasures; DROP TABLE erasure")
    op.execute("DROP INDEX run_running, rejected_of_run, removal_due, stale_child_open, segment_contact")
    op.execute("DROP INDEX batch_at_mailchimp")
    op.execute("DROP VIEW drift; DROP TABLE drifted, reconciliation")
    op.execute("DROP TABLE replay")
    op.execute("ALTER TABLE run DROP COLUMN quiet; ALTER TABLE store DROP COLUMN slow_until")
