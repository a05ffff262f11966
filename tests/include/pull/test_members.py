"""The mirror of Mailchimp's contacts: complete, incremental, and without anybody's address."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.load.errors import RunStopped
from include.load.teardown import remove_state
from include.mailchimp.errors import UnexpectedReply
from include.pull.pages import MemberListing
from include.sandbox import people
from include.sandbox.audiences import set_status
from include.state.bookmarks import PullBusy, pull_lock
from tests.include.pull.pulling import LIST_ID, Puller
from tests.pipeline import email_hash

NOW = datetime.now(UTC).replace(microsecond=0)


def address(number: int) -> str:
    return f"m{number}@mail.little.shop"


def ago(**passed: float) -> datetime:
    return NOW - timedelta(**passed)


def fill(puller: Puller, count: int, *, first: int = 0, at: datetime | None = None, spread: int = 1) -> None:
    """Import contacts, `spread` of them in each second."""
    begin = at or ago(days=30)
    for number in range(first, first + count, spread):
        several = [address(one) for one in range(number, min(number + spread, first + count))]
        puller.import_contacts(*several, at=begin + timedelta(seconds=(number - first) // spread))


def test_all_statuses_are_mirrored_the_archived_included(puller: Puller) -> None:
    account = puller.account
    for number, status in enumerate(("subscribed", "unsubscribed", "cleaned", "pending", "transactional", "archived")):
        set_status(account, LIST_ID, address(number), status)
    pulled = puller.pull()
    assert (pulled.read, pulled.events, pulled.full) == (6, 4, True)
    assert puller.mirror() == puller.at_mailchimp()
    assert len(set(puller.mirror().values())) == 6


def test_a_contact_is_mirrored_with_what_marketers_ask_about_and_without_its_address(puller: Puller) -> None:
    groups = people.add_groups(puller.account, LIST_ID, {"Topics": ["Music", "Books"]})["Topics"]
    puller.import_contacts(address(1))
    puller.do(people.choose_groups, address(1), interests={groups["Music"]: True, groups["Books"]: False})
    puller.do(people.mark_vip, address(1))
    puller.do(people.change_profile, address(1), merge_fields={"FNAME": "Grace"}, language="fr")
    puller.unsubscribe(address(1), reason="write to grace@elsewhere.shop")
    puller.pull()
    [row] = puller.pipeline.sql("SELECT vip, language, groups, unsubscribe_reason, member_rating FROM mailchimp.member")
    assert row == (True, "fr", [groups["Music"]], "other", 2)
    for table in ("member", "consent_event", "pull_bookmark"):
        told = str(puller.pipeline.sql(f"SELECT * FROM mailchimp.{table}"))
        assert "@" not in told
        assert "Grace" not in told


@pytest.mark.parametrize(("count", "spread"), [(57, 1), (57, 57), (61, 7), (20, 20), (21, 3)])
@pytest.mark.parametrize("connections", [1, 4])
def test_pages_lose_nobody_however_many_share_a_second(
    puller: Puller, count: int, spread: int, connections: int
) -> None:
    puller.per_page, puller.connections = 20, connections
    fill(puller, count, spread=spread)
    assert puller.pull().read >= count
    assert puller.mirror() == puller.at_mailchimp()


def test_an_incremental_pull_reads_what_changed_and_no_more(puller: Puller) -> None:
    fill(puller, 500, spread=50)
    puller.pull()
    puller.unsubscribe(address(7))
    puller.do(people.archive, address(8))
    pulled = puller.pull()
    assert (pulled.read, pulled.events, pulled.full) == (2, 2, False)
    assert puller.mirror() == puller.at_mailchimp()


def test_a_thousand_changes_take_few_calls(puller: Puller) -> None:
    fill(puller, 3000, spread=3000)
    puller.pull()
    fill(puller, 1000, first=3000, spread=1000, at=datetime.now(UTC))
    assert puller.calls(puller.pull) <= 4  # beside them, two check account and audience
    assert len(puller.mirror()) == 4000


def test_what_is_read_twice_is_told_once(puller: Puller) -> None:
    fill(puller, 30, at=NOW - timedelta(seconds=40))
    first = puller.pull()
    assert (first.events, puller.pull().events, puller.pull(full=True).events) == (30, 0, 0)
    assert puller.pipeline.sql("SELECT count(*) FROM mailchimp.consent_event") == [(30,)]


def test_members_who_change_while_pages_are_read_are_not_passed_over(puller: Puller) -> None:
    """All share one second, so that each change moves everybody behind up."""
    puller.per_page, puller.connections = 20, 2
    fill(puller, 200, spread=200)
    puller.pipeline.client = client = puller.pipeline.new_client()
    get, asked = client.get, 0

    def meddling(path: str, **options: object) -> object:
        nonlocal asked
        asked += 1
        if "members" in path and asked < 12:
            for number in range(asked * 8, asked * 8 + 8):
                puller.unsubscribe(address(number))
        return get(path, **options)  # type: ignore[arg-type]

    client.get = meddling  # type: ignore[method-assign, assignment]
    puller.pull()
    assert puller.mirror() == puller.at_mailchimp()
    assert puller.pull().events == 0


def test_a_full_compare_finds_what_was_missed_and_who_is_gone(puller: Puller) -> None:
    fill(puller, 30)
    puller.pull()
    puller.do(people.delete, address(1))
    # Somebody changed long ago, by the clock of a server that lags behind.
    puller.do(people.unsubscribe, address(2), at=ago(days=20))
    assert puller.pull().events == 0
    pulled = puller.pull(full=True)
    assert (pulled.events, pulled.vanished) == (1, 1)
    assert puller.mirror() == puller.at_mailchimp()
    assert [event[:2] for event in puller.events(address(1))] == [(None, "subscribed"), ("subscribed", "deleted")]
    assert puller.pull(full=True).vanished == 0


def test_a_full_compare_comes_by_itself_every_week(puller: Puller) -> None:
    puller.pull()
    assert puller.pull().full is False
    puller.pipeline.sql("UPDATE mailchimp.pull_bookmark SET finished_at = finished_at - interval '8 days'")
    assert puller.pull().full is True
    assert puller.pull().full is False


def test_a_contact_that_no_listing_has_is_asked_for_and_found(puller: Puller) -> None:
    """The audience has no groups, so there is no "interests" to ask for."""
    fill(puller, 2)
    puller.pull()
    puller.pipeline.sql("UPDATE mailchimp.member SET last_changed = now() + interval '1 hour'")  # as if passed over
    assert puller.pull(full=True).vanished == 0
    assert puller.mirror() == puller.at_mailchimp()


def test_a_full_compare_that_met_too_few_says_so_and_begins_again(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(puller, 10)
    puller.pull()
    total = MemberListing.total
    monkeypatch.setattr(MemberListing, "total", lambda listing: total(listing) + 1)
    with pytest.raises(UnexpectedReply, match="Incomplete listing"):
        puller.pull(full=True)
    monkeypatch.setattr(MemberListing, "total", total)
    pulled = puller.pull()
    assert pulled.full
    assert pulled.read >= 10
    assert puller.pull().full is False


def test_a_store_is_not_removed_while_its_audience_is_pulled(puller: Puller) -> None:
    puller.pull()
    [(store_ref,)] = puller.pipeline.sql("SELECT store_ref FROM mailchimp.store")
    with pull_lock(puller.pipeline.state, puller.account_id, LIST_ID), pytest.raises(RunStopped, match="pull"):
        remove_state(puller.pipeline.state, store_ref)
    assert remove_state(puller.pipeline.state, store_ref)["consent_delivery"] == 1


def test_who_was_gone_and_comes_back_is_there_again(puller: Puller) -> None:
    fill(puller, 3)
    puller.pull()
    audience = puller.account.audience_for(LIST_ID)
    document = audience.members.get(email_hash(address(1)))
    assert document is not None
    puller.do(people.delete, address(1))
    puller.pull(full=True)
    audience.forgotten.remove(email_hash(address(1)))
    puller.do(people.subscribe, address(1))
    puller.pull()
    assert puller.mirror() == puller.at_mailchimp()
    assert [event[:2] for event in puller.events(address(1))][1:] == [
        ("subscribed", "deleted"),
        ("deleted", "subscribed"),
    ]


def test_one_pull_at_a_time_reads_an_audience(puller: Puller) -> None:
    with pull_lock(puller.pipeline.state, puller.account_id, LIST_ID), pytest.raises(PullBusy):
        puller.pull()


def test_a_first_pull_that_is_interrupted_goes_on_where_it_was(puller: Puller) -> None:
    puller.per_page, puller.connections = 20, 1
    fill(puller, 200, at=ago(days=30))
    work = puller.member_pull()
    saved = 0

    class Interrupted(BaseException):
        pass

    def save(*arguments: object) -> None:
        nonlocal saved
        saved += 1
        if saved == 7:
            raise Interrupted
        type(work)._save(work, *arguments)  # type: ignore[arg-type]

    object.__setattr__(work, "_save", save)
    with pytest.raises(Interrupted):
        work.pull()
    known = len(puller.mirror())
    assert 0 < known < 200
    pulled = puller.pull()
    assert pulled.full
    assert pulled.read <= 200 - known + 20
    assert puller.mirror() == puller.at_mailchimp()
    assert puller.pipeline.sql("SELECT count(*) FROM mailchimp.consent_event") == [(200,)]
