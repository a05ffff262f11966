"""A pipeline whose shop also sends campaigns, at Mailchimp, and reads what came of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from include.mailchimp.client import MailchimpClient
from include.pull.activity import ActivityCounts, pull_activity
from include.pull.campaigns import CampaignCounts, pull_campaigns
from include.sandbox import campaigns
from include.sandbox.account import Account
from include.state.stores import register_store
from tests.pipeline import AUDIENCE, Pipeline, email_hash

LIST_ID = AUDIENCE.removeprefix("/lists/")
NOW = datetime.now(UTC).replace(microsecond=0)


def ago(**passed: float) -> datetime:
    """A moment before the present."""
    return NOW - timedelta(**passed)


@dataclass
class Campaigning:
    """The marketer, the recipients, and the pull."""

    pipeline: Pipeline
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.account_id = str(self.pipeline.client.account()["account_id"])
        with self.pipeline.state.begin() as connection:
            register_store(connection, self.pipeline.settings, self.account_id)

    @property
    def account(self) -> Account:
        return self.pipeline.sandbox.state.account

    def send(self, *addresses: str, sent_at: datetime | None = None, **options: Any) -> str:
        """Send a campaign to addresses, by default yesterday."""
        moment = sent_at or ago(days=1)
        return campaigns.send_campaign(self.account, LIST_ID, to=list(addresses), sent_at=moment, **options)

    def react(self, campaign_id: str, email: str, action: campaigns.Action, at: datetime, detail: str = "") -> None:
        campaigns.react(self.account, campaign_id, email, action, at=at, detail=detail)

    def pull(self, now: datetime = NOW, client: MailchimpClient | None = None) -> tuple[CampaignCounts, ActivityCounts]:
        """What the DAG's two tasks do; `now` is when."""
        pipeline, used = self.pipeline, client or self.pipeline.client
        known = pull_campaigns(pipeline.state, used, pipeline.settings, self.account_id)
        return known, pull_activity(pipeline.state, used, pipeline.settings, self.account_id, now)

    def events(self, campaign_id: str) -> list[tuple[str, str, datetime, str]]:
        """(contact, action, when, detail) in order."""
        return self.pipeline.sql(
            "SELECT member_hash, action, happened_at, detail FROM mailchimp.campaign_activity "
            "JOIN mailchimp.campaign USING (campaign_ref) WHERE campaign_id = :id "
            "ORDER BY happened_at, action, member_hash, occurrence",
            id=campaign_id,
        )

    def actions(self, campaign_id: str, *, sent: bool = False) -> list[tuple[str, str]]:
        """(contact, action) in order of time, without the sending."""
        return [(who, what) for who, what, _, _ in self.events(campaign_id) if sent or what != "sent"]

    def asked(self, part: str) -> int:
        """How many calls were made whose route has this text."""
        return sum(number for route, number in self.pipeline.requests().items() if part in route)


class Watched(MailchimpClient):
    """A client that lets something happen before each call of a path."""

    def __init__(self, pipeline: Pipeline, before: Callable[[str, dict[str, Any]], None]) -> None:
        client = pipeline.new_client()
        super().__init__(client._session, client.base_url)
        self.before = before

    def get(self, path: str, *, params: Any = None) -> Any:
        self.before(path, dict(params or {}))
        return super().get(path, params=params)


def who(email: str) -> str:
    """The hash of an address."""
    return email_hash(email)
