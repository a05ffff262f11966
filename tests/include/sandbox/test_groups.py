"""Groups: categories and interests, and members that choose them."""

import pytest

from tests.include.sandbox.conftest import Api
from tests.include.sandbox.test_members import EMAIL, LIST, OTHER, path, put

CATEGORIES = f"{LIST}/interest-categories"


@pytest.fixture
def interests(api: Api) -> str:
    """The path of a category's interests."""
    category = api.ok("POST", CATEGORIES, {"title": "Newsletter", "type": "checkboxes"})
    return f"{CATEGORIES}/{category['id']}/interests"


def add(api: Api, interests: str, name: str) -> str:
    return str(api.ok("POST", interests, {"name": name})["id"])


def test_categories_and_interests_live_and_die(api: Api, interests: str) -> None:
    offers = add(api, interests, "Offers")
    category = interests.removesuffix("/interests")
    assert "already exists" in api.refused(400, "POST", CATEGORIES, {"title": "Newsletter", "type": "radio"})["detail"]
    assert "already exists" in api.refused(400, "POST", interests, {"name": "Offers"})["detail"]
    api.refused(400, "POST", CATEGORIES, {"title": "Other", "type": "list"})
    assert api.ok("PATCH", category, {"title": "News", "type": "hidden"})["title"] == "News"
    assert api.ok("PATCH", f"{interests}/{offers}", {"name": "Deals"})["id"] == offers
    assert api.ok("GET", f"{interests}/{offers}")["subscriber_count"] == "0"
    assert [one["type"] for one in api.ok("GET", CATEGORIES)["categories"]] == ["hidden"]
    other = add(api, interests, "Other")
    api.ok("DELETE", f"{interests}/{other}")
    api.refused(404, "GET", f"{interests}/{other}")
    api.ok("DELETE", category)
    api.refused(404, "GET", interests)
    api.refused(404, "GET", f"{CATEGORIES}/none")


def test_more_than_ten_groups_need_more_than_one_page(api: Api, interests: str) -> None:
    for number in range(12):
        add(api, interests, f"Group {number}")
    listed = api.ok("GET", interests)
    assert (len(listed["interests"]), listed["total_items"]) == (10, 12)


def test_members_choose_group_by_group(api: Api, interests: str) -> None:
    offers, news = add(api, interests, "Offers"), add(api, interests, "News")
    assert put(api, interests={offers: True})["interests"] == {offers: True, news: False}
    assert put(api, OTHER, interests={offers: True, news: False})["interests"] == {offers: True, news: False}
    assert api.ok("PATCH", path(), {"interests": {news: True}})["interests"] == {offers: True, news: True}
    assert put(api, interests={offers: False})["interests"] == {offers: False, news: True}
    counts = {one["id"]: one["subscriber_count"] for one in api.ok("GET", interests)["interests"]}
    assert counts == {offers: "1", news: "1"}


def test_an_unknown_group_is_refused(api: Api, interests: str) -> None:
    body = {"email_address": EMAIL, "status_if_new": "subscribed", "interests": {"none": True}}
    assert api.refused(400, "PUT", path(), body)["detail"] == "Invalid interest ID: 'none'."
    gone = add(api, interests, "Offers")
    put(api, interests={gone: True})
    api.ok("DELETE", f"{interests}/{gone}")
    assert "interests" not in put(api)
