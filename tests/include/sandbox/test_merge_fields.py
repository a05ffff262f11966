"""Merge fields: the audience's definitions, and what their types demand of a member's values."""

from typing import Any

import pytest

from tests.include.sandbox.conftest import Api
from tests.include.sandbox.test_members import EMAIL, LIST, OTHER, path, put

FIELDS = f"{LIST}/merge-fields"
ADDRESS = {"addr1": "Street 1", "city": "Berlin", "state": "BE", "zip": "10115", "country": "DE"}


def add(api: Api, tag: str, kind: str, **more: Any) -> Any:
    return api.ok("POST", FIELDS, {"tag": tag, "name": tag.title(), "type": kind, **more})


def refused_values(api: Api, **values: Any) -> list[dict[str, str]]:
    body = {"email_address": EMAIL, "status_if_new": "subscribed", "merge_fields": values}
    problem = api.refused(400, "PUT", path(), body)
    assert problem["title"] == "Invalid Resource"
    errors: list[dict[str, str]] = problem["errors"]
    return errors


def test_an_audience_begins_with_the_usual_fields(api: Api) -> None:
    fields = {one["tag"]: one["type"] for one in api.ok("GET", FIELDS)["merge_fields"]}
    assert fields == {"FNAME": "text", "LNAME": "text", "ADDRESS": "address", "PHONE": "phone", "BIRTHDAY": "birthday"}


def test_a_field_lives_and_dies(api: Api) -> None:
    assert api.ok("POST", FIELDS, {"name": "Points", "type": "number"})["tag"] == "MMERGE6"
    field = add(api, "SIZE", "dropdown", options={"choices": ["S", "M"]})
    assert (field["options"]["choices"], field["required"]) == (["S", "M"], False)
    assert "already exists" in api.refused(400, "POST", FIELDS, {"tag": "SIZE", "name": "S", "type": "text"})["detail"]
    api.refused(400, "POST", FIELDS, {"tag": "COLOUR", "name": "C", "type": "radio"})
    api.refused(400, "POST", FIELDS, {"tag": "much too long", "name": "C", "type": "text"})
    one = f"{FIELDS}/{field['merge_id']}"
    assert api.ok("PATCH", one, {"name": "Size", "required": True})["type"] == "dropdown"
    api.refused(400, "PATCH", one, {"name": "Size", "tag": "FNAME"})
    api.ok("DELETE", one)
    api.refused(404, "GET", one)


def test_values_are_merged_by_tag_and_unknown_tags_ignored(api: Api) -> None:
    put(api, merge_fields={"FNAME": "Ada", "PHONE": "+49 30 0000", "NOSUCH": "x"})
    values = put(api, merge_fields={"FNAME": "", "LNAME": "Muster"})["merge_fields"]
    assert values == {"FNAME": "", "LNAME": "Muster", "ADDRESS": "", "PHONE": "+49 30 0000", "BIRTHDAY": ""}


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        ("text", 7, "7"),
        ("number", "7", 7),
        ("number", 7.5, 7.5),
        ("date", "2026-11-20", "2026-11-20"),
        ("date", "11/20/2026", "2026-11-20"),
        ("birthday", "02/29", "02/29"),
        ("dropdown", "M", "M"),
        ("radio", "S", "S"),
        ("url", "https://kauf-demo.shop/a", "https://kauf-demo.shop/a"),
        ("zip", "10115", "10115"),
        ("phone", "ask my mother", "ask my mother"),
        ("address", ADDRESS, ADDRESS),
        ("address", dict.fromkeys(ADDRESS, ""), ""),
    ],
)
def test_a_value_fits_its_field(api: Api, kind: str, value: Any, stored: Any) -> None:
    add(api, "FIELD", kind, options={"choices": ["S", "M"]})
    assert put(api, merge_fields={"FIELD": value})["merge_fields"]["FIELD"] == stored
    assert put(api, merge_fields={"FIELD": ""})["merge_fields"]["FIELD"] == ""


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("number", "AAAAA", "Please enter a number"),
        ("number", "1,5", "Please enter a number"),
        ("number", True, "Please enter a number"),
        ("date", "2026-02-30", "Please enter the date"),
        ("date", "2026-11-20T10:00:00+00:00", "Please enter the date"),
        ("birthday", "13/01", "Please enter a month (01-12) and a day (01-31)"),
        ("birthday", "1980-01-02", "Please enter a month (01-12) and a day (01-31)"),
        ("dropdown", "XL", "Value must be one of the choices"),
        ("radio", "m", "Value must be one of the choices"),
        ("url", "kauf-demo", "Please enter a valid URL"),
        ("imageurl", "ftp://kauf-demo.shop/1.png", "Please enter a valid URL"),
        ("zip", "?", "Please enter a zip code"),
        ("address", {**ADDRESS, "state": " "}, "Please enter a complete address"),
        ("address", {"city": "Berlin"}, "Please enter a complete address"),
    ],
)
def test_a_value_of_the_wrong_type_costs_the_whole_member(api: Api, kind: str, value: Any, message: str) -> None:
    add(api, "FIELD", kind, options={"choices": ["S", "M"]})
    assert refused_values(api, FIELD=value, FNAME="Ada") == [{"field": "FIELD", "message": message}]
    api.refused(404, "GET", path())


@pytest.mark.parametrize("values", [{"FNAME": None}, {"FNAME": ["a"]}, {"FNAME": {"a": "b"}}, {"ADDRESS": "Street 1"}])
def test_a_value_of_no_known_form_is_refused(api: Api, values: dict[str, Any]) -> None:
    (tag,) = values
    message = "Data did not match any of the schemas described in anyOf."
    assert refused_values(api, **values) == [{"field": f"merge_fields.{tag}", "message": message}]


def test_a_required_field_needs_a_value(api: Api) -> None:
    put(api, OTHER)
    add(api, "SIZE", "text", required=True)
    assert refused_values(api, FNAME="Ada") == [{"field": "SIZE", "message": "Please enter a value"}]
    assert api.ok("PATCH", path(OTHER), {"language": "de"})["merge_fields"]["SIZE"] == ""
    api.refused(400, "PATCH", path(OTHER), {"merge_fields": {"FNAME": "Bo"}})
    assert api.ok("PATCH", path(OTHER), {"merge_fields": {"SIZE": "M"}})["merge_fields"]["SIZE"] == "M"
    body = {"email_address": EMAIL, "status_if_new": "subscribed"}
    api.ok("PUT", path(), body, skip_merge_validation="true")
