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
from sqlalchemy.dialects.postgresql import ARRAY

metadata = MetaData()

# Byte order: identifiers are compared for equality and listed, never sorted for people, and "C" is the fastest.
IDENTIFIER = Text(collation="C")
MOMENT = DateTime(timezone=True)

RUN_STATES = ("running", "success", "failed")
SLICE_STATES = ("open", "done")
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
    Column("confirmed", ARRAY(Text), nullable=False, server_default=text("'{}'")),  # of these, the phases that are done
    Column("window_start", MOMENT),
    Column("window_end", MOMENT, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'running'")),
    Column("started_at", MOMENT, nullable=False, server_default=func.now()),
    Column("finished_at", MOMENT),
    Column("http_calls", BigInteger, nullable=False, server_default=text("0")),
    Column("bytes_sent", BigInteger, nullable=False, server_default=text("0")),
    Column("wait_seconds", REAL, nullable=False, server_default=text("0")),
    UniqueConstraint("store_ref", "dag_id", "dag_run_id"),
    _one_of("state", RUN_STATES),
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
    _one_of("state", BATCH_STATES),
    # The batches of one slice (first thing of every step), and of one run (its summary).
    Index("batch_of_slice", "run_ref", "entity", "slice_number"),
    # Open batches of an account: the limit on open batches, and recovery. A handful of rows at any time.
    Index("batch_open", "store_ref", postgresql_where=text("state IN ('intended', 'posted')")),
)

operation = Table(
    "operation",
    metadata,
    Column("batch_ref", BigInteger, ForeignKey("batch.batch_ref", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("record_id", IDENTIFIER, nullable=False),
    Column("method", Text, nullable=False),
    Column("payload_hash", LargeBinary, nullable=False),
    Column("updated_at", MOMENT),
    Column("outcome", Text),
    Column("status_code", SmallInteger),
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
)

watermark = Table(
    "watermark",
    metadata,
    Column("store_ref", SmallInteger, ForeignKey("store.store_ref"), primary_key=True),
    Column("entity", IDENTIFIER, primary_key=True),
    Column("acknowledged_until", MOMENT, nullable=False),
)
