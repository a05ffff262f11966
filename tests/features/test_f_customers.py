"""Group F of the feature map: customers."""

from __future__ import annotations

from typing import Any

import pytest

from include.load.runs import Mode
from tests.features.sent import calls, error_classes, sent
from tests.pipeline import AUDIENCE, Pipeline, email_hash

PEOPLE = ("members", "customers")
OLD, NEW = "old@mail.little.shop", "new@mail.little.shop"
GUEST = "guest@mail.little.shop"


def address_of(pipeline: Pipeline, customer_id: int, address_id: int) -> None:
    """Write a postal address down, and make it the customer's own."""
    pipeline.sql(
        "INSERT INTO addresses (address_id, customer_id, name, address1, city, postal_code, province, country, "
        "country_code, phone) VALUES (:id, :customer, 'Grace Hopper', 'Ring 1', 'Wien', '1010', 'Wien', 'Austria', "
        "'AT', '+43 1 234')",
        id=address_id, customer=customer_id,
    )  # fmt: skip
    pipeline.sql("UPDATE customers SET default_address_id = :id WHERE customer_id = :c", id=address_id, c=customer_id)


def add_guest(pipeline: Pipeline, **columns: Any) -> str:
    """Somebody who ordered without an account, and told the shop everything about herself."""
    details = {"first_name": "Grace", "last_name": "Hopper", "company": "Navy", "phone": "+43 1 234"}
    pipeline.add_customer(2, GUEST, **details | {"is_guest": True} | columns)
    address_of(pipeline, 2, 20)
    pipeline.add_order(7, 2, 1, shipping_address_id=20, billing_address_id=20)
    return email_hash(GUEST)


def move(pipeline: Pipeline, email: str = NEW) -> None:
    pipeline.sql("UPDATE customers SET email = :email WHERE customer_id = 1", email=email)


def change_status(pipeline: Pipeline, email: str, status: str) -> None:
    """What the contact decides itself."""
    pipeline.client.patch(f"{AUDIENCE}/members/{email_hash(email)}", json={"status": status})


def test_f1_everybody_who_registered_or_ordered_is_a_customer(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    registered = pipeline.add_customer(1)
    add_guest(pipeline)
    pipeline.push()
    customers = pipeline.held("customers")
    assert {record_id: one["email_address"] for record_id, one in customers.items()} == {
        email_hash(registered): registered,
        email_hash(GUEST): GUEST,
    }
    assert customers[email_hash(registered)]["first_name"] == "Ada"
    assert pipeline.held("orders")["7"]["customer"]["id"] == email_hash(GUEST)


def test_f1_a_customer_is_found_by_the_shops_own_id(pipeline: Pipeline) -> None:
    for customer_id in (1, 2):
        pipeline.add_customer(customer_id)
    ran = pipeline.push(mode=Mode.IDS, entities=("customers",), ids=("2",))
    assert ran["customers"].acknowledged == 1
    assert set(pipeline.held("customers")) == {email_hash("c2@mail.little.shop")}
    assert pipeline.sql("SELECT source_key, record_id FROM mailchimp.ledger WHERE entity = 'customers'") == [
        ("2", email_hash("c2@mail.little.shop"))
    ]


def test_f1_an_order_brings_the_buyer_along_whose_account_is_gone(pipeline: Pipeline) -> None:
    """The purchase is revenue all the same; of the person nothing but the address is sent, and no consent."""
    pipeline.add_product(1)
    email = pipeline.add_customer(1, opted_in=True)
    pipeline.add_order(7, 1, 1)
    pipeline.sql("UPDATE customers SET deleted_at = now()")
    ran = pipeline.push()
    assert ran["orders"].acknowledged == 1
    customer = pipeline.held("customers")[email_hash(email)]
    assert (customer["email_address"], customer["first_name"], customer["opt_in_status"]) == (email, "", False)
    assert customer["orders_count"] == 1
    assert pipeline.status(email) == "transactional"


def test_f1_a_customer_that_the_shop_deleted_is_deleted_and_nobody_is_unsubscribed_by_it(pipeline: Pipeline) -> None:
    email = pipeline.add_customer(1, opted_in=True)
    pipeline.push(entities=PEOPLE)
    pipeline.sql("UPDATE customers SET deleted_at = now()")
    assert pipeline.push(entities=PEOPLE)["customers"].deleted == 1
    assert pipeline.held("customers") == {}
    assert pipeline.status(email) == "subscribed"


def test_f2_of_a_guest_only_address_and_first_name_are_sent(pipeline: Pipeline) -> None:
    """Not in the customer, nor through the newsletter, nor in the addresses of the order."""
    pipeline.configure(
        merge_fields={"FNAME": "first_name", "LNAME": "last_name", "PHONE": "phone", "ADDRESS": "address"}
    )
    pipeline.add_product(1)
    guest = add_guest(pipeline)
    pipeline.consent(2, opted_in=True)
    pipeline.push()
    assert sent(pipeline, "customers", guest) == {
        "id": guest,
        "email_address": GUEST,
        "opt_in_status": True,
        "first_name": "Grace",
    }
    member = pipeline.member(GUEST)
    assert member is not None
    assert {tag: value for tag, value in member["merge_fields"].items() if value} == {"FNAME": "Grace"}
    order = sent(pipeline, "orders", "7")
    assert {"shipping_address", "billing_address"} & order.keys() == set()
    assert order["order_total"] == 10


def test_f2_what_an_order_said_of_a_guest_is_taken_back_when_the_setting_becomes_stricter(pipeline: Pipeline) -> None:
    pipeline.configure(guests="full")
    pipeline.add_product(1)
    guest = add_guest(pipeline)
    pipeline.push()
    assert pipeline.held("orders")["7"]["shipping_address"]["name"] == "Grace Hopper"
    pipeline.configure(guests="first_name_only")
    pipeline.full_sync()
    customer, order = pipeline.held("customers")[guest], pipeline.held("orders")["7"]
    assert (customer["last_name"], customer["company"], customer["address"]["city"]) == ("", "", "")
    assert not any(value for kind in ("shipping", "billing") for value in order[f"{kind}_address"].values())
    assert pipeline.full_sync().operations == 0


def test_f2_all_of_a_guest_is_sent_where_the_shop_wants_it(pipeline: Pipeline) -> None:
    pipeline.configure(guests="full")
    pipeline.add_product(1)
    guest = add_guest(pipeline)
    pipeline.push()
    customer = pipeline.held("customers")[guest]
    assert [customer[name] for name in ("first_name", "last_name", "company")] == ["Grace", "Hopper", "Navy"]
    assert (customer["address"]["city"], customer["address"]["country_code"]) == ("Wien", "AT")
    assert pipeline.held("orders")["7"]["billing_address"]["name"] == "Grace Hopper"


def test_f2_no_guest_is_sent_where_the_shop_wants_none(pipeline: Pipeline) -> None:
    pipeline.configure(guests="skip")
    pipeline.add_product(1)
    add_guest(pipeline)
    pipeline.add_cart(5, 2, 1)
    pipeline.push()
    assert (pipeline.held("customers"), pipeline.held("orders"), pipeline.held("carts")) == ({}, {}, {})
    assert pipeline.rejected() == {}


def test_f2_who_registers_is_no_guest_any_more_and_stays_the_same_customer(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    guest = add_guest(pipeline)
    pipeline.push()
    pipeline.sql("UPDATE customers SET is_guest = false WHERE customer_id = 2")
    pipeline.push()
    customers = pipeline.held("customers")
    assert set(customers) == {guest}
    assert (customers[guest]["last_name"], customers[guest]["orders_count"]) == ("Hopper", 1)


def test_f2_an_account_speaks_for_the_guest_orders_of_its_address(pipeline: Pipeline) -> None:
    """Signed in once, ordered without once: one customer, with what the account says."""
    pipeline.add_product(1)
    add_guest(pipeline)
    pipeline.add_customer(1, " Guest@Mail.little.shop", last_name="Murray")
    pipeline.push()
    customers = pipeline.held("customers")
    assert {one["last_name"] for one in customers.values()} == {"Murray"}
    assert set(customers) == {email_hash(GUEST)}
    assert pipeline.push().operations == 0


def test_f3_orders_count_and_total_spent_are_those_of_the_orders_and_never_drift(pipeline: Pipeline) -> None:
    """Mailchimp adds up itself what the orders say, so nothing is sent that could go wrong."""
    pipeline.add_product(1)
    pipeline.add_product(2)
    customer = email_hash(pipeline.add_customer(1))
    pipeline.add_order(5, 1, 1)
    pipeline.add_order(6, 1, 1, 2)
    pipeline.push()
    pipeline.full_sync()
    pipeline.sql("UPDATE orders SET status = 'shipped'")
    pipeline.push()
    assert {"orders_count", "total_spent"} & sent(pipeline, "customers", customer).keys() == set()
    held = pipeline.held("customers")[customer]
    assert (held["orders_count"], held["total_spent"]) == (2, 30)
    pipeline.sql("UPDATE orders SET deleted_at = now() WHERE order_id = 6")
    pipeline.push()
    held = pipeline.held("customers")[customer]
    assert (held["orders_count"], held["total_spent"]) == (1, 10)


def test_f4_company_and_address_are_the_customers_and_the_phone_is_the_contacts(pipeline: Pipeline) -> None:
    """The API has no telephone number of a customer; a merge field has it."""
    pipeline.configure(merge_fields={"PHONE": "phone", "ADDRESS": "address"})
    email = pipeline.add_customer(1, company="Engines Ltd", phone="+43 1 234", opted_in=True)
    address_of(pipeline, 1, 10)
    pipeline.push(entities=PEOPLE)
    customer = pipeline.held("customers")[email_hash(email)]
    assert customer["company"] == "Engines Ltd"
    assert {name: value for name, value in customer["address"].items() if value} == {
        "address1": "Ring 1",
        "city": "Wien",
        "province": "Wien",
        "postal_code": "1010",
        "country": "Austria",
        "country_code": "AT",
    }
    member = pipeline.member(email)
    assert member is not None
    assert member["merge_fields"]["PHONE"] == "+43 1 234"
    assert member["merge_fields"]["ADDRESS"]["city"] == "Wien"


def test_f4_a_detail_that_is_emptied_in_the_shop_is_emptied_at_mailchimp(pipeline: Pipeline) -> None:
    customer = email_hash(pipeline.add_customer(1, company="Engines Ltd"))
    address_of(pipeline, 1, 10)
    pipeline.push(entities=PEOPLE)
    pipeline.sql("UPDATE customers SET company = NULL, default_address_id = NULL")
    pipeline.push(entities=PEOPLE)
    held = pipeline.held("customers")[customer]
    assert (held["company"], held["address"]["city"]) == ("", "")


@pytest.mark.parametrize("status", ["subscribed", "unsubscribed"])
def test_f5_a_new_address_takes_contact_status_orders_and_cart_along(pipeline: Pipeline, status: str) -> None:
    """A customer's address is for life at Mailchimp, so there is a new customer; nobody is subscribed by it."""
    pipeline.add_product(1)
    pipeline.add_customer(1, OLD, opted_in=True)
    pipeline.add_order(7, 1, 1)
    pipeline.add_cart(5, 1, 1)
    pipeline.push()
    change_status(pipeline, OLD, status)
    move(pipeline)
    pipeline.push()
    assert (pipeline.member(OLD), pipeline.status(NEW)) == (None, status)
    assert set(pipeline.held("customers")) == {email_hash(NEW)}
    assert pipeline.held("orders")["7"]["customer"]["email_address"] == NEW
    assert pipeline.held("carts")["5"]["customer"]["email_address"] == NEW
    assert pipeline.held("customers")[email_hash(NEW)]["orders_count"] == 1
    assert pipeline.rejected() == {}
    assert pipeline.push().operations == 0


def test_f5_an_address_that_another_account_still_has_keeps_its_customer(pipeline: Pipeline) -> None:
    pipeline.add_customer(1, OLD)
    pipeline.add_customer(2, OLD)
    pipeline.push(entities=PEOPLE)
    move(pipeline)
    pipeline.push(entities=PEOPLE)
    assert set(pipeline.held("customers")) == {email_hash(OLD), email_hash(NEW)}


def test_f5_a_change_of_nothing_but_capitals_is_no_change(pipeline: Pipeline) -> None:
    pipeline.add_customer(1, OLD)
    pipeline.push(entities=PEOPLE)
    move(pipeline, OLD.title())
    assert pipeline.push(entities=PEOPLE).operations == 0


def test_f6_an_id_fits_whatever_the_address_and_one_address_is_one_customer(pipeline: Pipeline) -> None:
    """Accounts that the shop has twice, by capitals or blanks, don't take turns in changing one customer."""
    long = f"{'a' * 60}@{'b' * 60}.little.shop"
    pipeline.add_customer(1, long)
    for customer_id, email in enumerate(
        ("Twin@mail.little.shop", "twin@mail.little.shop ", "TWIN@MAIL.LITTLE.SHOP"), 2
    ):
        pipeline.add_customer(customer_id, email)
    pipeline.push(entities=PEOPLE)
    assert set(pipeline.held("customers")) == {email_hash(long), email_hash("twin@mail.little.shop")}
    assert {len(record_id) for record_id in pipeline.held("customers")} == {32}
    assert pipeline.full_sync(entities=PEOPLE).operations == 0


def test_f6_orders_of_several_accounts_with_one_address_have_one_customer(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    for customer_id in (1, 2):
        pipeline.add_customer(customer_id, OLD if customer_id == 1 else OLD.upper())
        pipeline.add_order(customer_id, customer_id, 1)
    pipeline.push()
    customers = pipeline.held("customers")
    assert {record_id: one["orders_count"] for record_id, one in customers.items()} == {email_hash(OLD): 2}


def test_f6_an_address_that_mailchimp_refuses_is_told_and_costs_nobody_else_anything(pipeline: Pipeline) -> None:
    pipeline.configure(max_rejected_percent=100)
    pipeline.add_customer(1, "ada@example.com")
    pipeline.add_customer(2)
    pipeline.push(entities=PEOPLE)
    assert set(pipeline.held("customers")) == {email_hash("c2@mail.little.shop")}
    assert error_classes(pipeline, "customers") == {email_hash("ada@example.com"): "invalid_value"}
    assert calls(pipeline, "PUT", "/customers/", " 400") == 0  # known before it is sent


def test_f7_one_person_in_two_audiences_is_two_contacts_with_a_status_each(pipeline: Pipeline) -> None:
    account = pipeline.sandbox.state.account
    with account.lock:
        account.add_audience("second", "Wholesale", double_optin=False)
    email = pipeline.add_customer(1, opted_in=True)
    pipeline.push()
    wholesale = {"key": "wholesale", "store_id": "wholesale", "list_id": "second", "ecommerce": False}
    pipeline.configure(**wholesale)
    pipeline.push()
    second = account.audience_for("second").members
    assert set(second) == {email_hash(email)}
    change_status(pipeline, email, "unsubscribed")  # of the first
    pipeline.sql("UPDATE customers SET first_name = 'Eve'")
    pipeline.push()
    pipeline.configure()
    pipeline.push()
    statuses = {
        name: (account.audience_for(name).members.get(email_hash(email)) or {})["status"] for name in account.lists
    }
    assert statuses == {AUDIENCE.rpartition("/")[2]: "unsubscribed", "second": "subscribed"}
    for settings in ({}, wholesale):
        pipeline.configure(**settings)
        assert pipeline.push().operations == 0
