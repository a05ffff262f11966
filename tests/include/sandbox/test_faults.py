"""Each fault of the sandbox, at the occasion that was chosen, and the same again by the same seed."""

import json
from collections import Counter
from typing import Any

import pytest
import requests

from include.sandbox.batches import MAX_PENDING
from include.sandbox.faults import BATCH_FAULTS, Fault, heal, inject, inject_at_random
from tests.include.sandbox.conftest import ORDER, STORE, Api

PINGS = [{"method": "GET", "path": "/ping", "operation_id": f"ping-{number}"} for number in range(10)]


def orders(*ids: int) -> list[dict[str, Any]]:
    return [
        {
            "method": "PUT",
            "path": f"{STORE}/orders/o{number}",
            "operation_id": f"t-{number}",
            "body": json.dumps({**ORDER, "id": f"o{number}"}),
        }
        for number in ids
    ]


def post(api: Api, operations: list[dict[str, Any]]) -> requests.Response:
    return api.call("POST", "/batches", {"operations": operations})


def held(api: Api) -> set[str]:
    found = api.ok("GET", f"{STORE}/orders", count=100)["orders"]
    return {order["id"] for order in found}


def until_worked_off(api: Api) -> None:
    batches = api.server.state.batches
    while any(batch.status != "finished" and not batch.stuck for batch in list(batches.batches.values())):
        pass


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (Fault.THROTTLED, 429, "application/problem+json"),
        (Fault.PAGE_403, 403, "text/html"),
        (Fault.PAGE_503, 503, "text/html"),
        (Fault.SERVER_ERROR, 500, "application/problem+json"),
    ],
)
def test_a_call_fails_at_the_chosen_occasions_only(api: Api, fault: Fault, status: int, kind: str) -> None:
    inject(api.server.state, fault, at=2, times=2)
    replies = [api.call("GET", "/ping") for _ in range(4)]
    assert [reply.status_code for reply in replies] == [200, status, status, 200]
    assert replies[1].headers["content-type"] == f"{kind}; charset=utf-8"
    assert api.server.state.faults.committed == {fault: 2}


def test_a_server_error_comes_when_the_work_is_done(shop: Api) -> None:
    inject(shop.server.state, Fault.SERVER_ERROR)
    assert shop.call("PUT", f"{STORE}/orders/o1", {**ORDER, "id": "o1"}).status_code == 500
    assert held(shop) == {"o1"}


def test_a_batch_whose_reply_is_lost_runs_and_one_whose_request_is_lost_does_not(shop: Api) -> None:
    inject(shop.server.state, Fault.REPLY_LOST)
    assert post(shop, orders(1)).status_code == 500
    inject(shop.server.state, Fault.REQUEST_LOST)
    assert post(shop, orders(2)).status_code == 500
    until_worked_off(shop)
    assert held(shop) == {"o1"}


def test_too_many_pending_batches(shop: Api) -> None:
    inject(shop.server.state, Fault.TOO_MANY_PENDING, times=2)
    for _ in range(2):
        assert f"more than {MAX_PENDING} pending" in post(shop, orders(1)).json()["detail"]
    assert post(shop, orders(1)).status_code == 200


def test_one_operation_is_refused_in_whatever_batch_until_it_heals(shop: Api) -> None:
    inject(shop.server.state, Fault.BATCH_REFUSED, seed=3)
    problem = post(shop, orders(1, 2, 3, 4)).json()
    (error,) = problem["errors"]
    assert problem["status"] == 400
    refused = {number for number in (1, 2, 3, 4) if post(shop, orders(number)).status_code == 400}
    assert len(refused) == 1
    assert error["field"] == f"operations.item:{refused.pop() - 1}"
    heal(shop.server.state)
    assert post(shop, orders(1, 2, 3, 4)).status_code == 200


def test_every_batch_is_refused_with_the_same_text(shop: Api) -> None:
    inject(shop.server.state, Fault.BATCHES_REFUSED, times=2)
    first, second, third = post(shop, orders(1)), post(shop, orders(2)), post(shop, orders(3))
    assert (first.status_code, second.status_code, third.status_code) == (400, 400, 200)
    assert first.json()["detail"] == second.json()["detail"]


@pytest.mark.parametrize(("fault", "executed"), [(Fault.BATCH_DROPPED, set()), (Fault.BATCH_VANISHED, {"o1"})])
def test_a_batch_is_gone_before_or_after_it_ran(shop: Api, fault: Fault, executed: set[str]) -> None:
    inject(shop.server.state, fault)
    batch = post(shop, orders(1)).json()
    until_worked_off(shop)
    shop.refused(404, "GET", f"/batches/{batch['id']}")
    assert held(shop) == executed


def test_a_batch_that_never_ends_lets_others_pass_and_can_be_deleted(shop: Api) -> None:
    inject(shop.server.state, Fault.BATCH_NEVER_ENDS)
    stuck = post(shop, orders(1, 2, 3, 4)).json()
    shop.finished(orders(5))
    assert shop.ok("GET", f"/batches/{stuck['id']}")["status"] == "started"
    assert len(held(shop) - {"o5"}) == 2
    shop.ok("DELETE", f"/batches/{stuck['id']}")
    shop.refused(404, "GET", f"/batches/{stuck['id']}")


def test_a_finished_batch_without_a_link(shop: Api) -> None:
    inject(shop.server.state, Fault.LINK_MISSING)
    assert shop.finished(orders(1))["response_body_url"] == ""
    assert shop.finished(orders(1))["response_body_url"] != ""


def test_results_are_missing_of_operations_that_were_executed(shop: Api) -> None:
    inject(shop.server.state, Fault.RESULTS_MISSING)
    batch = shop.finished(orders(*range(10)))
    assert len(shop.results(batch)) == 8
    assert batch["finished_operations"] == len(held(shop)) == 10


def test_operations_fail_and_every_second_one_was_executed_all_the_same(shop: Api) -> None:
    inject(shop.server.state, Fault.OPERATIONS_FAIL)
    batch = shop.finished(orders(*range(10)))
    failed = [name for name, result in shop.results(batch).items() if result["status_code"] == 500]
    assert batch["errored_operations"] == len(failed) == 2
    assert len(held(shop)) == 9


def test_a_download_is_refused_or_cut(shop: Api) -> None:
    batch = shop.finished(PINGS)
    whole = requests.get(batch["response_body_url"], timeout=10).content
    inject(shop.server.state, Fault.LINK_EXPIRED)
    assert requests.get(batch["response_body_url"], timeout=10).status_code == 400
    inject(shop.server.state, Fault.ARCHIVE_TRUNCATED)
    cut = requests.get(batch["response_body_url"], timeout=10).content
    assert len(cut) < len(whole)
    assert whole.startswith(cut)
    assert requests.get(batch["response_body_url"], timeout=10).content == whole


def test_a_seed_commits_the_same_faults_again(shop: Api) -> None:
    state, rates = shop.server.state, dict.fromkeys(BATCH_FAULTS, 0.2)

    def statuses(seed: int) -> list[tuple[int, Counter[Fault]]]:
        inject_at_random(state, seed, rates, most=10)
        seen = []
        for _ in range(12):
            before = state.faults.committed.copy()
            seen.append((post(shop, PINGS).status_code, state.faults.committed - before))
        heal(state)
        return seen

    first = statuses(7)
    assert statuses(7) == first
    assert statuses(8) != first
    assert {status for status, _ in first[10:]} == {200}
    assert len({status for status, _ in first}) > 1
    assert sum(state.faults.committed.values()) > 5
    assert state.faults.affected[Fault.REPLY_LOST] == 10 * state.faults.committed[Fault.REPLY_LOST]
