"""Reads an audience's campaigns and what they achieved into the state tables (API reference: "Campaigns", "Reports").

Of a campaign neither the sender's name and address nor its content is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

from sqlalchemy import text

from include.config.stores import StoreSettings
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import UnexpectedReply
from include.state.campaign_results import (
    CampaignEntry,
    CampaignFigures,
    mark_removed,
    save_campaigns,
    save_figures,
)
from include.state.database import StateDatabase

log = logging.getLogger(__name__)

Json = Mapping[str, Any]
Item = TypeVar("Item")

PER_PAGE: Final = 1000
_READS: Final = 3  # of a listing that changes meanwhile
_SENT: Final = frozenset({"sent", "sending"})  # of the others `send_time` is a plan

_CAMPAIGN_FIELDS: Final = [
    "id", "type", "status", "create_time", "send_time", "settings.title", "settings.subject_line",
]  # fmt: skip
_REPORT_FIELDS: Final = [
    "id", "list_id", "emails_sent", "opens", "clicks", "bounces", "unsubscribed", "abuse_reports", "ecommerce",
]  # fmt: skip


@dataclass(frozen=True)
class CampaignCounts:
    """How many campaigns an audience has, of how many there are figures, and how many vanished from it just now."""

    campaigns: int
    with_figures: int
    removed: int


def pull_campaigns(
    state: StateDatabase, client: MailchimpClient, settings: StoreSettings, account_id: str
) -> CampaignCounts:
    """Read all campaigns of a store's audience, with their statistics and revenue.

    Args:
        state: the state tables; the shop's switches there stay as they are.
        client: of the account.
        settings: names the audience.
        account_id: the Mailchimp account.

    Raises:
        UnexpectedReply: a listing changed every time it was read. What was read is kept.
    """
    campaigns, removed = _completely(lambda: _read_campaigns(state, client, settings.list_id, account_id))
    with_figures = _completely(lambda: _read_figures(state, client, settings.list_id, account_id))
    return CampaignCounts(campaigns, with_figures, removed)


def moment(given: Any) -> datetime | None:
    """Return a time of the API's as an aware one; of "" and what isn't a time, None."""
    try:
        found = datetime.fromisoformat(str(given))
    except ValueError:
        return None
    return found if found.tzinfo else None


def money(given: Any) -> Decimal:
    """Return an amount of the API's (a JSON number, read as the shortest one that means the same)."""
    return Decimal(str(given or 0))


def pages(items: Iterator[Item], size: int = PER_PAGE) -> Iterator[list[Item]]:
    """Cut a stream into lists."""
    page: list[Item] = []
    for item in items:
        page.append(item)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


def _completely(read: Callable[[], Item]) -> Item:
    """Read a listing that may change meanwhile, a few times if need be."""
    for _ in range(_READS - 1):
        try:
            return read()
        except UnexpectedReply as error:
            log.info("%s", error)
    return read()


def _read_campaigns(state: StateDatabase, client: MailchimpClient, list_id: str, account_id: str) -> tuple[int, int]:
    with state.begin() as connection:
        read_at = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    listing = client.list_all("/campaigns", "campaigns", {"list_id": list_id}, PER_PAGE, _CAMPAIGN_FIELDS)
    ids: set[str] = set()
    for page in pages(listing):
        found = {one["id"]: _campaign(one) for one in page}
        ids |= found.keys()
        with state.begin() as connection:
            save_campaigns(connection, account_id, list_id, list(found.values()), read_at)
    with state.begin() as connection:
        removed = mark_removed(connection, account_id, list_id, read_at)
    return len(ids), removed


def _campaign(found: Json) -> CampaignEntry:
    given = found.get("settings") or {}
    status = str(found.get("status") or "")
    return CampaignEntry(
        campaign_id=str(found["id"]),
        type=str(found.get("type") or ""),
        status=status,
        title=str(given.get("title") or ""),
        subject_line=str(given.get("subject_line") or ""),
        created_at=moment(found.get("create_time")),
        sent_at=moment(found.get("send_time")) if status in _SENT else None,
    )


def _read_figures(state: StateDatabase, client: MailchimpClient, list_id: str, account_id: str) -> int:
    """Read the reports of the account: they can't be asked for by audience."""
    with_figures = 0
    for page in pages(client.list_all("/reports", "reports", None, PER_PAGE, _REPORT_FIELDS)):
        found = {one["id"]: _figures(one) for one in page if one.get("list_id") == list_id}
        with state.begin() as connection:
            with_figures += save_figures(connection, account_id, list_id, list(found.values()))
    return with_figures


def _figures(found: Json) -> CampaignFigures:
    opens, clicks, bounces, shop = (found.get(name) or {} for name in ("opens", "clicks", "bounces", "ecommerce"))
    return CampaignFigures(
        campaign_id=str(found["id"]),
        emails_sent=int(found.get("emails_sent") or 0),
        opens=int(opens.get("opens_total") or 0),
        unique_opens=int(opens.get("unique_opens") or 0),
        clicks=int(clicks.get("clicks_total") or 0),
        unique_clicks=int(clicks.get("unique_clicks") or 0),
        clicked_by=int(clicks.get("unique_subscriber_clicks") or 0),
        hard_bounces=int(bounces.get("hard_bounces") or 0),
        soft_bounces=int(bounces.get("soft_bounces") or 0),
        unsubscribed=int(found.get("unsubscribed") or 0),
        abuse_reports=int(found.get("abuse_reports") or 0),
        last_open_at=moment(opens.get("last_open")),
        last_click_at=moment(clicks.get("last_click")),
        orders=int(shop.get("total_orders") or 0),
        spent=money(shop.get("total_spent")),
        revenue=money(shop.get("total_revenue")),
        currency_code=str(shop.get("currency_code") or "") or None,
    )
