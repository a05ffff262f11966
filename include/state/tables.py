"""The state tables as SQLAlchemy metadata: what the pipeline remembers between runs.

The tables carry no schema name: every connection that :class:`include.state.database.StateDatabase` hands out has the
configured schema as its search path, so one definition serves any schema. The migrations create exactly these tables
(a test compares both). Each index says which query it serves; there is none without a query.
"""

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData()

# Byte order: identifiers are compared for equality and listed, never sorted for people, and "C" is the fastest.
IDENTIFIER = Text(collation="C")
MOMENT = DateTime(timezone=True)

RUN_STATES = ("running", "success", "failed")
SLICE_STATES = ("open", "done")
BATCH_PURPOSES = ("write", "remove", "children")
BATCH_STATES = ("intended", "posted", "settled", "lost")
LEDGER_STATES = ("pending", "synced", "rejected", "unknown", "deleted")


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


# State belongs to an account: a key of another Mailchimp account starts with an empty ledger, whatever the store id.
store = Table(
    "store",
    metadata,
    Column("store_ref", SmallInteger, Identity(always=True), primary_key=True),
    Column("store_key", Text, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("store_id", Text, nullable=False),
    Column("list_id", Text, nullable=False),
    Column("order_verb", Text),  # 'put' or 'post_patch', learned from the first answers; null: not known yet
    Column("is_current", Boolean, nullable=False, server_default=text("true")),  # the views show current stores only
    Column("created_at", MOMENT, nullable=False, server_default=func.now()),
    Column("slow_until", MOMENT),  # the account asked for patience: fewer tasks call it until then
    UniqueConstraint("store_key", "account_id", "store_id"),
    CheckConstraint("order_verb IN ('put', 'post_patch')", name="order_verb_known"),
)

run = Table(
    "run",
    metadata,
    Column("run_ref", BigInteger, Identity(always=True), primary_key=True),
    Column("store_ref", SmallInteger, ForeignKey("store.store_ref"), nullable=False),
    Column("dag_id", Text, nullable=False),
    Column("dag_run_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("entities", ARRAY(Text), nullable=False),  # what the run was asked to push
    Column("confirmed", ARRAY(Text), nullable=False, server_default=text("'{}'")),  # of these, the ones that are done
    Column("planned", ARRAY(Text), nullable=False, server_default=text("'{}'")),  # the phases that were planned
    Column("quiet", Boolean, nullable=False, server_default=text("false")),  # automations rest while it is at work
    Column("window_start", MOMENT),
    Column("window_end", MOMENT, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'running'")),
    Column("started_at", MOMENT, nullable=False, server_default=func.now()),
    Column("finished_at", MOMENT),
    Column("http_calls", BigInteger, nullable=False, server_default=text("0")),
    Column("bytes_sent", BigInteger, nullable=False, server_default=text("0")),
    Column("wait_seconds", REAL, nullable=False, server_default=text("0")),
    Column("audience", JSONB),  # the audience's rules as the run found them: every task follows the same
    UniqueConstraint("store_ref", "dag_id", "dag_run_id"),
    _one_of("state", RUN_STATES),
    # Runs at work: those that ended without saying so, and those that keep the store quiet.
    Index("run_running", "store_ref", postgresql_where=text("state = 'running'")),
)

# `cursor` is the last key whose record is claimed, rejected or unchanged; what lies behind it is never read again.
slice_ = Table(
    "slice",
    metadata,
    Column("run_ref", BigInteger, ForeignKey("run.run_ref", ondelete="CASCADE"), primary_key=True),
    Column("entity", IDENTIFIER, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("first_key", Text),
    Column("last_key", Text),
    Column("ids", ARRAY(Text)),  # a slice of named records instead of a key range
    Column("planned", Integer, nullable=False),
    Column("cursor", Text),
    Column("state", Text, nullable=False, server_default=text("'open'")),
    Column("extracted", Integer, nullable=False, server_default=text("0")),
    Column("skipped", Integer, nullable=False, server_default=text("0")),
    Column("unchanged", Integer, nullable=False, server_default=text("0")),
    Column("rejected", Integer, nullable=False, server_default=text("0")),
    Column("unknown", Integer, nullable=False, server_default=text("0")),
    Column("phase", IDENTIFIER, nullable=False),  # the part of the run that planned it
    _one_of("state", SLICE_STATES),
)

batch = Table(
    "batch",
    metadata,
    Column("batch_ref", BigInteger, Identity(always=True), primary_key=True),
    Column("store_ref", SmallInteger, ForeignKey("store.store_ref"), nullable=False),
    Column("run_ref", BigInteger, ForeignKey("run.run_ref"), nullable=False),
    Column("entity", IDENTIFIER, nullable=False),
    Column("slice_number", Integer, nullable=False),
    Column("token", Text, nullable=False, unique=True),  # random; prefixes the ids of this batch's operations
    Column("batch_id", Text),  # Mailchimp's; null until the reply to the POST is recorded
    Column("state", Text, nullable=False, server_default=text("'intended'")),
    Column("operations", Integer, nullable=False),
    Column("body_bytes", Integer, nullable=False),
    Column("succeeded", Integer, nullable=False, server_default=text("0")),
    Column("failed", Integer, nullable=False, server_default=text("0")),  # every outcome other than ok
    Column("rejected", Integer, nullable=False, server_default=text("0")),  # of these, the ones no retry can mend
    Column("created_at", MOMENT, nullable=False, server_default=func.now()),
    Column("posted_at", MOMENT),
    Column("completed_at", MOMENT),
    Column("settled_at", MOMENT),
    Column("purpose", Text, nullable=False, server_default=text("'write'")),
    _one_of("state", BATCH_STATES),
    _one_of("purpose", BATCH_PURPOSES),
    # The batches of one slice (first thing of every step), and of one run (its summary).
    Index("batch_of_slice", "run_ref", "entity", "slice_number"),
    # Open batches of an account: the limit on open batches, and recovery. A handful of rows at any time.
    Index("batch_open", "store_ref", postgresql_where=text("state IN ('intended', 'posted')")),
    # Which of Mailchimp's batches are ours, when one is looked for whose reply was lost.
    Index("batch_at_mailchimp", "batch_id", postgresql_where=text("batch_id IS NOT NULL")),
)

operation = Table(
    "operation",
    metadata,
    Column("batch_ref", BigInteger, ForeignKey("batch.batch_ref", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("record_id", IDENTIFIER, nullable=False),
    Column("method", Text, nullable=False),
    Column("payload_hash", LargeBinary),  # null: a deletion
    Column("updated_at", MOMENT),
    Column("outcome", Text),
    Column("status_code", SmallInteger),
    Column("child", Text),  # of a deletion inside a record: "lines/7"; the record itself is not touched
    Column("children", ARRAY(Text)),  # of an update: all of the record's lines, variants … as it was sent
)

ledger = Table(
    "ledger",
    metadata,
    Column("store_ref", SmallInteger, ForeignKey("store.store_ref"), primary_key=True),
    # The primary key serves the comparison, the parents check, claims and settlements: all by lists of ids.
    Column("entity", IDENTIFIER, primary_key=True),
    Column("record_id", IDENTIFIER, primary_key=True),
    Column("source_key", IDENTIFIER),  # the shop's key; null when it equals record_id
    Column("payload_hash", LargeBinary),  # of the payload last attempted
    Column("state", Text, nullable=False),
    Column("on_mailchimp", Boolean, nullable=False, server_default=text("false")),
    Column("batch_ref", BigInteger),  # not null: in flight in that batch, nobody else may send the record
    Column("read_at", MOMENT),  # snapshot from which payload_hash was made: an older one never replaces it
    Column("updated_at", MOMENT),  # the shop's
    Column("acknowledged_at", MOMENT),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    _one_of("state", LEDGER_STATES),
    # Leftovers of earlier runs and the lag in `sync_status`: few rows out of millions.
    Index(
        "ledger_unfinished",
        "store_ref",
        "entity",
        "record_id",
        postgresql_where=text("state IN ('pending', 'unknown')"),
    ),
    # Records by the shop's key where that is not the id: parents that are waited for, rejections that are mended.
    Index("ledger_source", "store_ref", "entity", "source_key", postgresql_where=text("source_key IS NOT NULL")),
)

rejected = Table(
    "rejected",
    metadata,
    Column("store_ref", SmallInteger, ForeignKey("store.store_ref"), primary_key=True),
    Column("entity", IDENTIFIER, primary_key=True),
    Column("record_id", IDENTIFIER, primary_key=True),
    Column("operation", Text),
    Column("error_class", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("field", Text),
    Column("waits_for", IDENTIFIER),  # "<entity>:<id or shop's key>" of the parent that must be acknowledged first
    Column("parent_id", IDENTIFIER),  # the parent's id at Mailchimp, where waits_for has its key in the shop
    Column("attempts", Integer, nullable=False, server_default=text("1")),
    Column("first_seen_at", MOMENT, nullable=False, server_default=func.now()),
    Column("last_seen_at", MOMENT, nullable=False, server_default=func.now()),
    Column("dag_run_id", Text, nullable=False),
    # Leftovers: which waiting records have their parent by now.
    Index("rejected_waiting", "store_ref", "entity", "waits_for", postgresql_where=text("waits_for IS NOT NULL")),
    # What a run has rejected: its summary.
    Index("rejected_of_run", "store_ref", "dag_run_id"),
)

watermark = Table(
    "watermark",
    metadata,
    Column("store_ref", SmallInteger, ForeignKey("store.store_ref"), primary_key=True),
    Column("entity", IDENTIFIER, primary_key=True),
    Column("acknowledged_until", MOMENT, nullable=False),
)


def _store() -> Column[int]:
    return Column("store_ref", SmallInteger, ForeignKey("store.store_ref"), primary_key=True)


# Records that the shop no longer yields: the run's last phase looks again, and deletes them at Mailchimp.
removal = Table(
    "removal",
    metadata,
    _store(),
    Column("entity", IDENTIFIER, primary_key=True),
    Column("record_id", IDENTIFIER, primary_key=True),
    Column("noticed_at", MOMENT, nullable=False, server_default=func.now()),
    Column("kept_at", MOMENT),  # when it was found that something at Mailchimp still refers to it
    # What is to be deleted now: few among the kept ones, which stay for ever.
    Index("removal_due", "store_ref", "entity", "kept_at"),
)

# Lines, variants and images that Mailchimp holds although the record's last update no longer had them ("lines/7").
stale_child = Table(
    "stale_child",
    metadata,
    _store(),
    Column("entity", IDENTIFIER, primary_key=True),
    Column("record_id", IDENTIFIER, primary_key=True),
    Column("child", IDENTIFIER, primary_key=True),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    # Those that are not given up (`settlement.GIVEN_UP`), which stay for ever.
    Index("stale_child_open", "store_ref", "entity", "record_id", postgresql_where=text("attempts < 1000")),
)

# Rows of the shop for which another row speaks: several accounts with one e-mail address.
alias = Table(
    "alias",
    metadata,
    _store(),
    Column("entity", IDENTIFIER, primary_key=True),
    Column("source_key", IDENTIFIER, primary_key=True),
    Column("record_id", IDENTIFIER, nullable=False),
    # Before a record is deleted: which other rows of the shop may still yield it.
    Index("alias_of_record", "store_ref", "entity", "record_id"),
)

# Contacts whose address was changed at Mailchimp because the shop's customer has a new one.
carried_contact = Table(
    "carried_contact",
    metadata,
    _store(),
    Column("record_id", IDENTIFIER, primary_key=True),
    Column("carried_to", IDENTIFIER, nullable=False),
    Column("carried_at", MOMENT, nullable=False, server_default=func.now()),
)

refused_campaign = Table(
    "refused_campaign",
    metadata,
    _store(),
    Column("campaign_id", IDENTIFIER, primary_key=True),
)

# `is_active` and `subscribe_by_default` are the shop's: what is read from Mailchimp never changes them.
audience = Table(
    "audience",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("list_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("double_optin", Boolean, nullable=False),
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("subscribe_by_default", Boolean, nullable=False, server_default=text("false")),
    Column("removed_at", MOMENT),
    Column("read_at", MOMENT, nullable=False, server_default=func.now()),
    Column("statistics", JSONB, nullable=False, server_default=text("'{}'")),  # as Mailchimp names them: member_count …
    Column("pulled_at", MOMENT),  # when a pull has read everything about it
)

audience_group = Table(
    "audience_group",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("list_id", Text, primary_key=True),
    Column("group_id", Text, primary_key=True),
    Column("category_id", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("former_names", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("subscribe_by_default", Boolean, nullable=False, server_default=text("false")),
    Column("removed_at", MOMENT),
)

segment = Table(
    "segment",
    metadata,
    _store(),
    Column("name", Text, primary_key=True),
    Column("segment_id", BigInteger, nullable=False),
)

segment_member = Table(
    "segment_member",
    metadata,
    Column("store_ref", SmallInteger, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("customer_id", IDENTIFIER, primary_key=True),
    Column("member_hash", IDENTIFIER, nullable=False),
    ForeignKeyConstraint(["store_ref", "name"], ["segment.store_ref", "segment.name"], ondelete="CASCADE"),
    # Of contacts that leave a segment, those that stand for somebody else in it.
    Index("segment_contact", "store_ref", "name", "member_hash"),
)

# Records that a run was given by name: rejected ones to be sent once more, with what they were rejected for, and people
# to be brought to the audience (class 'none': nothing was wrong with them).
replay = Table(
    "replay",
    metadata,
    Column("run_ref", BigInteger, ForeignKey("run.run_ref"), primary_key=True),
    Column("entity", IDENTIFIER, primary_key=True),
    Column("record_id", IDENTIFIER, primary_key=True),
    Column("store_ref", SmallInteger, ForeignKey("store.store_ref"), nullable=False),
    Column("source_key", IDENTIFIER, nullable=False),
    Column("error_class", Text, nullable=False),
)

# One comparison of shop, ledger and Mailchimp: records by entity and finding, and orders by month and currency.
reconciliation = Table(
    "reconciliation",
    metadata,
    Column("reconciliation_ref", BigInteger, Identity(always=True), primary_key=True),
    Column("store_ref", SmallInteger, ForeignKey("store.store_ref"), nullable=False),
    Column("dag_run_id", Text, nullable=False),
    Column("started_at", MOMENT, nullable=False),
    Column("finished_at", MOMENT),
    Column("repaired_at", MOMENT),
    Column("http_calls", BigInteger, nullable=False, server_default=text("0")),
    Column("counts", JSONB, nullable=False, server_default=text("'{}'")),
    Column("revenue", JSONB, nullable=False, server_default=text("'[]'")),
    UniqueConstraint("store_ref", "dag_run_id"),
)

# What one comparison found wrong, and all that a repair of the ledger needs to know; the view is called `drift`.
drifted = Table(
    "drifted",
    metadata,
    Column(
        "reconciliation_ref",
        BigInteger,
        ForeignKey("reconciliation.reconciliation_ref", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("entity", IDENTIFIER, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("record_id", IDENTIFIER, primary_key=True),
    Column("fields", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("action", Text, nullable=False),  # what a repair does about it (`include.reconcile.report.Action`)
    Column("held", Boolean, nullable=False),  # whether Mailchimp holds the record
    Column("source_key", IDENTIFIER),
    Column("payload_hash", LargeBinary),  # of what a push would send
    Column("read_at", MOMENT),
    Column("updated_at", MOMENT),
    Column("repaired_at", MOMENT),
)

# The proof that a person was erased at Mailchimp and here: whose request, when, how much; nothing about the person but
# the shop's own customer id, where the request names one. The view is called `erasures`.
erasure = Table(
    "erasure",
    metadata,
    _store(),
    Column("erasure_id", IDENTIFIER, primary_key=True),
    Column("customer_id", IDENTIFIER),
    Column("requested_at", MOMENT),
    Column("erased_at", MOMENT),  # null: begun, not finished
    Column("contacts", Integer, nullable=False, server_default=text("0")),
    Column("customers", Integer, nullable=False, server_default=text("0")),
    Column("carts", Integer, nullable=False, server_default=text("0")),
    Column("orders", Integer, nullable=False, server_default=text("0")),  # that lost their customer, or were deleted
    Column("dag_run_id", Text, nullable=False),
)
