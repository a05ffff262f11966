"""Contacts whom Mailchimp was let to ask, because they opted in at the shop after they had opted out.

Revision ID: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE opt_in_request (
    account_id text COLLATE "C" NOT NULL,
    list_id text COLLATE "C" NOT NULL,
    member_hash text COLLATE "C" NOT NULL,
    opted_in_at timestamptz NOT NULL,
    dag_run_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    answered_at timestamptz,
    outcome text,
    PRIMARY KEY (account_id, list_id, member_hash, opted_in_at)
);
"""


def upgrade() -> None:
    """Add the table."""
    op.execute(_TABLES)


def downgrade() -> None:
    """Remove it again."""
    op.execute("DROP TABLE opt_in_request")
