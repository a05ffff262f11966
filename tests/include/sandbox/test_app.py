"""Credentials, limits, errors and filters of the HTTP side."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from include.sandbox.account import DEFAULT_LIST
from include.sandbox.server import SandboxServer
from tests.include.sandbox.conftest import ORDER, STORE, Api, add_store

KEY = "f" * 32 + "-us6"


def test_ping_and_account(api: Api) -> None:
    assert api.ok("GET", "/ping") == {"health_status": "Everything's Chimpy!"}
    assert api.ok("GET", "/")["account_id"] == api.ok("GET", "")["account_id"]


@pytest.mark.parametrize(
    ("header", "title"),
    [
        (None, "API Key Missing"),
        ("Basic ", "API Key Missing"),
        ("Digest x", "API Key Missing"),
        ("Basic !!!", "API Key Invalid"),
        ("Basic YW55Ondyb25n", "API Key Invalid"),
        ("Bearer wrong", "API Key Invalid"),
    ],
)
def test_credentials_are_checked(api: Api, header: str | None, title: str) -> None:
    headers = {} if header is None else {"Authorization": header}
    reply = requests.get(f"{api.server.url}/ping", headers=headers, timeout=10)
    assert (reply.status_code, reply.json()["title"]) == (401, title)


def test_what_looks_like_a_key_or_token_is_accepted(api: Api) -> None:
    url = f"{api.server.url}/ping"
    assert requests.get(url, auth=("me", KEY), timeout=10).status_code == 200
    for token in (KEY, "f" * 32):
        assert requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10).status_code == 200


def test_a_given_key_is_the_only_one() -> None:
    with SandboxServer.start(api_key="secret") as server:
        assert requests.get(f"{server.url}/ping", auth=("any", "secret"), timeout=10).status_code == 200
        assert requests.get(f"{server.url}/ping", auth=("any", KEY), timeout=10).status_code == 401


def test_the_eleventh_simultaneous_request_is_throttled() -> None:
    some_are_refused = threading.Event()
    with SandboxServer.start() as server, ThreadPoolExecutor(14) as pool:

        def hold(method: str, path: str) -> None:
            some_are_refused.wait(30)

        def ping(_: int) -> requests.Response:
            reply = requests.get(f"{server.url}/ping", auth=("any", server.api_key), timeout=60)
            if reply.status_code == 429:
                some_are_refused.set()
            return reply

        server.state.fault = hold
        replies = list(pool.map(ping, range(14)))
        refused = [reply for reply in replies if reply.status_code == 429]
        assert 1 <= len(refused) <= 4
        assert refused[0].json()["detail"] == "You have exceeded the limit of 10 simultaneous connections."
        assert "retry-after" not in refused[0].headers
        assert requests.get(f"{server.origin}/sandbox/requests", timeout=10).json()["throttled"] == len(refused)


def test_unknown_paths_and_methods(api: Api) -> None:
    assert api.refused(404, "GET", "/nowhere")["title"] == "Resource Not Found"
    assert api.refused(404, "GET", "/ecommerce")["title"] == "Resource Not Found"
    assert api.refused(404, "GET", f"{STORE}/orders")["title"] == "Resource Not Found"
    reply = api.call("PUT", "/ecommerce/stores", {})
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, POST")


def test_the_method_may_be_overridden_on_post_only(shop: Api) -> None:
    override = {"X-HTTP-Method-Override": "PATCH"}
    url = shop.server.url + STORE
    assert shop.session.post(url, data='{"name": "New"}', headers=override, timeout=10).json()["name"] == "New"
    assert shop.session.get(url, headers=override, timeout=10).json()["title"] == "Invalid Method Override"


@pytest.mark.parametrize("body", ["{", "", "null", "[]", '"x"', b"\xff", '{"id": "\\ud800"}'])
def test_bodies_that_are_no_object(shop: Api, body: str | bytes) -> None:
    assert shop.refused(400, "POST", f"{STORE}/orders", body)["title"] in {"JSON Parse Error", "Invalid Resource"}


def test_field_errors_read_like_the_recorded_ones(shop: Api) -> None:
    line = {"id": "l1", "quantity": 1, "price": "1,5"}
    problem = shop.refused(
        400, "POST", f"{STORE}/orders", {**ORDER, "tax_total": None, "order_url": False, "lines": [line]}
    )
    assert problem["title"] == "Invalid Resource"
    assert problem["detail"].endswith("For field-specific details, see the 'errors' array.")
    assert {error["field"]: error["message"] for error in problem["errors"]} == {
        "lines.item:0": "Required fields were not provided: product_id, product_variant_id",
        "lines.item:0.price": "Schema describes number, string found instead",
        "tax_total": "Schema describes number, NULL found instead",
        "order_url": "Schema describes string, boolean found instead",
    }
    problem = shop.refused(
        400, "POST", f"{STORE}/products", {"id": "", "title": "T", "variants": [{"id": "1", "title": ""}]}
    )
    assert problem["errors"] == [{"field": "id", "message": "cannot be empty"}]


def test_paging_and_filters(shop: Api) -> None:
    for number in range(2, 14):
        shop.ok("POST", f"{STORE}/orders", {**ORDER, "id": f"o{number:02}"})
    page = shop.ok("GET", f"{STORE}/orders")
    assert (len(page["orders"]), page["total_items"]) == (10, 12)
    page = shop.ok("GET", f"{STORE}/orders", count=5, offset=9, fields="orders.id,orders.customer.id,total_items")
    assert page == {"orders": [{"id": f"o{n}", "customer": {"id": "c1"}} for n in (11, 12, 13)], "total_items": 12}
    page = shop.ok("GET", f"{STORE}/orders", count=1, exclude_fields="orders.customer,orders.lines.price")
    assert "customer" not in page["orders"][0]
    assert "price" not in page["orders"][0]["lines"][0]
    assert "quantity" in page["orders"][0]["lines"][0]
    assert shop.ok("GET", f"{STORE}/orders", count=0)["orders"] == []
    for wrong in ({"count": 1001}, {"count": "x"}, {"offset": -1}):
        assert shop.refused(400, "GET", f"{STORE}/orders", **wrong)["title"] == "Bad Request"
    assert shop.refused(422, "GET", f"{STORE}/orders", fields="nothing")["title"] == "Requested Fields Invalid"


def test_ids_may_hold_any_character(shop: Api) -> None:
    shop.ok("POST", f"{STORE}/products", {"id": "a/b *?ü", "title": "T", "variants": [{"id": "1", "title": "T"}]})
    assert shop.ok("GET", f"{STORE}/products/a%2Fb%20%2A%3F%C3%BC")["title"] == "T"


def test_the_page_shows_what_is_held_and_escapes_it(api: Api) -> None:
    add_store(api, name="<Demo>")
    api.ok("POST", f"{STORE}/products", {"id": "<b>", "title": "T", "variants": [{"id": "1", "title": "T"}]})
    page = requests.get(f"{api.server.origin}/", timeout=10).text
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert DEFAULT_LIST in page
    assert "https://" not in page


def test_a_failure_inside_is_a_500(shop: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop.server.state.account, "changed", None)
    assert shop.refused(500, "DELETE", f"{STORE}/products/p1")["title"] == "Internal Server Error"
