"""Two-way sync: newer opt-ins cross over in both directions, and nobody is subscribed but by the contact's own hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.load.runs import Mode
from include.mailchimp.errors import AuthenticationFailed
from include.pull.consent import GIVEN_UP, KEPT
from include.pull.opt_ins import KEPT as KEPT_OUT
from include.pull.opt_ins import NO_PROOF, TAKEN
from include.sandbox import people
from include.sandbox.audiences import CONFIRMATION
from include.transform.two_way import BY_PRIORITY, CHANGE_OF_MIND, OPT_OUT_COUNTS
from tests.include.pull.pulling import LIST_ID, Puller
from tests.pipeline import Died, email_hash

ASKED = "Mailchimp asks the contact to confirm"
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def both(puller: Puller) -> Puller:
    """A store with two-way sync."""
    puller.pipeline.configure(two_way_sync=True)
    return puller


def subscriber(puller: Puller) -> str:
    """Customer 1, who opted in yesterday and is a subscriber since then."""
    address = puller.pipeline.add_customer(1)
    puller.answer(1, True, datetime.now(UTC) - DAY)
    puller.import_contacts(address, at=datetime.now(UTC) - DAY)
    puller.pull()
    assert puller.pipeline.status(address) == "subscribed"
    return address


def shop_says(puller: Puller) -> bool | None:
    [(opted_in,)] = puller.pipeline.sql(
        "SELECT opted_in FROM newsletter_consents WHERE customer_id = 1 "
        "ORDER BY recorded_at DESC, consent_id DESC LIMIT 1"
    )
    return opted_in  # type: ignore[no-any-return]


def conflicts(puller: Puller) -> list[tuple[bool, str, str, str]]:
    return puller.pipeline.sql(  # type: ignore[return-value]
        "SELECT shop_opted_in, remote_status, rule, outcome FROM mailchimp.consent_conflict ORDER BY conflict_id"
    )


def later(seconds: float = 2) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


class TestAnOptInOfTheShop:
    """The contact had unsubscribed at Mailchimp."""

    def unsubscribed(self, puller: Puller) -> str:
        """An opt-out that the shop knows of."""
        address = subscriber(puller)
        puller.unsubscribe(address, at=datetime.now(UTC) - 30 * MINUTE)
        puller.pull()
        assert shop_says(puller) is False
        return address

    @pytest.mark.parametrize("priority", ["remote_wins", "local_wins"])
    def test_after_the_shop_knew_lets_mailchimp_ask_once(self, both: Puller, priority: str) -> None:
        both.pipeline.configure(two_way_sync=True, sync_priority=priority)
        address = self.unsubscribed(both)
        both.answer(1, True, later(0.1))
        both.pipeline.push()
        assert both.pipeline.status(address) == "pending"
        assert conflicts(both) == [(True, "unsubscribed", CHANGE_OF_MIND, ASKED)]
        mails = both.account.mails_by_kind.copy()
        both.pull()
        for _ in range(2):
            both.pipeline.sql("UPDATE customers SET last_name = last_name || 'x'")
            both.pipeline.push()
        both.pipeline.full_sync()
        assert both.account.mails_by_kind == mails
        assert both.events(address)[-1] == ("unsubscribed", "pending", "push", 0)
        both.do(people.subscribe, address)
        both.pull()
        both.pipeline.push()
        assert (both.pipeline.status(address), shop_says(both)) == ("subscribed", True)

    def test_is_not_told_without_two_way_sync(self, puller: Puller) -> None:
        address = self.unsubscribed(puller)
        puller.answer(1, True, later(0.1))
        puller.pipeline.push()
        puller.pipeline.full_sync()
        assert puller.pipeline.status(address) == "unsubscribed"
        assert puller.pipeline.sql("SELECT FROM mailchimp.opt_in_request") == []

    def test_after_its_own_opt_out_lets_mailchimp_ask(self, both: Puller) -> None:
        address = subscriber(both)
        both.answer(1, False, datetime.now(UTC))
        both.pipeline.push()
        both.pull()
        assert both.pipeline.status(address) == "unsubscribed"
        both.answer(1, True, later())
        both.pipeline.push()
        assert both.pipeline.status(address) == "pending"

    def test_that_is_older_asks_nobody(self, both: Puller) -> None:
        address = self.unsubscribed(both)
        both.answer(1, True, datetime.now(UTC) - 40 * MINUTE)
        both.pipeline.sql("DELETE FROM newsletter_consents WHERE NOT opted_in")
        both.pipeline.push(mode=Mode.FULL)
        assert both.pipeline.status(address) == "unsubscribed"
        both.pull(full=True)
        assert shop_says(both) is False

    @pytest.mark.parametrize(
        ("priority", "status", "opted_in", "conflict"),
        [
            ("remote_wins", "unsubscribed", False, (BY_PRIORITY, GIVEN_UP)),
            ("local_wins", "pending", True, (BY_PRIORITY, ASKED)),
        ],
    )
    def test_before_the_shop_knew_is_a_matter_of_priority(
        self, both: Puller, priority: str, status: str, opted_in: bool, conflict: tuple[str, str]
    ) -> None:
        both.pipeline.configure(two_way_sync=True, sync_priority=priority)
        address = subscriber(both)
        both.unsubscribe(address, at=datetime.now(UTC) - 30 * MINUTE)
        both.answer(1, True, datetime.now(UTC) - 15 * MINUTE)
        both.pull()
        both.pipeline.push()
        assert both.pipeline.status(address) == status
        assert shop_says(both) is opted_in
        assert conflicts(both) == [(True, "unsubscribed", *conflict)]

    def test_before_the_shop_knew_stays_its_own_without_two_way_sync(self, puller: Puller) -> None:
        address = subscriber(puller)
        puller.unsubscribe(address, at=datetime.now(UTC) - 30 * MINUTE)
        puller.answer(1, True, datetime.now(UTC) - 15 * MINUTE)
        puller.pull()
        puller.pipeline.push()
        assert (puller.pipeline.status(address), shop_says(puller)) == ("unsubscribed", True)
        assert [one[3] for one in conflicts(puller)] == [KEPT]

    def test_asks_nobody_whose_address_is_dead(self, both: Puller) -> None:
        address = subscriber(both)
        both.do(people.bounce, address, at=datetime.now(UTC) - 30 * MINUTE)
        both.pull()
        both.answer(1, True, later(0.1))
        both.pipeline.push()
        assert both.pipeline.status(address) == "cleaned"

    def test_lets_mailchimp_ask_who_has_changed_since_the_opt_out_but_not_opted_out_again(self, both: Puller) -> None:
        address = self.unsubscribed(both)
        both.answer(1, True, later(0.1))
        both.do(people.change_profile, address, language="de", at=later())
        both.pipeline.push()
        assert both.pipeline.status(address) == "pending"

    def test_asks_nobody_who_came_back_and_left_again_unseen(self, both: Puller) -> None:
        address = self.unsubscribed(both)
        both.answer(1, True, later(2))
        both.do(people.subscribe, address, at=later(3))
        both.unsubscribe(address, at=later(4))
        both.pipeline.push()
        both.pipeline.full_sync()
        assert both.pipeline.status(address) == "unsubscribed"
        assert conflicts(both)[-1][3].endswith("it may have unsubscribed once more since the opt-in")

    def test_asks_nobody_who_complained(self, both: Puller) -> None:
        address = subscriber(both)
        both.do(people.complain, address, at=datetime.now(UTC) - 30 * MINUTE)
        both.pull()
        both.answer(1, True, later(0.1))
        both.pipeline.push()
        assert both.pipeline.status(address) == "unsubscribed"

    def test_is_asked_about_again_after_an_error_of_the_account(
        self, both: Puller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        address = self.unsubscribed(both)
        both.answer(1, True, later(0.1))

        def refuses(path: str, **_options: Any) -> None:
            raise AuthenticationFailed("API Key Invalid", status=401)

        with monkeypatch.context() as refused:
            patch = both.pipeline.client.patch
            refused.setattr(
                both.pipeline.client, "patch", lambda path, **o: (refuses if "/members/" in path else patch)(path, **o)
            )
            with pytest.raises(AuthenticationFailed):
                both.pipeline.push()
        both.pipeline.push()
        assert both.pipeline.status(address) == "pending"

    def test_is_on_record_with_the_time_it_was_asked_for(self, both: Puller) -> None:
        """The first opt-in lost against the priority, the second one didn't."""
        subscriber(both)
        both.unsubscribe("c1@mail.little.shop", at=datetime.now(UTC) - 30 * MINUTE)
        both.answer(1, True, datetime.now(UTC) - 15 * MINUTE)
        both.pull()
        assert [one[3] for one in conflicts(both)] == [GIVEN_UP]
        both.answer(1, True, later(0.1))
        both.pipeline.push()
        [(outcome, is_new)] = both.pipeline.sql(
            "SELECT outcome, shop_at > now() - interval '1 minute' FROM mailchimp.consent_conflict"
        )
        assert (outcome, is_new) == (ASKED, True)

    def test_is_forgotten_with_the_person(self, both: Puller) -> None:
        self.unsubscribed(both)
        both.answer(1, True, later(0.1))
        both.pipeline.push()
        both.pipeline.sql("INSERT INTO erasure_requests (customer_id) VALUES (1)")
        both.pipeline.push()
        for table in ("opt_in_request", "consent_conflict", "member"):
            assert both.pipeline.sql(f"SELECT FROM mailchimp.{table}") == []

    @pytest.mark.parametrize("arrives", [False, True])
    def test_asks_once_though_the_worker_is_killed(
        self, both: Puller, monkeypatch: pytest.MonkeyPatch, arrives: bool
    ) -> None:
        address = self.unsubscribed(both)
        both.answer(1, True, later(0.1))
        patch = both.pipeline.client.patch

        def dies(path: str, **options: Any) -> None:
            if arrives or "/members/" not in path:
                patch(path, **options)
            if "/members/" in path:
                raise Died

        with monkeypatch.context() as killed:
            killed.setattr(both.pipeline.client, "patch", dies)
            with pytest.raises(Died):
                both.pipeline.push()
        assert both.account.mails_by_kind[CONFIRMATION] == arrives
        both.pipeline.push()
        both.pipeline.push()
        assert both.pipeline.status(address) == "pending"
        assert both.account.mails_by_kind[CONFIRMATION] == 1


class TestAnOptInAtMailchimp:
    """The customer had said no in the shop."""

    def opted_out(self, puller: Puller, *, told: bool = True) -> str:
        """A no, half an hour ago; told to Mailchimp or not yet."""
        address = subscriber(puller)
        puller.answer(1, False, datetime.now(UTC) - 30 * MINUTE)
        if told:
            puller.pipeline.push()
            assert puller.pipeline.status(address) == "unsubscribed"
            puller.pull()
        return address

    @pytest.mark.parametrize("priority", ["remote_wins", "local_wins"])
    def test_after_mailchimp_knew_is_told_to_the_shop(self, both: Puller, priority: str) -> None:
        both.pipeline.configure(two_way_sync=True, sync_priority=priority)
        address = self.opted_out(both)
        both.do(people.subscribe, address, at=later())
        pulled = both.pull()
        assert (pulled.opted_in, pulled.written_back, shop_says(both)) == (1, 0, True)
        assert both.consents(1)[-1] == (True, "mailchimp: subscribed")
        assert conflicts(both) == [(False, "subscribed", CHANGE_OF_MIND, TAKEN)]
        assert both.events(address)[-1] == ("unsubscribed", "subscribed", "mailchimp", 1)
        both.pipeline.push()
        both.pipeline.full_sync()
        assert both.pipeline.status(address) == "subscribed"
        assert both.pull(full=True).opted_in == 0

    def test_is_not_told_without_two_way_sync(self, puller: Puller) -> None:
        address = self.opted_out(puller)
        puller.do(people.subscribe, address, at=later())
        puller.pull(full=True)
        assert shop_says(puller) is False

    @pytest.mark.parametrize(
        ("priority", "opted_in", "status", "outcome"),
        [("remote_wins", True, "subscribed", TAKEN), ("local_wins", False, "unsubscribed", KEPT_OUT)],
    )
    def test_before_mailchimp_knew_is_a_matter_of_priority(
        self, both: Puller, priority: str, opted_in: bool, status: str, outcome: str
    ) -> None:
        both.pipeline.configure(two_way_sync=True, sync_priority=priority)
        address = subscriber(both)
        both.do(people.unsubscribe_by_marketer, address, at=later(0))
        both.pull()
        both.pipeline.sql("TRUNCATE mailchimp.ledger CASCADE")  # Mailchimp never heard of the shop's own no
        both.do(people.subscribe, address, at=later())
        both.pull()
        assert shop_says(both) is opted_in
        assert conflicts(both)[-1] == (False, "subscribed", BY_PRIORITY, outcome)
        both.pipeline.push()
        assert both.pipeline.status(address) == status

    def test_that_is_older_loses(self, both: Puller) -> None:
        address = self.opted_out(both, told=False)
        both.do(people.unsubscribe_by_marketer, address, at=datetime.now(UTC) - 50 * MINUTE)
        both.do(people.subscribe, address, at=datetime.now(UTC) - 40 * MINUTE)
        both.pull(full=True)
        assert shop_says(both) is False
        both.pipeline.push()
        assert both.pipeline.status(address) == "unsubscribed"

    def test_of_somebody_whom_the_shop_never_asked_is_told(self, both: Puller) -> None:
        address = both.pipeline.add_customer(1)
        both.import_contacts(address)
        assert both.pull().opted_in == 1
        assert both.consents(1) == [(True, "mailchimp: subscribed")]
        assert conflicts(both) == []

    def test_and_then_taken_back_in_the_shop_is_told_to_mailchimp(self, both: Puller) -> None:
        """Though the last thing that Mailchimp was told is the same opt-out."""
        address = self.opted_out(both)
        both.do(people.subscribe, address, at=later())
        assert both.pull().opted_in == 1
        both.answer(1, False, later(4))
        assert both.pipeline.push()["members"].operations == 1
        assert both.pipeline.status(address) == "unsubscribed"
        assert both.pipeline.push().operations == 0

    @pytest.mark.parametrize("priority", ["remote_wins", "local_wins"])
    def test_before_a_second_no_is_lost(self, both: Puller, priority: str) -> None:
        both.pipeline.configure(two_way_sync=True, sync_priority=priority)
        address = self.opted_out(both)
        both.do(people.subscribe, address, at=later())
        both.answer(1, False, later(4))
        assert both.pull().opted_in == 0
        assert conflicts(both) == [(False, "subscribed", OPT_OUT_COUNTS, KEPT_OUT)]
        both.pipeline.push()
        assert both.pipeline.status(address) == "unsubscribed"

    def test_counts_though_the_customer_has_changed_since_in_other_ways(self, both: Puller) -> None:
        address = self.opted_out(both)
        both.do(people.subscribe, address, at=later())
        both.pipeline.sql("UPDATE customers SET updated_at = now() + interval '5 s'")
        assert both.pull().opted_in == 1

    def test_of_somebody_who_asked_to_be_erased_is_not_told(self, both: Puller) -> None:
        address = both.pipeline.add_customer(1)
        both.pipeline.sql("INSERT INTO erasure_requests (customer_id) VALUES (1)")
        both.import_contacts(address)
        assert both.pull().opted_in == 0

    def test_is_none_if_a_push_has_sent_it(self, both: Puller) -> None:
        """Whatever has changed the contact before the pull sees it."""
        both.pipeline.configure(two_way_sync=True, always_opt_in=True)
        address = both.pipeline.add_customer(1)
        both.pipeline.push()
        both.do(people.mark_vip, address, at=later(60))
        assert both.pull().opted_in == 0
        assert both.consents(1) == []

    def test_is_weighed_against_the_opt_out_not_against_what_was_sent_before(self, both: Puller) -> None:
        address = both.pipeline.add_customer(1, opted_in=True)
        both.pipeline.push()
        both.pull()
        both.pipeline.sql("UPDATE mailchimp.ledger SET acknowledged_at = now() - interval '10 days'")
        both.unsubscribe(address, at=later(1))
        both.pull()
        assert shop_says(both) is False
        both.do(people.subscribe, address, at=later(3))
        members = both.account.audience_for(LIST_ID).members
        contact = members.get(email_hash(address)) or {}
        members.put(email_hash(address), contact | {"timestamp_opt": (later() - 5 * DAY).isoformat()})
        assert both.pull().opted_in == 0

    def test_without_a_time_proves_nothing(self, both: Puller) -> None:
        address = self.opted_out(both)
        both.do(people.subscribe, address, at=later())
        members = both.account.audience_for(LIST_ID).members
        contact = members.get(email_hash(address)) or {}
        members.put(email_hash(address), contact | {"timestamp_opt": ""})
        assert both.pull().opted_in == 0
        assert conflicts(both) == [(False, "subscribed", NO_PROOF, KEPT_OUT)]
        both.pipeline.push()
        assert both.pipeline.status(address) == "unsubscribed"
        assert both.pipeline.push().operations == 0


def test_the_rule_of_an_opt_in_that_is_not_newer_is_on_record(both: Puller) -> None:
    address = both.pipeline.add_customer(1)
    both.import_contacts(address, at=datetime.now(UTC) - 30 * MINUTE)
    both.answer(1, False, datetime.now(UTC))
    both.pull()
    assert conflicts(both) == [(False, "subscribed", OPT_OUT_COUNTS, KEPT_OUT)]
