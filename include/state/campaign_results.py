"""What campaigns achieved: their figures, what each contact did, which orders came of them, and how far that is read.

Contacts are the hashes of their addresses. `receives_activity` is set by the shop, in the table, and never from here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, delete, text

from include.state.campaign_tables import campaign, campaign_order

ACTIVITY, ORDERS = "activity", "orders"


@dataclass(frozen=True)
class CampaignEntry:
    """A campaign as Mailchimp lists it; `sent_at` is None until it is sent."""

    campaign_id: str
    type: str
    status: str
    title: str
    subject_line: str
    created_at: datetime | None
    sent_at: datetime | None


@dataclass(frozen=True)
class CampaignFigures:
    """The statistics of a sent campaign, money in `currency_code`."""

    campaign_id: str
    emails_sent: int
    opens: int
    unique_opens: int
    clicks: int
    unique_clicks: int
    clicked_by: int
    hard_bounces: int
    soft_bounces: int
    unsubscribed: int
    abuse_reports: int
    last_open_at: datetime | None
    last_click_at: datetime | None
    orders: int
    spent: Decimal
    revenue: Decimal
    currency_code: str | None


@dataclass(frozen=True)
class SentCampaign:
    """A campaign that was sent, with the figures that tell whether there is something new to read of it."""

    campaign_ref: int
    campaign_id: str
    sent_at: datetime
    receives_activity: bool
    emails_sent: int
    opens: int
    clicks: int
    hard_bounces: int
    soft_bounces: int
    unsubscribed: int
    abuse_reports: int
    last_open_at: datetime | None
    last_click_at: datetime | None
    orders: int
    spent: Decimal
    revenue: Decimal


@dataclass(frozen=True)
class Event:
    """What one contact did; `occurrence` counts equal events of the same second."""

    member_hash: str
    action: str
    happened_at: datetime
    detail: str = ""
    occurrence: int = 0


@dataclass(frozen=True)
class AttributedOrder:
    """An order that Mailchimp ascribes to a campaign."""

    order_id: str
    currency_code: str
    order_total: Decimal
    ordered_at: datetime | None


@dataclass(frozen=True)
class Bookmark:
    """How far a listing of a campaign is read.

    Attributes:
        begun_at: when the round began that is under way, or was the last.
        since: what that round reads: what happened since then; None is everything.
        next_offset: where the round goes on; None once it is over.
        listed: how many entries there were at the last page.
        read_until: beginning of the last round that is over.
        figures: the statistics at the round's beginning, which it is to explain.
        figures_at: since when they are known to be so.
    """

    begun_at: datetime
    since: datetime | None
    next_offset: int | None
    listed: int | None
    read_until: datetime | None
    figures: str
    figures_at: datetime


# The arrays of a page, one per column: the type of each.
_ENTRY = {"sent_at": "timestamptz", "created_at": "timestamptz"}
_FIGURES = {
    "campaign_id": "text",
    "last_open_at": "timestamptz",
    "last_click_at": "timestamptz",
    "spent": "numeric",
    "revenue": "numeric",
    "currency_code": "text",
}
_EVENT = {"happened_at": "timestamptz", "occurrence": "smallint"}
_ORDER = {"order_total": "numeric", "ordered_at": "timestamptz"}


def _rows(kind: type[Any], types: Mapping[str, str], otherwise: str = "text") -> str:
    """Return SQL for a page of records as rows `r`, made of one array per column."""
    names = [field.name for field in fields(kind)]
    arrays = ", ".join(f"CAST(:{name} AS {types.get(name, otherwise)}[])" for name in names)
    return f"unnest({arrays}) AS r({', '.join(names)})"


def _arrays(records: Sequence[Any], kind: type[Any]) -> dict[str, list[Any]]:
    return {field.name: [getattr(record, field.name) for record in records] for field in fields(kind)}


# When it was sent is told once: what an automation says later is no second sending.
_SAVE_CAMPAIGNS = text(f"""
    INSERT INTO campaign AS c
        (account_id, list_id, campaign_id, type, status, title, subject_line, created_at, sent_at, read_at)
    SELECT :account_id, :list_id, r.*, :read_at FROM {_rows(CampaignEntry, _ENTRY)}
    ORDER BY r.campaign_id
    ON CONFLICT (account_id, campaign_id) DO UPDATE
    SET list_id = excluded.list_id, type = excluded.type, status = excluded.status, title = excluded.title,
        subject_line = excluded.subject_line, created_at = excluded.created_at,
        sent_at = coalesce(c.sent_at, excluded.sent_at), read_at = excluded.read_at, removed_at = NULL
""")  # noqa: S608 - our own names


def save_campaigns(
    connection: Connection, account_id: str, list_id: str, found: Sequence[CampaignEntry], read_at: datetime
) -> None:
    """Record a page of an audience's campaigns."""
    arguments = {"account_id": account_id, "list_id": list_id, "read_at": read_at}
    connection.execute(_SAVE_CAMPAIGNS, arguments | _arrays(found, CampaignEntry))


def mark_removed(connection: Connection, account_id: str, list_id: str, read_at: datetime) -> int:
    """Mark the audience's campaigns that the listing of `read_at` didn't have; what is known of them stays."""
    return connection.execute(
        text("""
            UPDATE campaign SET removed_at = :read_at
            WHERE account_id = :account_id AND list_id = :list_id AND removed_at IS NULL AND read_at < :read_at
        """),
        {"account_id": account_id, "list_id": list_id, "read_at": read_at},
    ).rowcount


_CHANGES = ", ".join(f"{field.name} = r.{field.name}" for field in fields(CampaignFigures) if field.name[-3:] != "_id")
_SAVE_FIGURES = text(f"""
    UPDATE campaign c SET {_CHANGES}
    FROM {_rows(CampaignFigures, _FIGURES, "integer")}
    WHERE c.account_id = :account_id AND c.list_id = :list_id AND c.campaign_id = r.campaign_id
""")  # noqa: S608 - our own names


def save_figures(connection: Connection, account_id: str, list_id: str, found: Sequence[CampaignFigures]) -> int:
    """Record the figures of a page of reports; those of other audiences' campaigns are passed over."""
    arguments = {"account_id": account_id, "list_id": list_id}
    return connection.execute(_SAVE_FIGURES, arguments | _arrays(found, CampaignFigures)).rowcount


def sent_campaigns(connection: Connection, account_id: str, list_id: str) -> list[SentCampaign]:
    """Return an audience's campaigns that were sent and are still there, the newest first."""
    columns = ", ".join(field.name for field in fields(SentCampaign))
    rows = connection.execute(
        text(f"""
            SELECT {columns} FROM campaign
            WHERE account_id = :account_id AND list_id = :list_id AND sent_at IS NOT NULL AND removed_at IS NULL
            ORDER BY sent_at DESC, campaign_ref
        """),  # noqa: S608 - our own names
        {"account_id": account_id, "list_id": list_id},
    )
    return [SentCampaign(*row) for row in rows]


def load_bookmark(connection: Connection, campaign_ref: int, kind: str) -> Bookmark | None:
    """Return how far a listing is read; None before its first page."""
    columns = ", ".join(field.name for field in fields(Bookmark))
    row = connection.execute(
        text(f"SELECT {columns} FROM campaign_bookmark WHERE campaign_ref = :ref AND kind = :kind"),  # noqa: S608
        {"ref": campaign_ref, "kind": kind},
    ).one_or_none()
    return None if row is None else Bookmark(*row)


_COLUMNS = [field.name for field in fields(Bookmark)]
_SAVE_BOOKMARK = text(f"""
    INSERT INTO campaign_bookmark (campaign_ref, kind, {", ".join(_COLUMNS)})
    VALUES (:ref, :kind, {", ".join(f":{name}" for name in _COLUMNS)})
    ON CONFLICT (campaign_ref, kind) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)}
""")  # noqa: S608 - our own names


def save_bookmark(connection: Connection, campaign_ref: int, kind: str, bookmark: Bookmark) -> None:
    """Record how far a listing is read: in the transaction that records what was read."""
    connection.execute(_SAVE_BOOKMARK, {"ref": campaign_ref, "kind": kind, **vars(bookmark)})


# In the order of the key, so that two readers of one campaign never wait for each other in a circle.
_SAVE_EVENTS = text(f"""
    INSERT INTO campaign_activity (campaign_ref, member_hash, action, happened_at, detail, occurrence)
    SELECT :ref, r.* FROM {_rows(Event, _EVENT)}
    ORDER BY r.member_hash, r.action, r.happened_at, r.detail, r.occurrence
    ON CONFLICT DO NOTHING
""")  # noqa: S608 - our own names


def save_events(connection: Connection, campaign_ref: int, events: Sequence[Event]) -> int:
    """Record what contacts did, each event once. Returns how many were new."""
    if not events:
        return 0
    return connection.execute(_SAVE_EVENTS, {"ref": campaign_ref, **_arrays(events, Event)}).rowcount


_SAVE_ORDERS = text(f"""
    INSERT INTO campaign_order
        (campaign_ref, store_ref, order_id, currency_code, order_total, ordered_at, round_at)
    SELECT :ref, :store_ref, r.*, :round_at FROM {_rows(AttributedOrder, _ORDER)}
    ORDER BY r.order_id
    ON CONFLICT (campaign_ref, store_ref, order_id) DO UPDATE
    SET currency_code = excluded.currency_code, order_total = excluded.order_total, ordered_at = excluded.ordered_at,
        round_at = excluded.round_at
""")  # noqa: S608 - our own names


def save_orders(
    connection: Connection, campaign_ref: int, store_ref: int, orders: Sequence[AttributedOrder], round_at: datetime
) -> None:
    """Record a page of the orders that are ascribed to a campaign."""
    arguments = {"ref": campaign_ref, "store_ref": store_ref, "round_at": round_at}
    connection.execute(_SAVE_ORDERS, arguments | _arrays(orders, AttributedOrder))


def drop_orders_before(connection: Connection, campaign_ref: int, store_ref: int, round_at: datetime) -> None:
    """Forget orders that the round of `round_at`, which is over, didn't see: they belong to another campaign by now."""
    connection.execute(
        delete(campaign_order)
        .where(campaign_order.c.campaign_ref == campaign_ref, campaign_order.c.store_ref == store_ref)
        .where(campaign_order.c.round_at != round_at)
    )


def forget_orders(connection: Connection, store_ref: int) -> int:
    """Forget which orders of a store came of campaigns."""
    return connection.execute(delete(campaign_order).where(campaign_order.c.store_ref == store_ref)).rowcount


def forget_campaigns(connection: Connection, account_id: str) -> int:
    """Forget all that is known of an account's campaigns."""
    return connection.execute(delete(campaign).where(campaign.c.account_id == account_id)).rowcount


def wants_reading(bookmark: Bookmark | None, figures: str, settling: timedelta) -> bool:
    """Tell whether a listing may have something new.

    Args:
        bookmark: how far it is read.
        figures: what the statistics say by now.
        settling: how long a listing may lag behind the statistics.

    Returns:
        Unless it was read to the end when its statistics had been the same for that long.
    """
    if bookmark is None or bookmark.read_until is None or bookmark.next_offset is not None:
        return True
    return bookmark.figures != figures or bookmark.read_until < bookmark.figures_at + settling
