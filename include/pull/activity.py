"""Reads what contacts did with the campaigns they were sent, and the orders that came of it.

Every listing of a campaign (to whom it was sent, what they did, who unsubscribed, who complained, which orders are
ascribed to it) is read in **rounds**. A round reads all pages; each is saved in one transaction with the bookmark, so
that whoever is killed goes on at the next page. The next round asks for what came since, a day of overlap included;
an event has a key, so the overlap adds nothing. No round is begun while the campaign's statistics say that there is
nothing new: `GET /reports/{id}/email-activity` lists every recipient, whether or not something happened.

A campaign's activity is read until `activity_update_interval_days` after it was sent: a last round, begun later, reads
what is missing up to that moment.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from include.config.stores import StoreSettings
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import NotFound, UnexpectedReply
from include.pull.campaigns import PER_PAGE, moment, money
from include.pull.clicked import without_person
from include.state.campaign_results import (
    ACTIVITY,
    ORDERS,
    AttributedOrder,
    Bookmark,
    Event,
    SentCampaign,
    drop_orders_before,
    load_bookmark,
    save_bookmark,
    save_events,
    save_orders,
    sent_campaigns,
    wants_reading,
)
from include.state.database import StateDatabase
from include.state.stores import find_store

log = logging.getLogger(__name__)

Json = Mapping[str, Any]

OVERLAP: Final = timedelta(days=1)  # how late an event may appear in a listing, after its time and after the statistics
_HASH: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Listing:
    """A listing of one campaign.

    Attributes:
        kind: its name in the bookmarks.
        path: where it is, with {campaign_id} in it.
        collection: name of the list in the reply.
        fields: what is asked for of each entry: never an address or a name.
        figures: of the campaign's statistics, those that change when this listing does.
        events: makes events of an entry.
        incremental: whether it can be asked for what came since a moment; otherwise its length is one of the figures.
    """

    kind: str
    path: str
    collection: str
    fields: Sequence[str]
    figures: Callable[[SentCampaign], Sequence[Any]]
    events: Callable[[SentCampaign, Json], Iterator[Event]]
    incremental: bool = False


def _sent(campaign: SentCampaign, entry: Json) -> Iterator[Event]:
    yield Event(_contact(entry), "sent", campaign.sent_at)


def _acted(_campaign: SentCampaign, entry: Json) -> Iterator[Event]:
    seen: Counter[Event] = Counter()
    for one in entry.get("activity") or ():
        happened_at, action = moment(one.get("timestamp")), one.get("action")
        if happened_at is None or action not in {"open", "click", "bounce"}:
            continue
        detail = {"click": without_person(str(one.get("url") or "")), "bounce": str(one.get("type") or "")}
        event = Event(_contact(entry), action, happened_at, detail.get(action, ""))
        yield replace(event, occurrence=seen[event])
        seen[event] += 1


def _unsubscribed(_campaign: SentCampaign, entry: Json) -> Iterator[Event]:
    # The reason may be in the contact's own words, so it isn't kept.
    if (happened_at := moment(entry.get("timestamp"))) is not None:
        yield Event(_contact(entry), "unsubscribe", happened_at)


def _complained(_campaign: SentCampaign, entry: Json) -> Iterator[Event]:
    if (happened_at := moment(entry.get("date"))) is not None:
        yield Event(_contact(entry), "abuse", happened_at)


LISTINGS: Final = (
    Listing("sent", "/reports/{campaign_id}/sent-to", "sent_to", ["email_id"], lambda c: [c.emails_sent], _sent),
    Listing(
        ACTIVITY,
        "/reports/{campaign_id}/email-activity",
        "emails",
        ["email_id", "activity.action", "activity.timestamp", "activity.url", "activity.type"],
        lambda c: [c.opens, c.clicks, c.hard_bounces, c.soft_bounces, c.last_open_at, c.last_click_at],
        _acted,
        incremental=True,
    ),
    Listing(
        "unsubscribe",
        "/reports/{campaign_id}/unsubscribed",
        "unsubscribes",
        ["email_id", "timestamp"],
        lambda c: [c.unsubscribed],
        _unsubscribed,
    ),
    Listing(
        "abuse",
        "/reports/{campaign_id}/abuse-reports",
        "abuse_reports",
        ["email_id", "date"],
        lambda c: [c.abuse_reports],
        _complained,
    ),
)


@dataclass(frozen=True)
class ActivityCounts:
    """What a pull of activity did: campaigns that were looked into, and events that were new."""

    campaigns: int
    events: int


def pull_activity(
    state: StateDatabase,
    client: MailchimpClient,
    settings: StoreSettings,
    account_id: str,
    now: datetime | None = None,
) -> ActivityCounts:
    """Read what is new about the sent campaigns of a store's audience, the newest campaign first.

    Args:
        state: the state tables, with the campaigns as `include.pull.campaigns` just read them.
        client: of the account.
        settings: names audience and store, and says how long a campaign's activity is followed.
        account_id: the Mailchimp account.
        now: by default the database's time.

    Raises:
        MailchimpError: what was read is kept; the next pull goes on there.
    """
    with state.begin() as connection:
        moment = now or connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        campaigns = sent_campaigns(connection, account_id, settings.list_id)
        store = find_store(connection, settings, account_id) if settings.ecommerce else None
    follow = timedelta(days=settings.activity_update_interval_days)
    looked_into, events = 0, 0
    for campaign in campaigns:
        reader = _Reader(state, client, campaign, moment)
        if campaign.receives_activity:
            events += sum(reader.follow(listing, campaign.sent_at + follow) for listing in LISTINGS)
        if store is not None:
            reader.read_orders(settings.store_id, store.store_ref)
        looked_into += bool(reader.pages)
    return ActivityCounts(looked_into, events)


@dataclass
class _Reader:
    """Reads the listings of one campaign."""

    state: StateDatabase
    client: MailchimpClient
    campaign: SentCampaign
    now: datetime
    pages: int = 0

    def follow(self, listing: Listing, until: datetime) -> int:
        """Read what is new in a listing, up to a moment. Returns the number of new events."""
        figures = listing.figures(self.campaign)
        bookmark = self._bookmark(listing.kind)
        # Of a campaign that was over before it was first looked into, nothing is read.
        ended = self.now >= until and (bookmark is None or (bookmark.read_until or bookmark.begun_at) >= until)
        if ended or (bookmark is None and not any(figures)):
            return 0
        found = 0

        def save(connection: Connection, page: Sequence[Json], _bookmark: Bookmark) -> None:
            nonlocal found
            events = [
                event
                for entry in page
                if _HASH.fullmatch(_contact(entry))
                for event in listing.events(self.campaign, entry)
                if event.happened_at <= until
            ]
            found += save_events(connection, self.campaign.campaign_ref, events)

        path = listing.path.format(campaign_id=self.campaign.campaign_id)
        fields = [f"{listing.collection}.{field}" for field in listing.fields]
        self._read_round(listing.kind, path, listing.collection, fields, figures, bookmark, save, listing.incremental)
        if found:
            log.info("campaign %s, %s: %s new events", self.campaign.campaign_id, listing.kind, f"{found:,}")
        return found

    def read_orders(self, store_id: str, store_ref: int) -> None:
        """Read which orders of a store Mailchimp ascribes to the campaign, when its sales have changed."""
        kind = f"{ORDERS}/{store_ref}"
        figures = [self.campaign.orders, self.campaign.spent, self.campaign.revenue]
        bookmark = self._bookmark(kind)
        if bookmark is None and not any(figures):
            return

        def save(connection: Connection, page: Sequence[Json], reached: Bookmark) -> None:
            orders = {one["id"]: _order(one) for one in page}
            reference, round_at = self.campaign.campaign_ref, reached.begun_at
            save_orders(connection, reference, store_ref, list(orders.values()), round_at)
            if reached.next_offset is None:
                drop_orders_before(connection, reference, store_ref, round_at)

        fields = [f"orders.{name}" for name in ("id", "currency_code", "order_total", "processed_at_foreign")]
        path, only = f"/ecommerce/stores/{store_id}/orders", {"campaign_id": self.campaign.campaign_id}
        self._read_round(kind, path, "orders", fields, figures, bookmark, save, params=only)

    def _bookmark(self, kind: str) -> Bookmark | None:
        with self.state.begin() as connection:
            return load_bookmark(connection, self.campaign.campaign_ref, kind)

    def _read_round(
        self,
        kind: str,
        path: str,
        collection: str,
        fields: Sequence[str],
        figures: Sequence[Any],
        bookmark: Bookmark | None,
        save: Callable[[Connection, Sequence[Json], Bookmark], None],
        incremental: bool = False,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Read a listing to its end: a round that was begun, or a new one where there may be something new."""
        told = "|".join(str(figure) for figure in figures)
        complete = not incremental and bookmark is not None and (bookmark.listed or 0) >= figures[0]
        if not wants_reading(bookmark, told, timedelta(0) if complete else OVERLAP):
            return
        place = bookmark if bookmark and bookmark.next_offset is not None else self._new_round(bookmark, told)
        since = place.since.isoformat(timespec="seconds") if incremental and place.since else None
        query = {**(params or {}), "since": since, "count": PER_PAGE, "fields": ",".join([*fields, "total_items"])}
        while place.next_offset is not None:
            try:
                reply = self.client.get(path, params=query | {"offset": place.next_offset}) or {}
            except NotFound:
                log.warning("campaign %s: Mailchimp has no %s of it", self.campaign.campaign_id, collection)
                return
            self.pages += 1
            page, total = reply.get(collection), reply.get("total_items")
            if not isinstance(page, list) or not isinstance(total, int):
                raise UnexpectedReply("Unexpected reply", f"no list {collection!r} with total_items")
            place = turned(place, len(page), total, PER_PAGE // 20)
            with self.state.begin() as connection:
                save(connection, page, place)
                save_bookmark(connection, self.campaign.campaign_ref, kind, place)

    def _new_round(self, bookmark: Bookmark | None, figures: str) -> Bookmark:
        known = bookmark is not None and bookmark.figures == figures
        read_until = bookmark.read_until if bookmark else None
        return Bookmark(
            begun_at=self.now,
            since=read_until - OVERLAP if read_until else None,
            next_offset=0,
            listed=None,
            read_until=read_until,
            figures=figures,
            figures_at=bookmark.figures_at if bookmark is not None and known else self.now,
        )


def turned(place: Bookmark, read: int, total: int, overlap: int = 0) -> Bookmark:
    """Return the bookmark after a page.

    Entries that vanish (contacts who are deleted) let all behind them move up. So pages overlap; where more vanished
    since the page before than that makes good, the pull goes back by as many.

    Args:
        place: the bookmark before it.
        read: entries of the page.
        total: entries that the listing has by now.
        overlap: entries of this page that the next one has as well.

    Raises:
        UnexpectedReply: an empty page although there should be more.
    """
    offset = place.next_offset or 0
    if not read and offset < total:
        raise UnexpectedReply("Incomplete listing", f"nothing at {offset} of {total}; read it again")
    vanished = place.listed - total if place.listed is not None and offset else 0
    if vanished > overlap:
        return replace(place, next_offset=max(0, offset - vanished), listed=total)
    if offset + read >= total:
        return replace(place, next_offset=None, listed=total, read_until=place.begun_at)
    return replace(place, next_offset=offset + read - min(overlap, read // 2), listed=total)


def _contact(entry: Json) -> str:
    return str(entry.get("email_id") or "").lower()


def _order(found: Json) -> AttributedOrder:
    return AttributedOrder(
        order_id=str(found["id"]),
        currency_code=str(found.get("currency_code") or ""),
        order_total=money(found.get("order_total")),
        ordered_at=moment(found.get("processed_at_foreign")),
    )
