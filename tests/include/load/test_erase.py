"""People who asked to be erased are gone from Mailchimp and from the state, whatever dies, and don't come back."""

from __future__ import annotations

from typing import Any

import pytest

from include.load.erase import ErasureCounts, erase_people
from include.load.errors import TooManyDeletions
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import Invalid
from include.state import erasures
from include.transform.erasures import NOBODY
from tests.include.load.shop import die_at
from tests.include.rehearse.rehearsals import comes_true
from tests.pipeline import AUDIENCE, STORE, Died, Pipeline, email_hash
from tests.privacy.canaries import state_rows

EVE, BOB = "eve@mail.little.shop", "bob@mail.little.shop"
NOBODYS_ADDRESS = f"{NOBODY}@little.shop"


@pytest.fixture
def full(pipeline: Pipeline) -> Pipeline:
    """Eve (1) and Bob (2) with a subscription, an order and a cart each, all of it at Mailchimp."""
    pipeline.configure(tags={"buyers": "SELECT customer_id FROM customers"})
    pipeline.add_product(1)
    for number, email in ((1, EVE), (2, BOB)):
        pipeline.add_customer(number, email, opted_in=True, first_name=email[:3])
        pipeline.sql(
            "INSERT INTO addresses (address_id, customer_id, name, address1, city, phone) "
            "VALUES (:id, :id, 'Her Name', 'Her Street 1', 'Her Town', '555')",
            id=number,
        )
        addresses: dict[str, Any] = {"shipping_address_id": number, "billing_address_id": number}
        pipeline.add_order(10 + number, number, 1, landing_site=f"https://little.shop/?me={number}", **addresses)
        pipeline.add_cart(20 + number, number, 1)
    pipeline.push()
    assert pipeline.held("customers").keys() == {email_hash(EVE), email_hash(BOB)}
    return pipeline


def ask(pipeline: Pipeline, customer_id: int | None = None, email: str | None = None) -> None:
    pipeline.sql(
        "INSERT INTO erasure_requests (customer_id, email) VALUES (:customer_id, :email)",
        customer_id=customer_id, email=email,
    )  # fmt: skip


def proofs(pipeline: Pipeline) -> list[tuple[Any, ...]]:
    return pipeline.sql(
        "SELECT erasure_id, customer_id, erased_at IS NOT NULL, contacts, customers, carts, orders "
        "FROM mailchimp.erasures ORDER BY erasure_id"
    )


def known_to_the_state(pipeline: Pipeline, *texts: str) -> list[str]:
    return [table for table, row in state_rows(pipeline.engine) if any(one in row for one in texts)]


def status_of_member(pipeline: Pipeline, email: str) -> str:
    """How Mailchimp answers the address's import."""
    with pytest.raises(Invalid) as refused:
        pipeline.client.post(f"{AUDIENCE}/members", json={"email_address": email, "status": "transactional"})
    return refused.value.title


def assert_eve_is_gone(pipeline: Pipeline) -> None:
    assert pipeline.member(EVE) is None
    assert pipeline.held("customers").keys() == {email_hash(BOB), NOBODY}
    assert pipeline.held("carts").keys() == {"22"}
    orders = pipeline.held("orders")
    assert {one: orders[one]["customer"]["id"] for one in orders} == {"11": NOBODY, "12": email_hash(BOB)}
    eves = orders["11"]
    assert (eves["order_total"], len(eves["lines"])) == (10, 1)
    assert eves["landing_site"] == ""
    for kind in ("shipping", "billing"):
        assert {value for value in eves[f"{kind}_address"].values() if value} <= {0}
    assert orders["12"]["shipping_address"]["name"] == "Her Name"
    assert known_to_the_state(pipeline, EVE, email_hash(EVE)) == []


@pytest.mark.parametrize("request_", [{"customer_id": 1}, {"email": " Eve@MAIL.little.shop"}])
def test_a_person_is_gone_and_the_revenue_stays(full: Pipeline, request_: dict[str, Any]) -> None:
    ask(full, **request_)
    ran = full.push()
    assert ran.failure is None
    assert (full.erased.erased, full.erased.waiting) == (1, 0)
    assert_eve_is_gone(full)
    assert status_of_member(full, EVE) == "Forgotten Email Not Subscribed"
    customer = "1" if "customer_id" in request_ else None
    assert proofs(full) == [("1", customer, True, 1, 1, 1, 1)]


def test_the_order_is_sent_once_more_and_then_nothing(full: Pipeline) -> None:
    ask(full, 1)
    assert full.push().operations == 1
    assert full.push().operations == 0
    assert full.full_sync().operations == 0
    assert full.erased.erased == 0
    assert_eve_is_gone(full)


def test_whatever_the_shop_changes_the_person_stays_unknown_while_the_request_stands(full: Pipeline) -> None:
    ask(full, 1)
    full.push()
    full.sql("UPDATE customers SET first_name = 'New', updated_at = now() WHERE customer_id = 1")
    full.consent(1, False)
    full.consent(1, True)
    full.sql("UPDATE orders SET status = 'shipped' WHERE order_id = 11")
    full.sql("UPDATE carts SET updated_at = clock_timestamp() WHERE cart_id = 21")
    assert full.push().failure is None
    assert full.held("orders")["11"]["fulfillment_status"] == "shipped"
    assert_eve_is_gone(full)
    full.full_sync()
    assert_eve_is_gone(full)
    full.add_order(13, 1, 1)
    full.push()
    assert full.held("orders")["13"]["customer"]["id"] == NOBODY


def test_nobody_is_a_contact_that_gets_no_mail(full: Pipeline) -> None:
    ask(full, 1)
    full.push()
    assert full.status(NOBODYS_ADDRESS) == "transactional"


def test_another_account_with_the_address_is_the_same_person(full: Pipeline) -> None:
    full.add_customer(3, EVE.upper(), opted_in=True, is_guest=True)
    full.add_order(14, 3, 1)
    full.push()
    ask(full, 1)
    full.push()
    assert full.held("orders")["14"]["customer"]["id"] == NOBODY
    assert full.member(EVE) is None
    assert email_hash(EVE) not in full.held("customers")
    assert known_to_the_state(full, email_hash(EVE)) == []


def test_a_row_that_the_shop_has_deleted_with_the_request(full: Pipeline) -> None:
    """The ledger knows whom the shop's id meant."""
    ask(full, 1)
    full.sql("UPDATE customers SET email = 'anonymous-1@mail.little.shop', deleted_at = now() WHERE customer_id = 1")
    full.push()
    assert_eve_is_gone(full)


def test_former_addresses_go_as_well(full: Pipeline) -> None:
    full.sql("UPDATE customers SET email = 'new@mail.little.shop' WHERE customer_id = 1")
    full.push()
    ask(full, 1)
    full.push()
    assert_eve_is_gone(full)
    assert known_to_the_state(full, email_hash("new@mail.little.shop")) == []
    assert full.member("new@mail.little.shop") is None


def test_a_person_that_was_rejected_leaves_the_list(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1, "not an address", opted_in=True)
    pipeline.add_order(11, 1, 1)
    pipeline.push()
    assert set(pipeline.rejected()) > {("orders", "11")}
    ask(pipeline, 1)
    pipeline.push()
    assert pipeline.rejected() == {}
    assert pipeline.held("orders")["11"]["customer"]["id"] == NOBODY


def test_orders_go_where_the_shop_has_no_domain(full: Pipeline) -> None:
    full.sql("UPDATE shop SET domain = NULL, email = NULL")
    ask(full, 1)
    full.push()
    assert full.held("orders").keys() == {"12"}
    assert full.held("customers").keys() == {email_hash(BOB)}


def test_an_order_that_mailchimp_does_not_give_away_is_written_anew(
    full: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(full, 1)
    monkeypatch.setattr(full.client, "patch", lambda path, json: None)
    full.push()
    assert_eve_is_gone(full)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("verb", "nth"), [("patch", 1), ("delete", 1), ("delete", 4), ("post", 2)])
def test_a_worker_that_dies_in_the_middle_is_followed_by_one_that_finishes(
    full: Pipeline, monkeypatch: pytest.MonkeyPatch, verb: str, when: str, nth: int
) -> None:
    ask(full, 1)
    ask(full, 2)
    call, die = getattr(MailchimpClient, verb), die_at(nth)

    def mortal(*args: Any, **values: Any) -> Any:
        if not str(args[1]).startswith(("/lists", STORE + "/")):
            return call(*args, **values)
        if when == "before":
            die()
        reply = call(*args, **values)
        if when == "after":
            die()
        return reply

    with monkeypatch.context() as patch:
        patch.setattr(MailchimpClient, verb, mortal)
        with pytest.raises(Died):
            full.push()
    assert [proof[2] for proof in proofs(full)].count(True) == 0
    full.push()
    assert [proof[2] for proof in proofs(full)] == [True, True]
    assert full.held("customers").keys() == {NOBODY}
    assert full.held("carts") == {}
    assert full.member(EVE) is full.member(BOB) is None
    assert known_to_the_state(full, email_hash(EVE), email_hash(BOB)) == []


def test_a_death_in_the_last_transaction_leaves_everything_to_do(
    full: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(full, 1)

    def die(*args: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(erasures, "finish_erasures", die)
        with pytest.raises(Died):
            full.push()
    assert known_to_the_state(full, email_hash(EVE)) != []
    full.push()
    assert_eve_is_gone(full)
    assert proofs(full) == [("1", "1", True, 1, 1, 1, 1)]


@pytest.mark.parametrize(("entity", "record_id"), [("customers", email_hash(EVE)), ("orders", "11"), ("carts", "21")])
def test_who_is_in_a_batch_under_way_waits_for_a_later_run(full: Pipeline, entity: str, record_id: str) -> None:
    ask(full, 1)
    run, store = full.begin()
    values = (full.state, full.engine, full.profile, full.client, store, full.settings, run)
    in_flight = "UPDATE mailchimp.ledger SET batch_ref = :batch WHERE entity = :entity AND record_id = :id"
    full.sql(in_flight, batch=1, entity=entity, id=record_id)
    assert erase_people(*values) == ErasureCounts(erased=0, waiting=1)
    assert full.member(EVE) is not None
    assert proofs(full) == []
    full.sql(in_flight, batch=None, entity=entity, id=record_id)
    assert erase_people(*values) == ErasureCounts(erased=1, waiting=0)
    assert full.member(EVE) is None


def test_who_came_back_by_a_run_that_had_read_them_before_is_erased_again(full: Pipeline) -> None:
    ask(full, 1)
    full.push()
    # What such a run leaves behind.
    full.sql(
        "INSERT INTO mailchimp.ledger (store_ref, entity, record_id, source_key, state, on_mailchimp) "
        "VALUES (1, 'customers', :id, '1', 'synced', true)",
        id=email_hash(EVE),
    )
    body = {"id": email_hash(EVE), "email_address": EVE, "opt_in_status": False}
    full.client.put(f"{STORE}/customers/{email_hash(EVE)}", json=body)
    full.push()
    assert_eve_is_gone(full)


def test_a_broken_profile_does_not_empty_the_audience(pipeline: Pipeline) -> None:
    for number in range(1, 21):
        pipeline.add_customer(number, opted_in=True)
        ask(pipeline, number)
    ask(pipeline, 99)
    pipeline.sql("CREATE TABLE kept AS TABLE erasure_requests; DELETE FROM erasure_requests")
    pipeline.push()
    pipeline.sql("INSERT INTO erasure_requests SELECT * FROM kept")
    with pytest.raises(TooManyDeletions, match="21 people are to be erased for ever, a run may erase 10"):
        pipeline.push()
    assert len(pipeline.held("customers")) == 20
    pipeline.push(allow_deletes=True)
    assert pipeline.held("customers") == {}


def test_requests_of_people_whom_nobody_knows_are_proved_too(pipeline: Pipeline) -> None:
    ask(pipeline, 99)
    ask(pipeline, email="stranger@mail.little.shop")
    pipeline.push()
    assert [proof[2:] for proof in proofs(pipeline)] == [(True, 0, 0, 0, 0)] * 2
    assert pipeline.push().failure is None
    assert pipeline.erased.erased == 0


def test_without_ecommerce_the_contact_goes(pipeline: Pipeline) -> None:
    pipeline.configure(ecommerce=False)
    pipeline.add_customer(1, EVE, opted_in=True)
    pipeline.push()
    ask(pipeline, 1)
    pipeline.push()
    assert pipeline.member(EVE) is None
    assert known_to_the_state(pipeline, email_hash(EVE)) == []


def test_a_dry_run_tells_what_the_erasure_will_do_and_does_nothing(full: Pipeline) -> None:
    full.sql("UPDATE customers SET first_name = 'Robert' WHERE customer_id = 2")
    ask(full, 1)
    forecast, operations = comes_true(full)
    assert forecast.erased == 1
    assert operations[("PUT", f"{STORE}/orders/11")] == 1
    assert_eve_is_gone(full)


def test_a_withdrawn_request_lets_the_person_be_sent_again(full: Pipeline) -> None:
    """As a customer; the contact has to sign up itself."""
    ask(full, 1)
    full.push()
    full.sql("DELETE FROM erasure_requests")
    full.full_sync()
    assert full.held("orders")["11"]["customer"]["id"] == email_hash(EVE)
    assert full.rejected()["members", email_hash(EVE)] == "Forgotten Email Not Subscribed"
