"""A contact follows its customer to a new address, with its status; nobody is subscribed by it."""

from __future__ import annotations

import pytest

from include.load import contacts
from include.sandbox import people
from include.sandbox.account import StatusChange
from include.sandbox.api import Reply
from tests.include.load.shop import die_at
from tests.include.pull.pulling import Puller
from tests.pipeline import AUDIENCE, Died, Pipeline, email_hash

OLD, NEW, OTHER = "old@mail.little.shop", "new@mail.little.shop", "other@mail.little.shop"


def move(pipeline: Pipeline, email: str = NEW, customer_id: int = 1) -> None:
    pipeline.sql("UPDATE customers SET email = :email WHERE customer_id = :id", email=email, id=customer_id)


def change_status(pipeline: Pipeline, email: str, status: str) -> None:
    """What the contact decides itself."""
    pipeline.client.patch(f"{AUDIENCE}/members/{email_hash(email)}", json={"status": status})


def raised(pipeline: Pipeline) -> list[StatusChange]:
    """Contacts that were subscribed although they had been something else before."""
    changes = pipeline.sandbox.state.account.status_changes
    return [change for change in changes if change.new == "subscribed" and change.old is not None]


@pytest.mark.parametrize("opted_in", [True, False, None])
@pytest.mark.parametrize("status", ["subscribed", "unsubscribed"])
def test_the_status_goes_along(pipeline: Pipeline, opted_in: bool | None, status: str) -> None:
    """Whatever the shop knows of it: Mailchimp knows better."""
    pipeline.add_customer(1, OLD, opted_in=opted_in)
    pipeline.push()
    change_status(pipeline, OLD, status)
    before = list(pipeline.sandbox.state.account.status_changes)
    move(pipeline)
    pipeline.push()
    assert pipeline.member(OLD) is None
    assert pipeline.status(NEW) == ("unsubscribed" if opted_in is False else status)
    assert not [change for change in pipeline.sandbox.state.account.status_changes[len(before) :] if change.old is None]
    assert raised(pipeline) == [change for change in before if change.old is not None and change.new == "subscribed"]


def test_the_contact_keeps_what_else_is_known_of_it(pipeline: Pipeline) -> None:
    pipeline.add_customer(1, OLD, opted_in=True)
    pipeline.push()
    pipeline.client.patch(f"{AUDIENCE}/members/{email_hash(OLD)}", json={"vip": True})
    move(pipeline)
    pipeline.push()
    member = pipeline.member(NEW)
    assert member is not None
    assert member["vip"]
    assert pipeline.push().operations == 0


def test_an_address_that_is_a_contact_already_keeps_its_own_status(pipeline: Pipeline) -> None:
    pipeline.add_customer(1, OLD, opted_in=True)
    pipeline.push()
    pipeline.client.post(f"{AUDIENCE}/members", json={"email_address": NEW, "status": "unsubscribed"})
    move(pipeline)
    pipeline.push()
    assert (pipeline.status(OLD), pipeline.status(NEW)) == ("subscribed", "unsubscribed")


def test_who_has_no_contact_has_nothing_to_carry(pipeline: Pipeline) -> None:
    pipeline.add_customer(1, OLD, opted_in=False)
    pipeline.push()
    pipeline.client.post(f"{AUDIENCE}/members/{email_hash(OLD)}/actions/delete-permanent")
    move(pipeline)
    ran = pipeline.push()
    assert (ran.failure, ran["customers"].acknowledged) == (None, 1)
    assert pipeline.status(NEW) != "subscribed"


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("moving", [1, 2])
def test_an_address_that_another_account_still_uses_is_left_alone(
    pipeline: Pipeline, moving: int, together: bool
) -> None:
    for number in (1, 2):
        pipeline.add_customer(number, OLD, opted_in=True)
        if not together:
            pipeline.push()
    pipeline.push()
    move(pipeline, NEW, moving)
    pipeline.push()
    assert (pipeline.status(OLD), pipeline.status(NEW)) == ("subscribed", "subscribed")
    assert set(pipeline.held("customers")) == {email_hash(OLD), email_hash(NEW)}


def test_customers_who_swap_addresses_keep_the_contacts_where_they_are(pipeline: Pipeline) -> None:
    pipeline.add_customer(1, OLD, opted_in=True)
    pipeline.add_customer(2, OTHER, opted_in=False)
    pipeline.push()
    change_status(pipeline, OTHER, "unsubscribed")
    pipeline.sql("UPDATE customers SET email = CASE customer_id WHEN 1 THEN :other ELSE :old END", other=OTHER, old=OLD)
    pipeline.push()
    assert (pipeline.status(OLD), pipeline.status(OTHER)) == ("unsubscribed", "unsubscribed")


def test_a_contact_follows_as_often_as_its_customer_moves(pipeline: Pipeline) -> None:
    """To and fro, and there again; opted out at Mailchimp, which the shop never heard of."""
    pipeline.add_customer(1, OLD, opted_in=True)
    pipeline.push()
    change_status(pipeline, OLD, "unsubscribed")
    for email in (NEW, OLD, NEW, OTHER, NEW):
        move(pipeline, email)
        pipeline.push()
        assert pipeline.status(email) == "unsubscribed"
        assert len(list(pipeline.client.list_all(f"{AUDIENCE}/members", "members"))) == 1
    assert raised(pipeline) == []


def test_an_archived_contact_is_not_revived_under_a_new_address(pipeline: Pipeline) -> None:
    """Though the new address is unknown to the audience, and Mailchimp takes the archived for new."""
    pipeline.sandbox.state.account.revives_archived = True
    pipeline.configure(on_remote_archive="keep")
    puller = Puller(pipeline)
    before = pipeline.add_customer(1, opted_in=True)
    pipeline.push()
    puller.do(people.archive, before)
    puller.pull()
    pipeline.sql("UPDATE customers SET email = 'new@mail.little.shop'")
    pipeline.push()
    pipeline.full_sync()
    assert "subscribed" not in puller.at_mailchimp().values()
    [(title,)] = pipeline.sql("SELECT DISTINCT title FROM mailchimp.rejected WHERE entity = 'members'")
    assert title == "Contact can't follow its new address"


def test_a_contact_that_cannot_follow_keeps_its_customer_from_being_sent(pipeline: Pipeline) -> None:
    pipeline.add_customer(1, OLD, opted_in=True)
    pipeline.push()
    change_status(pipeline, OLD, "unsubscribed")

    def refuse(method: str, path: str) -> Reply | None:
        if method == "PATCH" and email_hash(OLD) in path:
            return Reply(400, b'{"title": "Invalid Resource", "status": 400, "detail": "no"}', "refused")
        return None

    pipeline.sandbox.state.fault = refuse
    move(pipeline)
    pipeline.push()
    assert pipeline.member(NEW) is None
    assert {entity for entity, _ in pipeline.rejected()} == {"members", "customers"}
    assert set(pipeline.rejected().values()) == {"Contact can't follow its new address"}
    pipeline.sandbox.state.fault = None
    pipeline.sql("UPDATE customers SET first_name = 'Eve'")
    pipeline.push()
    assert pipeline.status(NEW) == "unsubscribed"
    assert pipeline.rejected() == {}


def test_a_death_right_after_the_change_is_harmless(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.add_customer(1, OLD, opted_in=True)
    pipeline.push()
    change_status(pipeline, OLD, "unsubscribed")
    move(pipeline)
    with monkeypatch.context() as patch:
        patch.setattr(contacts, "note_carried", lambda *_: die_at(1)())
        with pytest.raises(Died):
            pipeline.push()
    assert pipeline.status(NEW) == "unsubscribed"
    pipeline.push()
    assert (pipeline.member(OLD), pipeline.status(NEW)) == (None, "unsubscribed")
    assert pipeline.push().operations == 0


def test_a_fault_on_the_way_stops_the_slice_before_anybody_is_sent(pipeline: Pipeline) -> None:
    pipeline.add_customer(1, OLD, opted_in=True)
    pipeline.push()
    change_status(pipeline, OLD, "unsubscribed")
    pipeline.sandbox.state.fault = lambda method, _path: Reply(500, b"", "broken") if method == "PATCH" else None
    move(pipeline)
    with pytest.raises(Exception, match="500"):
        pipeline.push()
    assert pipeline.member(NEW) is None
    pipeline.sandbox.state.fault = None
    pipeline.push()
    assert pipeline.status(NEW) == "unsubscribed"


def test_addresses_are_not_logged(pipeline: Pipeline, caplog: pytest.LogCaptureFixture) -> None:
    pipeline.add_customer(1, OLD, opted_in=True)
    pipeline.push()
    move(pipeline)
    with caplog.at_level("INFO", logger="include"):
        pipeline.push()
    assert "1 contacts have a new address" in caplog.text
    assert OLD not in caplog.text
    assert NEW not in caplog.text
