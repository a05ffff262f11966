"""Customers: id from the address, consent only as stored, guests as the setting says, bad addresses rejected."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from include.mailchimp.contract import Customer
from include.transform import customers
from include.transform.audience import Audience
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


def prepare(
    *rows: dict[str, Any],
    addresses: tuple[dict[str, Any], ...] = (),
    elsewhere: tuple[dict[str, Any], ...] = (),
    double_optin: bool = False,
    **settings: Any,
) -> Prepared:
    """Prepare a chunk of customers; `elsewhere` are accounts with the same addresses in other chunks."""
    related = {"addresses": extract("addresses", *addresses), "same_address": extract("customers", *rows, *elsewhere)}
    audience = Audience("a1b2c3d4e5", double_optin)
    return customers.prepare(
        Frames(extract("customers", *rows), related), replace(context(**settings), audience=audience)
    )


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


@pytest.mark.parametrize(
    ("opt_in", "double_optin", "sent"),
    [
        ("follow_audience", True, True),  # Mailchimp asks for confirmation by itself
        ("double", True, True),
        ("single", False, True),
        ("single", True, False),  # the audience would ask, though it shouldn't
        ("double", False, False),  # the audience wouldn't ask
    ],
)
def test_an_opt_in_that_the_audience_would_take_otherwise_is_left_to_the_member(
    opt_in: str, double_optin: bool, sent: bool
) -> None:
    [document] = built(ADA | {"opted_in": True}, opt_in=opt_in, double_optin=double_optin)
    assert document["opt_in_status"] is sent


def test_always_opt_in_subscribes_no_contact_through_a_customer() -> None:
    [document] = built(ADA, always_opt_in=True)
    assert document["opt_in_status"] is False


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


def test_an_account_outside_of_the_chunk_may_speak_for_an_address() -> None:
    newer = ADA | {"customer_id": "9", "first_name": "Augusta", "updated_at": CHANGED + timedelta(hours=1)}
    prepared = prepare(ADA, elsewhere=(newer,))
    assert [document["first_name"] for document in documents(customers.DOCUMENT, prepared)] == ["Augusta"]
    row = prepared.rows.frame.iloc[0]
    assert (row["key"], row["updated_at"]) == ("7", newer["updated_at"])


def test_the_account_that_speaks_is_the_key_of_its_address() -> None:
    newer = ADA | {"customer_id": "9", "updated_at": CHANGED + timedelta(hours=1)}
    assert prepare(newer, ADA).rows.frame["key"].tolist() == ["9"]


def test_an_account_speaks_before_a_guest_with_its_address() -> None:
    guest = ADA | {"customer_id": "9", "is_guest": True, "updated_at": CHANGED + timedelta(hours=1)}
    assert [document["last_name"] for document in built(guest, ADA)] == ["Lovelace"]
    assert [document["last_name"] for document in built(guest, elsewhere=(ADA,), guests="skip")] == ["Lovelace"]


def test_a_no_from_one_account_of_an_address_holds_for_all() -> None:
    refused = ADA | {"customer_id": "9", "opted_in": False}
    agreed = ADA | {"opted_in": True, "updated_at": CHANGED + timedelta(hours=1)}
    assert [document["opt_in_status"] for document in built(refused, agreed)] == [False]
    assert [document["opt_in_status"] for document in built(ADA | {"customer_id": "9"}, agreed)] == [True]


def test_a_no_from_an_account_outside_of_the_chunk_holds_too() -> None:
    refused = ADA | {"customer_id": "9", "opted_in": False}
    assert [document["opt_in_status"] for document in built(ADA | {"opted_in": True}, elsewhere=(refused,))] == [False]


def test_deleted_customers_are_not_sent() -> None:
    assert built(ADA | {"is_deleted": True}) == []


def test_a_deleted_account_leaves_the_other_one_of_its_address_in_place() -> None:
    later = CHANGED + timedelta(hours=1)
    deleted = ADA | {"customer_id": "9", "updated_at": later, "is_deleted": True, "first_name": None}
    prepared = prepare(deleted, elsewhere=(ADA,))
    assert [document["first_name"] for document in documents(customers.DOCUMENT, prepared)] == ["Ada"]
    assert prepared.rows.frame[["key", "updated_at"]].to_numpy().tolist() == [["9", later]]
    assert prepare(deleted, ADA).rows.frame["key"].tolist() == ["7"]


def test_excluded_addresses_are_left_out() -> None:
    relay = ADA | {"customer_id": "8", "email": "abc@Marketplace.Amazon.de"}
    assert [document["id"] for document in built(relay, ADA)] == [ADA_ID]
    assert built(ADA, exclude_emails=["*@engine.dev"]) == []
    assert prepare(relay).rejected == []
