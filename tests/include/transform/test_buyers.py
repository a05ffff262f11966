"""Buyers: accounts by the shop's id, everybody else by address, nobody whom the settings leave out."""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd
import pytest

from include.transform.buyers import customer_link, with_buyer
from tests.include.transform.rows import CHANGED, context, extract

ADA = {"customer_id": "7", "updated_at": CHANGED, "email": " Ada@engine.dev", "opted_in": True}
BOB = {"customer_id": "8", "updated_at": CHANGED, "email": "bob@mail.dev", "is_guest": True}
GONE = {"customer_id": "9", "updated_at": CHANGED, "email": "gone@mail.dev", "is_deleted": True, "opted_in": True}


def bought(*orders: dict[str, Any], **settings: Any) -> pd.DataFrame:
    return with_buyer(extract("orders", *orders), extract("customers", ADA, BOB, GONE), context(**settings))


def buyer(order: dict[str, Any], **settings: Any) -> dict[str, Any]:
    [row] = bought(order, **settings).to_dict("records")
    return {name: None if pd.isna(value) else value for name, value in row.items()}


def record_id(email: str) -> str:
    return hashlib.md5(email.encode()).hexdigest()


def test_of_an_account_a_document_names_the_id_alone() -> None:
    ada = buyer({"customer_id": "7", "email": "other@mail.dev"})
    assert ada["customer_record_id"] == record_id("ada@engine.dev")
    assert ada["customer_usable"]
    assert (ada["customer_key"], ada["new_email"], ada["consent"], ada["buyer_opted_in"]) == ("7", None, None, True)


@pytest.mark.parametrize(
    ("order", "email"),
    [
        ({"email": "Guest@mail.dev "}, "guest@mail.dev"),
        ({"customer_id": "99", "email": "lost@mail.dev"}, "lost@mail.dev"),  # the shop has no such account
        ({"customer_id": "9", "email": "new@mail.dev"}, "new@mail.dev"),  # the account is deleted
        ({"customer_id": "9"}, "gone@mail.dev"),
    ],
)
def test_everybody_else_is_introduced_without_consent(order: dict[str, Any], email: str) -> None:
    new = buyer(order)
    assert (new["customer_record_id"], new["new_email"]) == (record_id(email), email)
    assert (new["customer_usable"], new["customer_key"], new["buyer_opted_in"]) == (True, None, None)
    assert new["consent"] is False


@pytest.mark.parametrize("order", [{}, {"email": "no-at-sign"}, {"customer_id": "99"}])
def test_an_order_may_have_no_usable_buyer(order: dict[str, Any]) -> None:
    assert not buyer(order)["customer_usable"]


@pytest.mark.parametrize(
    ("order", "left_out"),
    [
        ({"customer_id": "7"}, False),
        ({"customer_id": "8"}, True),  # the shop keeps guests among its customers
        ({"email": "guest@mail.dev"}, True),
        ({"customer_id": "9"}, False),  # had an account when he bought
    ],
)
def test_guests_are_left_out_where_the_setting_says_so(order: dict[str, Any], left_out: bool) -> None:
    assert buyer(order, guests="skip")["left_out"] == left_out
    assert not buyer(order, guests="first_name_only")["left_out"]


def test_excluded_addresses_are_left_out_however_they_are_known() -> None:
    orders = bought(
        {"customer_id": "7"},
        {"customer_id": "8"},
        {"email": "X@MAIL.dev"},
        {"email": None},
        exclude_emails=["*@mail.dev"],
    )
    assert orders["left_out"].tolist() == [False, True, True, False]


def test_only_accounts_are_waited_for() -> None:
    orders = bought({"email": "guest@mail.dev"}, {"customer_id": "9"}, {"customer_id": "7"}, {"customer_id": "7"})
    link = customer_link(orders)
    assert (link.entity, link.positions.tolist()) == ("customers", [2, 3])
    assert link.parent_ids.to_pylist() == [record_id("ada@engine.dev")] * 2
    assert link.parent_keys is not None
    assert link.parent_keys.to_pylist() == ["7", "7"]


def test_no_rows_are_no_buyers() -> None:
    assert bought().empty
