"""A shop in business, its Mailchimp, and the workers between them: things change while they run, and go wrong.

Everything is drawn from one seed: what changes in the shop and when, which faults Mailchimp commits, which runs there
are and at which point a worker is killed. Nothing depends on time: Mailchimp has worked off what it can before it
answers the next call, and a batch that never ends is given up when "a day has passed".
"""

from __future__ import annotations

import io
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from random import Random
from typing import Any

from include.mailchimp.archive import read_results
from include.mailchimp.errors import ArchiveTruncated
from include.sandbox.api import Reply
from include.sandbox.audiences import set_status, subscriber_hash
from include.sandbox.faults import DOWNLOAD_FAULTS
from include.sandbox.server import SandboxServer
from tests.consent.firewall import Account, Scene, violations
from tests.faults.errand import WORKER, Errand, Outcome, work
from tests.pipeline import SETTINGS, Pipeline

LIST = SETTINGS["list_id"]
PRODUCTS = range(1, 25)
CUSTOMERS = range(1, 41)
ORDERS = range(1, 61)
CARTS = range(1, 13)
COUPONS = range(1, 7)
DAY = timedelta(days=1, hours=1)

_PATIENCE_SECONDS = 60
_ACCOUNTS = """
    SELECT customer_id, email, is_guest, deleted_at IS NOT NULL, updated_at, answer.opted_in, answer.recorded_at
    FROM customers LEFT JOIN LATERAL (
        SELECT opted_in, recorded_at FROM newsletter_consents
        WHERE newsletter_consents.customer_id = customers.customer_id ORDER BY consent_id DESC LIMIT 1
    ) AS answer ON true ORDER BY 1
"""

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([work.__module__])


def stock(shop: Pipeline) -> None:
    """Open the shop: two hundred records of all entities."""
    chance = Random("the shop")
    for product in PRODUCTS:
        shop.add_product(product, variants=1 + product % 2)
    for customer in CUSTOMERS:
        shop.add_customer(customer, opted_in=chance.choice((True, True, False, None)), last_name=f"L{customer}")
    for order in ORDERS:
        shop.add_order(order, chance.choice(CUSTOMERS), *chance.sample(PRODUCTS, chance.randint(1, 3)))
    for cart in CARTS:
        shop.add_cart(cart, chance.choice(CUSTOMERS), *chance.sample(PRODUCTS, 2))
    for coupon in COUPONS:
        add_coupon(shop, coupon)


def add_coupon(shop: Pipeline, coupon: int) -> None:
    shop.sql("INSERT INTO coupons (coupon_id, description, type, amount) VALUES (:id, 'Less', 'fixed', 5)", id=coupon)
    shop.sql("INSERT INTO coupon_codes (coupon_id, code) VALUES (:id, :code)", id=coupon, code=f"LESS{coupon}")


class Business:
    """What happens in the shop, drawn at random; ids are counted on, so that the same seed does the same.

    Attributes:
        left: customers who unsubscribed at Mailchimp themselves.
        touched: orders that are new since the shop opened, or have changed: Mailchimp may send mails about them.
    """

    def __init__(self, shop: Pipeline, sandbox: SandboxServer, chance: Random) -> None:
        self._shop = shop
        self._sandbox = sandbox
        self._chance = chance
        self._next = Counter(products=100, customers=100, orders=100, carts=100, coupons=100)
        self._orders, self._products = list(ORDERS), list(PRODUCTS)
        self._carts, self._customers = list(CARTS), list(CUSTOMERS)
        self.left: set[int] = set()
        self.touched: set[str] = set()

    def goods(self) -> None:
        """One change that doesn't concern people: at any time."""
        deed: Callable[[], None] = self._chance.choice((
            self._order, self._order, self._order_cart, self._ship, self._ship, self._drop_line, self._rename_product,
            self._new_product, self._fill_cart, self._new_cart, self._coupon, self._delete_order, self._delete_product,
        ))  # fmt: skip
        deed()

    def people(self) -> None:
        """One change of a person: between runs, because who watches consent has to know what a run found."""
        deed: Callable[[], None] = self._chance.choice(
            (self._join, self._join, self._opt_in, self._opt_out, self._move, self._leave_at_mailchimp, self._rename)
        )
        deed()

    def _new(self, kind: str) -> int:
        self._next[kind] += 1
        return self._next[kind]

    def _order(self) -> None:
        order = self._new("orders")
        products = self._chance.sample(self._products, self._chance.randint(1, 3))
        self._shop.add_order(order, self._chance.choice(self._customers), *products)
        self._orders.append(order)
        self.touched.add(str(order))

    def _order_cart(self) -> None:
        if not self._carts:
            return
        cart = self._carts.pop(self._chance.randrange(len(self._carts)))
        self._shop.sql("UPDATE carts SET is_open = false WHERE cart_id = :id", id=cart)
        order = self._new("orders")
        self._shop.add_order(
            order, self._chance.choice(self._customers), self._chance.choice(self._products), cart_id=cart
        )
        self._orders.append(order)
        self.touched.add(str(order))

    def _ship(self) -> None:
        order = self._chance.choice(self._orders)
        steps = "CASE status WHEN 'paid' THEN 'shipped' WHEN 'shipped' THEN 'refunded' ELSE status END"
        self._shop.sql(f"UPDATE orders SET status = {steps} WHERE order_id = :id", id=order)
        self.touched.add(str(order))

    def _drop_line(self) -> None:
        order = self._chance.choice(self._orders)
        lines = self._shop.sql("SELECT line_id FROM order_lines WHERE order_id = :id ORDER BY 1", id=order)
        if len(lines) > 1:
            self.touched.add(str(order))
            with self._shop.engine.begin() as connection:
                connection.exec_driver_sql(f"DELETE FROM order_lines WHERE line_id = {lines[0][0]}")
                connection.exec_driver_sql(f"UPDATE orders SET order_total = order_total - 10 WHERE order_id = {order}")

    def _rename_product(self) -> None:
        product = self._chance.choice(self._products)
        self._shop.sql("UPDATE products SET title = title || '!' WHERE product_id = :id", id=product)

    def _new_product(self) -> None:
        product = self._new("products")
        self._shop.add_product(product, variants=2)
        self._products.append(product)
        order = self._new("orders")
        self._shop.add_order(order, self._chance.choice(self._customers), product)
        self._orders.append(order)
        self.touched.add(str(order))

    def _new_cart(self) -> None:
        cart = self._new("carts")
        self._shop.add_cart(cart, self._chance.choice(self._customers), *self._chance.sample(self._products, 2))
        self._carts.append(cart)

    def _fill_cart(self) -> None:
        if self._carts:
            cart, product = self._chance.choice(self._carts), self._chance.choice(self._products)
            self._shop.sql(
                "INSERT INTO cart_lines (cart_id, line_id, product_id, variant_id, quantity, price) "
                "SELECT :cart, 1 + max(line_id), :product, :variant, 1, 10 FROM cart_lines WHERE cart_id = :cart",
                cart=cart, product=product, variant=10 * product,
            )  # fmt: skip
            self._shop.sql("UPDATE carts SET order_total = order_total + 10 WHERE cart_id = :id", id=cart)

    def _coupon(self) -> None:
        if self._chance.random() < 0.5:
            add_coupon(self._shop, self._new("coupons"))
        else:
            coupon = self._chance.choice(COUPONS)
            self._shop.sql("UPDATE coupons SET amount = amount + 1 WHERE coupon_id = :id", id=coupon)

    def _delete_order(self) -> None:
        order = self._orders.pop(self._chance.randrange(len(self._orders)))
        with self._shop.engine.begin() as connection:
            for table in ("order_lines", "orders"):
                connection.exec_driver_sql(f"DELETE FROM {table} WHERE order_id = {order}")

    def _delete_product(self) -> None:
        if len(self._products) > 15:
            product = self._products.pop(self._chance.randrange(len(self._products)))
            self._shop.sql("UPDATE products SET deleted_at = clock_timestamp() WHERE product_id = :id", id=product)

    def _join(self) -> None:
        customer = self._new("customers")
        self._shop.add_customer(customer, opted_in=self._chance.choice((True, False, None)))
        self._customers.append(customer)

    def _opt_in(self) -> None:
        self._shop.consent(self._chance.choice(self._customers), opted_in=True)

    def _opt_out(self) -> None:
        self._shop.consent(self._chance.choice(self._customers), opted_in=False)

    def _rename(self) -> None:
        customer = self._chance.choice(self._customers)
        self._shop.sql("UPDATE customers SET first_name = first_name || 'a' WHERE customer_id = :id", id=customer)

    def _move(self) -> None:
        customer = self._chance.choice(self._customers)
        self._shop.sql("UPDATE customers SET email = 'new.' || email WHERE customer_id = :id", id=customer)

    def _leave_at_mailchimp(self) -> None:
        customer = self._chance.choice(self._customers)
        email = self._shop.sql("SELECT email FROM customers WHERE customer_id = :id", id=customer)[0][0]
        account = self._sandbox.state.account
        with account.lock:
            if subscriber_hash(email) in account.audience_for(LIST).members:
                set_status(account, LIST, email, "unsubscribed", by_contact=True)
                self.left.add(customer)


class Mailchimp:
    """Stands at the sandbox's door: before each call is answered, all that can be worked off is.

    Args:
        sandbox: its `fault` is set; nothing is refused here.
    """

    def __init__(self, sandbox: SandboxServer) -> None:
        self.sandbox = sandbox
        self.calls = 0
        self._events: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        sandbox.state.fault = self._before
        self._count_downloads()

    @contextmanager
    def expecting(self, events: Iterable[tuple[int, Callable[[], None]]]) -> Iterator[None]:
        """Let things happen at calls with these numbers, counted from now on, and at last what no call came for."""
        self.calls, self._events = 0, dict(events)
        yield
        while self._events:
            self._events.pop(min(self._events))()
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        """Wait until all batches are worked off, except those that never end."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while any(not batch.stuck for batch in self.sandbox.state.batches.unfinished()):
            if time.monotonic() > deadline:
                raise TimeoutError("a batch does not end")
            time.sleep(0.0005)

    def let_a_day_pass(self) -> None:
        """Make everything at Mailchimp a day older."""
        for batch in list(self.sandbox.state.batches.batches.values()):
            batch.submitted_at = _earlier(batch.submitted_at)
            batch.completed_at = _earlier(batch.completed_at)

    def _before(self, _method: str, _path: str) -> Reply | None:
        with self._lock:
            self.finish()
            self.calls += 1
            happens = self._events.pop(self.calls, None)
            if happens is not None:
                try:
                    happens()
                except BaseException as error:
                    self._failure = error
        return None

    def _count_downloads(self) -> None:
        """Count the operations in archives that can't be read, as the sandbox does for batches."""
        faults = self.sandbox.state.faults
        download = faults.on_download

        def counted(archive: bytes) -> bytes | None:
            before = {fault: faults.committed[fault] for fault in DOWNLOAD_FAULTS}
            served = download(archive)
            for fault in DOWNLOAD_FAULTS:
                if faults.committed[fault] > before[fault]:
                    with suppress(ArchiveTruncated):
                        faults.affected[fault] += sum(1 for _ in read_results(io.BytesIO(archive)))
            return served

        faults.on_download = counted  # type: ignore[method-assign]


def _earlier(moment: str) -> str:
    return (datetime.fromisoformat(moment) - DAY).isoformat(timespec="seconds") if moment else moment


class Town:
    """One seed's shop, Mailchimp and workers.

    Attributes:
        kills: how many workers were killed.
        in_flight: operations without an outcome at these moments.
    """

    def __init__(self, shop: Pipeline, uri: str, seed: int) -> None:
        self.shop = shop
        self.chance = Random(f"town {seed}")
        self.mailchimp = Mailchimp(shop.sandbox)
        self.business = Business(shop, shop.sandbox, self.chance)
        self.kills = 0
        self.in_flight = 0
        self._uri = uri
        self._runs = 0

    def run(
        self, *, changes: int = 0, again: bool = False, dies_at: int | None = None, **errand: Any
    ) -> Outcome | None:
        """Let a worker do a run while the shop goes on; None when it was killed.

        Args:
            changes: of the shop, at random calls of the run.
            again: the run before is cleared and so runs once more.
            dies_at: the point at which it is killed.
            errand: the run (see `Errand`).
        """
        self._runs += 0 if again and self._runs else 1
        told = Errand(
            f"run {self._runs}",
            self._uri,
            self.shop.sandbox.url,
            self.shop.sandbox.api_key,
            self.shop.settings,
            dies_at=dies_at,
            **errand,
        )
        scene, seen = self._scene(), len(self._changes())
        moments = sorted(self.chance.sample(range(1, 16), changes))
        with self.mailchimp.expecting((moment, self.business.goods) for moment in moments):
            outcome = self._employ(told)
            self.mailchimp.finish()
        assert list(violations(self._changes()[seen:], scene)) == []
        if outcome is None:
            self.kills += 1
            [(in_flight,)] = self.shop.sql(
                "SELECT coalesce(sum(operations), 0) FROM mailchimp.batch WHERE state IN ('intended', 'posted')"
            )
            self.in_flight += int(in_flight)
        return outcome

    def _employ(self, errand: Errand) -> Outcome | None:
        here, there = _PROCESSES.Pipe(duplex=False)
        worker = _PROCESSES.Process(target=work, args=(errand, there), daemon=True)
        worker.start()
        there.close()
        try:
            outcome: Outcome | None = here.recv() if here.poll(_PATIENCE_SECONDS) else None
        except EOFError:
            outcome = None
        finally:
            here.close()
        worker.join(_PATIENCE_SECONDS)
        code = worker.exitcode
        worker.kill()
        worker.join()
        worker.close()
        killed = outcome is None and code == -9 and errand.dies_at is not None
        assert killed or (outcome is not None and code == 0), f"the worker ended by itself: exit code {code}"
        self._until_its_sessions_end()
        return outcome

    def _until_its_sessions_end(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.shop.sql(
            "SELECT FROM pg_stat_activity WHERE application_name = :name AND datname = current_database()", name=WORKER
        ):
            assert time.monotonic() < deadline, "sessions of a worker stay"
            time.sleep(0.001)

    def let_a_day_pass(self) -> None:
        """Make all that has been sent, and the runs that sent it, a day older, here and at Mailchimp."""
        self.mailchimp.let_a_day_pass()
        self.shop.sql(
            "UPDATE mailchimp.batch SET created_at = created_at - CAST(:day AS interval), "
            "posted_at = posted_at - CAST(:day AS interval)",
            day=DAY,
        )
        self.shop.sql("UPDATE mailchimp.run SET started_at = started_at - CAST(:day AS interval)", day=DAY)

    def _changes(self) -> list[Any]:
        return self.shop.sandbox.state.account.status_changes

    def _scene(self) -> Scene:
        account = self.shop.sandbox.state.account
        with account.lock:
            members = account.audience_for(LIST).members
            statuses = {member_id: str((members.get(member_id) or {})["status"]) for member_id in members}
        return Scene(self.accounts(), statuses, {}, {}, self.shop.settings, double_optin=False)

    def accounts(self) -> list[Account]:
        return [Account(*row) for row in self.shop.sql(_ACCOUNTS)]

    def statuses(self) -> dict[str, str]:
        return dict(self._scene().statuses)
