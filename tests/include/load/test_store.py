"""The store at Mailchimp: made once, kept up to date, never shared, and never taken for filled when it is empty."""

from __future__ import annotations

from typing import Any

import pytest

from include.load.errors import PreflightFailed
from include.load.store import ensure_store, pause_automations, resume_automations
from include.state.stores import StoreRef
from tests.include.load.shop import Died, MortalClient, TinyShop

STORE = "/ecommerce/stores/demo-shop"
SHOP: dict[str, Any] = dict.fromkeys(
    (
        "name currency_code domain email money_format primary_locale timezone phone address1 address2 city province "
        "province_code postal_code country country_code"
    ).split()
) | {"name": "Tiny", "currency_code": "EUR", "domain": "tiny-shop.org"}


def ensure(shop: TinyShop, client: MortalClient | None = None, account_id: str = "account-1", **row: Any) -> StoreRef:
    return ensure_store(shop.state, client or shop.client, shop.settings, SHOP | row, account_id)


def remote(shop: TinyShop) -> dict[str, Any]:
    return shop.client.get(STORE) or {}


def add_store(shop: TinyShop, **fields: Any) -> None:
    body = {"id": "demo-shop", "list_id": "a1b2c3d4e5", "name": "Tiny", "currency_code": "EUR"}
    shop.client.post("/ecommerce/stores", json=body | fields)


@pytest.fixture
def nothing(shop: TinyShop) -> TinyShop:
    """A shop whose store Mailchimp doesn't have."""
    shop.client.delete(STORE)
    return shop


def test_a_missing_store_is_created_quiet_and_registered(nothing: TinyShop) -> None:
    reference = ensure(nothing, city="Bonn", timezone="Europe/Berlin")
    assert (reference.store_id, reference.account_id) == ("demo-shop", "account-1")
    assert reference == nothing.store()
    created = remote(nothing)
    assert (created["is_syncing"], created["list_id"], created["domain"]) == (True, "a1b2c3d4e5", "tiny-shop.org")
    assert (created["address"]["city"], created["timezone"]) == ("Bonn", "Europe/Berlin")


@pytest.mark.parametrize(
    ("column", "value", "field"),
    [
        ("name", "Tiny & Co", "name"),
        ("currency_code", "USD", "currency_code"),
        ("timezone", "Europe/Paris", "timezone"),
        ("domain", "tiny-shop.net", "domain"),
        ("email", "shop@tiny-shop.org", "email_address"),
        ("phone", "0228 1", "phone"),
    ],
)
def test_what_changes_in_the_shop_changes_at_mailchimp(nothing: TinyShop, column: str, value: str, field: str) -> None:
    ensure(nothing)
    nothing.add_products(1, 1)
    nothing.run("products")
    ensure(nothing, **{column: value})
    assert remote(nothing)[field] == value


def test_of_a_former_address_nothing_is_left(nothing: TinyShop) -> None:
    ensure(nothing, address1="1 High Street", address2="Suite 5", city="Bonn")
    ensure(nothing, address1="2 Low Street", city="Köln")
    address = remote(nothing)["address"]
    assert (address["address1"], address["address2"], address["city"]) == ("2 Low Street", "", "Köln")


def test_an_unchanged_store_costs_one_call(nothing: TinyShop) -> None:
    ensure(nothing, address1="1 High Street")
    calls = nothing.client.metrics.calls
    ensure(nothing, address1="1 High Street")
    assert nothing.client.metrics.calls == calls + 1


def test_a_store_that_vanished_is_owed_everything_again(nothing: TinyShop) -> None:
    ensure(nothing)
    nothing.add_products(1, 3)
    nothing.run("products")
    nothing.client.delete(STORE)
    ensure(nothing)
    assert set(nothing.ledger("products").values()) == {"pending"}
    assert nothing.run("products")["products"]["operations"] == 3
    assert len(nothing.held("products")) == 3


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_death_around_the_creation_never_leaves_an_empty_store_that_looks_filled(
    nothing: TinyShop, point: str
) -> None:
    ensure(nothing)
    nothing.add_products(1, 3)
    nothing.run("products")
    nothing.client.delete(STORE)

    class Mortal(MortalClient):
        def post(self, path: str, **body: Any) -> dict[str, Any] | None:
            if point == "after":
                super().post(path, **body)
            raise Died

    client = nothing.new_client()
    client.__class__ = Mortal
    with pytest.raises(Died):
        ensure(nothing, client)
    ensure(nothing)
    assert nothing.run("products")["products"]["operations"] == 3


def test_answers_that_were_outstanding_when_the_store_vanished_are_not_believed(nothing: TinyShop) -> None:
    ensure(nothing)
    nothing.add_products(1, 3)
    (key,) = nothing.plan(nothing.begin(), "products")
    waiting = nothing.push(key).step()
    nothing.wait(waiting)  # type: ignore[arg-type]
    nothing.client.delete(STORE)
    ensure(nothing)
    nothing.finish(key)
    assert len(nothing.held("products")) == 3


def test_a_store_of_another_site_is_left_alone(nothing: TinyShop) -> None:
    add_store(nothing, domain="https://other-shop.org", name="Other")
    with pytest.raises(PreflightFailed, match=r"site 'https://other-shop.org'.*'tiny-shop.org'.*another store_id"):
        ensure(nothing)
    with pytest.raises(PreflightFailed, match="names no domain"):
        ensure(nothing, domain=None)
    assert remote(nothing)["name"] == "Other"
    assert nothing.query("SELECT * FROM store") == []


def test_a_store_is_found_again_by_its_domain_when_the_state_was_lost(nothing: TinyShop) -> None:
    add_store(nothing, domain="https://TINY-shop.org/de", name="Old name")
    ensure(nothing)
    assert remote(nothing)["name"] == "Tiny"


def test_a_domain_of_another_store_is_told_with_its_id(nothing: TinyShop) -> None:
    add_store(nothing, id="webshop", domain="https://tiny-shop.org")
    with pytest.raises(PreflightFailed, match=r"another store of this Mailchimp account: 'webshop', of audience 'a1b2"):
        ensure(nothing)
    ensure(nothing, domain="tiny-shop.net")
    nothing.add_products(1, 1)
    nothing.run("products")
    with pytest.raises(PreflightFailed, match="'webshop'"):
        ensure(nothing)


def test_a_store_of_another_audience_or_integration_is_refused(nothing: TinyShop) -> None:
    add_store(nothing, platform="Magento")
    with pytest.raises(PreflightFailed, match=r"another integration \('Magento'\)"):
        ensure(nothing)
    nothing.configure(list_id="elsewhere")
    with pytest.raises(PreflightFailed, match="belongs to audience 'a1b2c3d4e5'"):
        ensure(nothing)


def test_another_account_starts_with_an_empty_ledger(nothing: TinyShop) -> None:
    ensure(nothing)
    nothing.add_products(1, 2)
    nothing.run("products")
    assert ensure(nothing, account_id="account-2").store_ref != nothing.store().store_ref
    assert nothing.ledger("products") == {"1": "synced", "2": "synced"}


def test_automations_rest_while_the_store_is_filled_and_work_afterwards(nothing: TinyShop) -> None:
    ensure(nothing)
    run = nothing.begin()
    pause_automations(nothing.state, nothing.client, nothing.settings, run)
    assert remote(nothing)["is_syncing"]
    resume_automations(nothing.state, nothing.client, nothing.settings, run)
    assert not remote(nothing)["is_syncing"]


def test_a_run_clears_what_a_dead_one_left_unless_another_fills_the_store(nothing: TinyShop) -> None:
    ensure(nothing)  # leaves the flag of the creation
    filling = nothing.begin()
    incremental = nothing.begin(quiet=False)
    pause_automations(nothing.state, nothing.client, nothing.settings, incremental)
    assert remote(nothing)["is_syncing"]
    nothing.execute("UPDATE mailchimp.run SET state = 'failed' WHERE run_ref = :run", run=filling.run_ref)
    pause_automations(nothing.state, nothing.client, nothing.settings, incremental)
    assert not remote(nothing)["is_syncing"]
