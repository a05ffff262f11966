"""People whom only the shop knows are brought to the audience: whom a run chooses, and whom it never sends."""

from __future__ import annotations

import pytest

from include.load import newcomers, subscribers
from include.load.errors import PreflightFailed
from include.mailchimp.errors import MailchimpError
from include.transform.evidence import Finding
from tests.features.sent import watch
from tests.include.load.refusals import accept, refuse
from tests.include.load.shop import MortalClient, die_at
from tests.newcomers import asked_about, begin, bring, counts, look
from tests.pipeline import AUDIENCE, Died, Pipeline, email_hash


@pytest.fixture
def shop(pipeline: Pipeline) -> Pipeline:
    """A store whose pushes know nobody yet, and never look back at what is old."""
    pipeline.configure(max_new_subscribers=100)
    pipeline.push()
    return pipeline


def age(pipeline: Pipeline) -> None:
    """Let everything have happened before the first push."""
    pipeline.sql("UPDATE newsletter_consents SET recorded_at = '2019-03-01T00:00:00Z'")
    pipeline.sql("UPDATE customers SET updated_at = '2019-03-01T00:00:00Z'")


def add_old(pipeline: Pipeline, *numbers: int, opted_in: bool | None = True) -> list[str]:
    """Customers from before the install."""
    emails = [pipeline.add_customer(number, opted_in=opted_in) for number in numbers]
    age(pipeline)
    return emails


def mirror(pipeline: Pipeline, email: str, status: str, *, vanished: bool = False) -> None:
    """What a pull has found."""
    pipeline.sql(
        "INSERT INTO mailchimp.member (account_id, list_id, member_hash, status, last_changed, vip, tags, groups, "
        "first_seen_at, pulled_at, vanished_at) SELECT account_id, list_id, :hash, :status, now(), false, '{}', '{}', "
        "now(), now(), CASE WHEN :vanished THEN now() END FROM mailchimp.store WHERE is_current",
        hash=email_hash(email),
        status=status,
        vanished=vanished,
    )


def without_time(pipeline: Pipeline, customer_id: int) -> None:
    """Forget since when a customer has agreed: the shop's SQL has no time any more."""
    pipeline.sql("ALTER TABLE newsletter_consents ALTER recorded_at DROP NOT NULL")
    pipeline.sql("UPDATE newsletter_consents SET recorded_at = NULL WHERE customer_id = :id", id=customer_id)


class TestWhoIsChosen:
    def test_everybody_is_counted_once_with_the_reason(self, shop: Pipeline) -> None:
        add_old(shop, 1, 2)
        add_old(shop, 3, opted_in=False)
        add_old(shop, 4, opted_in=None)
        shop.add_customer(5, "x1y2@marketplace.amazon.de", opted_in=True)
        shop.add_customer(6, "no address", opted_in=True)
        shop.add_customer(7, "c1@mail.little.shop", opted_in=True)  # a second account of the first
        without_time(shop, 2)
        assert counts(shop) == {
            "with_evidence": 1,
            "without_evidence": 2,
            "opted_out": 1,
            "excluded": 1,
            "invalid": 1,
        }

    @pytest.mark.parametrize("rows", [1, 2, 5000])
    def test_accounts_of_one_person_may_be_on_several_pages(
        self, shop: Pipeline, monkeypatch: pytest.MonkeyPatch, rows: int
    ) -> None:
        monkeypatch.setattr(newcomers, "_ROWS", rows)
        monkeypatch.setattr(subscribers, "_ROWS", rows)
        for number in range(1, 6):
            shop.add_customer(number, "same@mail.little.shop" if number % 2 else None, opted_in=True)
        assert counts(shop) == {"with_evidence": 3}
        run, _ = begin(shop)
        assert asked_about(shop, run) == 3
        assert shop.sql("SELECT count(*) FROM mailchimp.replay WHERE run_ref = :run", run=run.run_ref) == [(3,)]

    def test_a_no_in_any_account_is_one(self, shop: Pipeline) -> None:
        shop.add_customer(1, "same@mail.little.shop", opted_in=True)
        shop.add_customer(2, "same@mail.little.shop", opted_in=False)
        assert counts(shop) == {"opted_out": 1}

    def test_never_asked_is_no_evidence_whatever_the_settings_say(self, shop: Pipeline) -> None:
        shop.configure(max_new_subscribers=100, always_opt_in=True)
        [ada] = add_old(shop, 1, opted_in=None)
        assert counts(shop) == {"without_evidence": 1}
        assert bring(shop).conclusion.summaries == ()
        assert shop.member(ada) is None

    @pytest.mark.parametrize(
        ("status", "vanished"),
        [
            ("subscribed", False),
            ("unsubscribed", False),
            ("archived", False),
            ("transactional", False),
            ("subscribed", True),
        ],
    )
    def test_whom_a_pull_has_met_is_no_newcomer(self, shop: Pipeline, status: str, vanished: bool) -> None:
        ada, _ = add_old(shop, 1, 2)
        mirror(shop, ada, status, vanished=vanished)
        assert counts(shop) == {"already_contact": 1, "with_evidence": 1}

    def test_whom_a_push_has_sent_is_no_newcomer(self, shop: Pipeline) -> None:
        """As a member, or as a customer: that makes a transactional contact."""
        shop.add_customer(1, opted_in=True)
        shop.add_customer(2)
        shop.push()
        shop.consent(2, True)
        assert counts(shop) == {"already_contact": 2}

    def test_whom_mailchimp_has_refused_is_left_to_a_replay(self, shop: Pipeline) -> None:
        shop.add_customer(1, opted_in=True)
        refuse(shop, "/members/")
        shop.push(entities=("members",))
        accept(shop)
        assert counts(shop) == {"invalid": 1}

    def test_the_table_says_how_much_is_known_of_the_audience(self, shop: Pipeline) -> None:
        add_old(shop, 1)
        assert "No pull has read this audience yet" in newcomers.survey_table(look(shop))
        shop.sql(
            "INSERT INTO mailchimp.pull_bookmark SELECT account_id, list_id, 'members', NULL, now(), "
            "'2026-11-20T08:15:00Z', 'pull' FROM mailchimp.store WHERE is_current"
        )
        told = newcomers.survey_table(look(shop))
        assert "as of 2026-11-20 08:15 UTC" in told
        assert all(str(finding) in told for finding in Finding)

    def test_looking_changes_nothing(self, shop: Pipeline) -> None:
        [ada] = add_old(shop, 1)
        look(shop)
        assert shop.member(ada) is None
        assert shop.ledger("members") == {}
        assert shop.sql("SELECT count(*) FROM mailchimp.replay") == [(0,)]


class TestTheRun:
    def test_the_chosen_are_subscribed_with_their_evidence_and_nobody_else(self, shop: Pipeline) -> None:
        ada, bob = add_old(shop, 1, 2)
        [eve] = add_old(shop, 3, opted_in=None)
        without_time(shop, 2)
        ran = bring(shop)
        assert ran.failure is None
        assert (ran["members"].operations, ran["members"].acknowledged) == (1, 1)
        member = shop.member(ada)
        assert member is not None
        assert (member["status"], member["timestamp_opt"]) == ("subscribed", "2019-03-01T00:00:00+00:00")
        assert [shop.member(email) for email in (bob, eve)] == [None, None]
        assert shop.held("customers") == {}
        assert counts(shop) == {"already_contact": 1, "without_evidence": 2}
        assert bring(shop).conclusion.summaries == ()

    def test_the_status_of_a_contact_that_no_pull_has_met_stays(self, shop: Pipeline) -> None:
        [ada] = add_old(shop, 1)
        shop.client.post(f"{AUDIENCE}/members", json={"email_address": ada, "status": "unsubscribed"})
        assert counts(shop) == {"with_evidence": 1}
        bring(shop)
        assert shop.status(ada) == "unsubscribed"

    def test_who_opts_out_while_the_run_waits_is_left_out(self, shop: Pipeline) -> None:
        ada, bob = add_old(shop, 1, 2)
        ran = bring(shop, meanwhile=lambda: shop.consent(1, False))
        assert (ran.failure, ran["members"].operations) == (None, 1)
        assert (shop.member(ada), shop.status(bob)) == (None, "subscribed")

    def test_an_opt_out_that_is_owed_stays_owed(self, shop: Pipeline) -> None:
        """A push got no answer to it; this run passes over it, and the next push tells it once more."""
        [ada] = add_old(shop, 1)
        shop.client.post(f"{AUDIENCE}/members", json={"email_address": ada, "status": "subscribed"})

        def opts_out() -> None:
            shop.consent(1, False)
            shop.push(entities=("members",))
            shop.sql("UPDATE mailchimp.ledger SET state = 'unknown', payload_hash = NULL WHERE entity = 'members'")

        bring(shop, meanwhile=opts_out)
        assert shop.ledger("members") == {email_hash(ada): "unknown"}
        assert shop.push(entities=("members",))["members"].acknowledged == 1
        assert (shop.status(ada), shop.ledger("members")) == ("unsubscribed", {email_hash(ada): "synced"})

    def test_whose_evidence_is_gone_while_the_run_waits_is_left_out(self, shop: Pipeline) -> None:
        """Although a push would subscribe them, as people who were never asked."""
        shop.configure(max_new_subscribers=100, always_opt_in=True)
        [ada] = add_old(shop, 1)

        def forget() -> None:
            shop.sql("DELETE FROM newsletter_consents")

        assert bring(shop, meanwhile=forget).failure is None
        assert shop.member(ada) is None
        age(shop)
        shop.consent(1, True)
        run, _ = begin(shop)
        assert asked_about(shop, run) == 1
        forget()
        assert asked_about(shop, run) == 0

    def test_without_a_limit_it_refuses(self, shop: Pipeline) -> None:
        add_old(shop, 1)
        run, _ = begin(shop)
        shop.configure()
        with pytest.raises(PreflightFailed, match="max_new_subscribers"):
            begin(shop)
        with pytest.raises(PreflightFailed, match="max_new_subscribers"):
            asked_about(shop, run)  # it was taken away after the run had begun

    def test_counting_stops_above_the_limit(self, shop: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(subscribers, "_ROWS", 2)
        add_old(shop, *range(1, 9))
        shop.configure(max_new_subscribers=3)
        run, _ = begin(shop)
        assert asked_about(shop, run) == 4

    def test_whom_a_rejected_run_was_given_no_push_sends(self, shop: Pipeline) -> None:
        [ada] = add_old(shop, 1)
        begin(shop)
        shop.push()
        assert shop.member(ada) is None


class TestCrashes:
    @pytest.mark.parametrize("point", ["before_post", "after_post"])
    def test_death_around_the_post_loses_nobody_and_sends_nobody_twice(
        self, shop: Pipeline, mortal: MortalClient, point: str
    ) -> None:
        emails = add_old(shop, 1, 2, 3)
        sent: list[str] = []
        watch(shop, lambda _, path: sent.append(path))
        setattr(mortal, point, die_at(1))
        with pytest.raises(Died):
            bring(shop, dag_run_id="one")
        assert bring(shop, dag_run_id="one").failure is None
        assert [shop.status(email) for email in emails] == ["subscribed"] * 3
        assert len(sent) == 3
        assert set(shop.ledger("members").values()) == {"synced"}

    def test_what_a_dead_run_has_claimed_the_next_push_sends(self, shop: Pipeline, mortal: MortalClient) -> None:
        [ada] = add_old(shop, 1)
        mortal.before_post = die_at(1)
        with pytest.raises((Died, MailchimpError)):
            bring(shop)
        mortal.before_post = None
        shop.push()
        assert shop.status(ada) == "subscribed"
