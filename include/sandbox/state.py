"""One sandbox: its options and its parts put together, independent of HTTP."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.sandbox.account import DEFAULT_LIST, Account
from include.sandbox.api import Api, Reply
from include.sandbox.archives import Links
from include.sandbox.audiences import count_by_status
from include.sandbox.batches import BatchQueue
from include.sandbox.orders import NO_ORDER_PUT
from include.sandbox.persistence import StateFile


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

    ``fault`` may be set to a function (method, path) → Reply or None that answers instead of the API.
    """

    def __init__(self, options: SandboxOptions) -> None:
        self.options = options
        self.account = Account(campaigns=options.campaigns)
        self.api = Api(self.account, frozenset({NO_ORDER_PUT}) if options.no_order_put else frozenset())
        self.links = Links(options.link_seconds)
        self.traffic = Traffic()
        self.fault: Callable[[str, str], Reply | None] | None = None
        self.file = StateFile(options.file, self.account) if options.file else None
        self.batches = BatchQueue(
            self.api,
            self.links,
            options.batch_seconds,
            options.seed,
            options.batch_retention_seconds,
            self.file.save_batch if self.file else lambda batch: None,
        )
        if self.file:
            for batch in self.file.load():
                self.batches.restore(batch)
        for list_id, name, double_optin in options.audiences:
            self.account.add_audience(list_id, name, double_optin)
        self.save()

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
                list_id: {**(account.audiences.get(list_id) or {}), "members": count_by_status(account, list_id)}
                for list_id in account.audiences
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
