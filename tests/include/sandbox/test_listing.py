"""GET /lists/{id}/members: filters, orders and pages, of stored members and of a crowd alike."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.sandbox.account import DEFAULT_LIST, Account
from include.sandbox.audiences import gather, subscriber_hash
from include.sandbox.crowd import CATEGORY, GROUPS
from include.sandbox.people import (
    add_groups,
    archive,
    bounce,
    change_profile,
    choose_groups,
    import_contacts,
    mark_vip,
    subscribe,
    unsubscribe,
)
from tests.include.sandbox.conftest import Api
from tests.include.sandbox.test_members import LIST, MEMBERS, put

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NEWS, OFFERS, EVENTS = GROUPS


def day(number: int) -> datetime:
    return START + timedelta(days=number)


def email(number: int) -> str:
    return f"p{number:02}@kauf-demo.shop"


def text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


@pytest.fixture
def account(api: Api) -> Account:
    """Twenty contacts that signed up on twenty days in a row; what happened to some later."""
    account = api.server.state.account
    for number in range(20):
        subscribe(account, DEFAULT_LIST, email(number), day(number))
    unsubscribe(account, DEFAULT_LIST, email(1), "Too many mails", day(30))
    unsubscribe(account, DEFAULT_LIST, email(2), at=day(31))
    bounce(account, DEFAULT_LIST, email(3), day(32))
    archive(account, DEFAULT_LIST, email(4), day(33))
    mark_vip(account, DEFAULT_LIST, email(5), at=day(34))
    return account


def listed(api: Api, **query: Any) -> list[str]:
    page = api.ok("GET", MEMBERS, count=1000, **query)
    assert page["total_items"] == len(page["members"])
    return [one["email_address"] for one in page["members"]]


def test_archived_members_are_listed_by_their_status_only(api: Api, account: Account) -> None:
    assert len(listed(api)) == 19
    assert listed(api, status="archived") == [email(4)]
    assert listed(api, status="unsubscribed") == [email(1), email(2)]
    assert listed(api, status="cleaned") == [email(3)]
    assert len(listed(api, status="subscribed")) == 16
    assert listed(api, status="pending") == []


def test_since_is_after_that_second_and_before_is_before_it(api: Api, account: Account) -> None:
    newest = [email(2), email(3), email(5)]
    assert listed(api, since_last_changed=text(day(30)), sort_field="last_changed") == newest
    assert listed(api, since_last_changed=text(day(30) - timedelta(seconds=1)), sort_field="last_changed") == [
        email(1),
        *newest,
    ]
    assert listed(api, since_last_changed=text(day(17)), before_last_changed=text(day(19))) == [email(18)]
    assert listed(api, since_timestamp_opt=text(day(17)), before_timestamp_opt=text(day(19))) == [email(18)]
    # An opt-out leaves the time of the opt-in as it was.
    assert listed(api, before_timestamp_opt=text(day(2)), sort_field="timestamp_opt") == [email(0), email(1)]


def test_a_time_of_another_zone_or_with_an_unescaped_plus_is_understood(api: Api, account: Account) -> None:
    assert listed(api, since_last_changed="2026-04-03T14:00:00+02:00") == [email(5)]
    assert listed(api, since_last_changed="2026-04-03T12:00:00Z") == [email(5)]
    assert listed(api, since_last_changed="2026-04-03T12:00:00 00:00") == [email(5)]


def test_the_orders(api: Api, account: Account) -> None:
    by_change = listed(api, sort_field="last_changed", sort_dir="ASC")
    assert by_change[-4:] == [email(1), email(2), email(3), email(5)]
    assert listed(api, sort_field="last_changed", sort_dir="DESC") == by_change[::-1]
    assert listed(api, sort_field="timestamp_signup") == [email(number) for number in range(20) if number != 4]
    pages = [
        one["email_address"]
        for offset in range(0, 21, 3)
        for one in api.ok("GET", MEMBERS, count=3, offset=offset, sort_field="last_changed", sort_dir="DESC")["members"]
    ]
    assert pages == by_change[::-1]


def test_who_opted_out_lately(api: Api, account: Account) -> None:
    assert listed(api, status="unsubscribed", unsubscribed_since=text(day(30))) == [email(2)]
    change_profile(account, DEFAULT_LIST, email(1), language="de", at=day(60))
    assert listed(api, status="unsubscribed", unsubscribed_since=text(day(30))) == [email(2)]
    api.refused(400, "GET", MEMBERS, None, unsubscribed_since=text(day(30)))
    reasons = [one["unsubscribe_reason"] for one in api.ok("GET", MEMBERS, status="unsubscribed")["members"]]
    assert reasons == ["Too many mails", "None given"]
    put(api, status="unsubscribed")
    assert api.ok("GET", f"{MEMBERS}/ada@kauf-demo.shop")["unsubscribe_reason"].endswith("by admin)")
    subscribe(account, DEFAULT_LIST, email(1), day(70))
    assert "unsubscribe_reason" not in api.ok("GET", f"{MEMBERS}/{email(1)}")


def test_vips_and_one_by_its_number(api: Api, account: Account) -> None:
    assert listed(api, vip_only="true") == [email(5)]
    assert len(listed(api, vip_only="false")) == 19
    assert listed(api, unique_email_id=subscriber_hash(email(7))[:10]) == [email(7)]
    assert listed(api, unique_email_id=subscriber_hash(email(5))[:10], vip_only="true") == [email(5)]


def test_groups_any_all_none(api: Api, account: Account) -> None:
    made = add_groups(account, DEFAULT_LIST, {"Newsletter": ["News", "Offers"], "Other": ["Events"]})
    news, offers, events = made["Newsletter"]["News"], made["Newsletter"]["Offers"], made["Other"]["Events"]
    category = api.ok("GET", f"{LIST}/interest-categories")["categories"][0]["id"]
    choose_groups(account, DEFAULT_LIST, email(10), {news: True}, day(40))
    choose_groups(account, DEFAULT_LIST, email(11), {news: True, offers: True}, day(40))

    def chosen(match: str, *ids: str) -> list[str]:
        query = {"interest_category_id": category, "interest_ids": ",".join(ids), "interest_match": match}
        return listed(api, **query)

    assert chosen("any", news, offers) == [email(10), email(11)]
    assert chosen("all", news, offers) == [email(11)]
    assert len(chosen("none", news, offers)) == 17
    choose_groups(account, DEFAULT_LIST, email(10), {news: False}, day(41))
    assert chosen("any", news) == [email(11)]
    api.refused(400, "GET", MEMBERS, None, interest_ids=news)
    body = {"interest_category_id": category, "interest_ids": events, "interest_match": "any"}
    api.refused(400, "GET", MEMBERS, None, **body)


@pytest.mark.parametrize(
    "query",
    [
        {"status": "gone"},
        {"sort_field": "email"},
        {"sort_dir": "UP"},
        {"since_last_changed": "yesterday"},
        {"interest_match": "some"},
        {"count": 1001},
    ],
    ids=lambda query: next(iter(query)),
)
def test_what_is_no_value_is_refused(api: Api, query: dict[str, Any]) -> None:
    assert api.refused(400, "GET", MEMBERS, None, **query)["title"] == "Bad Request"


def test_the_orders_follow_every_change(api: Api, account: Account) -> None:
    def ids() -> list[str]:
        return listed(api, sort_field="last_changed", sort_dir="DESC")[:2]

    listed(api, sort_field="last_changed")  # the order is there before the changes come
    change_profile(account, DEFAULT_LIST, email(9), {"FNAME": "Neu"}, day(50))
    assert ids() == [email(9), email(5)]
    api.ok("PATCH", f"{MEMBERS}/{email(8)}", {"language": "de"})
    assert ids() == [email(8), email(9)]
    api.ok("PATCH", f"{MEMBERS}/{email(8)}", {"email_address": "new@kauf-demo.shop"})
    assert ids() == ["new@kauf-demo.shop", email(9)]
    api.ok("DELETE", f"{MEMBERS}/new@kauf-demo.shop")
    api.ok("POST", f"{MEMBERS}/{email(9)}/actions/delete-permanent")
    assert ids() == [email(5), email(3)]
    assert listed(api, status="archived", sort_field="last_changed") == [email(4), "new@kauf-demo.shop"]


def test_a_file_of_contacts_shares_its_second(api: Api, account: Account) -> None:
    lines = [{"email_address": f"file{number}@kauf-demo.shop"} for number in range(2500)]
    assert import_contacts(account, DEFAULT_LIST, [*lines, {"email_address": email(0)}], at=day(80)) == 2500
    second = text(day(80))
    found: list[str] = []
    for offset in (0, 1000, 2000, 3000):
        query = {"since_last_changed": text(day(79)), "sort_field": "last_changed", "count": 1000, "offset": offset}
        page = api.ok("GET", MEMBERS, **query, fields="members.id,members.last_changed,members.source,total_items")
        assert page["total_items"] == 2500
        assert {(one["last_changed"], one["source"]) for one in page["members"]} <= {(second, "Import")}
        found += [one["id"] for one in page["members"]]
    assert len(set(found)) == len(found) == 2500
    assert listed(api, since_last_changed=second) == []


@pytest.fixture
def crowded(api: Api, account: Account) -> Api:
    """The twenty contacts and a crowd of three hundred, some of whom were changed by hand."""
    gather(account, DEFAULT_LIST, 300)
    for number in (10, 11, 12):
        choose_groups(account, DEFAULT_LIST, f"crowd{number}@crowd-demo.shop", {EVENTS: True, NEWS: False}, day(number))
    unsubscribe(account, DEFAULT_LIST, "crowd99@crowd-demo.shop", at=day(5))
    archive(account, DEFAULT_LIST, "crowd120@crowd-demo.shop", at=day(6))
    api.ok("PATCH", f"{MEMBERS}/crowd150@crowd-demo.shop", {"email_address": "moved@kauf-demo.shop"})
    api.ok("POST", f"{MEMBERS}/crowd151@crowd-demo.shop/actions/delete-permanent")
    return api


def everyone(api: Api) -> list[dict[str, Any]]:
    members = [*api.ok("GET", MEMBERS, count=1000)["members"]]
    return members + api.ok("GET", MEMBERS, count=1000, status="archived")["members"]


IMPORTED_AT = "2021-03-15T12:00:00+00:00"
QUERIES: list[dict[str, Any]] = [
    {},
    {"status": "unsubscribed"},
    {"status": "archived", "sort_field": "timestamp_opt"},
    {"since_last_changed": "2022-01-01T00:00:00+00:00", "sort_field": "last_changed"},
    {"since_last_changed": IMPORTED_AT, "before_last_changed": "2026-01-01T00:00:00+00:00"},
    {"before_last_changed": IMPORTED_AT, "sort_field": "last_changed", "sort_dir": "DESC"},
    {"since_timestamp_opt": "2020-01-01T00:00:00+00:00", "status": "subscribed", "sort_field": "last_changed"},
    {"before_timestamp_opt": "2020-01-01T00:00:00+00:00", "sort_field": "timestamp_signup", "sort_dir": "DESC"},
    {"status": "unsubscribed", "unsubscribed_since": "2021-01-01T00:00:00+00:00", "sort_field": "last_changed"},
    {"vip_only": "true"},
    {"interest_category_id": CATEGORY[0], "interest_ids": f"{NEWS},{OFFERS}", "interest_match": "any"},
    {"interest_category_id": CATEGORY[0], "interest_ids": f"{NEWS},{OFFERS}", "interest_match": "all"},
    {"interest_category_id": CATEGORY[0], "interest_ids": f"{EVENTS},{OFFERS}", "interest_match": "none"},
]


def expected_of(members: list[dict[str, Any]], query: dict[str, Any]) -> set[str]:
    """The filters once more, member by member."""

    def fits(one: dict[str, Any]) -> bool:
        status = query.get("status")
        bounds = [
            one[field] and ((one[field] > value) if bound == "since" else (one[field] < value))
            for name, value in query.items()
            for bound, _, field in [name.partition("_")]
            if bound in {"since", "before"}
        ]
        chosen = [one["interests"][name] for name in query.get("interest_ids", "").split(",") if name]
        match = query.get("interest_match", "any")
        return (
            (one["status"] == status if status else one["status"] != "archived")
            and all(bounds)
            and (one["vip"] or "vip_only" not in query)
            and (not chosen or {"any": any, "all": all, "none": lambda each: not any(each)}[match](chosen))
            and one["last_changed"] > query.get("unsubscribed_since", "")
        )

    return {one["id"] for one in members if fits(one)}


def test_stored_members_and_a_crowd_are_one_listing(crowded: Api) -> None:
    members = everyone(crowded)
    assert len({one["id"] for one in members}) == len(members) == 20 + 300 - 1
    for query in QUERIES:
        wanted = expected_of(members, query)
        assert wanted
        found: list[dict[str, Any]] = []
        for offset in range(0, len(wanted) + 37, 37):
            page = crowded.ok("GET", MEMBERS, count=37, offset=offset, **query)
            assert page["total_items"] == len(wanted), query
            found += page["members"]
        assert len(found) == len(wanted)
        assert {one["id"] for one in found} == wanted, query
        if "sort_field" in query:
            keys = [(one[query["sort_field"]], one["id"]) for one in found]
            assert keys == sorted(keys, reverse=query.get("sort_dir") == "DESC"), query
