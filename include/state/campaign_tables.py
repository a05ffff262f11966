"""The tables of campaign results: apart from the others, since no push and no rehearsal ever reads them.

Whose activity it is, is the hash of an address and nothing else. `tables` says how all state tables are kept.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

from include.state.tables import IDENTIFIER, MOMENT, store

campaign_metadata = MetaData()

ACTIONS = ("sent", "open", "click", "bounce", "unsubscribe", "abuse")


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text("0"))


def _campaign() -> Column[int]:
    return Column("campaign_ref", Integer, ForeignKey("campaign.campaign_ref", ondelete="CASCADE"), primary_key=True)


# `receives_activity` is the shop's: what is read from Mailchimp never changes it.
campaign = Table(
    "campaign",
    campaign_metadata,
    Column("campaign_ref", Integer, Identity(always=True), primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("campaign_id", IDENTIFIER, nullable=False),
    Column("list_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("subject_line", Text, nullable=False),
    Column("created_at", MOMENT),
    Column("sent_at", MOMENT),  # null until it is sent; a plan to send it is not kept
    _count("emails_sent"),
    _count("opens"),
    _count("unique_opens"),
    _count("clicks"),
    _count("unique_clicks"),
    _count("clicked_by"),
    _count("hard_bounces"),
    _count("soft_bounces"),
    _count("unsubscribed"),
    _count("abuse_reports"),
    Column("last_open_at", MOMENT),
    Column("last_click_at", MOMENT),
    _count("orders"),
    Column("spent", Numeric(18, 4), nullable=False, server_default=text("0")),
    Column("revenue", Numeric(18, 4), nullable=False, server_default=text("0")),
    Column("currency_code", Text),
    Column("receives_activity", Boolean, nullable=False, server_default=text("true")),
    Column("read_at", MOMENT, nullable=False, server_default=func.now()),
    Column("removed_at", MOMENT),
    UniqueConstraint("account_id", "campaign_id"),
)

# An event is what one contact did with one campaign at one second; `occurrence` tells equal ones of a second apart.
campaign_activity = Table(
    "campaign_activity",
    campaign_metadata,
    _campaign(),
    Column("member_hash", IDENTIFIER, primary_key=True),
    Column("action", IDENTIFIER, primary_key=True),
    Column("happened_at", MOMENT, primary_key=True),
    Column("detail", IDENTIFIER, primary_key=True),  # of a click the address without its query, of a bounce hard, soft
    Column("occurrence", SmallInteger, primary_key=True),
    CheckConstraint(f"action IN ({', '.join(repr(action) for action in ACTIONS)})", name="action_known"),
    # What one contact did: the customer's view, and an erasure.
    Index("campaign_activity_of_member", "member_hash"),
)

# Orders that Mailchimp ascribes to a campaign.
campaign_order = Table(
    "campaign_order",
    campaign_metadata,
    _campaign(),
    Column("store_ref", SmallInteger, ForeignKey(store.c.store_ref), primary_key=True),
    Column("order_id", IDENTIFIER, primary_key=True),
    Column("currency_code", Text, nullable=False),
    Column("order_total", Numeric(18, 4), nullable=False),
    Column("ordered_at", MOMENT),
    Column("round_at", MOMENT, nullable=False),  # the reading that saw it last: one that it doesn't see removes it
)

# How far one listing of a campaign is read. A round reads all pages of it; the next one what came since.
campaign_bookmark = Table(
    "campaign_bookmark",
    campaign_metadata,
    _campaign(),
    Column("kind", IDENTIFIER, primary_key=True),
    Column("begun_at", MOMENT, nullable=False),
    Column("since", MOMENT),
    Column("next_offset", Integer),  # null: the round is over
    Column("listed", BigInteger),  # how many entries Mailchimp said there are, at the last page
    Column("read_until", MOMENT),  # beginning of the last round that is over
    Column("figures", Text, nullable=False),  # the statistics that the round is to explain
    Column("figures_at", MOMENT, nullable=False),  # since when they are so
)
