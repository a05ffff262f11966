"""What comes back from Mailchimp: audiences in full, contacts, and the history of their consent.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_AUDIENCES = """
ALTER TABLE audience ADD COLUMN statistics jsonb NOT NULL DEFAULT '{}', ADD COLUMN pulled_at timestamptz;

CREATE TABLE audience_merge_field (
    account_id text NOT NULL,
    list_id text NOT NULL,
    merge_id integer NOT NULL,
    tag text NOT NULL,
    name text NOT NULL,
    type text NOT NULL,
    required boolean NOT NULL,
    choices text[] NOT NULL DEFAULT '{}',
    removed_at timestamptz,
    PRIMARY KEY (account_id, list_id, merge_id)
);
"""

_MEMBERS = """
CREATE TABLE member (
    account_id text COLLATE "C" NOT NULL,
    list_id text COLLATE "C" NOT NULL,
    member_hash text COLLATE "C" NOT NULL,
    status text NOT NULL,
    last_changed timestamptz NOT NULL,
    timestamp_opt timestamptz,
    unsubscribe_reason text,
    source text,
    language text,
    vip boolean NOT NULL,
    member_rating smallint,
    tags text[] NOT NULL,
    groups text[] NOT NULL,
    first_seen_at timestamptz NOT NULL,
    pulled_at timestamptz NOT NULL,
    vanished_at timestamptz,
    PRIMARY KEY (account_id, list_id, member_hash)
);

CREATE TABLE consent_event (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id text COLLATE "C" NOT NULL,
    list_id text COLLATE "C" NOT NULL,
    member_hash text COLLATE "C" NOT NULL,
    from_status text,
    to_status text NOT NULL,
    reason text,
    source text NOT NULL CONSTRAINT source_known CHECK (source IN ('mailchimp', 'push', 'webhook')),
    happened_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    dag_run_id text NOT NULL,
    written_back integer NOT NULL DEFAULT 0,
    UNIQUE (account_id, list_id, member_hash, to_status, happened_at)
);

CREATE TABLE consent_conflict (
    conflict_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id text COLLATE "C" NOT NULL,
    list_id text COLLATE "C" NOT NULL,
    member_hash text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    shop_opted_in boolean,
    shop_at timestamptz,
    remote_status text NOT NULL,
    remote_at timestamptz NOT NULL,
    rule text NOT NULL,
    outcome text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    dag_run_id text NOT NULL,
    UNIQUE (account_id, list_id, member_hash, customer_id, remote_status, remote_at)
);

CREATE TABLE consent_delivery (
    account_id text NOT NULL,
    list_id text NOT NULL,
    store_ref smallint NOT NULL,
    event_id bigint NOT NULL DEFAULT 0,
    begun_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, list_id, store_ref)
);

CREATE TABLE pull_bookmark (
    account_id text NOT NULL,
    list_id text NOT NULL,
    kind text NOT NULL,
    reached_at timestamptz,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    dag_run_id text NOT NULL,
    PRIMARY KEY (account_id, list_id, kind)
);
"""

# The shop's customers behind a contact, as far as a push has met them. `wanted` names store and contact.
_CUSTOMERS = """
    SELECT array_agg(DISTINCT known.customer_id ORDER BY known.customer_id) AS customer_ids
    FROM (VALUES ('members'), ('customers')) AS e(entity)
    CROSS JOIN LATERAL (
        SELECT l.source_key FROM ledger l
        WHERE (l.store_ref, l.entity, l.record_id) = (s.store_ref, e.entity, wanted.member_hash)
          AND l.state <> 'deleted' AND l.source_key IS NOT NULL
        UNION ALL
        SELECT a.source_key FROM alias a
        WHERE (a.store_ref, a.entity, a.record_id) = (s.store_ref, e.entity, wanted.member_hash)
    ) AS known(customer_id)
"""

_VIEWS = f"""
CREATE VIEW members AS
SELECT s.store_key, s.list_id, wanted.member_hash, coalesce(c.customer_ids, '{{}}') AS customer_ids, wanted.status,
       wanted.last_changed, wanted.timestamp_opt, wanted.unsubscribe_reason, wanted.source, wanted.language, wanted.vip,
       wanted.member_rating, wanted.tags, wanted.groups, wanted.first_seen_at, wanted.pulled_at, wanted.vanished_at
FROM store s
JOIN member wanted ON (wanted.account_id, wanted.list_id) = (s.account_id, s.list_id)
CROSS JOIN LATERAL ({_CUSTOMERS}) c
WHERE s.is_current;

CREATE VIEW consent_events AS
SELECT s.store_key, s.list_id, wanted.event_id, wanted.member_hash, coalesce(c.customer_ids, '{{}}') AS customer_ids,
       wanted.from_status, wanted.to_status, wanted.reason, wanted.source, wanted.happened_at, wanted.recorded_at,
       wanted.dag_run_id, wanted.written_back
FROM store s
JOIN consent_event wanted ON (wanted.account_id, wanted.list_id) = (s.account_id, s.list_id)
CROSS JOIN LATERAL ({_CUSTOMERS}) c
WHERE s.is_current;
"""  # noqa: S608 - constants


def upgrade() -> None:
    """Add the tables."""
    op.execute(_AUDIENCES)
    op.execute(_MEMBERS)
    op.execute(_VIEWS)


def downgrade() -> None:
    """Remove them again."""
    op.execute("DROP VIEW members, consent_events")
    op.execute(
        "DROP TABLE pull_bookmark, consent_delivery, consent_conflict, consent_event, member, audience_merge_field"
    )
    op.execute("ALTER TABLE audience DROP COLUMN statistics, DROP COLUMN pulled_at")
