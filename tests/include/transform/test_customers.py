"""Customers: id from the address, consent only as stored, guests as the setting says, bad addresses rejected."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest

from include.mailchimp.contract import Customer
from include.transform import customers
from include.transform.records import Frames, Prepared
from tests.include.transform.rows import CHANGED, context, documents, extract

ADA = {
    "customer_id": "7",
    "updated_at": CHANGED,
    "email": " Ada.Lovelace@Engine.dev ",
    "first_name": "Ada",
    "last_name": "Lovelace",
    "company": "Analytical Engines",
    "address1": "1 Main St",
    "city": "London",
    "country_code": "GB",
}
ADA_ID = hashlib.md5(b"ada.lovelace@engine.dev").hexdigest()


def prepare(*rows: dict[str, Any], addresses: tuple[dict[str, Any], ...] = (), **settings: Any) -> Prepared:
    frames = Frames(extract("customers", *rows), {"addresses": extract("addresses", *addresses)})
    return customers.prepare(frames, context(**settings))


def built(*rows: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    return documents(customers.DOCUMENT, prepare(*rows, **options))


def test_a_customer_as_the_api_expects_it() -> None:
    [document] = built(ADA)
    assert document == {
        "id": ADA_ID,
        "email_address": "ada.lovelace@engine.dev",
        "opt_in_status": False,
        "company": "Analytical Engines",
        "first_name": "Ada",
        "last_name": "Lovelace",
        "address": {"address1": "1 Main St", "city": "London", "country_code": "GB"},
    }
    Customer.model_validate(document)


@pytest.mark.parametrize(("stored", "sent"), [(True, True), (False, False), (None, False)])
def test_only_a_stored_opt_in_is_sent_as_one(stored: bool | None, sent: bool) -> None:
    [document] = built(ADA | {"opted_in": stored})
    assert document["opt_in_status"] is sent


def test_guests_are_sent_with_their_first_name_only() -> None:
    [document] = built(ADA | {"is_guest": True})
    assert document == {
        "id": ADA_ID,
        "email_address": "ada.lovelace@engine.dev",
        "opt_in_status": False,
        "first_name": "Ada",
    }


def test_guests_may_be_sent_in_full_or_left_out() -> None:
    guest = ADA | {"is_guest": True}
    [document] = built(guest, guests="full")
    assert document["last_name"] == "Lovelace"
    assert built(guest, guests="skip") == []


def test_an_address_table_is_looked_up() -> None:
    [document] = built(
        ADA | {"address_id": "3", "address1": None, "city": None, "country_code": None},
        addresses=({"address_id": "2", "city": "Paris"}, {"address_id": "3", "city": "Turin"}),
    )
    assert document["address"] == {"city": "Turin"}


@pytest.mark.parametrize("email", [None, "", "no-at-sign", "two@@signs.dev", "a b@c.dev", "x@example.com", "x@host"])
def test_an_unusable_address_is_one_rejected_record(email: str | None) -> None:
    prepared = prepare(ADA | {"customer_id": "8", "email": email}, ADA)
    assert [document["id"] for document in documents(customers.DOCUMENT, prepared)] == [ADA_ID]
    [rejected] = prepared.rejected
    assert (rejected.entity, rejected.key, rejected.field) == ("customers", "8", "email_address")
    assert email is None or email == "" or email not in rejected.detail


@pytest.mark.parametrize("email", ["o'brien+shop@mail.co.uk", "ümlaut@straße.de", "a_b-c.d@x-1.museum"])
def test_unusual_addresses_are_fine(email: str) -> None:
    assert [document["email_address"] for document in built(ADA | {"email": email})] == [email]


def test_the_account_changed_last_speaks_for_an_address() -> None:
    newer = ADA | {"customer_id": "9", "first_name": "Augusta", "updated_at": CHANGED + timedelta(hours=1)}
    assert [document["first_name"] for document in built(newer, ADA)] == ["Augusta"]


def test_a_no_from_one_account_of_an_address_holds_for_all() -> None:
    refused = ADA | {"customer_id": "9", "opted_in": False}
    agreed = ADA | {"opted_in": True, "updated_at": CHANGED + timedelta(hours=1)}
    assert [document["opt_in_status"] for document in built(refused, agreed)] == [False]
    assert [document["opt_in_status"] for document in built(ADA | {"customer_id": "9"}, agreed)] == [True]


def test_deleted_customers_are_not_sent() -> None:
    assert built(ADA | {"is_deleted": True}) == []
