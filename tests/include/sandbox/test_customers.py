"""Customers: one address for life, and the audience that follows the opt-in rules."""

from typing import Any

import pytest

from include.sandbox.account import DEFAULT_LIST
from include.sandbox.audiences import STATUSES, set_status, subscriber_hash
from include.sandbox.server import SandboxServer
from tests.include.sandbox.conftest import CUSTOMER, STORE, Api, add_store

PATH = f"{STORE}/customers"
EMAIL = "new@kauf-demo.shop"


def put(shop: Api, customer_id: str, **values: Any) -> Any:
    return shop.ok(
        "PUT", f"{PATH}/{customer_id}", {"id": customer_id, "email_address": EMAIL, "opt_in_status": False, **values}
    )


def status(shop: Api, email: str = EMAIL) -> str:
    return str(shop.ok("GET", f"/lists/{DEFAULT_LIST}/members/{subscriber_hash(email)}")["status"])


def test_put_creates_and_updates(shop: Api) -> None:
    assert put(shop, "c2", first_name="Bo", address={"city": "Ulm"})["company"] == ""
    customer = put(shop, "c2", last_name="Li", address={"country_code": "DE"}, email_address="NEW@kauf-demo.shop")
    assert (customer["first_name"], customer["last_name"], customer["email_address"]) == ("Bo", "Li", EMAIL)
    assert (customer["address"]["city"], customer["address"]["country_code"]) == ("Ulm", "DE")
    assert shop.ok("GET", PATH, email_address=EMAIL)["customers"][0]["id"] == "c2"
    assert shop.ok("GET", PATH, email_address="other@kauf-demo.shop")["customers"] == []


def test_a_customer_is_refused(shop: Api) -> None:
    assert "already exists" in shop.refused(400, "POST", PATH, CUSTOMER)["detail"]
    changed = {**CUSTOMER, "email_address": EMAIL}
    assert "may not be changed" in shop.refused(400, "PUT", f"{PATH}/c1", changed)["detail"]
    assert "may not be changed" in shop.refused(400, "PATCH", f"{PATH}/c1", {"email_address": EMAIL})["detail"]
    assert "already exists" in shop.refused(400, "PUT", f"{PATH}/c9", {**CUSTOMER, "id": "c9"})["detail"]
    shop.refused(404, "PATCH", f"{PATH}/none", {"first_name": "X"})
    nobody = {"id": "c9", "opt_in_status": False}
    assert shop.refused(400, "POST", PATH, nobody)["detail"] == (
        "email_address: An email address is required to create a customer."
    )
    fake = {**nobody, "email_address": "foo@example.com"}
    assert shop.refused(400, "POST", PATH, fake)["detail"] == (
        "foo@example.com looks fake or invalid, please enter a real email address."
    )
    broken = {**nobody, "email_address": "no-at-sign"}
    assert shop.refused(400, "POST", PATH, broken)["detail"] == "Please provide a valid email address."


def test_an_address_is_free_again_after_the_deletion(shop: Api) -> None:
    shop.ok("DELETE", f"{PATH}/c1")
    shop.ok("POST", PATH, {**CUSTOMER, "id": "c9"})
    shop.refused(404, "GET", f"{PATH}/c1")


def test_opt_in_makes_members_and_lifts_transactional_ones(shop: Api) -> None:
    put(shop, "c2")
    assert status(shop) == "transactional"
    put(shop, "c2", opt_in_status=True)
    assert status(shop) == "subscribed"
    put(shop, "c2", opt_in_status=False)
    assert status(shop) == "subscribed"


def test_a_member_keeps_the_names_it_has(shop: Api) -> None:
    path = f"/lists/{DEFAULT_LIST}/members/{subscriber_hash(EMAIL)}"
    member = {"email_address": EMAIL, "status": "transactional", "merge_fields": {"FNAME": "Bo", "LNAME": "Li"}}
    shop.ok("PUT", path, member)
    put(shop, "c2", opt_in_status=True, last_name="Lo")
    assert shop.ok("GET", path)["full_name"] == "Bo Lo"


@pytest.mark.parametrize("known", [one for one in STATUSES if one != "transactional"])
def test_opt_in_never_overrides_a_status(shop: Api, known: str) -> None:
    set_status(shop.server.state.account, DEFAULT_LIST, EMAIL, known)
    put(shop, "c2", opt_in_status=True)
    assert status(shop) == known


def test_double_opt_in_asks_by_mail() -> None:
    with SandboxServer.start(audiences=((DEFAULT_LIST, "Double", True),)) as server:
        shop = Api(server)
        add_store(shop, is_syncing=True)
        put(shop, "c2", opt_in_status=True)
        assert status(shop) == "pending"
        assert shop.own("mails")["by_kind"] == {"opt-in confirmation": 1}


def test_audiences_and_members(shop: Api) -> None:
    put(shop, "c2", opt_in_status=True)
    audience = shop.ok("GET", f"/lists/{DEFAULT_LIST}")
    assert (audience["name"], audience["double_optin"]) == ("Demo shop customers", False)
    assert (audience["stats"]["member_count"], audience["stats"]["total_contacts"]) == (1, 2)
    assert shop.ok("GET", "/lists", fields="lists.id") == {"lists": [{"id": DEFAULT_LIST}]}
    members = shop.ok("GET", f"/lists/{DEFAULT_LIST}/members", status="subscribed")
    assert [one["email_address"] for one in members["members"]] == [EMAIL]
    assert shop.ok("GET", f"/lists/{DEFAULT_LIST}/members/{EMAIL}")["list_id"] == DEFAULT_LIST
    shop.refused(404, "GET", "/lists/none")
    shop.refused(404, "GET", f"/lists/{DEFAULT_LIST}/members/none")
    shop.refused(400, "GET", f"/lists/{DEFAULT_LIST}/members", status="happy")
