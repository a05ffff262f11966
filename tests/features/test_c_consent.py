"""Group C of the feature map: consent and subscriptions, as far as they go from the shop to Mailchimp."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from include.load.errors import PreflightFailed
from include.load.runs import Mode
from include.sandbox.account import DEFAULT_LIST
from include.sandbox.audiences import set_status
from tests import newcomers
from tests.features.sent import calls, error_classes
from tests.include.pull.pulling import Puller
from tests.pipeline import AUDIENCE, Pipeline, email_hash

CONFIRMATION = "opt-in confirmation"


def ask_for_confirmation(pipeline: Pipeline, double_optin: bool = True) -> None:
    """What the owner of the audience sets at Mailchimp."""
    pipeline.sandbox.state.account.add_audience(DEFAULT_LIST, "Demo", double_optin)


def by_itself(pipeline: Pipeline, email: str, status: str) -> None:
    """The contact signs up or unsubscribes at Mailchimp (or its address turns out to be dead)."""
    set_status(pipeline.sandbox.state.account, DEFAULT_LIST, email, status, by_contact=status != "cleaned")


def own_changes(pipeline: Pipeline) -> list[tuple[str | None, str]]:
    """Every status that our calls gave a contact: (before, after), oldest first."""
    changes = pipeline.sandbox.state.account.status_changes
    return [(change.old, change.new) for change in changes if change.by in {"api", "ecommerce"}]


def customer(pipeline: Pipeline, email: str) -> dict[str, Any]:
    return pipeline.held("customers")[email_hash(email)]


def add_groups(pipeline: Pipeline, *names: str) -> dict[str, str]:
    """Make groups at Mailchimp; returns their ids by name."""
    categories = f"{AUDIENCE}/interest-categories"
    category = pipeline.client.post(categories, json={"title": "Letters", "type": "checkboxes"}) or {}
    path = f"{categories}/{category['id']}/interests"
    return {name: (pipeline.client.post(path, json={"name": name}) or {})["id"] for name in names}


def choose(pipeline: Pipeline, customer_id: int, *groups: str) -> None:
    """Somebody chooses the newsletters of a customer, in place of those chosen before."""
    pipeline.sql("DELETE FROM newsletter_groups WHERE customer_id = :id", id=customer_id)
    for group in groups:
        pipeline.sql("INSERT INTO newsletter_groups VALUES (:id, :name)", id=customer_id, name=group)


@pytest.mark.parametrize("audience_asks", [False, True])
def test_c1_single_opt_in_subscribes_at_once(pipeline: Pipeline, audience_asks: bool) -> None:
    """Also in an audience with double opt-in, and without a mail from it."""
    ask_for_confirmation(pipeline, audience_asks)
    pipeline.configure(opt_in="single")
    ada = pipeline.add_customer(1, opted_in=True)
    pipeline.push()
    assert pipeline.status(ada) == "subscribed"
    assert pipeline.mails().get(CONFIRMATION, 0) == 0


@pytest.mark.parametrize(("setting", "audience_asks"), [("double", False), ("double", True), ("follow_audience", True)])
def test_c2_double_opt_in_waits_until_the_contact_confirms(
    pipeline: Pipeline, setting: str, audience_asks: bool
) -> None:
    ask_for_confirmation(pipeline, audience_asks)
    pipeline.configure(opt_in=setting)
    pipeline.add_product(1)
    ada = pipeline.add_customer(1, opted_in=True)
    pipeline.push()
    pipeline.add_order(5, 1, 1)
    pipeline.push()
    pipeline.full_sync()
    assert pipeline.status(ada) == "pending"
    assert pipeline.mails()[CONFIRMATION] == 1
    by_itself(pipeline, ada, "subscribed")
    pipeline.sql("UPDATE customers SET first_name = 'Eve'")
    pipeline.push()
    assert pipeline.status(ada) == "subscribed"
    assert pipeline.mails()[CONFIRMATION] == 1


def test_c2_the_audiences_own_rule_is_the_default(pipeline: Pipeline) -> None:
    assert pipeline.settings.opt_in == "follow_audience"
    ada = pipeline.add_customer(1, opted_in=True)
    pipeline.push()
    ask_for_confirmation(pipeline)
    bob = pipeline.add_customer(2, opted_in=True)
    pipeline.push()
    assert (pipeline.status(ada), pipeline.status(bob)) == ("subscribed", "pending")


def test_c3_always_opt_in_subscribes_new_people_who_were_never_asked_and_nobody_else(pipeline: Pipeline) -> None:
    never_asked, refused, known = (f"{name}@mail.little.shop" for name in ("never", "refused", "known"))
    pipeline.client.post(f"{AUDIENCE}/members", json={"email_address": known, "status": "transactional"})
    pipeline.configure(always_opt_in=True)
    pipeline.add_customer(1, never_asked)
    pipeline.add_customer(2, refused, opted_in=False)
    pipeline.add_customer(3, known)
    pipeline.push()
    assert [pipeline.status(email) for email in (never_asked, refused, known)] == [
        "subscribed",
        "transactional",
        "transactional",
    ]


def test_c3_it_is_off_by_default_and_switching_it_on_later_raises_nobody(pipeline: Pipeline) -> None:
    ada = pipeline.add_customer(1)
    pipeline.push()
    assert pipeline.status(ada) == "transactional"
    pipeline.configure(always_opt_in=True)
    pipeline.full_sync()
    assert pipeline.status(ada) == "transactional"


@pytest.mark.parametrize("revives", [False, True])
def test_c4_no_run_changes_the_status_of_a_contact_that_is_there(pipeline: Pipeline, revives: bool) -> None:
    """Whatever the shop knows of it, and however it gets to Mailchimp; even if that takes the archived for new."""
    pipeline.sandbox.state.account.revives_archived = revives
    pipeline.configure(always_opt_in=True, on_remote_archive="keep")
    pipeline.add_product(1)
    before = {}
    statuses = ("subscribed", "unsubscribed", "cleaned", "pending", "archived")
    for number, (status, said) in enumerate(itertools.product(statuses, (True, None)), start=1):
        email = pipeline.add_customer(number, opted_in=said)
        by_itself(pipeline, email, status)
        before[email] = status
    ids = [str(number) for number in range(1, len(before) + 1)]
    Puller(pipeline).pull()
    shop = pipeline.sql("SELECT * FROM newsletter_consents")
    pipeline.push()
    for number in range(1, len(before) + 1):
        pipeline.add_order(number, number, 1)
        pipeline.add_cart(number, number, 1)
    pipeline.sql("UPDATE customers SET last_name = 'Byron'")
    pipeline.push()
    for entity in ("members", "customers"):
        pipeline.push(mode=Mode.IDS, entities=(entity,), ids=ids)
    pipeline.full_sync()
    assert {email: pipeline.status(email) for email in before} == before
    assert own_changes(pipeline) == []
    assert {one["last_name"] for one in pipeline.held("customers").values()} == {"Byron"}
    assert set(pipeline.held("orders")) == set(ids)
    assert len(shop) > len(before) / 2  # the shop was told who opted out; its yes of the archived is kept


def test_c5_a_run_follows_the_rules_of_the_audience_as_it_found_them(pipeline: Pipeline) -> None:
    """They change while it is at work; the next run finds them anew."""
    ask_for_confirmation(pipeline)
    ada = pipeline.add_customer(1, opted_in=True)
    pipeline.push(dies=lambda: ask_for_confirmation(pipeline, False))
    assert pipeline.status(ada) == "pending"
    bob = pipeline.add_customer(2, opted_in=True)
    pipeline.push()
    assert pipeline.status(bob) == "subscribed"
    double_optin = pipeline.sql("SELECT audience ->> 'double_optin' FROM mailchimp.run ORDER BY run_ref")
    assert double_optin == [("true",), ("false",)]


def test_c6_the_consent_column_decides_who_is_a_subscriber(pipeline: Pipeline) -> None:
    """Of the e-commerce part alone too, as if the contacts were left out."""
    pipeline.add_product(1)
    emails = [pipeline.add_customer(number, opted_in=said) for number, said in enumerate((True, False, None), start=1)]
    for number in (1, 2, 3):
        pipeline.add_order(number, number, 1)
    pipeline.push(entities=("products", "customers", "orders"))
    assert [pipeline.status(email) for email in emails] == ["subscribed", "transactional", "transactional"]
    assert [customer(pipeline, email)["opt_in_status"] for email in emails] == [True, False, False]


def test_c6_a_customer_who_opts_in_later_is_no_longer_transactional_only(pipeline: Pipeline) -> None:
    ada = pipeline.add_customer(1)
    pipeline.push()
    pipeline.consent(1, True)
    pipeline.push()
    assert own_changes(pipeline) == [(None, "transactional"), ("transactional", "subscribed")]
    assert pipeline.status(ada) == "subscribed"


def test_c6_a_buyer_whom_the_shop_never_asked_keeps_what_it_told_mailchimp(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    ada = pipeline.add_customer(1)
    pipeline.push()
    by_itself(pipeline, ada, "subscribed")
    pipeline.add_order(5, 1, 1)
    pipeline.sql("UPDATE customers SET last_name = 'Byron'")
    assert pipeline.push()["customers"].operations == 1
    assert pipeline.status(ada) == "subscribed"


@pytest.mark.parametrize("guests", ["first_name_only", "full", "skip"])
def test_c7_who_subscribes_at_the_check_out_needs_no_account(pipeline: Pipeline, guests: str) -> None:
    pipeline.configure(guests=guests)
    pipeline.add_product(1)
    said_yes = pipeline.add_customer(1, is_guest=True, opted_in=True)
    said_nothing = pipeline.add_customer(2, is_guest=True)
    registered = pipeline.add_customer(3, opted_in=True)
    for number in (1, 2, 3):
        pipeline.add_order(number, number, 1)
    pipeline.push()
    assert (pipeline.status(said_yes), pipeline.status(registered)) == ("subscribed", "subscribed")
    assert pipeline.status(said_nothing) == (None if guests == "skip" else "transactional")


def test_c8_a_subscription_in_the_shop_is_one_in_the_audience_with_its_evidence(pipeline: Pipeline) -> None:
    ada = pipeline.add_customer(1, language="de-AT", company="Engines")
    pipeline.sql(
        "INSERT INTO newsletter_consents (customer_id, opted_in, recorded_at, source, ip) "
        "VALUES (1, true, '2024-05-01T10:00:00+02:00', 'registration', '192.0.2.7')"
    )
    before = pipeline.sql("SELECT * FROM newsletter_consents")
    pipeline.push()
    member = pipeline.member(ada)
    assert member is not None
    assert {name: member[name] for name in ("status", "timestamp_opt", "ip_opt", "language")} == {
        "status": "subscribed",
        "timestamp_opt": "2024-05-01T08:00:00+00:00",
        "ip_opt": "192.0.2.7",
        "language": "de",
    }
    assert member["merge_fields"].items() >= {"FNAME": "Ada", "LNAME": "L"}.items()
    assert set(pipeline.ledger("members").values()) == {"synced"}
    assert pipeline.sql("SELECT * FROM newsletter_consents") == before


def test_c9_who_unsubscribes_in_the_shop_is_unsubscribed_and_never_deleted(pipeline: Pipeline) -> None:
    ada = pipeline.add_customer(1, opted_in=True)
    pipeline.push()
    pipeline.consent(1, False, source="account page")
    ran = pipeline.push()
    member = pipeline.member(ada)
    assert member is not None
    assert (member["status"], member["merge_fields"]["FNAME"]) == ("unsubscribed", "Ada")
    assert (ran["members"].operations, calls(pipeline, "PATCH", "members"), calls(pipeline, "DELETE")) == (1, 1, 0)
    assert pipeline.full_sync(entities=("members",)).operations == 0


def test_c9_nobody_becomes_a_contact_by_saying_no(pipeline: Pipeline) -> None:
    ada = pipeline.add_customer(1, opted_in=False)
    pipeline.push(entities=("members",))
    assert (pipeline.member(ada), pipeline.rejected()) == (None, {})


def test_c9_closing_an_account_is_not_an_unsubscribe(pipeline: Pipeline) -> None:
    """The row may stay with a mark or vanish."""
    emails = [pipeline.add_customer(number, opted_in=True) for number in (1, 2)]
    pipeline.push()
    pipeline.sql("UPDATE customers SET deleted_at = now() WHERE customer_id = 1")
    pipeline.sql("DELETE FROM newsletter_consents WHERE customer_id = 2")
    pipeline.sql("DELETE FROM customers WHERE customer_id = 2")
    pipeline.full_sync()
    assert pipeline.held("customers") == {}
    assert [pipeline.status(email) for email in emails] == ["subscribed", "subscribed"]


def test_c10_what_the_shops_staff_changes_in_a_profile_is_picked_up_by_the_next_run(pipeline: Pipeline) -> None:
    groups = add_groups(pipeline, "News", "Sales")
    ada = pipeline.add_customer(1, opted_in=True)
    choose(pipeline, 1, "News")
    pipeline.add_customer(2, opted_in=True)
    pipeline.push()
    choose(pipeline, 1, "Sales")
    ran = pipeline.push()
    member = pipeline.member(ada)
    assert member is not None
    assert member["interests"] == {groups["News"]: False, groups["Sales"]: True}
    assert (ran["members"].extracted, ran["members"].operations) == (1, 1)
    pipeline.consent(1, False, source="staff")
    pipeline.push()
    assert pipeline.status(ada) == "unsubscribed"


def test_c11_customers_from_before_the_install_are_brought_over_with_evidence_only(pipeline: Pipeline) -> None:
    """By a run of its own: counted before anything is sent, and only those whose opt-in is stored with its time."""
    pipeline.configure(max_new_subscribers=100, always_opt_in=True)
    pipeline.push()
    emails = [pipeline.add_customer(number, opted_in=said) for number, said in enumerate((True, False, None), start=1)]
    pipeline.sql("UPDATE newsletter_consents SET recorded_at = '2019-03-01T00:00:00Z'")
    pipeline.sql("UPDATE customers SET updated_at = '2019-03-01T00:00:00Z'")
    assert pipeline.push(entities=("members",)).operations == 0
    assert newcomers.counts(pipeline) == {"with_evidence": 1, "opted_out": 1, "without_evidence": 1}
    assert [pipeline.member(email) for email in emails] == [None, None, None]
    newcomers.bring(pipeline)
    assert [pipeline.status(email) for email in emails] == ["subscribed", None, None]
    member = pipeline.member(emails[0])
    assert member is not None
    assert member["timestamp_opt"] == "2019-03-01T00:00:00+00:00"
    assert newcomers.counts(pipeline) == {"already_contact": 1, "opted_out": 1, "without_evidence": 1}


def test_c11_more_than_the_limit_are_asked_about_and_without_a_limit_nobody_is_sent(pipeline: Pipeline) -> None:
    pipeline.configure(max_new_subscribers=1)
    for number in (1, 2, 3):
        pipeline.add_customer(number, opted_in=True)
    run, _ = newcomers.begin(pipeline)
    assert newcomers.asked_about(pipeline, run) > 1
    pipeline.configure()
    with pytest.raises(PreflightFailed, match="max_new_subscribers"):
        newcomers.begin(pipeline)


def test_c12_an_existing_newsletter_list_comes_over_with_the_same_run(pipeline: Pipeline) -> None:
    """People who signed up by a form and never bought anything: contacts of the audience, no customers of the store."""
    pipeline.configure(max_new_subscribers=100)
    pipeline.push()
    ada = pipeline.add_customer(1, is_guest=True, first_name=None, last_name=None, opted_in=True)
    bob = pipeline.add_customer(2, is_guest=True, opted_in=False)
    eve = pipeline.add_customer(3, is_guest=True, opted_in=True)
    by_itself(pipeline, eve, "unsubscribed")
    pipeline.sql("UPDATE customers SET updated_at = '2019-03-01T00:00:00Z'")
    assert pipeline.push(entities=("members",)).operations == 0
    newcomers.bring(pipeline)
    assert [pipeline.status(email) for email in (ada, bob, eve)] == ["subscribed", None, "unsubscribed"]
    assert pipeline.held("customers") == {}


def test_c15_a_contact_whom_mailchimp_never_takes_back_is_listed_and_not_tried_again(pipeline: Pipeline) -> None:
    ada = pipeline.add_customer(1, opted_in=True)
    pipeline.push()
    pipeline.client.post(f"{AUDIENCE}/members/{email_hash(ada)}/actions/delete-permanent")
    pipeline.sql("UPDATE customers SET first_name = 'Eve'")
    assert pipeline.push()["members"].rejected == 1
    assert error_classes(pipeline, "members") == {email_hash(ada): "compliance"}
    [(title, detail)] = pipeline.sql("SELECT title, detail FROM mailchimp.rejected_records")
    assert title == "Forgotten Email Not Subscribed"
    assert "sign-up form" in detail
    assert ada not in detail
    assert pipeline.push(entities=("members",)).operations == 0
    assert pipeline.full_sync(entities=("members",)).operations == 0


@pytest.mark.parametrize("status", ["unsubscribed", "cleaned"])
def test_c15_who_left_by_itself_stays_away_whatever_the_shop_says_later(pipeline: Pipeline, status: str) -> None:
    ada = pipeline.add_customer(1, opted_in=True)
    pipeline.push()
    by_itself(pipeline, ada, status)
    pipeline.consent(1, True, source="check-out")
    ran = pipeline.push()
    assert (pipeline.status(ada), ran.failure, pipeline.rejected()) == (status, None, {})


def test_c16_addresses_that_are_left_out_appear_nowhere(pipeline: Pipeline) -> None:
    pipeline.configure(exclude_emails=[*pipeline.settings.exclude_emails, "*@staff.little.shop"])
    pipeline.add_product(1)
    pipeline.add_customer(1, "x1y2@marketplace.amazon.de", opted_in=True)
    pipeline.add_customer(2, "NoReply@mail.little.shop", opted_in=True)
    pipeline.add_customer(3, "eve@staff.little.shop", opted_in=True)
    ada = pipeline.add_customer(4, opted_in=True)
    for number in (1, 2, 3, 4):
        pipeline.add_order(number, number, 1)
        pipeline.add_cart(number, number, 1)
    pipeline.push()
    assert set(pipeline.held("customers")) == {email_hash(ada)}
    assert (set(pipeline.held("orders")), set(pipeline.held("carts"))) == ({"4"}, {"4"})
    members = pipeline.client.list_all(f"{AUDIENCE}/members", "members")
    assert [member["email_address"] for member in members] == [ada]
