"""What a Mailchimp account holds: audiences with their members, stores with their records, and the mails it would send.

Beside the documents there are three small indexes per store, so that referential checks cost nothing.
"""

import hashlib
import threading
from collections import Counter, deque
from collections.abc import Iterable

from include.sandbox.records import Document, Journal, Records, now

DEFAULT_LIST = "a1b2c3d4e5"
STORE_ENTITIES = ("products", "customers", "orders")


class Store:
    """One e-commerce store. Later entities join ``STORE_ENTITIES``, with an index where they need one."""

    def __init__(self, store_id: str, journal: Journal) -> None:
        self.id = store_id
        self.records = {entity: Records(entity, store_id, journal) for entity in STORE_ENTITIES}
        self.variant_titles: dict[str, dict[str, str]] = {}
        self.customer_of_email: dict[str, str] = {}
        self.spending: dict[str, list[float]] = {}

    @property
    def products(self) -> Records:
        """Products with their variants and images inside."""
        return self.records["products"]

    @property
    def customers(self) -> Records:
        """Customers, known by the id that the shop chose."""
        return self.records["customers"]

    @property
    def orders(self) -> Records:
        """Orders with lines and promos inside; of the customer only the id."""
        return self.records["orders"]

    def save(self, entity: str, record_id: str, document: Document) -> None:
        """Insert or replace a record and keep the indexes in step."""
        known = self.records[entity].get(record_id) if entity == "orders" else None
        self.records[entity].put(record_id, document)
        if known is not None:
            self._spend(known, -1)
        self.index(entity, record_id, document)

    def remove(self, entity: str, record_id: str) -> None:
        """Delete a record that is there."""
        known = self.records[entity].get(record_id) or {}
        self.records[entity].remove(record_id)
        if entity == "products":
            del self.variant_titles[record_id]
        elif entity == "customers":
            del self.customer_of_email[known["email_address"].lower()]
        else:
            self._spend(known, -1)

    def index(self, entity: str, record_id: str, document: Document) -> None:
        """Enter one record into the indexes."""
        if entity == "products":
            self.variant_titles[record_id] = {one["id"]: one.get("title", "") for one in document["variants"]}
        elif entity == "customers":
            self.customer_of_email[document["email_address"].lower()] = record_id
        else:
            self._spend(document, 1)

    def _spend(self, order: Document, sign: int) -> None:
        spent = self.spending.setdefault(order["customer"]["id"], [0, 0.0])
        spent[0] += sign
        spent[1] += sign * order["order_total"]


class Account:
    """Everything behind one API key. Hold ``lock`` while reading or changing it."""

    def __init__(self, audiences: Iterable[tuple[str, str, bool]] = (), campaigns: Iterable[str] = ()) -> None:
        self.lock = threading.RLock()
        self.journal = Journal()
        self.audiences = Records("lists", "", self.journal)
        self.store_settings = Records("stores", "", self.journal)
        self.stores: dict[str, Store] = {}
        self.members: dict[str, Records] = {}
        self.campaigns = frozenset(campaigns)
        self.mails: deque[Document] = deque(maxlen=5000)
        self.mails_by_kind: Counter[str] = Counter()
        self.recent: deque[tuple[str, str, str, str]] = deque(maxlen=15)
        for list_id, name, double_optin in audiences:
            self.add_audience(list_id, name, double_optin)

    @property
    def id(self) -> str:
        """The account's id: the same in every run."""
        return hashlib.md5(b"mailchimp sandbox", usedforsecurity=False).hexdigest()[:25]

    def add_audience(self, list_id: str, name: str, double_optin: bool) -> None:
        """Create an audience, or rename the one that the file brought along."""
        self.audiences.put(list_id, {"id": list_id, "name": name, "double_optin": double_optin})
        self.members_of(list_id)

    def members_of(self, list_id: str) -> Records:
        """Return the members of an audience, by the hash of their address."""
        if list_id not in self.members:
            self.members[list_id] = Records("members", list_id, self.journal)
        return self.members[list_id]

    def store_for(self, store_id: str) -> Store:
        """Return the records of a store, made when they are first asked for."""
        if store_id not in self.stores:
            self.stores[store_id] = Store(store_id, self.journal)
        return self.stores[store_id]

    def forget_store(self, store_id: str) -> None:
        """Delete a store with everything in it; members of its audience stay."""
        store = self.stores.pop(store_id)
        for records in store.records.values():
            for record_id in list(records):
                records.remove(record_id)
        self.store_settings.remove(store_id)

    def mail(self, kind: str, scope: str, record_id: str) -> None:
        """Note a mail that Mailchimp would have sent now; ``scope`` is the store or audience."""
        self.mails.append({"at": now(), "kind": kind, "scope": scope, "record_id": record_id})
        self.mails_by_kind[kind] += 1

    def changed(self, verb: str, scope: str, entity: str, record_id: str) -> None:
        """Note a change for the page's list of latest records."""
        self.recent.append((verb, scope, entity, record_id))
