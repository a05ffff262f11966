"""What carts, coupons, members, deletions and groups need to remember.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_CHANGES = """
ALTER TABLE run ADD COLUMN audience jsonb, ADD COLUMN planned text[] NOT NULL DEFAULT '{}';
ALTER TABLE slice ADD COLUMN phase text COLLATE "C";
UPDATE slice SET phase = entity;
ALTER TABLE slice ALTER COLUMN phase SET NOT NULL;
ALTER TABLE batch ADD COLUMN purpose text NOT NULL DEFAULT 'write'
    CONSTRAINT purpose_known CHECK (purpose IN ('write', 'remove', 'children'));
ALTER TABLE operation ADD COLUMN child text, ADD COLUMN children text[], ALTER COLUMN payload_hash DROP NOT NULL;
"""

_TABLES = """
-- Records that the shop no longer yields, to be looked at again by the run's last phase and then deleted at Mailchimp.
CREATE TABLE removal (
    store_ref smallint NOT NULL REFERENCES store,
    entity text COLLATE "C" NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    noticed_at timestamptz NOT NULL DEFAULT now(),
    kept_at timestamptz,
    PRIMARY KEY (store_ref, entity, record_id)
);

-- Lines, variants and images that Mailchimp still holds although the record's last update no longer had them.
CREATE TABLE stale_child (
    store_ref smallint NOT NULL REFERENCES store,
    entity text COLLATE "C" NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    child text COLLATE "C" NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (store_ref, entity, record_id, child)
);

-- Rows of the shop for which another row speaks: several accounts with one e-mail address.
CREATE TABLE alias (
    store_ref smallint NOT NULL REFERENCES store,
    entity text COLLATE "C" NOT NULL,
    source_key text COLLATE "C" NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (store_ref, entity, source_key)
);
CREATE INDEX alias_of_record ON alias (store_ref, entity, record_id);

-- Addresses of contacts that were changed at Mailchimp because the shop's customer has a new one.
CREATE TABLE carried_contact (
    store_ref smallint NOT NULL REFERENCES store,
    record_id text COLLATE "C" NOT NULL,
    carried_to text COLLATE "C" NOT NULL,
    carried_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (store_ref, record_id)
);

CREATE TABLE refused_campaign (
    store_ref smallint NOT NULL REFERENCES store,
    campaign_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (store_ref, campaign_id)
);

CREATE TABLE audience (
    account_id text NOT NULL,
    list_id text NOT NULL,
    name text NOT NULL,
    double_optin boolean NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    subscribe_by_default boolean NOT NULL DEFAULT false,
    removed_at timestamptz,
    read_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, list_id)
);

CREATE TABLE audience_group (
    account_id text NOT NULL,
    list_id text NOT NULL,
    group_id text NOT NULL,
    category_id text NOT NULL,
    category text NOT NULL,
    name text NOT NULL,
    former_names text[] NOT NULL DEFAULT '{}',
    is_active boolean NOT NULL DEFAULT true,
    subscribe_by_default boolean NOT NULL DEFAULT false,
    removed_at timestamptz,
    PRIMARY KEY (account_id, list_id, group_id)
);

CREATE TABLE segment (
    store_ref smallint NOT NULL REFERENCES store,
    name text NOT NULL,
    segment_id bigint NOT NULL,
    PRIMARY KEY (store_ref, name)
);

CREATE TABLE segment_member (
    store_ref smallint NOT NULL,
    name text NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    member_hash text COLLATE "C" NOT NULL,
    PRIMARY KEY (store_ref, name, customer_id),
    FOREIGN KEY (store_ref, name) REFERENCES segment ON DELETE CASCADE
);
"""

# As before, with the deletions apart from what was acknowledged.
_RUNS_VIEW = """
CREATE OR REPLACE VIEW runs AS
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
       r.http_calls, r.bytes_sent, r.wait_seconds,
       coalesce(o.deleted, 0) AS deleted
FROM run r
JOIN store s USING (store_ref)
LEFT JOIN LATERAL (
    SELECT sum(extracted) AS extracted, sum(skipped) AS skipped, sum(rejected) AS rejected, sum(unchanged) AS unchanged,
           sum(unknown) AS unknown
    FROM slice WHERE slice.run_ref = r.run_ref
) c ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS batches, sum(operations) AS operations,
           sum(succeeded) FILTER (WHERE purpose = 'write') AS acknowledged,
           sum(succeeded) FILTER (WHERE purpose = 'remove') AS deleted,
           sum(batch.rejected) AS rejected
    FROM batch
    JOIN slice ON (slice.run_ref, slice.entity, slice.number) = (batch.run_ref, batch.entity, batch.slice_number)
    WHERE batch.run_ref = r.run_ref AND batch.batch_id IS NOT NULL
) o ON true;
"""


def upgrade() -> None:
    """Add columns and tables."""
    for statement in (_CHANGES, _TABLES, _RUNS_VIEW):
        op.execute(statement)


def downgrade() -> None:
    """Remove them again; the view of the runs stays without its counts of batches."""
    op.execute("DROP TABLE segment_member, segment, audience_group, audience, refused_campaign, carried_contact, alias")
    op.execute("DROP TABLE stale_child, removal")
    op.execute("DELETE FROM operation WHERE payload_hash IS NULL")
    op.execute("ALTER TABLE operation DROP COLUMN child, DROP COLUMN children, ALTER COLUMN payload_hash SET NOT NULL")
    op.execute("ALTER TABLE slice DROP COLUMN phase")
    op.execute("DROP VIEW runs")
    op.execute("ALTER TABLE batch DROP COLUMN purpose")
    op.execute("CREATE VIEW runs AS SELECT s.store_key, r.* FROM run r JOIN store s USING (store_ref)")
    op.execute("ALTER TABLE run DROP COLUMN audience, DROP COLUMN planned")
