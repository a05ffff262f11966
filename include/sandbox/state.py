"""One sandbox: its options and its parts put together, independent of HTTP."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.sandbox.account import DEFAULT_LIST, Account
from include.sandbox.api import Api
from include.sandbox.archives import Links
from include.sandbox.audiences import CROWD_ADDRESS, count_by_status, gather
from include.sandbox.batches import BatchQueue, StandIn
from include.sandbox.carts import remind
from include.sandbox.deliveries import Deliveries
from include.sandbox.faults import Faults
from include.sandbox.orders import NO_ORDER_PUT
from include.sandbox.persistence import StateFile
from include.sandbox.webhooks import attach


@dataclass(frozen=True, kw_only=True)
class SandboxOptions:
    """What can be chosen at the start.

    Attributes:
        audiences: (list id, name, double opt-in) of each audience.
        api_key: the only key that is accepted; None accepts everything that looks like a key.
        file: SQLite file to keep the state in; None keeps it in memory.
        batch_seconds: least duration of a batch.
        seed: of the shuffling inside batches; None differs each time.
        log_requests: log a line per request and batch.
        link_seconds: validity of result links.
        batch_retention_seconds: how long a finished batch can be read.
        max_connections: simultaneous requests before 429.
        latency_seconds: time added to each request, to make simultaneous ones likely.
        no_order_put: answer 405 to PUT of orders.
        campaigns: ids of campaigns that orders may name.
        crowd: how many synthetic contacts the first audience begins with (see ``crowd``).
        crowd_address: makes their addresses of a ``number``.
        webhook_retry_seconds: from a failed delivery of a webhook to the next attempt; doubles each time.
    """

    audiences: tuple[tuple[str, str, bool], ...] = ((DEFAULT_LIST, "Demo shop customers", False),)
    api_key: str | None = None
    file: Path | None = None
    batch_seconds: float = 0.2
    seed: int | None = None
    log_requests: bool = False
    link_seconds: float = 600
    batch_retention_seconds: float = 7 * 86400
    max_connections: int = 10
    latency_seconds: float = 0
    no_order_put: bool = False
    campaigns: tuple[str, ...] = ()
    crowd: int = 0
    crowd_address: str = CROWD_ADDRESS
    webhook_retry_seconds: float = 60


@dataclass
class Traffic:
    """Counters of HTTP requests to the API."""

    calls: int = 0
    active: int = 0
    most_active: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    downloads: Counter[str] = field(default_factory=Counter)


class Sandbox:
    """Account, API, batches, file and counters of one sandbox.

    ``fault`` may be set to a function (method, path) → Reply or None that answers calls instead of the API, and
    ``operation_fault`` to one that does so for single operations of a batch. ``faults`` are those that
    ``include.sandbox.faults`` knows by name.
    """

    def __init__(self, options: SandboxOptions) -> None:
        self.options = options
        self.account = Account(campaigns=options.campaigns)
        self.api = Api(self.account, frozenset({NO_ORDER_PUT}) if options.no_order_put else frozenset())
        self.links = Links(options.link_seconds)
        self.traffic = Traffic()
        self.fault: StandIn | None = None
        self.faults = Faults()
        self.file = StateFile(options.file, self.account) if options.file else None
        self.batches = BatchQueue(
            self.api,
            self.links,
            options.batch_seconds,
            options.seed,
            options.batch_retention_seconds,
            self.file.save_batch if self.file else lambda batch: None,
            self.faults,
        )
        if self.file:
            for batch in self.file.load():
                self.batches.restore(batch)
        for list_id, name, double_optin in options.audiences:
            self.account.add_audience(list_id, name, double_optin)
        if options.crowd:
            gather(self.account, options.audiences[0][0], options.crowd, options.crowd_address)
        self.deliveries = Deliveries(options.webhook_retry_seconds)
        attach(self.account, self.deliveries)
        self.save()

    @property
    def operation_fault(self) -> StandIn | None:
        """What answers single operations of a batch instead of the API."""
        return self.batches.fault

    @operation_fault.setter
    def operation_fault(self, fault: StandIn | None) -> None:
        self.batches.fault = fault

    def remind(self, after_seconds: float = 0) -> int:
        """Note the mails that are due for abandoned carts and return their number (see ``carts.remind``)."""
        with self.account.lock:
            return remind(self.account, after_seconds)

    def start(self) -> None:
        """Begin to work off batches."""
        self.batches.start()

    def save(self) -> None:
        """Write changes to the file, if there is one."""
        if self.file:
            self.file.save_changes()

    def close(self) -> None:
        """Stop the work and close the file."""
        self.batches.close()
        self.deliveries.close()
        if self.file:
            self.file.close()

    def overview(self, digests: bool = True) -> dict[str, Any]:
        """Return what the sandbox holds.

        Args:
            digests: also sha256 per store and entity over the sorted documents. Times of arrival, the order of children
                and the fields that Mailchimp's attribution rewrites are left out, so equal content has equal digests.
        """
        account = self.account
        with account.lock:
            lists = {
                list_id: {**(account.lists.get(list_id) or {}), "members": count_by_status(account, list_id)}
                for list_id in account.lists
            }
            stores = {
                store_id: (account.store_for(store_id), account.store_settings.get(store_id) or {})
                for store_id in account.store_settings
            }
        return {
            "lists": lists,
            "stores": {
                store_id: {
                    "name": settings["name"],
                    "list_id": settings["list_id"],
                    "is_syncing": settings.get("is_syncing", False),
                    "counts": {entity: len(records) for entity, records in store.records.items()},
                    **(
                        {"digests": {entity: records.digest() for entity, records in store.records.items()}}
                        if digests
                        else {}
                    ),
                }
                for store_id, (store, settings) in stores.items()
            },
            "batches": dict(Counter(batch.status for batch in list(self.batches.batches.values()))),
            "mails": dict(account.mails_by_kind),
            "webhooks": dict(self.deliveries.counts),
        }

    def requests(self) -> dict[str, Any]:
        """Return counters: HTTP requests, and calls and operations by method, path and status."""
        counted = dict(sorted(self.api.counts.items()))
        traffic = self.traffic
        return {
            "calls": traffic.calls,
            "most_active": traffic.most_active,
            "throttled": traffic.statuses[429],
            "errors": sum(number for status, number in traffic.statuses.items() if status >= 400),
            "bytes_received": traffic.bytes_received,
            "bytes_sent": traffic.bytes_sent,
            "statuses": {str(status): number for status, number in sorted(traffic.statuses.items())},
            "downloads": dict(traffic.downloads),
            "operations": sum(number for name, number in counted.items() if name.startswith("operation ")),
            "failed_operations": sum(
                number
                for name, number in counted.items()
                if name.startswith("operation ") and int(name.rsplit(" ", 1)[1]) >= 400
            ),
            "by_route": counted,
        }
