"""Merge fields: values in the form that the audience's own definitions ask for, unusable ones left out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from include.transform import members, merge_fields
from include.transform.audience import Audience, MergeField
from include.transform.records import TEXT, Frames, Prepared
from tests.include.transform.rows import CHANGED, context, documents, extract

ADA = {"customer_id": "7", "updated_at": CHANGED, "email": "ada@engine.dev", "opted_in": True}
TURIN = {
    "address1": "Via Roma 1",
    "city": "Turin",
    "province": "Piedmont",
    "province_code": "TO",
    "postal_code": "10121",
    "country": "Italy",
    "country_code": "IT",
}


def prepare(
    row: dict[str, Any], fields: tuple[MergeField, ...] | None, mapping: dict[str, str], **extra: str | None
) -> tuple[list[dict[str, Any]], Prepared]:
    """Prepare one member of an audience with these fields; `extra` are columns beyond the contract."""
    audience = None if fields is None else Audience("a1b2c3d4e5", False, fields)
    where = replace(context(merge_fields=mapping), audience=audience)
    frame = extract("customers", ADA | row)
    frame = frame.assign(**{name: pd.Series([value], dtype=TEXT) for name, value in extra.items()})
    related = {
        "addresses": extract("addresses", TURIN | {"address_id": "3"}),
        "same_address": frame,
        "customer_groups": extract("customer_groups"),
    }
    prepared = members.prepare(Frames(frame, related), where)
    return documents(members.document(where), prepared), prepared


def sent(kind: str, value: str | None, *, choices: tuple[str, ...] = ()) -> Any:
    """What is sent of a value in a field of some type, None where it is left out."""
    [document], _ = prepare({}, (MergeField("X", kind, choices=choices),), {"X": "extra"}, extra=value)
    return document.get("merge_fields", {}).get("X")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("text", "  gold ", "gold"),
        ("text", "   ", None),
        ("text", None, None),
        ("text", "ü" * 300, "ü" * 255),
        ("phone", "+39 011 1234", "+39 011 1234"),
        ("zip", "10121", "10121"),
        ("zip", "SW1A 1AA", "SW1A 1AA"),
        ("zip", "unknown: 1", None),
        ("number", "12.50", "12.50"),
        ("number", " -3 ", "-3"),
        ("number", "12,50", None),
        ("number", "many", None),
        ("number", "1e5", None),
        ("date", "1815-12-10", "1815-12-10"),
        ("date", "2026-02-28 23:59:59+00", "2026-02-28"),
        ("date", "2026-02-30", None),
        ("date", "10/12/1815", None),
        ("birthday", "1815-12-10", "12/10"),
        ("birthday", "12/10", "12/10"),
        ("birthday", "02/29", "02/29"),
        ("birthday", "13/10", None),
        ("birthday", "2/9", None),
        ("url", "https://engine.dev/ada", "https://engine.dev/ada"),
        ("url", "/ada", None),
        ("imageurl", "https://engine.dev/a.png", "https://engine.dev/a.png"),
        ("imageurl", "https://engine.dev/" + "a" * 255, None),
    ],
)
def test_values_have_the_form_of_their_type(kind: str, value: str | None, expected: str | None) -> None:
    assert sent(kind, value) == expected


@pytest.mark.parametrize("kind", ["dropdown", "radio"])
def test_a_choice_is_one_of_the_audiences(kind: str) -> None:
    assert sent(kind, "gold", choices=("silver", "gold")) == "gold"
    assert sent(kind, "Gold", choices=("silver", "gold")) is None


def test_columns_that_are_no_texts_are_written_as_such() -> None:
    fields = (MergeField("SINCE", "date"), MergeField("GUEST", "text"), MergeField("AT", "text"))
    since = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    [document], _ = prepare(
        {"opted_in_at": since, "is_guest": False},
        fields,
        {"SINCE": "opted_in_at", "GUEST": "is_guest", "AT": "opted_in_at"},
    )
    assert document["merge_fields"] == {"SINCE": "2026-03-04", "GUEST": "false", "AT": "2026-03-04T05:06:07+00:00"}


@pytest.mark.parametrize("of_row", [TURIN, {"address_id": "3"}])
def test_the_whole_address(of_row: dict[str, str]) -> None:
    [document], _ = prepare(of_row, (MergeField("ADDRESS", "address"),), {"ADDRESS": "address"})
    assert document["merge_fields"]["ADDRESS"] == {
        "addr1": "Via Roma 1",
        "city": "Turin",
        "state": "TO",
        "zip": "10121",
        "country": "IT",
    }


@pytest.mark.parametrize(
    ("missing", "state"), [({"province_code": None}, "Piedmont"), ({"province_code": " "}, "Piedmont")]
)
def test_the_province_stands_in_for_its_code(missing: dict[str, Any], state: str) -> None:
    [document], _ = prepare(TURIN | missing, None, {"ADDRESS": "address"})
    assert document["merge_fields"]["ADDRESS"]["state"] == state


@pytest.mark.parametrize("column", ["address1", "city", "postal_code"])
def test_an_incomplete_address_is_left_out(column: str) -> None:
    [document], _ = prepare(TURIN | {column: " "}, None, {"ADDRESS": "address"})
    assert "merge_fields" not in document


def test_an_address_without_a_province_is_left_out() -> None:
    [document], _ = prepare(TURIN | {"province": None, "province_code": None}, None, {"ADDRESS": "address"})
    assert "merge_fields" not in document


def test_a_field_that_the_audience_does_not_have_is_left_out_and_told() -> None:
    mapping = {"FNAME": "first_name", "VIP": "is_guest"}
    fields = (MergeField("FNAME", "text"),)
    [document], _ = prepare({"first_name": "Ada", "is_guest": True}, fields, mapping)
    assert document["merge_fields"] == {"FNAME": "Ada"}
    [problem] = merge_fields.problems(context(merge_fields=mapping).settings, Audience("a1", False, fields))
    assert "VIP isn't in the audience" in problem


def test_an_address_and_a_plain_field_do_not_fit_each_other() -> None:
    mapping = {"FNAME": "address", "ADDRESS": "city"}
    fields = (MergeField("FNAME", "text"), MergeField("ADDRESS", "address"))
    [document], _ = prepare(TURIN, fields, mapping)
    assert "merge_fields" not in document
    assert len(merge_fields.problems(context(merge_fields=mapping).settings, Audience("a1", False, fields))) == 2


def test_a_required_field_that_nothing_fills_is_told() -> None:
    audience = Audience(
        "a1", False, (MergeField("FNAME", "text"), MergeField("LNAME", "text"), MergeField("X", "text", True))
    )
    [problem] = merge_fields.problems(context().settings, audience)
    assert "requires merge field X" in problem
    assert merge_fields.problems(context().settings, None) == []


@pytest.mark.parametrize("value", [None, "", "old"])
def test_a_required_field_without_a_usable_value_costs_the_contact(value: str | None) -> None:
    documents, prepared = prepare({}, (MergeField("AGE", "number", required=True),), {"AGE": "age"}, age=value)
    assert documents == []
    [rejected] = prepared.rejected
    assert (rejected.entity, rejected.key, rejected.field) == ("members", "7", "merge_fields.AGE")
    assert "old" not in rejected.detail


def test_a_required_field_costs_no_opt_out() -> None:
    required = (MergeField("AGE", "number", required=True),)
    documents, prepared = prepare({"opted_in": False}, required, {"AGE": "age"}, age=None)
    assert (documents, prepared.rejected) == ([{"status": "unsubscribed"}], [])
