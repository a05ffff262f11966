"""What webhooks said is worked off: contacts are read, shops hear of opt-outs, and nothing is told twice or lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.mailchimp.errors import ConnectionFailed
from include.pull import waiting
from include.pull.waiting import work_off
from include.sandbox import people
from include.state.bookmarks import PullBusy, pull_lock
from include.state.webhooks import ReceivedEvent, store_event
from tests.include.pull.pulling import LIST_ID, Puller
from tests.include.pull.test_consent import later, subscribed
from tests.pipeline import email_hash

NEVER = timedelta()


def say(puller: Puller, *addresses: str, kind: str = "unsubscribe") -> None:
    """What the endpoint does with calls."""
    for address in addresses:
        event = ReceivedEvent(kind, datetime.now(UTC), [email_hash(address)], f"{address} {datetime.now(UTC)}")
        assert store_event(puller.pipeline.state, "demo", LIST_ID, event, timedelta(seconds=20))


def work(puller: Puller, patience: timedelta = NEVER) -> int:
    pull = puller.member_pull()
    return work_off(pull, pull.shop.store_ref, patience)


def still_waiting(puller: Puller) -> int:
    [(count,)] = puller.pipeline.sql("SELECT count(*) FROM mailchimp.webhook_event WHERE processed_at IS NULL")
    return int(count)  # type: ignore[call-overload]


def bookmarks(puller: Puller) -> object:
    return puller.pipeline.sql("SELECT kind, reached_at, finished_at FROM mailchimp.pull_bookmark ORDER BY kind")


def test_an_opt_out_is_in_the_shop_and_the_next_pull_records_nothing_twice(puller: Puller) -> None:
    address = subscribed(puller, 1)
    puller.pull()
    before = bookmarks(puller)
    puller.unsubscribe(address, at=later(seconds=5))
    say(puller, address)
    assert work(puller) == 1
    assert puller.consents(1)[-1] == (False, "mailchimp: unsubscribed")
    assert puller.events(address)[-1] == ("subscribed", "unsubscribed", "webhook", 1)
    assert bookmarks(puller) == before
    recorded = len(puller.events(address)), len(puller.consents(1))
    assert puller.pull(full=True).events == 0
    assert (len(puller.events(address)), len(puller.consents(1))) == recorded


def test_the_contact_counts_and_not_what_a_call_says(puller: Puller) -> None:
    address = subscribed(puller, 1)
    puller.pull()
    say(puller, address, kind="unsubscribe")
    assert work(puller) == 1
    assert puller.mirror() == {email_hash(address): "subscribed"}
    assert puller.consents(1)[-1][0] is True


def test_what_our_own_push_did_stays_ours(puller: Puller) -> None:
    address = subscribed(puller, 1)
    puller.pull()
    puller.pipeline.sql("UPDATE newsletter_consents SET recorded_at = now() - interval '1 day'")
    puller.pipeline.consent(1, False, source="account page")
    puller.pipeline.push()
    say(puller, address)
    work(puller)
    assert puller.events(address)[-1] == ("subscribed", "unsubscribed", "push", 0)


def test_a_new_address_is_read_and_the_old_one_is_gone(puller: Puller) -> None:
    puller.import_contacts("old@mail.little.shop")
    puller.pull()
    puller.do(
        lambda *who, **options: people.change_address(*who, "new@mail.little.shop", **options), "old@mail.little.shop"
    )
    say(puller, "old@mail.little.shop", "new@mail.little.shop", kind="upemail")
    assert work(puller) == 2
    assert puller.mirror() == {email_hash("new@mail.little.shop"): "subscribed"}
    assert puller.events("old@mail.little.shop")[-1] == ("subscribed", "deleted", "webhook", 0)


def test_many_calls_about_a_contact_cost_one_request(puller: Puller) -> None:
    puller.import_contacts("ann@mail.little.shop", "bob@mail.little.shop")
    puller.pull()
    say(puller, "ann@mail.little.shop", "bob@mail.little.shop", "ann@mail.little.shop", "ann@mail.little.shop")
    assert puller.calls(lambda: work(puller)) == 2
    assert puller.calls(lambda: work(puller)) == 0


def test_after_a_mass_unsubscribe_what_changed_is_read_in_few_calls(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MOST_SINGLE", 10)
    addresses = [f"m{number}@mail.little.shop" for number in range(40)]
    puller.import_contacts(*addresses)
    puller.pull()
    for address in addresses:
        puller.unsubscribe(address, at=later(seconds=5))
    say(puller, *addresses)
    assert puller.calls(lambda: work(puller)) < 10
    assert set(puller.mirror().values()) == {"unsubscribed"}
    assert still_waiting(puller) == 0


def test_while_another_pull_reads_the_audience_they_go_on_waiting(puller: Puller) -> None:
    puller.import_contacts("ann@mail.little.shop")
    puller.pull()
    say(puller, "ann@mail.little.shop")
    with pull_lock(puller.pipeline.state, puller.account_id, LIST_ID), pytest.raises(PullBusy):
        work(puller)
    assert still_waiting(puller) == 1
    assert work(puller) == 1


def test_what_a_killed_run_had_not_finished_the_next_one_does(puller: Puller) -> None:
    address = subscribed(puller, 1)
    puller.pull()
    puller.unsubscribe(address, at=later(seconds=5))
    say(puller, address)
    pull = puller.member_pull()
    pull.client.base_url = "http://127.0.0.1:1/3.0"  # type: ignore[misc]
    with pytest.raises(ConnectionFailed):
        work_off(pull, pull.shop.store_ref, NEVER)
    assert still_waiting(puller) == 1
    puller.pipeline.client = puller.pipeline.new_client()
    assert work(puller) == 1
    assert puller.consents(1)[-1] == (False, "mailchimp: unsubscribed")
