"""Reading results of campaigns: what is asked for, what is kept, and what a crash or a moving listing changes."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from include.mailchimp.errors import UnexpectedReply
from include.pull import activity
from include.pull.activity import turned
from include.sandbox import campaigns
from include.state.campaign_results import Bookmark
from tests.include.pull.campaigning import LIST_ID, NOW, Campaigning, Watched, ago, who
from tests.pipeline import Died, Pipeline

PLACE = Bookmark(NOW, None, 0, None, None, "", NOW)


@pytest.fixture
def shop(pipeline: Pipeline) -> Campaigning:
    return Campaigning(pipeline)


def addresses(number: int) -> list[str]:
    return [f"reader{one}@mail.little.shop" for one in range(number)]


def test_a_round_ends_with_the_last_entry() -> None:
    first = turned(PLACE, 1000, 1500)
    assert (first.next_offset, first.listed, first.read_until) == (1000, 1500, None)
    last = turned(first, 500, 1500)
    assert (last.next_offset, last.read_until) == (None, NOW)


def test_where_entries_vanished_before_a_page_it_goes_back_by_as_many() -> None:
    first = turned(PLACE, 1000, 2500)
    back = turned(first, 1000, 2490)
    assert (back.next_offset, back.listed) == (990, 2490)
    assert turned(back, 1000, 2490).next_offset == 1990


def test_pages_overlap_so_that_a_few_deletions_cost_no_call() -> None:
    first = turned(PLACE, 1000, 2500, overlap=50)
    assert first.next_offset == 950
    assert turned(first, 1000, 2450, overlap=50).next_offset == 1900
    assert turned(first, 1000, 2449, overlap=50).next_offset == 899


def test_a_short_page_is_progress_all_the_same() -> None:
    assert turned(PLACE, 1, 2500, overlap=50).next_offset == 1


def test_an_empty_page_before_the_end_is_an_error() -> None:
    with pytest.raises(UnexpectedReply, match="nothing at 1000 of 1500"):
        turned(replace(PLACE, next_offset=1000), 0, 1500)


def test_nothing_about_a_person_is_asked_for(shop: Campaigning) -> None:
    """Not even what would be thrown away: addresses, names and IPs stay at Mailchimp."""
    asked: dict[str, Any] = {}
    campaign_id = shop.send(*addresses(2))
    for action in ("open", "unsubscribe"):
        shop.react(campaign_id, addresses(1)[0], action, ago(hours=1))
    shop.react(campaign_id, addresses(2)[1], "abuse", ago(hours=1))
    shop.pull(client=Watched(shop.pipeline, lambda path, params: asked.update({path: params.get("fields", "")})))
    assert {path.rsplit("/", 1)[1] for path in asked} >= {"sent-to", "email-activity", "unsubscribed", "abuse-reports"}
    wanted = {field for fields in asked.values() for field in fields.split(",")}
    assert not {field for field in wanted if field.rsplit(".", 1)[-1] in {"activity", "emails", "sent_to"}}
    assert not [field for field in wanted if "address" in field or "name" in field or field.endswith(".ip")]


def test_what_is_stored_names_nobody(shop: Campaigning) -> None:
    ada = "ada.lovelace@mail.little.shop"
    campaign_id = shop.send(ada)
    shop.react(campaign_id, ada, "click", ago(hours=2), f"https://shop.invalid/u/{ada}?name=Lovelace&e={ada}")
    shop.react(campaign_id, ada, "unsubscribe", ago(hours=1), "I am Ada Lovelace")
    shop.pull()
    assert shop.actions(campaign_id) == [(who(ada), "click"), (who(ada), "unsubscribe")]
    for table in ("campaign", "campaign_activity", "campaign_order", "campaign_bookmark"):
        stored = str(shop.pipeline.sql(f"SELECT t::text FROM mailchimp.{table} t")).lower()
        assert "lovelace" not in stored


def test_a_listing_is_left_alone_once_the_figures_stay_the_same(shop: Campaigning) -> None:
    campaign_id = shop.send(*addresses(3))
    shop.react(campaign_id, addresses(1)[0], "open", ago(hours=2))
    for hours in (0, 6, 12, 24, 30):
        shop.pull(NOW + timedelta(hours=hours))
    before = (shop.asked("email-activity"), shop.asked("sent-to"))
    assert before == (4, 1)  # until the listing can lag no longer; whoever was sent it is known at once
    shop.pull(NOW + timedelta(hours=36))
    assert (shop.asked("email-activity"), shop.asked("sent-to")) == before
    shop.react(campaign_id, addresses(2)[1], "open", NOW + timedelta(hours=40))
    assert shop.pull(NOW + timedelta(hours=42))[1].events == 1
    assert shop.asked("sent-to") == 1


def test_what_shows_up_late_is_found_by_the_overlap(shop: Campaigning) -> None:
    campaign_id = shop.send(*addresses(2))
    first, second = addresses(2)
    shop.react(campaign_id, first, "open", ago(hours=2))
    shop.pull()
    shop.react(campaign_id, second, "open", ago(hours=3))
    assert shop.pull(NOW + timedelta(hours=6))[1].events == 1
    assert sorted(shop.actions(campaign_id)) == sorted([(who(first), "open"), (who(second), "open")])


def test_equal_events_of_one_second_are_counted_and_never_doubled(shop: Campaigning) -> None:
    campaign_id = shop.send(*addresses(1))
    [reader] = addresses(1)
    for query in ("a=1", "a=2", "a=3"):
        shop.react(campaign_id, reader, "click", ago(hours=1), f"https://shop.invalid/new?{query}")
    shop.react(campaign_id, reader, "click", ago(hours=1), "https://shop.invalid/other")
    for hours in (0, 1, 2):
        shop.pull(NOW + timedelta(hours=hours))
    assert shop.actions(campaign_id) == 4 * [(who(reader), "click")]
    shop.react(campaign_id, reader, "click", ago(hours=1), "https://shop.invalid/new?a=4")
    assert shop.pull(NOW + timedelta(hours=3))[1].events == 1


def test_a_killed_pull_goes_on_at_its_page(shop: Campaigning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "PER_PAGE", 10)
    readers = addresses(35)
    campaign_id = shop.send(*readers)
    for one in readers[::2]:
        shop.react(campaign_id, one, "open", ago(hours=1))
    offsets: list[int] = []

    def die_at_the_third(path: str, params: dict[str, Any]) -> None:
        if path.endswith("email-activity"):
            offsets.append(params["offset"])
            if len(offsets) == 3:
                raise Died

    with pytest.raises(Died):
        shop.pull(client=Watched(shop.pipeline, die_at_the_third))
    assert len(shop.actions(campaign_id)) == 10
    shop.pull(NOW + timedelta(hours=1), Watched(shop.pipeline, die_at_the_third))
    assert offsets == [0, 10, 20, 20, 30]
    assert len(shop.actions(campaign_id)) == 18
    assert shop.asked("sent-to") == 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_anywhere_it_loses_and_doubles_nothing(
    shop: Campaigning, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(activity, "PER_PAGE", 7)
    chance = random.Random(seed)
    readers = addresses(40)
    sent = [shop.send(*readers[: chance.randint(1, 40)], sent_at=ago(days=2)) for _ in range(3)]
    for round_ in range(3):
        for campaign_id in sent:
            campaigns.let_react(
                shop.account,
                campaign_id,
                since=ago(hours=30 - 10 * round_),
                until=ago(hours=20 - 10 * round_),
                seed=seed,
            )
        while True:
            left = chance.randint(0, 25)

            def count(path: str, params: dict[str, Any]) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Died

            try:
                shop.pull(ago(hours=20 - 10 * round_), Watched(shop.pipeline, count))
            except Died:
                continue
            break
    for campaign_id in sent:
        report = shop.pipeline.client.get(f"/reports/{campaign_id}") or {}
        bounces = sum(report["bounces"][kind] for kind in ("hard_bounces", "soft_bounces"))
        expected = {
            "sent": report["emails_sent"],
            "open": report["opens"]["opens_total"],
            "click": report["clicks"]["clicks_total"],
            "bounce": bounces,
            "unsubscribe": report["unsubscribed"],
            "abuse": report["abuse_reports"],
        }
        done = [action for _, action in shop.actions(campaign_id, sent=True)]
        assert {action: done.count(action) for action in expected} == expected


def test_contacts_who_are_deleted_while_it_reads_cost_nobody_elses_events(
    shop: Campaigning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "PER_PAGE", 10)
    readers = addresses(30)
    for one in readers[:3]:
        shop.pipeline.client.post(f"/lists/{LIST_ID}/members", json={"email_address": one, "status": "subscribed"})
    campaign_id = shop.send(*readers)
    for one in readers:
        shop.react(campaign_id, one, "open", ago(hours=1))

    def delete(path: str, params: dict[str, Any]) -> None:
        if path.endswith("email-activity") and params["offset"] == 10:
            for one in readers[:3]:
                if who(one) in shop.account.audience_for(LIST_ID).members:
                    shop.account.audience_for(LIST_ID).forget_member(who(one))

    shop.pull(client=Watched(shop.pipeline, delete))
    assert len(shop.actions(campaign_id)) == 30


def test_who_is_erased_leaves_no_trace_in_the_activity(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    addresses_ = [pipeline.add_customer(number, opted_in=True) for number in (1, 2)]
    pipeline.push()
    shop = Campaigning(pipeline)
    campaign_id = shop.send(*addresses_)
    for one in addresses_:
        shop.react(campaign_id, one, "open", ago(hours=1))
    shop.pull()
    pipeline.sql("INSERT INTO erasure_requests (request_id, customer_id) VALUES (1, 1)")
    pipeline.push()
    shop.pull(NOW + timedelta(hours=6))
    assert {contact for contact, _ in shop.actions(campaign_id, sent=True)} == {who(addresses_[1])}


def test_a_teardown_takes_the_accounts_campaigns_along(pipeline: Pipeline) -> None:
    from include.state.teardown import remove_store_state

    shop = Campaigning(pipeline)
    shop.send(*addresses(3))
    shop.pull()
    with pipeline.state.begin() as connection:
        [(store_ref,)] = pipeline.sql("SELECT store_ref FROM mailchimp.store")
        assert remove_store_state(connection, store_ref)["campaign"] == 1
    assert pipeline.sql("SELECT count(*) FROM mailchimp.campaign_activity") == [(0,)]
