"""The reference shop with a handful of records, a sandbox Mailchimp, and whole runs between them, without Airflow.

What a run of the DAG does (`plugins/mailchimp_airflow/push.py`), task by task, in this process: tests of what arrives
at Mailchimp need no more, and are quick.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import Engine, text

from include.config.stores import StoreSettings
from include.extract.slices import Extractor
from include.load import drive
from include.load.audience import read_audience
from include.load.erase import ErasureCounts, erase_people
from include.load.phases import PHASES, Phase
from include.load.plan import PlannedSlice
from include.load.preflight import check_account
from include.load.push import SlicePush
from include.load.remove import SliceRemoval
from include.load.runs import Conclusion, Mode, RunRequest, begin_run, conclude_run
from include.load.segments import push_segments
from include.load.settle import recover
from include.load.slice_step import Done, Waiting
from include.load.store import ensure_store, pause_automations, resume_automations
from include.mailchimp.client import MailchimpClient
from include.mailchimp.retry import RetryPolicy
from include.sandbox.server import SandboxServer
from include.shops.profile import CheckedProfile, check_profile, load_profile
from include.state.database import SliceKey, StateDatabase
from include.state.migrate import migrate
from include.state.runs import EntitySummary, Run
from include.state.stores import StoreRef, register_store
from include.transform.entities import ENTITIES, extra_columns
from include.transform.identity import customer_ids
from include.transform.records import BuildContext

STORE = "/ecommerce/stores/demo-shop"
AUDIENCE = "/lists/a1b2c3d4e5"
SCHEMA = Path(__file__).parent.parent / "include" / "shops" / "reference" / "schema"
QUICK = RetryPolicy(attempts=3, total_seconds=60, first_wait_seconds=0.01, longest_wait_seconds=0.02)
SETTINGS: dict[str, Any] = {
    "key": "demo",
    "store_id": "demo-shop",
    "list_id": "a1b2c3d4e5",
    "profile": "reference",
    "window_overlap_minutes": 0,
    "cart_idle_minutes": 0,
    "checkout_url_template": "https://shop.invalid/checkout/{checkout_token}",
    "redemption_url_template": "https://shop.invalid/?coupon={code}",
}


class Died(BaseException):
    """The worker is killed here; not an Exception, so that no handler of ours sees it."""


@dataclass
class Ran:
    """What a run did: the summaries by entity, and why it counts as failed."""

    conclusion: Conclusion
    run: Run

    @property
    def failure(self) -> str | None:
        return str(self.conclusion.failure) if self.conclusion.failure else None

    @property
    def operations(self) -> int:
        return sum(summary.operations for summary in self.conclusion.summaries)

    def __getitem__(self, entity: str) -> EntitySummary:
        return {summary.entity: summary for summary in self.conclusion.summaries}[entity]


@dataclass
class Pipeline:
    """A shop (`create_shop`), its state, and a store in a sandbox."""

    engine: Engine
    sandbox: SandboxServer
    settings: StoreSettings = field(default_factory=lambda: StoreSettings(**SETTINGS))
    runs: int = 0
    last: Ran | None = None
    erased: ErasureCounts = field(default_factory=ErasureCounts)

    def __post_init__(self) -> None:
        self.state: StateDatabase = migrate(self.engine)
        self.check()
        self.client = self.new_client()

    # The shop

    def check(self) -> None:
        """Check the profile again, after its SQL or the tables have changed."""
        with self.engine.connect() as connection:
            self.profile: CheckedProfile = check_profile(load_profile("reference"), connection)

    def configure(self, **settings: Any) -> None:
        self.settings = StoreSettings(**SETTINGS | settings)

    def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    def add_product(self, product_id: int, *, variants: int = 1, **columns: Any) -> None:
        self._insert(
            "products",
            product_id=product_id,
            **{"title": f"Product {product_id}", "handle": f"p{product_id}"} | columns,
        )
        for number in range(variants):
            self._insert(
                "variants", variant_id=10 * product_id + number, product_id=product_id, title=f"Variant {number}",
                price="10.00", inventory_quantity=5, position=number + 1,
            )  # fmt: skip

    def add_customer(
        self, customer_id: int, email: str | None = None, *, opted_in: bool | None = None, **columns: Any
    ) -> str:
        """Add a customer; returns the address."""
        address = email or f"c{customer_id}@mail.little.shop"
        self._insert(
            "customers", customer_id=customer_id, email=address, **{"first_name": "Ada", "last_name": "L"} | columns
        )
        if opted_in is not None:
            self.consent(customer_id, opted_in)
        return address

    def consent(self, customer_id: int, opted_in: bool, source: str = "check-out") -> None:
        self._insert("newsletter_consents", customer_id=customer_id, opted_in=opted_in, source=source)

    def add_order(
        self,
        order_id: int,
        customer_id: int,
        *products: int,
        status: str = "paid",
        lines: Sequence[int] = (),
        **columns: Any,
    ) -> None:
        """Add an order of one piece (10.00) of each product."""
        total = 10 * len(products)
        values = {"number": f"N{order_id}", "status": status, "placed_at": datetime.now(UTC), "currency_code": "EUR"}
        self._insert("orders", order_id=order_id, customer_id=customer_id, **values | {"order_total": total} | columns)
        for place, product_id in enumerate(products):
            line_id = lines[place] if lines else 100 * order_id + place
            self._insert(
                "order_lines", order_id=order_id, line_id=line_id, product_id=product_id, variant_id=10 * product_id,
                quantity=1, price="10.00",
            )  # fmt: skip

    def add_cart(self, cart_id: int, customer_id: int, *products: int, minutes_ago: int = 0, **columns: Any) -> None:
        """Add an open cart with one piece (10.00) of each product, last touched some time ago."""
        moment = datetime.now(UTC) - timedelta(minutes=minutes_ago)
        values = {"currency_code": "EUR", "order_total": 10 * len(products), "checkout_token": f"token-{cart_id}"}
        self._insert("carts", cart_id=cart_id, customer_id=customer_id, **values | columns)
        for place, product_id in enumerate(products):
            self._insert(
                "cart_lines", cart_id=cart_id, line_id=100 * cart_id + place, product_id=product_id,
                variant_id=10 * product_id, quantity=1, price="10.00",
            )  # fmt: skip
        self.sql("UPDATE carts SET updated_at = :moment WHERE cart_id = :id", moment=moment, id=cart_id)

    def _insert(self, table: str, **values: Any) -> None:
        columns = ", ".join(values)
        self.sql(f"INSERT INTO {table} ({columns}) VALUES ({', '.join(f':{name}' for name in values)})", **values)

    # Runs

    def new_client(self) -> MailchimpClient:
        session = requests.Session()
        session.auth = ("any", self.sandbox.api_key)
        return MailchimpClient(session, self.sandbox.url, retry=QUICK)

    def push(
        self,
        *,
        mode: Mode = Mode.INCREMENTAL,
        entities: Sequence[str] = tuple(ENTITIES),
        since: datetime | None = None,
        until: datetime | None = None,
        ids: Sequence[str] = (),
        kind: str = "manual",
        allow_deletes: bool = False,
        dies: Callable[[], None] | None = None,
        dag_run_id: str | None = None,
    ) -> Ran:
        """One whole run, as the DAG does it; `dies` is called before each step of a slice and may raise."""
        run, store = self.begin(
            mode=mode, entities=entities, since=since, until=until, kind=kind, dag_run_id=dag_run_id
        )
        self.erased = erase_people(
            self.state, self.engine, self.profile, self.client, store, self.settings, run, allow_deletes=allow_deletes
        )
        for phase in PHASES.values():
            for part in self.plan(run, phase, ids, allow_deletes=allow_deletes):
                self.finish(SliceKey(run.run_ref, part.entity, part.number), store, removes=phase.removes, dies=dies)
        push_segments(self.state, self.engine, self.profile, self.client, store, self.settings)
        return self.conclude(run)

    def full_sync(self, **options: Any) -> Ran:
        return self.push(mode=Mode.FULL, **options)

    def begin(
        self,
        *,
        mode: Mode = Mode.INCREMENTAL,
        entities: Sequence[str] = tuple(ENTITIES),
        since: datetime | None = None,
        until: datetime | None = None,
        kind: str = "manual",
        dag_run_id: str | None = None,
    ) -> tuple[Run, StoreRef]:
        """The task `prepare`; a run of a name that there was before is one that was cleared."""
        self.runs += 1
        account_id = check_account(self.client, self.settings)
        with self.engine.connect() as connection:
            extractor = Extractor(connection, self.profile)
            shop, now = extractor.read_store(), extractor.read_at
        audience = read_audience(self.state, self.client, self.settings, account_id)
        name = dag_run_id or f"run {self.runs}"
        request = RunRequest("push", name, kind, mode, since, until, tuple(entities))
        if self.settings.ecommerce:
            store = ensure_store(self.state, self.client, self.settings, shop, account_id)
        else:
            with self.state.begin() as connection:
                store = register_store(connection, self.settings, account_id)
            request = request.without_ecommerce()
        run = begin_run(self.state, store.store_ref, request, self.settings, now, audience)
        if self.settings.ecommerce:
            pause_automations(self.state, self.client, self.settings, run)
        recover(self.state, self.client, store, timedelta(minutes=5))
        return run, store

    def plan(
        self, run: Run, phase: Phase, ids: Sequence[str] = (), *, allow_deletes: bool = False
    ) -> list[PlannedSlice]:
        """A phase's task `plan`."""
        with self.engine.connect() as connection:
            extractor = Extractor(connection, self.profile, extra=extra_columns(self.settings))
            return drive.plan(
                self.state, self.client, self.settings, extractor, run, phase, ids, allow_deletes=allow_deletes
            )

    def finish(
        self, key: SliceKey, store: StoreRef, *, removes: bool = False, dies: Callable[[], None] | None = None
    ) -> dict[str, int]:
        """Step until a slice is done, each time with a new object, as resumed tasks do."""
        for _ in range(100):
            if dies is not None:
                dies()
            work = (SliceRemoval if removes else SlicePush)(
                state=self.state,
                shop=self.engine,
                profile=self.profile,
                client=self.client,
                store=store,
                settings=self.settings,
                entity=ENTITIES[key.entity],
                context=BuildContext(self.settings, self.profile.profile, "EUR"),
                slice_key=key,
            )
            result = work.step()
            if isinstance(result, Done):
                return result.counts
            self.wait(result)
        raise AssertionError(f"slice {key} does not end")

    def wait(self, waiting: Waiting) -> None:
        """Wait for batches, as the trigger does."""
        wait_for_batches(self.sandbox, waiting)

    def conclude(self, run: Run) -> Ran:
        """The task `summarise`."""
        try:
            conclusion = conclude_run(self.state, run, self.settings)
        finally:
            if self.settings.ecommerce:
                resume_automations(self.state, self.client, self.settings, run)
        self.last = Ran(conclusion, run)
        return self.last

    # What came of it

    def held(self, entity: str) -> dict[str, dict[str, Any]]:
        """What Mailchimp holds, by id."""
        path = {"promo_rules": "promo-rules"}.get(entity, entity)
        name = {"promo_rules": "promo_rules"}.get(entity, entity)
        return {record["id"]: record for record in self.client.list_all(f"{STORE}/{path}", name)}

    def codes(self, rule_id: str) -> dict[str, dict[str, Any]]:
        path = f"{STORE}/promo-rules/{rule_id}/promo-codes"
        return {record["id"]: record for record in self.client.list_all(path, "promo_codes")}

    def member(self, email: str) -> dict[str, Any] | None:
        """A contact of the audience; None when it has none of this address."""
        reply = requests.get(
            f"{self.sandbox.url}{AUDIENCE}/members/{email_hash(email)}", auth=("x", self.sandbox.api_key), timeout=30
        )
        return reply.json() if reply.status_code == 200 else None

    def status(self, email: str) -> str | None:
        found = self.member(email)
        return found["status"] if found else None

    def digests(self) -> dict[str, str]:
        """Digest of everything the store at Mailchimp holds, by entity."""
        report = requests.get(f"{self.sandbox.origin}/sandbox/state", timeout=30).json()
        return report["stores"]["demo-shop"]["digests"]

    def requests(self) -> dict[str, int]:
        """How often each method was used on each route with each status."""
        return requests.get(f"{self.sandbox.origin}/sandbox/requests", timeout=30).json()["by_route"]

    def mails(self) -> dict[str, int]:
        """Mails that automations would have sent, by kind."""
        return requests.get(f"{self.sandbox.origin}/sandbox/state", timeout=30).json()["mails"]

    def ledger(self, entity: str) -> dict[str, str]:
        rows = self.sql("SELECT record_id, state FROM mailchimp.ledger WHERE entity = :entity", entity=entity)
        return dict(rows)

    def rejected(self) -> dict[tuple[str, str], str]:
        rows = self.sql("SELECT entity, record_id, title FROM mailchimp.rejected_records")
        return {(entity, record_id): title for entity, record_id, title in rows}


def wait_for_batches(sandbox: SandboxServer, waiting: Waiting) -> None:
    """Wait until Mailchimp has finished batches, or has none of them any more."""
    deadline = time.monotonic() + 60
    while unfinished := {one.id for one in sandbox.state.batches.unfinished()} & {*waiting.batch_ids}:
        assert time.monotonic() < deadline, f"batches {unfinished} do not end"
        time.sleep(0.001)


def create_shop(engine: Engine) -> None:
    """Create the tables of the reference shop and of the state, and the shop's only row: the one about itself."""
    with engine.begin() as connection:
        for name in ("tables", "constraints", "triggers"):
            connection.exec_driver_sql((SCHEMA / f"{name}.sql").read_text(encoding="utf-8").replace("%", "%%"))
        connection.exec_driver_sql(
            "INSERT INTO shop (shop_id, name, currency_code, domain, email, timezone) VALUES "
            "(1, 'Little shop', 'EUR', 'little.shop', 'owner@little.shop', 'Europe/Berlin')"
        )
    migrate(engine)


def email_hash(email: str) -> str:
    """Id of the contact and of the customer with an address."""
    import pandas as pd
    import pyarrow as pa

    return str(customer_ids(pd.Series([email.strip().lower()], dtype=pd.ArrowDtype(pa.string())))[0])
