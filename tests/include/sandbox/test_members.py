"""Members: who may have which status by whose hand, addresses that change, and contacts that are gone."""

from typing import Any

import pytest
import requests

from include.sandbox.account import DEFAULT_LIST
from include.sandbox.audiences import set_status, subscriber_hash
from tests.include.sandbox.conftest import STORE, Api

LIST = f"/lists/{DEFAULT_LIST}"
MEMBERS = f"{LIST}/members"
EMAIL = "ada@kauf-demo.shop"
OTHER = "bo@kauf-demo.shop"


def path(email: str = EMAIL) -> str:
    return f"{MEMBERS}/{subscriber_hash(email)}"


def put(api: Api, email: str = EMAIL, **values: Any) -> Any:
    return api.ok("PUT", path(email), {"email_address": email, "status_if_new": "subscribed", **values})


def by_hand(api: Api, status: str, email: str = EMAIL, by_contact: bool = True) -> None:
    set_status(api.server.state.account, DEFAULT_LIST, email, status, by_contact=by_contact)


def history(api: Api) -> list[tuple[str | None, str, str]]:
    return [(change.old, change.new, change.by) for change in api.server.state.account.status_changes]


def test_a_new_member_gets_the_status_if_new(api: Api) -> None:
    member = put(api, merge_fields={"FNAME": "Ada"}, language="de", ip_opt="203.0.113.7")
    assert (member["id"], member["status"], member["full_name"]) == (subscriber_hash(EMAIL), "subscribed", "Ada")
    assert (member["language"], member["ip_opt"], member["timestamp_opt"] != "") == ("de", "203.0.113.7", True)
    assert (member["vip"], member["tags"], member["source"]) == (False, [], "API - Generic")
    assert put(api, OTHER, status="transactional")["status"] == "transactional"


def test_status_if_new_never_touches_a_known_member_but_status_does(api: Api) -> None:
    put(api, status_if_new="transactional")
    assert put(api, status_if_new="subscribed", vip=True)["status"] == "transactional"
    assert api.ok("PUT", path(), {"merge_fields": {"FNAME": "A"}})["status"] == "transactional"
    assert put(api, status="unsubscribed")["status"] == "unsubscribed"
    assert api.ok("PUT", path(), {"status": "subscribed"})["vip"] is True
    assert history(api) == [
        (None, "transactional", "api"),
        ("transactional", "unsubscribed", "api"),
        ("unsubscribed", "subscribed", "api"),
    ]


def test_put_of_a_new_member_needs_an_address_and_a_status(api: Api) -> None:
    problem = api.refused(400, "PUT", path(), {"merge_fields": {}})
    assert problem["errors"] == [
        {"field": "", "message": "Required fields were not provided: email_address, status_if_new"}
    ]
    assert api.ok("PUT", f"{MEMBERS}/{EMAIL}", {"status_if_new": "subscribed"})["email_address"] == EMAIL
    api.refused(404, "PUT", "/lists/none/members/x", {"email_address": EMAIL, "status_if_new": "subscribed"})


def test_post_is_for_new_members_only(api: Api) -> None:
    member = api.ok("POST", MEMBERS, {"email_address": EMAIL, "status": "subscribed", "tags": ["vip", "b2b"]})
    assert [tag["name"] for tag in member["tags"]] == ["vip", "b2b"]
    problem = api.refused(400, "POST", MEMBERS, {"email_address": EMAIL.upper(), "status": "subscribed"})
    assert problem["title"] == "Member Exists"
    assert problem["detail"].endswith("is already a list member. Use PUT to insert or update list members.")
    assert "type" not in problem
    api.refused(400, "POST", MEMBERS, {"email_address": OTHER})


def test_patch_changes_what_is_sent_of_a_known_member(api: Api) -> None:
    api.refused(404, "PATCH", path(), {"status": "unsubscribed"})
    put(api, language="de")
    member = api.ok("PATCH", path(), {"status": "unsubscribed"})
    assert (member["status"], member["language"]) == ("unsubscribed", "de")
    api.refused(400, "PATCH", path(), {"status": "archived"})


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_a_member_moves_to_a_new_address(api: Api, verb: str) -> None:
    put(api, status_if_new="unsubscribed", merge_fields={"FNAME": "Ada"})
    api.ok("POST", f"{path()}/tags", {"tags": [{"name": "vip", "status": "active"}]})
    member = api.ok(verb, path(), {"email_address": OTHER})
    assert (member["id"], member["status"], member["full_name"]) == (subscriber_hash(OTHER), "unsubscribed", "Ada")
    assert member["tags_count"] == 1
    api.refused(404, "GET", path())
    assert history(api) == [(None, "unsubscribed", "api")]


def test_an_address_that_is_listed_is_refused_under_another_hash(api: Api) -> None:
    put(api)
    put(api, OTHER)
    for verb, target in (("PUT", path()), ("PATCH", path()), ("PUT", f"{MEMBERS}/{'0' * 32}")):
        body = {"email_address": OTHER, "status_if_new": "subscribed"}
        assert api.refused(400, verb, target, body)["title"] == "Member Exists"
    assert api.ok("GET", MEMBERS)["total_items"] == 2


def test_a_free_address_is_created_whatever_the_hash(api: Api) -> None:
    body = {"email_address": EMAIL, "status_if_new": "subscribed"}
    assert api.ok("PUT", f"{MEMBERS}/{'0' * 32}", body)["id"] == subscriber_hash(EMAIL)


@pytest.mark.parametrize("status", ["unsubscribed", "cleaned"])
def test_who_left_or_bounced_can_only_be_asked(api: Api, status: str) -> None:
    put(api)
    by_hand(api, status)
    for verb in ("PUT", "PATCH"):
        problem = api.refused(400, verb, path(), {"status": "subscribed"})
        assert problem["title"] == "Member In Compliance State"
        assert problem["detail"] == (
            f"{EMAIL} is in a compliance state due to unsubscribe, bounce, or compliance review "
            "and cannot be subscribed."
        )
    assert put(api)["status"] == status
    assert api.ok("PATCH", path(), {"status": "pending"})["status"] == "pending"
    assert api.own("mails")["by_kind"] == {"opt-in confirmation": 1}
    api.refused(400, "PATCH", path(), {"status": "subscribed"})
    by_hand(api, "subscribed")
    assert put(api, status="unsubscribed")["status"] == "unsubscribed"
    assert put(api, status="subscribed")["status"] == "subscribed"


def test_no_detour_leads_out_of_the_compliance_state(api: Api) -> None:
    put(api)
    by_hand(api, "unsubscribed")
    api.ok("DELETE", path())
    api.refused(400, "PUT", path(), {"status": "subscribed"})
    api.ok("PATCH", path(), {"email_address": OTHER})
    api.refused(400, "PUT", path(OTHER), {"status": "subscribed"})


def test_the_history_tells_who_changed_a_status(shop: Api) -> None:
    by_hand(shop, "subscribed")
    by_hand(shop, "cleaned", by_contact=False)
    assert history(shop) == [
        (None, "transactional", "ecommerce"),
        ("transactional", "subscribed", "contact"),
        ("subscribed", "cleaned", "mailchimp"),
    ]


def test_an_archived_member_is_still_shown_and_can_be_revived(api: Api) -> None:
    put(api)
    api.ok("DELETE", path())
    assert api.ok("GET", path())["status"] == "archived"
    reply = api.call("DELETE", path())
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, PUT")
    assert reply.json()["detail"].startswith("This list member cannot be removed.")
    assert put(api)["status"] == "archived"
    assert put(api, status="subscribed")["status"] == "subscribed"
    api.refused(404, "DELETE", path(OTHER))


@pytest.mark.parametrize("status", ["pending", "cleaned"])
def test_who_is_pending_or_bounced_cannot_be_archived(api: Api, status: str) -> None:
    put(api, status_if_new=status)
    assert api.call("DELETE", path()).status_code == 405


def test_a_forgotten_address_never_comes_back(shop: Api) -> None:
    put(shop, OTHER)
    shop.ok("POST", f"{path(OTHER)}/actions/delete-permanent")
    shop.refused(404, "GET", path(OTHER))
    shop.refused(404, "POST", f"{path(OTHER)}/actions/delete-permanent")
    body = {"email_address": OTHER, "status": "subscribed"}
    for verb, target in (("POST", MEMBERS), ("PUT", path(OTHER)), ("PATCH", path())):
        assert shop.refused(400, verb, target, body)["title"] == "Forgotten Email Not Subscribed"
    shop.ok("POST", f"{STORE}/customers", {"id": "c2", "email_address": OTHER, "opt_in_status": True})
    shop.refused(404, "GET", path(OTHER))


@pytest.mark.parametrize(
    ("email", "detail"),
    [
        ("foo@example.com", "foo@example.com looks fake or invalid, please enter a real email address."),
        ("AAAAA", "Please provide a valid email address."),
    ],
)
def test_an_address_is_refused(api: Api, email: str, detail: str) -> None:
    body = {"email_address": email, "status_if_new": "subscribed"}
    assert api.refused(400, "PUT", path(email), body)["detail"] == detail


def test_pending_asks_by_mail_once_and_subscribed_sends_nothing(api: Api) -> None:
    put(api, OTHER)
    put(api, status_if_new="pending")
    put(api, status="pending")
    assert api.own("mails")["by_kind"] == {"opt-in confirmation": 1}


def test_other_fields_are_kept(api: Api) -> None:
    permission = {"marketing_permission_id": "m1", "enabled": True}
    put(api, marketing_permissions=[permission], timestamp_opt="2026-11-20T10:00:00+00:00", email_type="text")
    member = api.ok("PATCH", path(), {"marketing_permissions": [{**permission, "marketing_permission_id": "m2"}]})
    assert [one["marketing_permission_id"] for one in member["marketing_permissions"]] == ["m1", "m2"]
    assert (member["timestamp_opt"], member["email_type"]) == ("2026-11-20T10:00:00+00:00", "text")
    assert requests.get(f"{api.server.origin}/sandbox/state", timeout=10).json()["lists"][DEFAULT_LIST]["members"] == {
        "subscribed": 1
    }
