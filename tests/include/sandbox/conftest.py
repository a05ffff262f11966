"""A running sandbox and a caller of its API."""

import io
import json
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from include.sandbox.account import DEFAULT_LIST
from include.sandbox.server import SandboxServer

STORE = "/ecommerce/stores/demo"
PRODUCT = {"id": "p1", "title": "Shirt", "variants": [{"id": "v1", "title": "Shirt M", "price": 24.95}]}
CUSTOMER = {"id": "c1", "email_address": "Ada@kauf-demo.shop", "opt_in_status": False, "first_name": "Ada"}
ORDER: dict[str, Any] = {
    "id": "o1",
    "customer": {"id": "c1"},
    "currency_code": "EUR",
    "order_total": 49.9,
    "lines": [{"id": "l1", "product_id": "p1", "product_variant_id": "v1", "quantity": 2, "price": 24.95}],
}


class Api:
    """Calls the API with credentials."""

    def __init__(self, server: SandboxServer) -> None:
        self.server = server
        self.session = requests.Session()
        self.session.auth = ("anystring", server.api_key)

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> requests.Response:
        data = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
        return self.session.request(method, self.server.url + path, data=data, params=params, timeout=30)

    def ok(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        reply = self.call(method, path, body, **params)
        assert reply.status_code in {200, 204}, reply.text
        return reply.json() if reply.content else None

    def refused(self, status: int, method: str, path: str, body: Any = None, /, **params: Any) -> dict[str, Any]:
        reply = self.call(method, path, body, **params)
        assert reply.status_code == status, reply.text
        assert reply.headers["content-type"] == "application/problem+json; charset=utf-8"
        problem: dict[str, Any] = reply.json()
        assert problem["status"] == status
        assert problem["instance"] == reply.headers["x-request-id"]
        return problem

    def own(self, path: str) -> Any:
        return requests.get(f"{self.server.origin}/sandbox/{path}", timeout=10).json()

    def finished(self, operations: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.ok("POST", "/batches", {"operations": operations})
        deadline = time.monotonic() + 30
        while batch["status"] != "finished":
            assert time.monotonic() < deadline, "the batch did not finish"
            time.sleep(0.005)
            batch = self.ok("GET", f"/batches/{batch['id']}")
        return dict(batch)

    def results(self, batch: dict[str, Any]) -> dict[str | None, dict[str, Any]]:
        reply = requests.get(batch["response_body_url"], timeout=10)
        assert reply.status_code == 200
        found: dict[str | None, dict[str, Any]] = {}
        with tarfile.open(fileobj=io.BytesIO(reply.content), mode="r:gz") as archive:
            for member in archive:
                content = archive.extractfile(member)
                for result in json.loads(content.read() or b"[]") if content else []:
                    found[result["operation_id"]] = result
        return found


def add_store(api: Api, **changes: Any) -> None:
    """A store that is not syncing, with a product and a customer."""
    api.ok(
        "POST",
        "/ecommerce/stores",
        {"id": "demo", "list_id": DEFAULT_LIST, "name": "Demo", "currency_code": "EUR", **changes},
    )
    api.ok("POST", f"{STORE}/products", PRODUCT)
    api.ok("POST", f"{STORE}/customers", CUSTOMER)


@pytest.fixture
def api() -> Iterator[Api]:
    """An empty sandbox."""
    with SandboxServer.start(batch_seconds=0, seed=1) as server:
        yield Api(server)


@pytest.fixture
def shop(api: Api) -> Api:
    """A sandbox that has a store with one product and one customer."""
    add_store(api)
    return api
