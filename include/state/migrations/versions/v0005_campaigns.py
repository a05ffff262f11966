"""Results of campaigns: what they achieved, who did what, which orders came of them.

Revision ID: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE campaign (
    campaign_ref integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id text NOT NULL,
    campaign_id text COLLATE "C" NOT NULL,
    list_id text NOT NULL,
    type text NOT NULL,
    status text NOT NULL,
    title text NOT NULL,
    subject_line text NOT NULL,
    created_at timestamptz,
    sent_at timestamptz,
    emails_sent integer NOT NULL DEFAULT 0,
    opens integer NOT NULL DEFAULT 0,
    unique_opens integer NOT NULL DEFAULT 0,
    clicks integer NOT NULL DEFAULT 0,
    unique_clicks integer NOT NULL DEFAULT 0,
    clicked_by integer NOT NULL DEFAULT 0,
    hard_bounces integer NOT NULL DEFAULT 0,
    soft_bounces integer NOT NULL DEFAULT 0,
    unsubscribed integer NOT NULL DEFAULT 0,
    abuse_reports integer NOT NULL DEFAULT 0,
    last_open_at timestamptz,
    last_click_at timestamptz,
    orders integer NOT NULL DEFAULT 0,
    spent numeric(18, 4) NOT NULL DEFAULT 0,
    revenue numeric(18, 4) NOT NULL DEFAULT 0,
    currency_code text,
    receives_activity boolean NOT NULL DEFAULT true,
    read_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz,
    UNIQUE (account_id, campaign_id)
);

CREATE TABLE campaign_activity (
    campaign_ref integer NOT NULL REFERENCES campaign ON DELETE CASCADE,
    member_hash text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL,
    happened_at timestamptz NOT NULL,
    detail text COLLATE "C" NOT NULL,
    occurrence smallint NOT NULL,
    PRIMARY KEY (campaign_ref, member_hash, action, happened_at, detail, occurrence),
    CONSTRAINT action_known CHECK (action IN ('sent', 'open', 'click', 'bounce', 'unsubscribe', 'abuse'))
);
CREATE INDEX campaign_activity_of_member ON campaign_activity (member_hash);

CREATE TABLE campaign_order (
    campaign_ref integer NOT NULL REFERENCES campaign ON DELETE CASCADE,
    store_ref smallint NOT NULL REFERENCES store,
    order_id text COLLATE "C" NOT NULL,
    currency_code text NOT NULL,
    order_total numeric(18, 4) NOT NULL,
    ordered_at timestamptz,
    round_at timestamptz NOT NULL,
    PRIMARY KEY (campaign_ref, store_ref, order_id)
);

CREATE TABLE campaign_bookmark (
    campaign_ref integer NOT NULL REFERENCES campaign ON DELETE CASCADE,
    kind text COLLATE "C" NOT NULL,
    begun_at timestamptz NOT NULL,
    since timestamptz,
    next_offset integer,
    listed bigint,
    read_until timestamptz,
    figures text NOT NULL,
    figures_at timestamptz NOT NULL,
    PRIMARY KEY (campaign_ref, kind)
);
"""

# A campaign of an audience shows up under every store that sells to the audience; its figures are Mailchimp's, its
# orders and customers those of the one store.
_VIEWS = """
CREATE VIEW campaign_results AS
SELECT s.store_key, c.campaign_id, c.title, c.subject_line, c.type, c.status, c.created_at, c.sent_at, c.emails_sent,
       c.opens, c.unique_opens, c.clicks, c.unique_clicks, c.clicked_by, c.hard_bounces, c.soft_bounces,
       c.unsubscribed, c.abuse_reports, c.last_open_at, c.last_click_at,
       c.orders, c.spent, c.revenue, c.currency_code,
       (SELECT count(*) FROM campaign_order o
        WHERE o.campaign_ref = c.campaign_ref AND o.store_ref = s.store_ref) AS orders_of_store,
       c.receives_activity,
       (SELECT b.read_until FROM campaign_bookmark b
        WHERE b.campaign_ref = c.campaign_ref AND b.kind = 'activity') AS activity_read_until,
       c.read_at, c.removed_at
FROM store s
JOIN campaign c USING (account_id, list_id)
WHERE s.is_current;

-- Several customers may share an address; each of them did what the address did. Each customer of an address once: as
-- customer, else as contact, else as one for whom another speaks. (A UNION would sort the whole ledger.)
CREATE VIEW campaign_activity_of_customers AS
SELECT s.store_key, c.campaign_id, c.title, c.sent_at, p.customer_id, a.action, a.happened_at, a.detail, a.occurrence
FROM store s
JOIN campaign c USING (account_id, list_id)
JOIN campaign_activity a USING (campaign_ref)
JOIN (
    SELECT store_ref, record_id AS member_hash, source_key AS customer_id FROM ledger
    WHERE entity = 'customers' AND source_key IS NOT NULL
    UNION ALL
    SELECT m.store_ref, m.record_id, m.source_key FROM ledger m
    WHERE m.entity = 'members' AND m.source_key IS NOT NULL AND NOT EXISTS (
        SELECT FROM ledger l
        WHERE l.store_ref = m.store_ref AND l.entity = 'customers' AND l.record_id = m.record_id
          AND l.source_key = m.source_key)
    UNION ALL
    SELECT DISTINCT o.store_ref, o.record_id, o.source_key FROM alias o
    WHERE o.entity IN ('customers', 'members') AND NOT EXISTS (
        SELECT FROM ledger l
        WHERE l.store_ref = o.store_ref AND l.entity IN ('customers', 'members') AND l.record_id = o.record_id
          AND l.source_key = o.source_key)
) p ON p.store_ref = s.store_ref AND p.member_hash = a.member_hash
WHERE s.is_current;

CREATE VIEW campaign_orders AS
SELECT s.store_key, c.campaign_id, c.title, c.sent_at, coalesce(l.source_key, o.order_id) AS order_id,
       o.currency_code, o.order_total, o.ordered_at
FROM store s
JOIN campaign_order o USING (store_ref)
JOIN campaign c USING (campaign_ref)
LEFT JOIN ledger l ON (l.store_ref, l.entity, l.record_id) = (o.store_ref, 'orders', o.order_id)
WHERE s.is_current;

CREATE VIEW campaign_revenue AS
SELECT store_key, campaign_id, title, sent_at, currency_code, count(*) AS orders, sum(order_total) AS revenue,
       min(ordered_at) AS first_order_at, max(ordered_at) AS last_order_at
FROM campaign_orders
GROUP BY store_key, campaign_id, title, sent_at, currency_code;
"""


def upgrade() -> None:
    """Add the tables and views."""
    op.execute(_TABLES)
    op.execute(_VIEWS)


def downgrade() -> None:
    """Remove them again."""
    op.execute("DROP VIEW campaign_revenue, campaign_orders, campaign_activity_of_customers, campaign_results")
    op.execute("DROP TABLE campaign_bookmark, campaign_order, campaign_activity, campaign")
