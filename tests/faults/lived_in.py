"""A small shop whose store at Mailchimp has a long past: what runs cost there, and what they find to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Engine

from include.embedded_postgres import EmbeddedPostgres
from include.extract.slices import Extractor
from include.load.phases import PHASES, REMOVALS
from include.load.plan import plan_phase
from include.load.runs import Mode
from include.sandbox.server import SandboxServer
from include.state.database import SliceKey, StateDatabase
from tests.conftest import fresh_database
from tests.faults.large_state import age
from tests.pipeline import Pipeline, Ran

PRODUCTS = range(1, 21)
CUSTOMERS = range(1, 31)
ORDERS = range(1, 101)
CARTS = range(1, 11)
COUPONS = range(1, 6)
VIPS = "SELECT customer_id FROM customers WHERE last_name = 'Vip'"


class LivedIn(Pipeline):
    """A pipeline that knows the moment before which its past lies, and how many rows each state table has.

    The state tables are reached by an engine of their own, so that their statements can be told from the shop's.
    """

    sizes: dict[str, int]
    began: datetime
    state_engine: Engine

    def full_sync_without_removals(self) -> Ran:
        """A full sync in all but its last phase: that would find the whole past gone from the shop."""
        run, store = self.begin(mode=Mode.FULL)
        for phase in PHASES.values():
            if phase.name == REMOVALS:
                continue
            with self.engine.connect() as connection:
                planned = plan_phase(self.state, Extractor(connection, self.profile), run, phase, self.settings)
            for part in planned:
                self.finish(SliceKey(run.run_ref, part.entity, part.number), store, removes=phase.removes)
        return self.conclude(run)


@contextmanager
def lived_in(postgres: EmbeddedPostgres, template: str, rows: int) -> Iterator[LivedIn]:
    """A shop of 100 orders whose ledger has so many rows more."""
    with SandboxServer.start(seed=1, batch_seconds=0) as sandbox, fresh_database(postgres, template) as engine:
        shop = LivedIn(engine, sandbox)
        shop.state_engine = postgres.engine(str(engine.url.database))
        shop.state = StateDatabase(shop.state_engine, shop.state.schema)
        shop.configure(tags={"VIP": VIPS}, batch_operations=50)
        try:
            _stock(shop)
            assert shop.full_sync().failure is None
            shop.sizes = age(engine, 1, rows)
            shop.began = datetime.now(UTC)
            yield shop
        finally:
            shop.state_engine.dispose()


def _stock(shop: LivedIn) -> None:
    for product in PRODUCTS:
        shop.add_product(product, variants=2)
    for customer in CUSTOMERS:
        shop.add_customer(customer, opted_in=customer % 3 > 0 or None, last_name="Vip" if customer % 4 else "L")
    for order in ORDERS:
        shop.add_order(order, 1 + order % len(CUSTOMERS), 1 + order % len(PRODUCTS), 1 + (order + 1) % len(PRODUCTS))
    for cart in CARTS:
        shop.add_cart(cart, cart, cart)
    for coupon in COUPONS:
        shop.sql(
            "INSERT INTO coupons (coupon_id, description, type, amount) VALUES (:id, 'Less', 'fixed', 5)", id=coupon
        )
        shop.sql("INSERT INTO coupon_codes (coupon_id, code) VALUES (:id, :code)", id=coupon, code=f"LESS{coupon}")
