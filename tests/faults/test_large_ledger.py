"""With two million records in the ledger, and all that comes with them, a run costs what it has to look at.

Every statement on the state tables is explained with its real parameters: none reads a large table from end to end, and
none looks at many more rows than it was asked about. The exceptions are listed with their reasons.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import pytest

from include.embedded_postgres import EmbeddedPostgres
from include.extract.slices import Extractor
from include.load import replay
from include.load.phases import PHASES
from include.load.plan import plan_phase
from include.load.replay import Selection
from include.sandbox.faults import Fault, heal, inject
from include.state import ledger
from include.state.database import SliceKey
from include.state.teardown import running_runs
from tests.faults.explained import Explained, explained
from tests.faults.lived_in import LivedIn, lived_in
from tests.pipeline import Died

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RECORDS = 2_000_000
LARGE = 10_000
"""Rows of a table that must not be read from end to end."""
FEW = 5_000
"""Rows that any statement may look at; and three more for each record it is asked about."""

#: Statements that are meant to look at many rows, by a part of their text.
READ_MUCH: Final = {
    "record_id > %(after)s OFFSET 0": "rejected records of which the shop may have lost the rows, a page at a time",
    "SELECT count(*) FROM ledger": "the brake: what share of an entity is to be deleted, if it is more than 10 records",
    "record_id > %(after)s AND (on_mailchimp": "what a full sync compares with the shop to find deletions, by pages",
    "count(*), min(x.first_seen_at)": "how many rejected records a replay would send, shown in its form",
    "INSERT INTO replay": "a replay of all rejected records looks at all of them",
}


@pytest.fixture(scope="module")
def large(postgres: EmbeddedPostgres, reference_shop: str) -> Iterator[LivedIn]:
    with lived_in(postgres, reference_shop, RECORDS) as shop:
        yield shop


@pytest.fixture(scope="module")
def small(postgres: EmbeddedPostgres, reference_shop: str) -> Iterator[LivedIn]:
    with lived_in(postgres, reference_shop, RECORDS // 1000) as shop:
        yield shop


def reads_much(one: Explained) -> bool:
    return any(part in one.statement for part in READ_MUCH)


def wasteful(executed: Sequence[Explained], sizes: dict[str, int]) -> list[str]:
    """Say which statements read a large table from end to end, or many more rows than they were asked about."""
    return sorted(
        {
            f"{scan.kind} of {scan.table}, {scan.rows:,.0f} rows for {one.asked}: {one.statement[:300]}"
            for one in executed
            for scan in one.scans
            if sizes.get(scan.table, 0) > LARGE and not reads_much(one)
            if scan.kind == "Seq Scan" or scan.rows > FEW + 3 * one.asked
        }
    )


def unchanged_window(shop: LivedIn) -> list[Explained]:
    """A run over 100 orders of which each is as Mailchimp has it."""
    shop.sql("UPDATE orders SET status = 'shipped'")
    shop.push(since=shop.began)
    with explained(shop.state_engine) as executed:
        ran = shop.push(since=shop.began)
    assert (ran["orders"].extracted, ran["orders"].unchanged, ran.operations) == (100, 100, 0)
    return executed


def test_a_run_over_an_unchanged_window_costs_what_the_window_costs_not_what_the_ledger_holds(
    small: LivedIn, large: LivedIn
) -> None:
    few, many = unchanged_window(small), unchanged_window(large)

    assert len(many) == len(few)
    pages = [sum(one.buffers for one in executed if not reads_much(one)) for executed in (few, many)]
    print(f"{len(many)} statements; pages with {small.sizes['ledger']:,} records: {pages[0]:,},", end=" ")
    print(f"with {large.sizes['ledger']:,}: {pages[1]:,}")
    assert pages[1] < 2 * pages[0]
    assert wasteful(many, large.sizes) == []


@pytest.mark.parametrize("view", ["sync_status", "runs", "batches", "rejected_records", "drift"])
def test_the_views_for_people_read_everything_and_take_less_than_two_seconds(large: LivedIn, view: str) -> None:
    took: list[float] = []
    while len(took) < 3 or (min(took) >= 2 and len(took) < 10):  # the best: the machine may be doing something else
        began = time.perf_counter()
        rows = large.sql(f"SELECT * FROM mailchimp.{view}")
        took.append(time.perf_counter() - began)
    print(f"{view}: {len(rows):,} rows in {min(took):.2f} s")
    assert min(took) < 2


def delete_orders(shop: LivedIn, first: int, last: int) -> None:
    for table in ("order_lines", "orders"):
        shop.sql(f"DELETE FROM {table} WHERE order_id BETWEEN :first AND :last", first=first, last=last)


def change_a_little_of_everything(shop: LivedIn) -> None:
    shop.sql("UPDATE products SET title = title || '!' WHERE product_id < 5")
    shop.sql("DELETE FROM variants WHERE variant_id IN (11, 21)")
    shop.sql("UPDATE customers SET email = 'new-' || email, last_name = 'L' WHERE customer_id < 5")
    shop.add_customer(101, "c6@mail.little.shop")  # another account of customer 6
    shop.consent(7, opted_in=False)
    shop.sql("UPDATE orders SET order_total = 5 WHERE order_id < 3")  # doesn't add up
    shop.sql("DELETE FROM order_lines WHERE order_id = 3 AND line_id = 301")
    shop.sql("UPDATE orders SET order_total = 10 WHERE order_id = 3")
    shop.add_order(101, 3, 1, 20, campaign_id="unknown to Mailchimp")
    shop.add_order(102, 5, 5, cart_id=5)
    shop.sql("UPDATE carts SET is_open = false WHERE cart_id IN (5, 6)")
    shop.sql("UPDATE coupons SET amount = 6 WHERE coupon_id = 1")
    delete_orders(shop, 99, 99)


def push_of_changes(shop: LivedIn) -> None:
    change_a_little_of_everything(shop)
    assert shop.push().operations > 10


def push_after_a_crash(shop: LivedIn) -> None:
    shop.sql("UPDATE orders SET tracking_number = 'a' WHERE order_id > 20")
    steps = iter(range(100))

    def dies() -> None:
        if next(steps) == 1:
            raise Died

    with pytest.raises(Died):
        shop.push(entities=("orders",), dies=dies)
    assert shop.push().failure is None


def pushes_with_trouble(shop: LivedIn) -> None:
    for number, fault in enumerate((
        Fault.REPLY_LOST, Fault.REQUEST_LOST, Fault.BATCH_REFUSED, Fault.TOO_MANY_PENDING, Fault.BATCH_VANISHED,
        Fault.RESULTS_MISSING, Fault.OPERATIONS_FAIL,
    )):  # fmt: skip
        shop.sql("UPDATE orders SET tracking_number = :number WHERE order_id > 20", number=f"b{number}")
        inject(shop.sandbox.state, fault)
        for _ in range(2):
            try:
                shop.push(entities=("orders",))
            except Exception as error:
                print(f"{fault}: {type(error).__name__}")
        heal(shop.sandbox.state)
        assert shop.sandbox.state.faults.committed[fault]


def full_sync(shop: LivedIn) -> None:
    shop.sql("UPDATE orders SET tracking_number = 'c' WHERE order_id > 50")
    assert shop.full_sync_without_removals().operations > 10


def removal_of_what_is_gone(shop: LivedIn) -> None:
    delete_orders(shop, 60, 75)
    shop.sql("UPDATE customers SET deleted_at = now() WHERE customer_id > 25")
    assert shop.push(allow_deletes=True)["orders"].deleted == 16


def looking_for_deletions(shop: LivedIn) -> None:
    with shop.state.begin() as connection:
        assert len(ledger.held_records(connection, 1, "orders", "", 10_000)) == 10_000


def replay_of_rejected_records(shop: LivedIn) -> None:
    chosen = Selection(entities=("orders",))
    replay.count(shop.state, 1, chosen)
    request = replay.request_for("replay", "unused", ("orders",))
    run, store = shop.begin(mode=request.mode, entities=request.entities, kind=request.kind)
    assert replay.select(shop.state, store, run, replay.Selection(ids=("1", "2"))) > 0
    for phase in PHASES.values():
        with shop.engine.connect() as connection:
            planned = plan_phase(shop.state, Extractor(connection, shop.profile), run, phase, shop.settings)
        for part in planned:
            shop.finish(SliceKey(run.run_ref, part.entity, part.number), store, removes=phase.removes)
    shop.conclude(run)
    replay.outcome(shop.state, run)


def look_at_runs(shop: LivedIn) -> None:
    with shop.state.begin() as connection:
        running_runs(connection, 1)


@pytest.mark.parametrize(
    "work",
    [
        push_of_changes,
        push_after_a_crash,
        pushes_with_trouble,
        removal_of_what_is_gone,
        looking_for_deletions,
        replay_of_rejected_records,
        look_at_runs,
        full_sync,  # last: it lets go of all rejected records whose rows are gone
    ],
    ids=lambda work: work.__name__,
)
def test_no_statement_reads_a_large_table_from_end_to_end(large: LivedIn, work: Callable[[LivedIn], None]) -> None:
    with explained(large.state_engine) as executed:
        work(large)
    assert executed
    assert wasteful(executed, large.sizes) == []
