"""What Mailchimp's webhooks said of contacts.

Revision ID: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE webhook_event (
    webhook_event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store_ref smallint NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    list_id text COLLATE "C" NOT NULL,
    member_hash text COLLATE "C" NOT NULL,
    type text NOT NULL,
    fired_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    signature text COLLATE "C" NOT NULL,
    processed_at timestamptz,
    UNIQUE (account_id, list_id, member_hash, signature)
);
CREATE INDEX webhook_event_waiting ON webhook_event (store_ref, webhook_event_id) WHERE processed_at IS NULL;
"""


def upgrade() -> None:
    """Add the table."""
    op.execute(_TABLE)


def downgrade() -> None:
    """Remove it again."""
    op.execute("DROP TABLE webhook_event")
