"""Batches whose hand-over goes wrong: whatever happens, each ends in a defined state and no record is lost."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from include.load.post import BatchRefused
from include.load.settle import recover
from include.load.slice_step import Waiting
from include.mailchimp.contract import Operation
from include.mailchimp.errors import ArchiveTruncated, BatchReplyLost, ResultLinkExpired, TooManyPendingBatches
from include.sandbox.faults import Fault, heal, inject
from include.sandbox.problems import FieldError, invalid_fields
from include.state.database import SliceKey
from tests.include.load.shop import Died, TinyShop, die_at

RECORDS = 35
LATE = datetime.now(UTC) + timedelta(hours=20)  # from when the tests were collected


@pytest.fixture
def key(shop: TinyShop) -> SliceKey:
    shop.add_products(1, RECORDS)
    (only,) = shop.plan(shop.begin(), "products")
    return only


def posted(shop: TinyShop) -> int:
    """Batches that Mailchimp has got."""
    return len(shop.sandbox.state.batches.batches)


def executed(shop: TinyShop) -> Counter[str]:
    """Operations that Mailchimp has executed, by method and status."""
    counted: Counter[str] = Counter()
    for name, count in shop.sandbox.state.api.counts.items():
        kind, method, *_, status = name.split()
        if kind == "operation":
            counted[f"{method} {status}"] += count
    return counted


def assert_each_was_sent_once(shop: TinyShop) -> None:
    assert executed(shop) == {"PUT 200": RECORDS}
    assert_all_arrived(shop)


def assert_all_arrived(shop: TinyShop, besides: int = 0) -> None:
    states = Counter(shop.ledger("products").values())
    assert states == Counter(synced=RECORDS - besides) + Counter(rejected=besides)
    assert len(shop.held("products")) == RECORDS - besides
    assert shop.query("SELECT * FROM ledger WHERE batch_ref IS NOT NULL") == []
    assert shop.query("SELECT * FROM batch WHERE state IN ('intended', 'posted')") == []
    assert shop.run("products")["products"]["operations"] == 0


def foreign_batch(shop: TinyShop, operations: int, name: str = "theirs") -> str:
    """A batch of another program in the same account."""
    errands = [{"method": "GET", "path": "/ping", "operation_id": f"{name}-{n}"} for n in range(operations)]
    return shop.client.create_batch(json.dumps(errands).encode()).id


# Found again


@pytest.mark.parametrize("nth", [1, 3, 4])
def test_a_batch_whose_worker_died_after_the_post_is_found_and_nothing_is_sent_twice(
    shop: TinyShop, key: SliceKey, nth: int
) -> None:
    client = shop.new_client()
    client.after_post = die_at(nth)
    with pytest.raises(Died):
        shop.push(key, client).step()
    shop.finish(key)
    assert_each_was_sent_once(shop)


def test_a_batch_whose_reply_was_lost_is_found_and_nothing_is_sent_twice(shop: TinyShop, key: SliceKey) -> None:
    inject(shop.sandbox.state, Fault.REPLY_LOST, at=2)
    with pytest.raises(BatchReplyLost):
        shop.push(key).step()
    shop.finish(key)
    assert_each_was_sent_once(shop)


def test_records_of_orders_that_are_posted_are_not_posted_again(shop: TinyShop) -> None:
    shop.configure(order_upsert="post_patch")
    shop.add_products(1, 15)
    shop.add_customers(1, 15)
    shop.add_orders(1, 15)
    shop.run("products", "customers")
    (orders,) = shop.plan(shop.begin(), "orders")
    inject(shop.sandbox.state, Fault.REPLY_LOST)
    with pytest.raises(BatchReplyLost):
        shop.push(orders).step()
    assert shop.finish(orders)["acknowledged"] == 15
    assert executed(shop)["POST 200"] == 15
    assert executed(shop)["POST 400"] == 0


@pytest.mark.parametrize("fault", [None, Fault.REQUEST_LOST], ids=["the worker died before", "the request was lost"])
def test_a_batch_that_was_never_posted_is_released_and_sent_again(
    shop: TinyShop, key: SliceKey, fault: Fault | None
) -> None:
    foreign_batch(shop, 10)  # of the same size, at the same time
    client = shop.new_client()
    if fault is None:
        client.before_post = die_at(2)
    else:
        inject(shop.sandbox.state, fault, at=2)
    with pytest.raises((Died, BatchReplyLost)):
        shop.push(key, client).step()
    shop.finish(key)
    assert shop.query("SELECT count(*) FROM batch WHERE state = 'lost'") == [{"count": 1}]
    assert executed(shop) == {"PUT 200": RECORDS, "GET 200": 10}
    assert_all_arrived(shop)


def test_two_lost_batches_of_one_size_are_told_apart_by_their_tokens(
    shop: TinyShop, key: SliceKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(shop.sandbox.state, Fault.REPLY_LOST, times=2)
    may_end = threading.Event()
    monkeypatch.setattr(shop.sandbox.state.batches, "_until", lambda *_: may_end.wait(20))
    for _ in range(2):
        with pytest.raises(BatchReplyLost):
            shop.push(key).step()
    assert len(shop.query("SELECT * FROM batch WHERE state = 'intended'")) == 2
    waiting = shop.push(key).step()
    assert isinstance(waiting, Waiting)
    assert len(waiting.batch_ids) == 4
    may_end.set()
    shop.finish(key)
    assert_each_was_sent_once(shop)


def test_a_batch_that_cannot_be_asked_yet_is_waited_for_and_its_records_stay_in_flight(
    shop: TinyShop, key: SliceKey
) -> None:
    shop.configure(max_open_batches=1)
    inject(shop.sandbox.state, Fault.BATCH_NEVER_ENDS)
    theirs = foreign_batch(shop, 10)
    client = shop.new_client()
    client.before_post = die_at(1)
    with pytest.raises(Died):
        shop.push(key, client).step()
    while shop.client.get_batch(theirs).status != "started":
        pass
    assert shop.push(key).step() == Waiting((theirs,))
    assert len(shop.query("SELECT * FROM ledger WHERE batch_ref IS NOT NULL")) == 10
    shop.client.delete_batch(theirs)
    shop.finish(key)
    assert_all_arrived(shop)


def test_nobody_waits_longer_than_the_age_limit_and_other_programs_batches_are_not_touched(
    shop: TinyShop, key: SliceKey
) -> None:
    inject(shop.sandbox.state, Fault.BATCH_NEVER_ENDS)
    theirs = foreign_batch(shop, 10)
    client = shop.new_client()
    client.before_post = die_at(1)
    with pytest.raises(Died):
        shop.push(key, client).step()
    shop.push(key, clock=lambda: LATE).step()
    assert shop.query("SELECT state FROM batch WHERE batch_ref = 1") == [{"state": "lost"}]
    assert theirs in shop.sandbox.state.batches.batches
    shop.finish(key)
    assert_all_arrived(shop)


def test_the_next_run_adopts_what_a_dead_one_posted(shop: TinyShop, key: SliceKey) -> None:
    client = shop.new_client()
    client.after_post = die_at(1)
    with pytest.raises(Died):
        shop.push(key, client).step()
    while recover(shop.state, shop.client, shop.store(), timedelta(hours=6)):
        pass
    assert Counter(shop.ledger("products").values()) == {"synced": 10}
    assert shop.run("products")["products"]["operations"] == RECORDS - 10
    assert_each_was_sent_once(shop)


# Results that can't be had


@pytest.mark.parametrize("fault", [Fault.ARCHIVE_TRUNCATED, Fault.LINK_EXPIRED])
def test_results_that_cannot_be_read_at_once_are_asked_for_again(shop: TinyShop, key: SliceKey, fault: Fault) -> None:
    inject(shop.sandbox.state, fault, times=2)
    shop.finish(key)
    assert shop.sandbox.state.faults.committed == {fault: 2}
    assert_each_was_sent_once(shop)


@pytest.mark.parametrize(
    ("fault", "kind"), [(Fault.ARCHIVE_TRUNCATED, ArchiveTruncated), (Fault.LINK_EXPIRED, ResultLinkExpired)]
)
def test_results_that_can_never_be_read_are_given_up_at_the_age_limit(
    shop: TinyShop, key: SliceKey, fault: Fault, kind: type[Exception]
) -> None:
    waiting = shop.push(key).step()
    assert isinstance(waiting, Waiting)
    shop.wait(waiting)
    inject(shop.sandbox.state, fault, times=1000)
    with pytest.raises(kind):
        shop.push(key).step()
    shop.push(key, clock=lambda: LATE).step()
    assert shop.query("SELECT DISTINCT state FROM batch WHERE settled_at IS NOT NULL") == [{"state": "lost"}]
    heal(shop.sandbox.state)
    shop.finish(key)
    assert_all_arrived(shop)


def test_operations_without_a_result_are_sent_again(shop: TinyShop, key: SliceKey) -> None:
    inject(shop.sandbox.state, Fault.RESULTS_MISSING, at=2)
    assert shop.finish(key)["unknown"] == 0
    assert executed(shop) == {"PUT 200": RECORDS + 2}
    assert_all_arrived(shop)


def test_operations_that_fail_on_the_way_are_sent_again_and_the_others_are_not(shop: TinyShop, key: SliceKey) -> None:
    inject(shop.sandbox.state, Fault.OPERATIONS_FAIL, at=1)
    shop.finish(key)
    assert executed(shop) == {"PUT 200": RECORDS, "PUT 500": 2}
    assert_all_arrived(shop)


# Batches that are gone, or never end


@pytest.mark.parametrize("fault", [Fault.BATCH_DROPPED, Fault.BATCH_VANISHED, Fault.LINK_MISSING])
def test_the_records_of_a_batch_without_results_are_sent_again(shop: TinyShop, key: SliceKey, fault: Fault) -> None:
    inject(shop.sandbox.state, fault, at=3)
    waiting = shop.push(key).step()
    assert isinstance(waiting, Waiting)
    shop.wait(waiting)
    if fault is Fault.LINK_MISSING:
        shop.push(key, clock=lambda: datetime.now(UTC) + timedelta(minutes=6)).step()
    shop.finish(key)
    assert shop.query("SELECT state, operations FROM batch WHERE state = 'lost'") == [
        {"state": "lost", "operations": 10}
    ]
    assert_all_arrived(shop)


def test_a_batch_that_never_ends_is_stopped_at_the_age_limit(shop: TinyShop, key: SliceKey) -> None:
    inject(shop.sandbox.state, Fault.BATCH_NEVER_ENDS, at=2)
    waiting = shop.push(key).step()
    assert isinstance(waiting, Waiting)
    stuck = waiting.batch_ids[1]
    shop.push(key, clock=lambda: LATE).step()
    assert stuck not in shop.sandbox.state.batches.batches
    shop.finish(key)
    assert_all_arrived(shop)


# Refused


def test_one_operation_that_mailchimp_cannot_read_becomes_one_rejected_record(shop: TinyShop, key: SliceKey) -> None:
    inject(shop.sandbox.state, Fault.BATCH_REFUSED, at=2, seed=5)
    counts = shop.finish(key)
    assert (counts["acknowledged"], counts["rejected"], counts["unknown"]) == (RECORDS - 1, 1, 0)
    (rejected,) = shop.query("SELECT error_class, title, detail, operation FROM rejected_records")
    assert (rejected["error_class"], rejected["title"], rejected["operation"]) == ("invalid", "Invalid Resource", "PUT")
    assert "Schema describes object, array found instead" in rejected["detail"]
    assert executed(shop)["PUT 200"] == RECORDS - 1
    assert_all_arrived(shop, besides=1)


def test_dividing_a_batch_takes_few_posts(shop: TinyShop) -> None:
    shop.configure(batch_operations=64, max_open_batches=20)
    shop.add_products(1, 64)
    (key,) = shop.plan(shop.begin(), "products")
    inject(shop.sandbox.state, Fault.BATCH_REFUSED, seed=1)
    shop.finish(key)
    posts = sum(count for name, count in shop.sandbox.state.api.counts.items() if name.startswith("POST /batches "))
    assert posts <= 1 + 2 * 6 + 1  # the whole, both halves at each of log2 64 levels, and the errand at most
    assert Counter(shop.ledger("products").values()) == {"synced": 63, "rejected": 1}


def test_dividing_a_batch_keeps_to_the_limit_of_open_batches(shop: TinyShop, key: SliceKey) -> None:
    shop.configure(max_open_batches=1)
    shop.sandbox.state.batches._seconds = 0.2  # longer than it takes to post the next
    open_at_once: list[int] = []

    def look(method: str, path: str) -> None:
        if (method, path) == ("POST", "/batches"):
            open_at_once.append(len(shop.sandbox.state.batches.unfinished()))

    shop.sandbox.state.fault = look
    inject(shop.sandbox.state, Fault.BATCH_REFUSED, at=2)
    shop.finish(key)
    assert max(open_at_once) <= 1
    assert_all_arrived(shop, besides=1)


def test_a_refusal_whatever_the_batch_holds_stops_the_run_and_rejects_nothing(shop: TinyShop, key: SliceKey) -> None:
    inject(shop.sandbox.state, Fault.BATCHES_REFUSED, times=1000)
    with pytest.raises(BatchRefused, match=r"even one without any record.*not available"):
        shop.push(key).step()
    assert shop.query("SELECT * FROM rejected_records") == []
    assert shop.query("SELECT * FROM ledger WHERE batch_ref IS NOT NULL OR state <> 'pending'") == []
    heal(shop.sandbox.state)
    shop.finish(key)
    assert_each_was_sent_once(shop)


def test_a_refusal_of_record_after_record_with_the_same_words_stops_the_run_and_rejects_nothing(
    shop: TinyShop, key: SliceKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.configure(batch_operations=30)

    def refuse_products(operations: Sequence[Operation]) -> None:
        for number, operation in enumerate(operations):
            if "/products/" in operation.path:
                raise invalid_fields(FieldError(f"operations.item:{number}.body", "Schema describes nothing we know"))

    with monkeypatch.context() as patch:
        patch.setattr(shop.sandbox.state.faults, "_refuse", refuse_products)
        with pytest.raises(BatchRefused, match="one of the products after the other"):
            shop.push(key).step()
    assert shop.query("SELECT * FROM rejected_records") == []
    assert shop.query("SELECT * FROM ledger WHERE batch_ref IS NOT NULL OR state <> 'pending'") == []
    shop.finish(key)
    assert executed(shop) == {"PUT 200": RECORDS, "GET 200": 1}  # the errand
    assert_all_arrived(shop)


def test_a_worker_that_dies_while_it_divides_a_batch_loses_nothing(shop: TinyShop, key: SliceKey) -> None:
    inject(shop.sandbox.state, Fault.BATCH_REFUSED, at=1)
    client = shop.new_client()
    client.before_post = die_at(4)
    with pytest.raises(Died):
        shop.push(key, client).step()
    shop.finish(key)
    assert_all_arrived(shop, besides=1)


# No room


def test_an_account_with_500_pending_batches_is_waited_for(shop: TinyShop, key: SliceKey) -> None:
    inject(shop.sandbox.state, Fault.BATCH_NEVER_ENDS)
    theirs = foreign_batch(shop, 3)
    inject(shop.sandbox.state, Fault.TOO_MANY_PENDING, times=1000)
    assert shop.push(key).step() == Waiting((theirs,))
    assert shop.query("SELECT * FROM ledger WHERE batch_ref IS NOT NULL") == []
    shop.client.delete_batch(theirs)
    assert shop.push(key).step() == Waiting(())
    heal(shop.sandbox.state)
    shop.finish(key)
    assert executed(shop)["PUT 200"] == RECORDS
    assert_all_arrived(shop)


def test_an_account_that_has_no_room_for_longer_than_a_batch_may_take_fails_the_task(
    shop: TinyShop, key: SliceKey
) -> None:
    inject(shop.sandbox.state, Fault.TOO_MANY_PENDING, times=1000)
    assert shop.push(key).step() == Waiting(())
    with pytest.raises(TooManyPendingBatches):
        shop.push(key, clock=lambda: LATE).step()
    heal(shop.sandbox.state)
    shop.finish(key)
    assert_each_was_sent_once(shop)


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.PAGE_403, Fault.PAGE_503])
def test_a_throttled_run_gets_through_and_its_waits_are_in_the_runs_counters(
    shop: TinyShop, key: SliceKey, fault: Fault
) -> None:
    inject(shop.sandbox.state, fault, at=2, times=2)
    shop.finish(key)
    assert shop.sandbox.state.faults.committed == {fault: 2}
    (run,) = shop.query("SELECT wait_seconds, http_calls FROM run WHERE run_ref = 1")
    assert run["wait_seconds"] > 0
    assert_each_was_sent_once(shop)
    assert shop.query("SELECT slow_until > now() AS is_slow FROM store") == [{"is_slow": True}]


def test_an_operation_id_is_used_once(shop: TinyShop, key: SliceKey) -> None:
    inject(shop.sandbox.state, Fault.RESULTS_MISSING)
    inject(shop.sandbox.state, Fault.BATCH_REFUSED, at=2)
    shop.finish(key)
    tokens = shop.query("SELECT token FROM batch")
    assert len({row["token"] for row in tokens}) == len(tokens)
    assert posted(shop) >= 5
