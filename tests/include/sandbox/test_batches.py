"""Batches: whole or refused, phases, shuffled results behind expiring links, restarts."""

import json
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import requests

from include.sandbox.account import DEFAULT_LIST
from include.sandbox.api import Reply
from include.sandbox.batches import MAX_PENDING, Batch
from include.sandbox.server import SandboxServer
from tests.include.sandbox.conftest import CUSTOMER, ORDER, STORE, Api, add_store

LIST = f"/lists/{DEFAULT_LIST}"
RULE = {"id": "r1", "description": "15 % off", "amount": 0.15, "type": "percentage", "target": "total"}
PING = {"method": "GET", "path": "/ping", "operation_id": "ping"}


def put_order(order_id: str, **changes: Any) -> dict[str, Any]:
    body = json.dumps({**ORDER, "id": order_id, **changes})
    return {"method": "PUT", "path": f"{STORE}/orders/{order_id}", "operation_id": order_id, "body": body}


def test_operations_are_answered_one_by_one(shop: Api) -> None:
    shop.ok("POST", f"{STORE}/orders", {**ORDER, "id": "old"})
    batch = shop.finished(
        [
            put_order("o1"),
            put_order("o2", lines=[]),
            put_order("o3", tax_total=None),
            {**PING, "path": "/batches"},
            {"method": "GET", "path": f"{STORE}/orders?count=1", "params": {"fields": "total_items"}},
            {"method": "DELETE", "path": f"{STORE}/orders/old", "operation_id": "deleted"},
            {"method": "PUT", "path": f"{STORE}/orders/x", "operation_id": "no json", "body": "{"},
        ]
    )
    counters = (batch["total_operations"], batch["finished_operations"], batch["errored_operations"])
    assert counters == (7, 7, 4)
    assert batch["completed_at"]
    results = shop.results(batch)
    statuses = {name: result["status_code"] for name, result in results.items()}
    assert statuses == {"o1": 200, "o2": 404, "o3": 400, "ping": 404, None: 200, "deleted": 204, "no json": 400}
    assert json.loads(results["o1"]["response"])["customer"]["email_address"] == "Ada@kauf-demo.shop"
    assert json.loads(results["o3"]["response"])["errors"][0]["field"] == "tax_total"
    assert json.loads(results["o3"]["response"])["instance"] == ""
    assert results["deleted"]["response"] == ""
    assert list(json.loads(results[None]["response"])) == ["total_items"]
    counted = shop.own("requests")
    assert (counted["operations"], counted["failed_operations"]) == (7, 4)


@pytest.mark.parametrize(
    ("operations", "field", "message"),
    [
        ({"0": PING}, "operations", "Schema describes array, object found instead"),
        ([[]], "operations.item:0", "Schema describes object, array found instead"),
        ([PING, {**PING, "body": {}}], "operations.item:1.body", "Schema describes string, object found instead"),
        ([{"method": "GET"}], "operations.item:0", "Required fields were not provided: path"),
    ],
)
def test_a_malformed_operation_refuses_all(shop: Api, operations: Any, field: str, message: str) -> None:
    problem = shop.refused(400, "POST", "/batches", {"operations": operations})
    assert problem["errors"] == [{"field": field, "message": message}]
    shop.refused(400, "POST", "/batches", {"operations": [{**PING, "method": "put"}]})
    assert shop.ok("GET", "/batches")["total_items"] == 0


def test_results_come_in_another_order_and_in_several_files(shop: Api) -> None:
    batch = shop.finished([{**PING, "operation_id": f"{number}"} for number in range(450)])
    results = list(shop.results(batch))
    assert results != sorted(results, key=lambda name: int(name or 0))
    assert len(results) == 450


def test_phases_go_by_the_clock_and_one_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, list[str]]] = []
    posted = threading.Event()

    def look(batch: Batch, name: str, value: Any) -> None:
        """What the API shows in each phase; the worker asks it itself, so that no phase is over before."""
        is_phase = name == "status" and value != "pending"
        if is_phase:
            assert posted.wait(30)
        object.__setattr__(batch, name, value)
        if is_phase:
            shown = Api(server).ok("GET", "/batches")["batches"]
            seen.append((time.monotonic() - begun, [one["status"] for one in shown]))

    with SandboxServer.start(batch_seconds=0.4) as server:
        api = Api(server)
        monkeypatch.setattr(Batch, "__setattr__", look)
        begun = time.monotonic()
        first = api.ok("POST", "/batches", {"operations": [PING]})
        assert (first["status"], first["completed_at"], first["response_body_url"]) == ("pending", "", "")
        api.ok("POST", "/batches", {"operations": [PING]})
        posted.set()
        deadline = time.monotonic() + 30
        while len(seen) < 8:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    phases = ["preprocessing", "started", "finalizing", "finished"]
    assert [statuses for _, statuses in seen] == [[one, "pending"] for one in phases] + [
        ["finished", one] for one in phases
    ]
    earliest = [0.4 * part for part in (0, 0.25, 0.75, 1, 1, 1.25, 1.75, 2)]
    assert all(moment >= least for (moment, _), least in zip(seen, earliest, strict=True))


def test_each_look_gives_a_new_link_that_must_not_be_decoded(shop: Api) -> None:
    batch = shop.finished([PING])
    url = batch["response_body_url"]
    assert url != shop.ok("GET", f"/batches/{batch['id']}")["response_body_url"]
    assert requests.get(url, timeout=10).status_code == 200
    assert requests.get(unquote(url), timeout=10).status_code == 403
    assert shop.session.get(url, timeout=10).status_code == 400
    assert requests.get(url.partition("?")[0], timeout=10).status_code == 403


def test_links_expire() -> None:
    with SandboxServer.start(batch_seconds=0, link_seconds=0.05) as server:
        batch = Api(server).finished([PING])
        time.sleep(0.06)
        reply = requests.get(batch["response_body_url"], timeout=10)
        assert (reply.status_code, "ExpiredToken" in reply.text) == (400, True)


def test_batches_expire() -> None:
    with SandboxServer.start(batch_seconds=0, batch_retention_seconds=1) as server:
        api = Api(server)
        begun = time.monotonic()
        batch = api.ok("POST", "/batches", {"operations": [PING]})
        while api.call("GET", f"/batches/{batch['id']}").status_code == 200:
            assert time.monotonic() - begun < 30
            time.sleep(0.02)
        assert time.monotonic() - begun >= 1
        api.refused(404, "GET", f"/batches/{batch['id']}")
        assert api.own("requests")["operations"] == 1


def test_a_deleted_batch_is_gone_and_the_next_one_runs() -> None:
    with SandboxServer.start(batch_seconds=0.3) as server:
        api = Api(server)
        first = api.ok("POST", "/batches", {"operations": [PING]})
        assert api.call("DELETE", f"/batches/{first['id']}").status_code == 204
        api.refused(404, "GET", f"/batches/{first['id']}")
        assert api.finished([PING])["finished_operations"] == 1


def test_at_most_500_batches_may_be_pending() -> None:
    with SandboxServer.start(batch_seconds=60) as server:
        api = Api(server)
        for _ in range(MAX_PENDING):
            api.ok("POST", "/batches", {"operations": [PING]})
        problem = api.refused(400, "POST", "/batches", {"operations": [PING]})
        assert problem["detail"] == "You have more than 500 pending batches."


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    options: dict[str, Any] = {"file": tmp_path / "sandbox.sqlite", "batch_seconds": 0}
    with SandboxServer.start(**options) as server:
        api = Api(server)
        add_store(api)
        done = api.finished([put_order(f"o{number}") for number in range(30)])
        api.ok("DELETE", f"{STORE}/orders/o7")
        before = api.own("state")
    with SandboxServer.start(**options | {"batch_seconds": 60}) as server:
        api = Api(server)
        assert api.own("state") == before
        assert api.ok("GET", f"{STORE}/customers/c1")["orders_count"] == 29
        assert len(api.results(api.ok("GET", f"/batches/{done['id']}"))) == 30
        assert "already exists" in api.refused(400, "POST", f"{STORE}/customers", {**CUSTOMER, "id": "c9"})["detail"]
        waiting = api.ok("POST", "/batches", {"operations": [put_order("late")]})
    with SandboxServer.start(**options) as server:
        api = Api(server)
        deadline = time.monotonic() + 30
        while api.ok("GET", f"/batches/{waiting['id']}")["status"] != "finished":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert api.ok("GET", f"{STORE}/orders/late")["id"] == "late"


def test_everything_of_an_audience_and_of_promotions_survives_a_restart(tmp_path: Path) -> None:
    options: dict[str, Any] = {"file": tmp_path / "sandbox.sqlite", "batch_seconds": 0}
    with SandboxServer.start(**options) as server:
        api = Api(server)
        add_store(api)
        api.ok("POST", f"{STORE}/carts", {**ORDER, "id": "k1"})
        api.ok("POST", f"{STORE}/promo-rules", RULE)
        api.ok("POST", f"{STORE}/promo-rules/r1/promo-codes", {"id": "k1", "code": "A", "redemption_url": "u"})
        group = api.ok("POST", f"{LIST}/interest-categories", {"title": "News", "type": "hidden"})
        interests = f"{LIST}/interest-categories/{group['id']}/interests"
        chosen = api.ok("POST", interests, {"name": "Offers"})["id"]
        member = {"email_address": "bo@kauf-demo.shop", "status": "subscribed", "interests": {chosen: True}}
        api.ok("POST", f"{LIST}/members", {**member, "tags": ["vip"]})
        gone = api.ok("POST", f"{LIST}/members", {"email_address": "gone@kauf-demo.shop", "status": "subscribed"})
        api.ok("POST", f"{LIST}/members/{gone['id']}/actions/delete-permanent")
        before, paths = api.own("state"), [LIST, interests, f"{LIST}/segments", f"{LIST}/members", f"{STORE}/carts"]
        shown = [api.ok("GET", path) for path in paths]
    with SandboxServer.start(**options) as server:
        api = Api(server)
        assert api.own("state") == before
        assert [api.ok("GET", path) for path in paths] == shown
        refused = {"email_address": "gone@kauf-demo.shop", "status": "subscribed"}
        assert "permanently deleted" in api.refused(400, "POST", f"{LIST}/members", refused)["detail"]
        api.ok("DELETE", f"{STORE}/promo-rules/r1")
        assert api.own("state")["stores"]["demo"]["counts"]["promo_codes"] == 0


def test_single_operations_can_be_answered_otherwise(shop: Api) -> None:
    refusals = iter([Reply(400, b'{"detail": "campaign"}', "fault")])

    def fault(method: str, path: str) -> Reply | None:
        return next(refusals, None) if (method, path) == ("PUT", f"{STORE}/orders/o2") else None

    shop.server.state.operation_fault = fault
    results = shop.results(shop.finished([put_order("o1"), put_order("o2")]))
    assert {name: result["status_code"] for name, result in results.items()} == {"o1": 200, "o2": 400}
    assert results["o2"]["response"] == '{"detail": "campaign"}'
    assert shop.results(shop.finished([put_order("o2")]))["o2"]["status_code"] == 200
    shop.server.state.fault = lambda method, path: Reply(503, b"busy", "fault")
    assert shop.call("GET", "/ping").status_code == 503


def test_equal_content_has_equal_digests() -> None:
    digests = []
    for seed in (1, 2):
        with SandboxServer.start(batch_seconds=0, seed=seed) as server:
            api = Api(server)
            add_store(api)
            numbers = range(20) if seed == 1 else reversed(range(20))
            api.finished([put_order(f"o{number}") for number in numbers])
            lines = [{**ORDER["lines"][0], "id": name} for name in ("l2", "l3")]
            api.ok("PATCH", f"{STORE}/orders/o1", {"lines": lines[:: 1 if seed == 1 else -1]})
            digests.append(api.own("state")["stores"]["demo"]["digests"])
            api.ok("PATCH", f"{STORE}/orders/o1", {"order_total": 1})
            assert api.own("state")["stores"]["demo"]["digests"]["orders"] != digests[-1]["orders"]
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("path", "record_id", "body", "more"),
    [
        ("orders", "o1", ORDER, {"tax_total": 0, "order_url": "", "promos": [], "shipping_address": {"city": ""}}),
        ("orders", "o1", ORDER, {"lines": [{**ORDER["lines"][0], "discount": 0}], "campaign_id": ""}),
        ("carts", "o1", ORDER, {"tax_total": 0, "checkout_url": ""}),
        ("promo-rules", "r1", RULE, {"title": "", "starts_at": ""}),
    ],
)
def test_an_empty_value_is_no_difference_but_another_value_is(
    shop: Api, path: str, record_id: str, body: dict[str, Any], more: dict[str, Any]
) -> None:
    entity = path.replace("-", "_")

    def digest() -> str:
        return str(shop.own("state")["stores"]["demo"]["digests"][entity])

    shop.ok("POST", f"{STORE}/{path}", body)
    before = digest()
    shop.ok("PATCH", f"{STORE}/{path}/{record_id}", more)
    assert digest() == before
    changed = {"enabled": False} if entity == "promo_rules" else {"order_total": 1}
    shop.ok("PATCH", f"{STORE}/{path}/{record_id}", changed)
    assert digest() != before
