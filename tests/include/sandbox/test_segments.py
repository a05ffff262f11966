"""Segments and tags: a tag is a static segment, whichever path it came by."""

from typing import Any

from include.sandbox.audiences import subscriber_hash
from tests.include.sandbox.conftest import Api
from tests.include.sandbox.test_members import EMAIL, LIST, OTHER, path, put

SEGMENTS = f"{LIST}/segments"
STRANGER = "nobody@kauf-demo.shop"


def static(api: Api, name: str = "vip", *emails: str) -> str:
    return f"{SEGMENTS}/{api.ok('POST', SEGMENTS, {'name': name, 'static_segment': emails})['id']}"


def inside(api: Api, segment: str) -> list[str]:
    return [one["email_address"] for one in api.ok("GET", f"{segment}/members")["members"]]


def tag(api: Api, **tags: str) -> None:
    changes = [{"name": name, "status": status} for name, status in tags.items()]
    assert api.ok("POST", f"{path()}/tags", {"tags": changes, "is_syncing": True}) is None


def tags(api: Api) -> list[str]:
    return [one["name"] for one in api.ok("GET", f"{path()}/tags")["tags"]]


def test_tags_are_given_and_taken(api: Api) -> None:
    put(api)
    tag(api)
    tag(api, vip="active", b2b="active", other="inactive")
    tag(api, b2b="inactive", vip="active")
    assert tags(api) == ["vip"]
    assert [one["name"] for one in api.ok("GET", SEGMENTS, type="static")["segments"]] == ["vip", "b2b"]
    api.refused(404, "POST", f"{path(OTHER)}/tags", {"tags": []})
    api.refused(400, "POST", f"{path()}/tags", {"tags": [{"name": "vip", "status": "gone"}]})


def test_segments_are_listed_by_type(api: Api) -> None:
    static(api)
    conditions = [{"field": "FNAME", "op": "is", "value": "Ada"}]
    api.ok("POST", SEGMENTS, {"name": "saved one", "options": {"match": "all", "conditions": conditions}})
    assert api.ok("GET", SEGMENTS)["total_items"] == 2
    (saved,) = api.ok("GET", SEGMENTS, type="saved")["segments"]
    assert (saved["name"], saved["options"]["conditions"]) == ("saved one", conditions)
    api.refused(400, "POST", f"{SEGMENTS}/{saved['id']}", {"members_to_add": [EMAIL]})
    api.refused(400, "POST", SEGMENTS, {"name": "neither"})
    assert api.refused(400, "POST", SEGMENTS, {"name": "vip", "static_segment": []})["detail"] == (
        "Sorry, that tag already exists."
    )


def test_members_come_and_go_and_unknown_addresses_are_told(api: Api) -> None:
    put(api)
    put(api, OTHER)
    segment = static(api, "vip", OTHER, STRANGER)
    assert inside(api, segment) == [OTHER]
    reply = api.ok("POST", segment, {"members_to_add": [EMAIL, OTHER, STRANGER], "members_to_remove": [OTHER]})
    assert [one["email_address"] for one in reply["members_added"]] == [EMAIL]
    assert [one["email_address"] for one in reply["members_removed"]] == [OTHER]
    assert reply["errors"] == [
        {"email_addresses": [STRANGER], "error": "Email addresses do not exist in the list"},
    ]
    assert (reply["total_added"], reply["total_removed"], reply["error_count"]) == (1, 1, 1)
    assert (inside(api, segment), tags(api)) == ([EMAIL], ["vip"])
    assert api.ok("GET", segment)["member_count"] == 1


def test_at_most_500_come_or_go_with_one_call(api: Api) -> None:
    segment = static(api)
    emails = [f"a{number}@kauf-demo.shop" for number in range(501)]
    for name in ("members_to_add", "members_to_remove"):
        assert api.ok("POST", segment, {name: emails[1:]})["total_added"] == 0
        assert api.refused(400, "POST", segment, {name: emails})["errors"][0]["field"] == name


def test_single_members_have_paths_of_their_own(api: Api) -> None:
    put(api)
    segment = static(api)
    assert api.ok("POST", f"{segment}/members", {"email_address": EMAIL})["tags_count"] == 1
    api.refused(400, "POST", f"{segment}/members", {"email_address": STRANGER})
    one = f"{segment}/members/{subscriber_hash(EMAIL)}"
    api.ok("DELETE", one)
    api.refused(404, "DELETE", one)
    assert tags(api) == []


def test_a_patch_replaces_the_members(api: Api) -> None:
    put(api)
    put(api, OTHER)
    segment = static(api, "vip", EMAIL)
    body: dict[str, Any] = {"name": "VIP"}
    assert api.ok("PATCH", segment, body)["member_count"] == 1
    assert api.ok("PATCH", segment, {**body, "static_segment": [OTHER]})["name"] == "VIP"
    assert inside(api, segment) == [OTHER]


def test_a_deleted_segment_leaves_its_members(api: Api) -> None:
    put(api)
    segment = static(api, "vip", EMAIL)
    api.ok("DELETE", segment)
    api.refused(404, "GET", segment)
    assert tags(api) == []
    assert api.ok("GET", path())["status"] == "subscribed"


def test_who_is_archived_or_forgotten_is_in_no_segment(api: Api) -> None:
    put(api)
    put(api, OTHER)
    segment = static(api, "vip", OTHER)
    api.ok("POST", f"{path(OTHER)}/actions/delete-permanent")
    api.ok("DELETE", path())
    reply = api.ok("POST", segment, {"members_to_add": [EMAIL, OTHER]})
    assert (reply["total_added"], reply["errors"][0]["email_addresses"]) == (0, [EMAIL, OTHER])
    assert inside(api, segment) == []
