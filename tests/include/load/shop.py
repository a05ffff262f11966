"""A tiny shop, a sandbox store to push it into, and pushes that can be made to die at chosen points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from sqlalchemy import Engine, text

from include.config.stores import StoreSettings
from include.extract.slices import Extractor, Window
from include.load.push import SlicePush
from include.load.slice_step import Done, Waiting
from include.mailchimp.batches import BatchStatus
from include.mailchimp.client import MailchimpClient
from include.sandbox.server import SandboxServer
from include.shops.profile import CheckedProfile, OrderStatus, Profile, check_profile
from include.state.database import SliceKey, StateDatabase
from include.state.ledger import leftovers
from include.state.runs import Run, start_run
from include.state.slices import save_slices
from include.state.stores import StoreRef, register_store
from include.transform.entities import ENTITIES
from include.transform.records import BuildContext
from tests.pipeline import QUICK, Died, wait_for_batches

TABLES = """
CREATE TABLE shop_products (id bigint PRIMARY KEY, title text, updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE shop_customers (id bigint PRIMARY KEY, email text, first_name text,
                             updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE shop_orders (id bigint PRIMARY KEY, customer_id bigint, total numeric NOT NULL, product_id bigint,
                          updated_at timestamptz NOT NULL DEFAULT now());
"""

SQL = {
    "store": "SELECT 'Tiny shop' AS name, 'EUR' AS currency_code",
    "products": "SELECT id AS product_id, updated_at, title FROM shop_products",
    "variants": "SELECT id AS product_id, id AS variant_id, title, 9.50::numeric AS price FROM shop_products",
    "customers": "SELECT id AS customer_id, updated_at, email, first_name FROM shop_customers",
    "orders": """SELECT id AS order_id, updated_at, customer_id, updated_at AS placed_at, 'EUR' AS currency_code,
                        total AS order_total, 'paid' AS status FROM shop_orders""",
    "order_lines": """SELECT id AS order_id, id AS line_id, product_id, product_id AS variant_id, 1 AS quantity,
                             total AS price FROM shop_orders""",
}
PROFILE = Profile("tiny", None, {"paid": OrderStatus("paid", None, completed=True)}, SQL)
SETTINGS: dict[str, Any] = {
    "key": "demo",
    "store_id": "demo-shop",
    "list_id": "a1b2c3d4e5",
    "profile": "tiny",
    "batch_operations": 10,
}


class MortalClient(MailchimpClient):
    """The real client; `before_post` and `after_post` may raise, as if the worker died there."""

    before_post: Callable[[], None] | None = None
    after_post: Callable[[], None] | None = None

    def create_batch(self, operations: bytes) -> BatchStatus:
        if self.before_post:
            self.before_post()
        status = super().create_batch(operations)
        if self.after_post:
            self.after_post()
        return status


def die_at(nth: int) -> Callable[[], None]:
    """What dies when it is called for the n-th time."""
    calls = 0

    def die() -> None:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise Died

    return die


@dataclass
class TinyShop:
    """The shop's database with its state tables, and a store in a sandbox."""

    engine: Engine
    state: StateDatabase
    sandbox: SandboxServer
    profile: CheckedProfile = field(init=False)
    settings: StoreSettings = field(default_factory=lambda: StoreSettings(**SETTINGS))
    runs: int = 0

    def __post_init__(self) -> None:
        self.execute(TABLES)
        with self.engine.connect() as connection:
            self.profile = check_profile(PROFILE, connection)
        self.client = self.new_client()
        self.client.post(
            "/ecommerce/stores",
            json={"id": "demo-shop", "list_id": "a1b2c3d4e5", "name": "Tiny", "currency_code": "EUR"},
        )

    def new_client(self) -> MortalClient:
        session = requests.Session()
        session.auth = ("any", self.sandbox.api_key)
        return MortalClient(session, self.sandbox.url, retry=QUICK)

    def configure(self, **settings: Any) -> None:
        self.settings = StoreSettings(**SETTINGS | settings)

    def execute(self, sql: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(sql), values)

    def query(self, sql: str) -> list[dict[str, Any]]:
        with self.state.begin() as connection:
            return [dict(row) for row in connection.execute(text(sql)).mappings()]

    def add_products(self, first: int, last: int) -> None:
        self.execute(
            "INSERT INTO shop_products SELECT n, 'Product ' || n FROM generate_series(:a, :b) n", a=first, b=last
        )

    def add_customers(self, first: int, last: int) -> None:
        self.execute(
            "INSERT INTO shop_customers SELECT n, 'c' || n || '@shop.test-mail.org', 'C' "
            "FROM generate_series(:a, :b) AS n",
            a=first,
            b=last,
        )

    def add_orders(self, first: int, last: int) -> None:
        self.execute("INSERT INTO shop_orders SELECT n, n, n + 0.5, n FROM generate_series(:a, :b) n", a=first, b=last)

    def store(self) -> StoreRef:
        with self.state.begin() as connection:
            return register_store(connection, self.settings, "account-1")

    def begin(self, since: datetime | None = None, *, quiet: bool = True) -> Run:
        self.runs += 1
        with self.state.begin() as connection:
            until = connection.execute(text("SELECT now() + interval '1 hour'")).scalar_one()
            name = f"run-{self.runs}"
            store_ref = self.store().store_ref
            return start_run(connection, store_ref, "push", name, "manual", "full", since, until, quiet=quiet)

    def plan(self, run: Run, entity: str, slice_records: int = 1000) -> list[SliceKey]:
        with self.engine.connect() as connection:
            window = Window(run.window_start, run.window_end)
            ranges = Extractor(connection, self.profile).plan(ENTITIES[entity].extract, window, slice_records)
        with self.state.begin() as connection:
            owed = leftovers(connection, run.store_ref, entity)
            planned = save_slices(connection, run.run_ref, entity, ranges, owed, slice_records=slice_records)
        return [SliceKey(run.run_ref, entity, number) for number, _ in planned]

    def push(self, key: SliceKey, client: MailchimpClient | None = None, **more: Any) -> SlicePush:
        return SlicePush(
            state=self.state,
            shop=self.engine,
            profile=self.profile,
            client=client or self.client,
            store=self.store(),
            settings=self.settings,
            entity=ENTITIES[key.entity],
            context=BuildContext(self.settings, PROFILE, "EUR"),
            slice_key=key,
            **more,
        )

    def finish(self, key: SliceKey, client: MailchimpClient | None = None, **more: Any) -> dict[str, int]:
        """Step until the slice is done, each time with a new object, as resumed tasks do."""
        deadline = datetime.now(UTC) + timedelta(seconds=60)
        while datetime.now(UTC) < deadline:
            result = self.push(key, client, **more).step()
            if isinstance(result, Done):
                return result.counts
            self.wait(result)
        raise AssertionError(f"slice {key} does not end")

    def wait(self, waiting: Waiting) -> None:
        """Wait for the batches, as the trigger does."""
        wait_for_batches(self.sandbox, waiting)

    def run(self, *entities: str, since: datetime | None = None) -> dict[str, dict[str, int]]:
        """A whole run; counts per entity, summed over slices."""
        run = self.begin(since)
        total: dict[str, dict[str, int]] = {}
        for entity in entities:
            counts = total.setdefault(entity, {"operations": 0})
            for key in self.plan(run, entity):
                for name, count in self.finish(key).items():
                    counts[name] = counts.get(name, 0) + count
        return total

    def held(self, entity: str) -> dict[str, dict[str, Any]]:
        """What the sandbox holds."""
        path = f"/ecommerce/stores/demo-shop/{entity}"
        return {record["id"]: record for record in self.client.list_all(path, entity)}

    def ledger(self, entity: str) -> dict[str, str]:
        rows = self.query(f"SELECT record_id, state FROM ledger WHERE entity = '{entity}'")
        return {row["record_id"]: row["state"] for row in rows}
