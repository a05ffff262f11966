"""A town: families of six accounts each in one shop, a sandbox Mailchimp, and the pipeline between them.

The families share nothing but the shop, its settings and its runs: no address of one is ever another's. A run costs
the same for one as for many of them, so that a town lives many lives at once; one town follows another.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import requests
from sqlalchemy import Engine

from include.load.runs import Mode
from include.mailchimp.client import MailchimpClient
from include.sandbox.account import DELETED, Audience, StatusChange
from include.sandbox.account import Account as MailchimpAccount
from include.sandbox.records import Document
from include.sandbox.server import SandboxServer
from tests import newcomers
from tests.consent.firewall import OURS, RANK, Account, Scene, Word, homeless, opted_out, violations, word
from tests.consent.wire import Hook, Wire
from tests.include.pull.pulling import Puller
from tests.pipeline import QUICK, SETTINGS, STORE, Died, Pipeline
from tests.replaying import run_replay

LIST = SETTINGS["list_id"]
ADA, BOB, CLEO, DAN, EVE = ("ada", "bob", "cleo", "dan", "eve")
PRODUCT = 1

#: The accounts of a family: the name that the address of each begins with, and whether it is a guest's.
CAST = {
    1: (ADA, False),
    2: (BOB, False),
    3: (CLEO, False),
    4: (ADA.title(), False),  # the same person again
    5: (CLEO, True),  # ordered once more without logging in
    6: (DAN, True),
}
_ACCOUNTS = """
    SELECT customer_id, email, is_guest, deleted_at IS NOT NULL, updated_at, answer.opted_in, answer.recorded_at
    FROM customers LEFT JOIN LATERAL (
        SELECT opted_in, recorded_at FROM newsletter_consents
        WHERE newsletter_consents.customer_id = customers.customer_id ORDER BY consent_id DESC LIMIT 1
    ) AS answer ON true ORDER BY 1
"""


def address_of(family: int, name: str) -> str:
    return f"{name}.{family}@mail.little.shop"


def id_of(family: int, number: int) -> int:
    """The shop's id of one account of a family."""
    return 10 * family + number


class Violation(AssertionError):
    """A rule of the firewall is broken; not any assertion that fails."""


class World(Pipeline):
    """The reference pipeline, whose runs are watched.

    Attributes:
        wire: between the pipeline and Mailchimp; runs die there.
        moments: when each step of this town's life began.
        tally: how much happened in all lives, and which changes of a status the pipeline made.
    """

    def __init__(self, engine: Engine, sandbox: SandboxServer) -> None:
        self.wire = Wire(sandbox)
        self.tally: Counter[str] = Counter()
        self.moments: list[datetime] = []
        self._former: dict[int, str] = {}
        self._ever: dict[str, set[int]] = {}
        self._left_out: dict[int, datetime] = {}
        self._refused_since: dict[str, datetime] = {}
        self._double_optin = False
        super().__init__(engine, sandbox)
        self.elsewhere = self._connect(Wire(sandbox))
        [(self._state_tables,)] = self.sql(
            "SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables "
            "WHERE schemaname = 'mailchimp' AND tablename <> 'alembic_version'"
        )
        self.add_product(PRODUCT)

    def new_client(self) -> MailchimpClient:
        return self._connect(self.wire)

    def _connect(self, wire: Wire) -> MailchimpClient:
        session = requests.Session()
        session.mount(self.sandbox.url, wire)
        session.trust_env = False
        return MailchimpClient(session, self.sandbox.url, retry=QUICK)

    # Mailchimp

    @property
    def account(self) -> MailchimpAccount:
        return self.sandbox.state.account

    @property
    def audience(self) -> Audience:
        return self.account.audience_for(LIST)

    def contact(self, member_id: str) -> Document | None:
        return self.audience.members.get(member_id)

    def statuses(self) -> dict[str, str]:
        with self.account.lock:
            return {member_id: str((self.contact(member_id) or {})["status"]) for member_id in self.audience.members}

    def note_wish(self, member_id: str) -> None:
        """Remember that the contact itself, or somebody else, has just subscribed it."""
        with self.account.lock:
            if contact := self.contact(member_id):
                self.audience.members.put(member_id, contact | {"wished_at": datetime.now(UTC).isoformat()})

    # A life

    def begin_life(self, families: int, *, double_optin: bool, settings: dict[str, Any]) -> None:
        """Start anew: so many families without a word of consent, an empty audience, no state."""
        self.sql(
            "TRUNCATE order_lines, order_promotions, orders, cart_lines, carts, newsletter_consents, customers, "
            "addresses, newsletter_groups, deleted_records"
        )
        for family in range(families):
            for number, (name, is_guest) in CAST.items():
                self.add_customer(id_of(family, number), address_of(family, name), is_guest=is_guest)
        account = self.account
        with account.lock:
            for store_id in list(account.stores):
                account.forget_store(store_id)
            account.audiences.clear()
            account.status_changes.clear()
            account.add_audience(LIST, "Customers", double_optin)
        self.sandbox.state.batches.batches.clear()
        self._double_optin = double_optin
        self.settings = self.settings.model_copy(update=settings)
        self.lose_ledger()
        self.moments.clear()

    def set(self, **settings: Any) -> None:
        """Change settings of the store, as its owner does between two runs."""
        self.settings = self.settings.model_copy(update=settings)

    def lose_ledger(self) -> None:
        """Empty all state tables, which comes to the same as dropping the schema and is quicker."""
        self.sql(f"TRUNCATE {self._state_tables} RESTART IDENTITY CASCADE")
        self._former.clear()
        self._ever.clear()
        self._left_out.clear()
        self._refused_since.clear()

    def lose_store(self) -> None:
        """Delete the store at Mailchimp, with all that was sent to it but the contacts."""
        if self.account.stores:
            self.elsewhere.delete(STORE)

    def accounts(self) -> list[Account]:
        return [Account(*row) for row in self.sql(_ACCOUNTS)]

    # Runs

    def run(
        self,
        *,
        mode: Mode = Mode.INCREMENTAL,
        ids: Sequence[int] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        kind: str = "manual",
        before: Hook | None = None,
        after: Hook | None = None,
    ) -> None:
        """Push, perhaps not to the end, and look at what it did to the contacts.

        Raises:
            Violation: a rule of the firewall is broken.
        """
        names = ("members", "customers", *(name for name in ("orders", "carts") if self.sql(f"SELECT FROM {name}")))
        whole = mode is not Mode.IDS and kind == "manual" and since is None

        def push() -> None:
            self.push(
                mode=mode,
                entities=names,
                ids=[str(one) for one in ids],
                since=since,
                until=until,
                kind=kind,
                allow_deletes=True,  # the brake on deletions is tested elsewhere
            )

        self.wire.listen(before, after)
        self._watch(push, mode if whole else Mode.IDS)

    def replay(self) -> None:
        """Send rejected contacts and customers again.

        Raises:
            Violation: a rule of the firewall is broken.
        """
        if self.sql("SELECT FROM mailchimp.rejected JOIN mailchimp.store USING (store_ref) WHERE is_current "
                    "AND entity IN ('members', 'customers')"):  # fmt: skip
            self.tally["replays"] += 1
            self._watch(lambda: run_replay(self, entities=("members", "customers")))

    def bring_subscribers(self) -> None:
        """Bring people to the audience whom only the shop knows.

        Raises:
            Violation: a rule of the firewall is broken.
        """
        self.set(max_new_subscribers=1_000)
        self._watch(lambda: newcomers.bring(self))

    def _watch(self, work: Callable[[], Any], mode: Mode = Mode.IDS) -> None:
        """Let a run do its work, perhaps not to the end, and look at what it did; `mode` IDS: to some people only."""
        scene, seen = self._scene(), len(self.account.status_changes)
        self.tally["runs"] += 1
        whole = mode is not Mode.IDS
        try:
            work()
        except Died:
            whole = False
            self.tally["deaths"] += 1
        finally:
            self.wire.listen()
        self._idle()
        changes = self.account.status_changes[seen:]
        self._count(changes, scene)
        if found := [*violations(changes, scene), *homeless(self.statuses(), changes, scene)]:
            raise Violation("\n".join(found))
        if whole:
            self._note_sent(scene, everybody=mode is Mode.FULL)

    def pull(self, *, full: bool = False) -> None:
        """Bring back what happened at Mailchimp; who left there may not be opted in here, unless they were later.

        With two-way sync, subscribers there are opted in here, unless they said no since.

        Left aside: who is unsubscribed because the shop said so itself, and whom a conflict tells of.

        Raises:
            Violation: somebody is, or somebody was opted in by it.
        """
        before = {one.customer_id: one for one in self.accounts()}
        [(seen,)] = self.sql("SELECT coalesce(max(event_id), 0) FROM mailchimp.consent_event")
        pulled = Puller(self).pull(full=full)
        self.tally["pulls"] += 1
        self.tally["opted out by a pull"] += pulled.written_back
        left = dict(
            self.sql(
                "SELECT member_hash, max(happened_at) FROM mailchimp.consent_event c WHERE event_id > :seen "
                "AND to_status IN ('unsubscribed', 'cleaned') AND source <> 'push' AND NOT EXISTS ("
                "SELECT FROM mailchimp.consent_conflict f "
                "WHERE (f.member_hash, f.remote_at) = (c.member_hash, c.happened_at)) GROUP BY 1", seen=seen,
            )
        )  # fmt: skip
        self.tally["opted in by a pull"] += pulled.opted_in
        wished = self._times("timestamp_opt") if self.settings.two_way_sync else {}
        for one in self.accounts():
            said = before[one.customer_id]
            if one.opted_in and not said.opted_in:
                wished_at, is_in = wished.get(one.member_id), self.statuses().get(one.member_id) == "subscribed"
                if not (is_in and wished_at and (said.answered_at is None or wished_at >= said.answered_at)):
                    raise Violation(f"opted in by a pull: {one}")
            left_at = left.get(one.member_id) if self._is_found(one) else None
            if left_at and one.opted_in and not one.is_deleted and not _is_later(one.answered_at, left_at):
                raise Violation(f"opted in, though the contact left at {left_at}: {one}")

    def _is_found(self, one: Account) -> bool:
        """A customer whom no push has met is looked up by the address as Mailchimp has it, and in small letters."""
        contact = self.contact(one.member_id)
        return one.email == one.email.lower() or (contact is not None and contact["email_address"] == one.email)

    def assert_opt_outs_arrived(self) -> None:
        """After a whole run: who said no, and didn't subscribe elsewhere after Mailchimp was told, isn't subscribed.

        A no that is merely repeated after that is not told again: the shop's profile doesn't say when it was given.
        The pull, which brings what Mailchimp knows to the shop, makes a new no of it.

        Raises:
            Violation: somebody is.
        """
        for member_id, status in self.statuses().items():
            accounts = [one for one in self.accounts() if one.member_id == member_id]
            if RANK[status] < RANK["pending"] or not opted_out(accounts):
                continue
            wished_at = (self.contact(member_id) or {}).get("wished_at")
            newer = wished_at is not None and datetime.fromisoformat(wished_at) > self._refused_since[member_id]
            if not newer:
                raise Violation(f"{status} in spite of an opt-out: {accounts}")

    def _count(self, changes: Sequence[StatusChange], scene: Scene) -> None:
        self.tally["changes"] += len(changes)
        for change in changes:
            if change.by in OURS:
                self.tally[f"{change.old or 'new'} → {change.new} by {change.by}"] += 1
        erased = {change.member_id for change in changes if change.new == DELETED}
        self.tally["moved"] += len(scene.statuses.keys() - self.statuses().keys() - erased)

    def _scene(self) -> Scene:
        accounts = self.accounts()
        for one in accounts:
            self._ever.setdefault(one.member_id, set()).add(one.customer_id)
            if one.is_deleted or self._is_skipped(one):
                self._former.pop(one.customer_id, None)
        return Scene(
            accounts,
            self.statuses(),
            dict(self._former),
            self._ever,
            self.settings,
            self._double_optin,
            self._times("unsubscribed_at"),
        )

    def _times(self, name: str) -> dict[str, datetime]:
        """A time of each contact that has it, by contact."""
        with self.account.lock:
            texts = {one: (self.contact(one) or {}).get(name) for one in self.audience.members}
        return {one: datetime.fromisoformat(text) for one, text in texts.items() if text}

    def _note_sent(self, scene: Scene, *, everybody: bool) -> None:
        for one in scene.accounts:
            if self._is_skipped(one):
                self._left_out[one.customer_id] = one.changed_at
            elif not everybody and self._left_out.get(one.customer_id) == one.changed_at:
                continue  # the settings would send her now, but only a full sync or a change of hers does
            elif not one.is_deleted:
                self._left_out.pop(one.customer_id, None)
                self._former[one.customer_id] = one.member_id
            having = scene.having(one.member_id)
            if opted_out(having):
                refusals = [each.answered_at for each in having if each.opted_in is False and each.answered_at]
                self._refused_since.setdefault(one.member_id, min(refusals))
            elif word(having) is Word.YES:
                self._refused_since.pop(one.member_id, None)

    def _is_skipped(self, one: Account) -> bool:
        """Guests who answered are members, whatever the setting says of customers."""
        return one.is_guest and self.settings.guests == "skip" and one.opted_in is None

    def _idle(self) -> None:
        """Wait until Mailchimp has done all that a run has left it with."""
        deadline = time.monotonic() + 20
        while self.sandbox.state.batches.unfinished():
            assert time.monotonic() < deadline, "a batch does not end"
            time.sleep(0.0005)


def _is_later(answered_at: datetime | None, left_at: datetime) -> bool:
    """Compare an answer with a time of Mailchimp's, which is a whole second."""
    return answered_at is not None and answered_at.replace(microsecond=0) > left_at
