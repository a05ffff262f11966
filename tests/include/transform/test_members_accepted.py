"""What is made of people is what the API takes: their documents, sent one by one to the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import requests

from include.documents.encoder import encode
from include.sandbox.account import DEFAULT_LIST
from include.sandbox.audiences import set_status
from include.sandbox.server import SandboxServer
from include.transform import members
from include.transform.audience import Audience, Group, MergeField
from include.transform.records import TEXT, BuildContext, Frames
from tests.include.transform.rows import CHANGED, context, extract

CHOICES = ("silver", "gold")
VALUES = {
    "text": "Analyst",
    "number": "-12.50",
    "date": "2026-02-28",
    "birthday": "1815-12-10",
    "phone": "+39 011 1234",
    "zip": "SW1A 1AA",
    "url": "https://engine.dev/ada",
    "imageurl": "https://engine.dev/ada.png",
    "dropdown": "gold",
    "radio": "silver",
}
ADDRESS = {"address1": "Via Roma 1", "city": "Turin", "province_code": "TO", "postal_code": "10121"}
PEOPLE: dict[str, dict[str, Any]] = {
    "ada@engine.dev": {"opted_in": True, "opted_in_at": CHANGED, "opt_in_ip": "10.1.2.3", "language": "pt-PT"}
    | ADDRESS,
    "bob@engine.dev": {"opted_in": True},
    "cleo@engine.dev": {"opted_in": False},
    "dan@engine.dev": {"opted_in": False},
    "eve@engine.dev": {"opted_in": None},
}


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer.start(seed=1) as server:
        yield server


def call(sandbox: SandboxServer, method: str, path: str, body: str | dict[str, Any] | None = None) -> requests.Response:
    sent: dict[str, Any] = {"data": body} if isinstance(body, str) else {"json": body}
    return requests.request(
        method, f"{sandbox.url}/lists/{DEFAULT_LIST}{path}", auth=("any", sandbox.api_key), timeout=10, **sent
    )


def add_rules(sandbox: SandboxServer) -> BuildContext:
    """Give the audience a merge field of every type, besides its own ADDRESS, and two groups."""
    for kind in VALUES:
        options = {"choices": CHOICES} if kind in {"dropdown", "radio"} else {}
        field = {"tag": f"X{kind.upper()}", "name": kind, "type": kind, "options": options}
        assert call(sandbox, "POST", "/merge-fields", field).ok
    category = call(sandbox, "POST", "/interest-categories", {"title": "Topics", "type": "checkboxes"}).json()["id"]
    interests = [
        call(sandbox, "POST", f"/interest-categories/{category}/interests", {"name": name}).json()["id"]
        for name in ("News", "Sales")
    ]
    fields = (
        *(MergeField(f"X{kind.upper()}", kind, choices=CHOICES) for kind in VALUES),
        MergeField("ADDRESS", "address"),
    )
    groups = (Group(interests[0], "News", "Topics"), Group(interests[1], "Sales", "Topics"))
    mapping = {f"X{kind.upper()}": kind for kind in VALUES} | {"ADDRESS": "address"}
    return replace(context(merge_fields=mapping), audience=Audience(DEFAULT_LIST, False, fields, groups))


def send(sandbox: SandboxServer, where: BuildContext, **changed: str) -> dict[str, int]:
    """Send everybody's document, and return the status codes of the replies by address."""
    rows = [{"customer_id": email[:1], "updated_at": CHANGED, "email": email} | row for email, row in PEOPLE.items()]
    frame = extract("customers", *rows)
    values = VALUES | changed
    frame = frame.assign(**{kind: pd.Series([value] * len(rows), dtype=TEXT) for kind, value in values.items()})
    related = {
        "addresses": extract("addresses"),
        "same_address": frame,
        "customer_groups": extract("customer_groups", {"customer_id": "a", "group_name": "sales"}),
    }
    prepared = members.prepare(Frames(frame, related), where)
    assert not prepared.rejected
    bodies = encode(members.document(where), prepared.rows).to_pylist()
    sent = prepared.rows.frame
    return {
        email: call(sandbox, method, f"/members/{record_id}", body).status_code
        for email, method, record_id, body in zip(sent["email"], sent["method"], sent["record_id"], bodies, strict=True)
    }


def member(sandbox: SandboxServer, email: str) -> dict[str, Any]:
    found: dict[str, Any] = call(sandbox, "GET", f"/members/{email}").json()
    return found


def test_every_value_is_accepted(sandbox: SandboxServer) -> None:
    where = add_rules(sandbox)
    assert send(sandbox, where)["ada@engine.dev"] == 200
    ada = member(sandbox, "ada@engine.dev")
    assert (ada["status"], ada["language"], ada["ip_opt"]) == ("subscribed", "pt_PT", "10.1.2.3")
    assert ada["timestamp_opt"] == CHANGED.isoformat()
    fields = ada["merge_fields"]
    assert (fields["XNUMBER"], fields["XBIRTHDAY"], fields["XDROPDOWN"]) == (-12.5, "12/10", "gold")
    assert fields["ADDRESS"]["state"] == "TO"
    assert "" not in {fields[f"X{kind.upper()}"] for kind in VALUES}
    assert sorted(ada["interests"].values()) == [False, True]


def test_an_unusable_value_does_not_cost_the_contact(sandbox: SandboxServer) -> None:
    where = add_rules(sandbox)
    assert send(sandbox, where, **dict.fromkeys(VALUES, "&"))["ada@engine.dev"] == 200
    fields = member(sandbox, "ada@engine.dev")["merge_fields"]
    assert {kind for kind in VALUES if fields[f"X{kind.upper()}"]} == {"text", "phone"}


def test_no_status_is_raised_and_nobody_comes_into_being_by_opting_out(sandbox: SandboxServer) -> None:
    where = add_rules(sandbox)
    account = sandbox.state.account
    set_status(account, DEFAULT_LIST, "bob@engine.dev", "unsubscribed", by_contact=True)
    set_status(account, DEFAULT_LIST, "cleo@engine.dev", "subscribed")
    for _ in range(2):
        assert send(sandbox, where) == {
            "ada@engine.dev": 200,
            "bob@engine.dev": 200,
            "cleo@engine.dev": 200,
            "dan@engine.dev": 404,
        }
        statuses = {email: member(sandbox, email)["status"] for email in PEOPLE}
        assert statuses == {
            "ada@engine.dev": "subscribed",
            "bob@engine.dev": "unsubscribed",
            "cleo@engine.dev": "unsubscribed",
            "dan@engine.dev": 404,
            "eve@engine.dev": 404,
        }
