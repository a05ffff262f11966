"""Stores: created once, bound to an existing audience, one domain each."""

from include.sandbox.account import DEFAULT_LIST
from tests.include.sandbox.conftest import STORE, Api

BODY = {"id": "demo", "list_id": DEFAULT_LIST, "name": "Demo", "currency_code": "EUR", "domain": "kauf-demo.shop"}


def test_a_store_lives_and_dies(api: Api) -> None:
    created = api.ok("POST", "/ecommerce/stores", BODY)
    assert (created["is_syncing"], created["platform"], created["address"]["city"]) == (False, "", "")
    patched = api.ok("PATCH", STORE, {"is_syncing": True, "list_id": DEFAULT_LIST, "address": {"city": "Köln"}})
    assert (patched["is_syncing"], patched["name"], patched["address"]["city"]) == (True, "Demo", "Köln")
    assert api.ok("GET", "/ecommerce/stores")["total_items"] == 1
    api.ok("DELETE", STORE)
    api.refused(404, "GET", STORE)
    api.ok("POST", "/ecommerce/stores", BODY)


def test_a_store_is_refused(api: Api) -> None:
    assert "list" in api.refused(400, "POST", "/ecommerce/stores", {**BODY, "list_id": "none"})["detail"]
    api.ok("POST", "/ecommerce/stores", BODY)
    assert "already exists" in api.refused(400, "POST", "/ecommerce/stores", BODY)["detail"]
    other = {**BODY, "id": "other", "domain": "https://KAUF-demo.shop/de"}
    assert api.refused(400, "POST", "/ecommerce/stores", other)["detail"] == (
        "We were unable to process the request. "
        "A store with the domain https://KAUF-demo.shop/de already exists in the account."
    )
    assert "list may not be changed" in api.refused(400, "PATCH", STORE, {"list_id": "x"})["detail"]
    api.refused(404, "PATCH", "/ecommerce/stores/none", {})
    api.refused(404, "DELETE", "/ecommerce/stores/none")


def test_a_deleted_store_takes_its_records_along_but_not_the_members(shop: Api) -> None:
    shop.ok("DELETE", STORE)
    shop.ok("POST", "/ecommerce/stores", BODY)
    assert shop.ok("GET", f"{STORE}/products")["total_items"] == 0
    assert shop.ok("GET", f"/lists/{DEFAULT_LIST}/members")["total_items"] == 1
