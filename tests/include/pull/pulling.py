"""A pipeline that also pulls: what comes back from the sandbox into the shop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from include.mailchimp.client import MailchimpClient
from include.pull.audiences import pull_audiences
from include.pull.members import MemberPull, Pulled
from include.pull.write_back import WriteBack
from include.sandbox import people
from include.sandbox.account import Account
from include.state.members import Mirror
from include.state.stores import register_store
from tests.pipeline import AUDIENCE, Pipeline, email_hash

LIST_ID = AUDIENCE.removeprefix("/lists/")


@dataclass
class Puller:
    """Pulls what people and marketers do at the sandbox; `per_page` makes little listings long ones."""

    pipeline: Pipeline
    per_page: int = 1000
    connections: int = 4
    runs: int = 0

    @property
    def account(self) -> Account:
        return self.pipeline.sandbox.state.account

    @property
    def account_id(self) -> str:
        return self.account.id

    def pull(self, *, full: bool = False, client: MailchimpClient | None = None, run: str | None = None) -> Pulled:
        """The task `members`."""
        return self.member_pull(client, run).pull(full=full)

    def member_pull(self, client: MailchimpClient | None = None, run: str | None = None) -> MemberPull:
        self.runs += 1
        pipeline = self.pipeline
        with pipeline.state.begin() as connection:
            store = register_store(connection, pipeline.settings, self.account_id)
        return MemberPull(
            pipeline.state,
            client or pipeline.client,
            Mirror(self.account_id, LIST_ID, run or f"pull {self.runs}"),
            WriteBack(pipeline.engine, pipeline.profile, pipeline.settings, store.store_ref),
            self.connections,
            timedelta(),
            self.per_page,
        )

    def audiences(self) -> int:
        """The task `audiences`."""
        return pull_audiences(self.pipeline.state, self.pipeline.client, self.account_id, self.connections)

    def calls(self, work: Callable[[], Any]) -> int:
        """How many requests something makes."""
        before = self.pipeline.client.metrics.calls
        work()
        return self.pipeline.client.metrics.calls - before

    # What people do at Mailchimp

    def unsubscribe(self, email: str, **options: Any) -> None:
        people.unsubscribe(self.account, LIST_ID, email, **options)

    def do(self, deed: Callable[..., Any], email: str, **options: Any) -> None:
        deed(self.account, LIST_ID, email, **options)

    def import_contacts(self, *emails: str, **options: Any) -> None:
        people.import_contacts(self.account, LIST_ID, [{"email_address": email} for email in emails], **options)

    def answer(self, customer_id: int, opted_in: bool, at: datetime) -> None:
        """What a customer says in the shop."""
        self.pipeline.sql(
            "INSERT INTO newsletter_consents (customer_id, opted_in, recorded_at, source) "
            "VALUES (:id, :opted_in, :at, 'account page')", id=customer_id, opted_in=opted_in, at=at,
        )  # fmt: skip

    # What came of it

    def mirror(self) -> dict[str, str]:
        """Status by contact, without those that vanished."""
        return dict(
            self.pipeline.sql("SELECT member_hash, status FROM mailchimp.member WHERE vanished_at IS NULL")  # type: ignore[arg-type]
        )

    def at_mailchimp(self) -> dict[str, str]:
        """Status by contact, as the sandbox itself has it."""
        members = self.account.audience_for(LIST_ID).members
        return {one: (members.get(one) or {})["status"] for one in members}

    def events(self, email: str) -> list[tuple[str | None, str, str, int]]:
        """A contact's events: from, to, source, customers written to."""
        return self.pipeline.sql(  # type: ignore[return-value]
            "SELECT from_status, to_status, source, written_back FROM mailchimp.consent_event "
            "WHERE member_hash = :hash ORDER BY event_id", hash=email_hash(email),
        )  # fmt: skip

    def consents(self, customer_id: int) -> list[tuple[bool, str]]:
        """What the shop has recorded of a customer's consent, in the order of recording."""
        return self.pipeline.sql(  # type: ignore[return-value]
            "SELECT opted_in, source FROM newsletter_consents WHERE customer_id = :id ORDER BY consent_id",
            id=customer_id,
        )

    def configured(self, **settings: Any) -> Puller:
        self.pipeline.configure(**settings)
        return replace(self)
