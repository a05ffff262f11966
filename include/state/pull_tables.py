"""The tables of the pull: audiences in full, contacts, the history of their consent, and what webhooks said.

Apart from the others, since no rehearsal copies them. Nobody's address or name is in them; a contact is the hash of its
address, as in the ledger. `tables` says how all state tables are kept.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from include.state.tables import IDENTIFIER, MOMENT

pull_metadata = MetaData()

# The audience's merge fields, by their number at Mailchimp: the tag may change.
audience_merge_field = Table(
    "audience_merge_field",
    pull_metadata,
    Column("account_id", Text, primary_key=True),
    Column("list_id", Text, primary_key=True),
    Column("merge_id", Integer, primary_key=True),
    Column("tag", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("required", Boolean, nullable=False),
    Column("choices", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("removed_at", MOMENT),
)

# Mailchimp's contacts as the pull saw them last. Who they are is not known here, but by the hash of the address.
member = Table(
    "member",
    pull_metadata,
    Column("account_id", IDENTIFIER, primary_key=True),
    Column("list_id", IDENTIFIER, primary_key=True),
    Column("member_hash", IDENTIFIER, primary_key=True),
    Column("status", Text, nullable=False),
    Column("last_changed", MOMENT, nullable=False),  # by Mailchimp's clock, in whole seconds
    Column("timestamp_opt", MOMENT),
    Column("unsubscribe_reason", Text),
    Column("source", Text),
    Column("language", Text),
    Column("vip", Boolean, nullable=False),
    Column("member_rating", SmallInteger),
    Column("tags", ARRAY(Text), nullable=False),
    Column("groups", ARRAY(Text), nullable=False),  # ids of those that are on
    Column("first_seen_at", MOMENT, nullable=False),
    Column("pulled_at", MOMENT, nullable=False),
    Column("vanished_at", MOMENT),  # when a full compare didn't find it any more
)

# What became of each contact's status: append-only.
consent_event = Table(
    "consent_event",
    pull_metadata,
    Column("event_id", BigInteger, Identity(always=True), primary_key=True),
    Column("account_id", IDENTIFIER, nullable=False),
    Column("list_id", IDENTIFIER, nullable=False),
    Column("member_hash", IDENTIFIER, nullable=False),
    Column("from_status", Text),  # null: first seen
    Column("to_status", Text, nullable=False),
    Column("reason", Text),
    Column("source", Text, nullable=False),
    Column("happened_at", MOMENT, nullable=False),  # by Mailchimp's clock
    Column("recorded_at", MOMENT, nullable=False, server_default=func.now()),
    Column("dag_run_id", Text, nullable=False),
    Column("written_back", Integer, nullable=False, server_default=text("0")),  # customers of the shop
    # So that nothing is told twice; also serves the history of one contact.
    UniqueConstraint("account_id", "list_id", "member_hash", "to_status", "happened_at"),
    CheckConstraint("source IN ('mailchimp', 'push', 'webhook')", name="source_known"),
)

# Shop and Mailchimp said different things, and both with a time: which of them counted, and why.
consent_conflict = Table(
    "consent_conflict",
    pull_metadata,
    Column("conflict_id", BigInteger, Identity(always=True), primary_key=True),
    Column("account_id", IDENTIFIER, nullable=False),
    Column("list_id", IDENTIFIER, nullable=False),
    Column("member_hash", IDENTIFIER, nullable=False),
    Column("customer_id", IDENTIFIER, nullable=False),
    Column("shop_opted_in", Boolean),
    Column("shop_at", MOMENT),
    Column("remote_status", Text, nullable=False),
    Column("remote_at", MOMENT, nullable=False),
    Column("rule", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("recorded_at", MOMENT, nullable=False, server_default=func.now()),
    Column("dag_run_id", Text, nullable=False),
    UniqueConstraint("account_id", "list_id", "member_hash", "customer_id", "remote_status", "remote_at"),
)

# Whom Mailchimp was let to ask for a confirmation, because an opt-in in the shop is newer than the opt-out.
opt_in_request = Table(
    "opt_in_request",
    pull_metadata,
    Column("account_id", IDENTIFIER, primary_key=True),
    Column("list_id", IDENTIFIER, primary_key=True),
    Column("member_hash", IDENTIFIER, primary_key=True),
    Column("opted_in_at", MOMENT, primary_key=True),
    Column("dag_run_id", Text, nullable=False),
    Column("created_at", MOMENT, nullable=False, server_default=func.now()),  # before Mailchimp hears of it
    Column("answered_at", MOMENT),
    Column("outcome", Text),
)

# What of the trail each store's shop has been told; written in the transaction that writes to the shop.
consent_delivery = Table(
    "consent_delivery",
    pull_metadata,
    Column("account_id", Text, primary_key=True),
    Column("list_id", Text, primary_key=True),
    Column("store_ref", SmallInteger, primary_key=True),
    Column("event_id", BigInteger, nullable=False, server_default=text("0")),  # the last one
    Column("begun_at", MOMENT, nullable=False),  # when it was at the beginning of the trail
)

# How far each reading of an audience has come; written in the transaction that writes what was read.
pull_bookmark = Table(
    "pull_bookmark",
    pull_metadata,
    Column("account_id", Text, primary_key=True),
    Column("list_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("reached_at", MOMENT),  # everything that changed before is read; by Mailchimp's clock
    Column("started_at", MOMENT, nullable=False),
    Column("finished_at", MOMENT),  # null: it goes on where it is
    Column("dag_run_id", Text, nullable=False),
)

# What a webhook said of one contact: a hint, until a run has asked Mailchimp. A call is known by its signature.
webhook_event = Table(
    "webhook_event",
    pull_metadata,
    Column("webhook_event_id", BigInteger, Identity(always=True), primary_key=True),
    Column("store_ref", SmallInteger, nullable=False),
    Column("account_id", IDENTIFIER, nullable=False),
    Column("list_id", IDENTIFIER, nullable=False),
    Column("member_hash", IDENTIFIER, nullable=False),
    Column("type", Text, nullable=False),
    Column("fired_at", MOMENT, nullable=False),  # by Mailchimp's clock
    Column("received_at", MOMENT, nullable=False, server_default=func.now()),
    Column("signature", IDENTIFIER, nullable=False),
    Column("processed_at", MOMENT),  # null: it waits
    UniqueConstraint("account_id", "list_id", "member_hash", "signature"),
)
Index(
    "webhook_event_waiting",
    webhook_event.c.store_ref,
    webhook_event.c.webhook_event_id,
    postgresql_where=webhook_event.c.processed_at.is_(None),
)
