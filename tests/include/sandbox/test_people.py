"""What people do themselves, as functions and on the sandbox's page."""

from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from include.sandbox.account import DEFAULT_LIST
from include.sandbox.people import (
    ABUSE,
    add_groups,
    archive,
    bounce,
    change_address,
    change_profile,
    choose_groups,
    complain,
    delete,
    import_contacts,
    subscribe,
    unsubscribe,
    unsubscribe_by_marketer,
)
from include.sandbox.problems import Problem
from tests.include.sandbox.conftest import Api
from tests.include.sandbox.test_members import EMAIL, LIST, OTHER, history, path, put

CATEGORIES = f"{LIST}/interest-categories"
THEN = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


def member(api: Api, email: str = EMAIL) -> dict[str, Any]:
    found: dict[str, Any] = api.ok("GET", path(email))
    return found


def act(api: Api, action: str, status: int = 200, **fields: Any) -> dict[str, Any]:
    reply = requests.post(f"{api.server.origin}/sandbox/people/{action}", json=fields, timeout=10)
    assert reply.status_code == status, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def test_an_opt_out_with_a_reason_can_only_be_undone_by_the_contact(api: Api) -> None:
    account = api.server.state.account
    put(api)
    unsubscribe(account, DEFAULT_LIST, EMAIL, "Too many mails", THEN)
    shown = member(api)
    assert (shown["status"], shown["unsubscribe_reason"]) == ("unsubscribed", "Too many mails")
    assert shown["last_changed"] == "2026-02-03T04:05:06+00:00"
    api.refused(400, "PUT", path(), {"status": "subscribed"})
    subscribe(account, DEFAULT_LIST, EMAIL)
    assert "unsubscribe_reason" not in member(api)
    assert history(api) == [
        (None, "subscribed", "api"),
        ("subscribed", "unsubscribed", "contact"),
        ("unsubscribed", "subscribed", "contact"),
    ]


def test_a_bounce_and_a_complaint_are_final_to_the_api(api: Api) -> None:
    account = api.server.state.account
    put(api)
    put(api, OTHER)
    bounce(account, DEFAULT_LIST, EMAIL)
    complain(account, DEFAULT_LIST, OTHER)
    assert member(api)["status"] == "cleaned"
    assert (member(api, OTHER)["status"], member(api, OTHER)["unsubscribe_reason"]) == ("unsubscribed", ABUSE)
    for email in (EMAIL, OTHER):
        api.refused(400, "PUT", path(email), {"status": "subscribed"})


def test_the_marketer_unsubscribes_archives_and_deletes(api: Api) -> None:
    account = api.server.state.account
    put(api)
    unsubscribe_by_marketer(account, DEFAULT_LIST, EMAIL)
    assert put(api, status="subscribed")["status"] == "subscribed"
    archive(account, DEFAULT_LIST, EMAIL)
    assert member(api)["status"] == "archived"
    delete(account, DEFAULT_LIST, EMAIL)
    api.refused(404, "GET", path())
    assert [by for _, _, by in history(api)] == ["api", "marketer", "api", "marketer", "marketer"]
    for what in (unsubscribe, bounce, complain, archive, delete):
        with pytest.raises(Problem, match="404"):
            what(account, DEFAULT_LIST, EMAIL)
    with pytest.raises(Problem, match="404"):
        subscribe(account, "none", EMAIL)


def test_a_contact_changes_its_profile_and_its_address(api: Api) -> None:
    account = api.server.state.account
    put(api, merge_fields={"LNAME": "Muster"})
    change_profile(account, DEFAULT_LIST, EMAIL, {"FNAME": "Ada"}, language="fr")
    assert (member(api)["full_name"], member(api)["language"]) == ("Ada Muster", "fr")
    change_address(account, DEFAULT_LIST, EMAIL, OTHER, THEN)
    api.refused(404, "GET", path())
    assert (member(api, OTHER)["full_name"], member(api, OTHER)["last_changed"]) == (
        "Ada Muster",
        "2026-02-03T04:05:06+00:00",
    )
    put(api)
    with pytest.raises(Problem):
        change_address(account, DEFAULT_LIST, OTHER, EMAIL)


def test_more_than_ten_categories_and_groups_come_in_pages(api: Api) -> None:
    account = api.server.state.account
    titles = [f"Category {number}" for number in range(12)]
    made = add_groups(account, DEFAULT_LIST, {title: [f"Group {number}" for number in range(15)] for title in titles})
    first, second = api.ok("GET", CATEGORIES), api.ok("GET", CATEGORIES, offset=10)
    assert (len(first["categories"]), len(second["categories"]), first["total_items"]) == (10, 2, 12)
    assert [one["title"] for one in (*first["categories"], *second["categories"])] == titles
    interests = f"{CATEGORIES}/{second['categories'][1]['id']}/interests"
    pages = [api.ok("GET", interests, offset=offset)["interests"] for offset in (0, 10, 20)]
    assert [len(one) for one in pages] == [10, 5, 0]
    chosen = made["Category 11"]["Group 14"]
    put(api)
    choose_groups(account, DEFAULT_LIST, EMAIL, {chosen: True})
    assert [name for name, is_on in member(api)["interests"].items() if is_on] == [chosen]
    assert len(member(api)["interests"]) == 180
    assert api.ok("GET", f"{interests}/{chosen}")["subscriber_count"] == "1"
    with pytest.raises(Problem, match="404"):
        choose_groups(account, DEFAULT_LIST, EMAIL, {"none": True})


def test_a_file_of_contacts(api: Api) -> None:
    account = api.server.state.account
    put(api, status_if_new="unsubscribed")
    lines = [{"email_address": EMAIL, "merge_fields": {"FNAME": "Neu"}}, {"email_address": OTHER}]
    assert import_contacts(account, DEFAULT_LIST, lines, at=THEN) == 1
    assert (member(api)["status"], member(api)["full_name"]) == ("unsubscribed", "")
    assert import_contacts(account, DEFAULT_LIST, lines, update_existing=True) == 2
    assert (member(api)["status"], member(api)["full_name"]) == ("unsubscribed", "Neu")
    shown = member(api, OTHER)
    assert (shown["status"], shown["source"], shown["timestamp_opt"]) == (
        "subscribed",
        "Import",
        "2026-02-03T04:05:06+00:00",
    )
    delete(account, DEFAULT_LIST, EMAIL)
    assert import_contacts(account, DEFAULT_LIST, lines) == 0


def test_the_endpoint_knows_all_actions(api: Api) -> None:
    assert act(api, "subscribe", email=EMAIL)["status"] == "subscribed"
    groups = act(api, "add-groups", groups={"News": ["A", "B"]})["groups"]
    act(api, "choose-groups", email=EMAIL, interests={groups["News"]["A"]: True})
    act(api, "change-profile", email=EMAIL, merge_fields={"FNAME": "Ada"})
    act(api, "mark-vip", email=EMAIL)
    assert (member(api)["full_name"], member(api)["vip"]) == ("Ada", True)
    moved = act(api, "change-address", email=EMAIL, new_email=OTHER)
    assert moved["member_id"] == member(api, OTHER)["id"]
    answer = act(api, "unsubscribe", email=OTHER, reason="Enough", at="2026-02-03T04:05:06Z")
    assert answer["status"] == "unsubscribed"
    assert member(api, OTHER)["last_changed"] == "2026-02-03T04:05:06+00:00"
    act(api, "subscribe", email=OTHER)
    assert act(api, "unsubscribe-by-marketer", email=OTHER)["status"] == "unsubscribed"
    assert act(api, "complain", email=OTHER)["status"] == "unsubscribed"
    assert act(api, "bounce", email=OTHER)["status"] == "cleaned"
    assert act(api, "archive", email=OTHER)["status"] == "archived"
    assert act(api, "delete", email=OTHER)["status"] == "deleted"
    assert act(api, "import", contacts=[{"email_address": EMAIL}])["contacts"] == 1
    assert "unsubscribe" in act(api, "dance", 404)["detail"]
    act(api, "unsubscribe", 404, email="nobody@kauf-demo.shop")
    act(api, "unsubscribe", 404, email=EMAIL, list_id="none")
    assert "mail" in act(api, "unsubscribe", 400, mail=EMAIL)["detail"]
    act(api, "import", 400, contacts=[{"name": "x"}])


def test_the_page_has_a_form_that_works(api: Api) -> None:
    put(api)
    url = f"{api.server.origin}/sandbox/people"
    page = requests.get(url, timeout=10).text
    assert all(word in page for word in ("<option>unsubscribe</option>", 'name="email"', DEFAULT_LIST))
    assert "/sandbox/people" in requests.get(f"{api.server.origin}/", timeout=10).text
    fields = {"list_id": DEFAULT_LIST, "action": "unsubscribe", "email": EMAIL, "new_email": "", "reason": "<b>"}
    reply = requests.post(f"{url}/form", data=fields, timeout=10)
    assert (reply.status_code, "the contact is unsubscribed now" in reply.text) == (200, True)
    assert member(api)["unsubscribe_reason"] == "<b>"
    wrong = requests.get(url, params={"done": "<script>"}, timeout=10).text
    assert "<script>" not in wrong
