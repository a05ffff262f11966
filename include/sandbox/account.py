"""What a Mailchimp account holds: audiences with their members, stores with their records, and the mails it would send.

Beside the documents there are small indexes per store and audience, so that checks and counts cost nothing.
"""

import hashlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote

from include.sandbox.mailings import MAILING_ENTITIES, Mailing
from include.sandbox.member_records import Members
from include.sandbox.records import Document, Journal, Records, now

if TYPE_CHECKING:
    from include.sandbox.crowd import Crowd

DEFAULT_LIST = "a1b2c3d4e5"
STORE_ENTITIES = ("products", "customers", "orders", "carts", "promo_rules", "promo_codes")
# `departed`: members of the crowd (see `crowd`) that have another address now.
AUDIENCE_ENTITIES = (
    "members",
    "merge_fields",
    "categories",
    "interests",
    "segments",
    "forgotten",
    "departed",
    "webhooks",
)

#: Who changed a contact: a member call, an e-commerce call, the contact itself, the marketer, or Mailchimp (bounces).
Origin = Literal["api", "ecommerce", "contact", "marketer", "mailchimp"]

DELETED = "deleted"
"""What the history calls the status of a contact that was permanently deleted."""

# What is known of an opt-out.
_OPT_OUT = ("unsubscribed_at", "unsubscribe_reason", "complained")

# What a new audience asks of its contacts.
_MERGE_FIELDS = (
    ("FNAME", "First Name", "text"),
    ("LNAME", "Last Name", "text"),
    ("ADDRESS", "Address", "address"),
    ("PHONE", "Phone Number", "phone"),
    ("BIRTHDAY", "Birthday", "birthday"),
)


class StatusChange(NamedTuple):
    """One entry of the history of consent; ``old`` is None for a new contact."""

    list_id: str
    member_id: str
    old: str | None
    new: str
    by: Origin


class MemberEvent(NamedTuple):
    """A change of a contact, for those who listen (webhooks); no document: it wasn't there before, or is gone."""

    list_id: str
    member_id: str
    before: Document | None
    after: Document | None
    by: Origin
    at: str


def code_key(rule_id: str, code_id: str) -> str:
    """Return the key of a promo code, whose id is unique within its rule only."""
    return f"{quote(rule_id, safe='')}/{quote(code_id, safe='')}"


class Store:
    """One e-commerce store. Later entities join ``STORE_ENTITIES``, with an index where they need one."""

    def __init__(self, store_id: str, journal: Journal) -> None:
        self.id = store_id
        self.records = {entity: Records(entity, store_id, journal) for entity in STORE_ENTITIES}
        self.variant_titles: dict[str, dict[str, str]] = {}
        self.customer_of_email: dict[str, str] = {}
        self.spending: dict[str, list[float]] = {}
        self.codes_of_rule: dict[str, dict[str, None]] = {}
        self.awaiting_reminder: set[str] = set()
        self.orders_of_campaign: dict[str, dict[str, None]] = {}

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

    @property
    def carts(self) -> Records:
        """Carts with lines inside; of the customer only the id."""
        return self.records["carts"]

    @property
    def promo_rules(self) -> Records:
        """Promo rules, without their codes."""
        return self.records["promo_rules"]

    @property
    def promo_codes(self) -> Records:
        """Promo codes of all rules, by ``code_key``."""
        return self.records["promo_codes"]

    def save(self, entity: str, record_id: str, document: Document) -> None:
        """Insert or replace a record and keep the indexes in step."""
        known = self.records[entity].get(record_id) if entity == "orders" else None
        self.records[entity].put(record_id, document)
        if known is not None:
            self._count_order(record_id, known, -1)
        self.index(entity, record_id, document)

    def remove(self, entity: str, record_id: str) -> None:
        """Delete a record that is there; a promo rule takes its codes along."""
        known = self.records[entity].get(record_id) or {}
        self.records[entity].remove(record_id)
        match entity:
            case "products":
                del self.variant_titles[record_id]
            case "customers":
                del self.customer_of_email[known["email_address"].lower()]
            case "orders":
                self._count_order(record_id, known, -1)
            case "carts":
                self.awaiting_reminder.discard(record_id)
            case "promo_rules":
                for key in self.codes_of_rule.pop(record_id, {}):
                    self.promo_codes.remove(key)
            case "promo_codes":
                del self.codes_of_rule[known["rule_id"]][record_id]

    def index(self, entity: str, record_id: str, document: Document) -> None:
        """Enter one record into the indexes."""
        match entity:
            case "products":
                self.variant_titles[record_id] = {one["id"]: one.get("title", "") for one in document["variants"]}
            case "customers":
                self.customer_of_email[document["email_address"].lower()] = record_id
            case "orders":
                self._count_order(record_id, document, 1)
            case "promo_codes":
                self.codes_of_rule.setdefault(document["rule_id"], {})[record_id] = None

    def _count_order(self, order_id: str, order: Document, sign: int) -> None:
        if campaign_id := order.get("campaign_id", ""):
            named = self.orders_of_campaign.setdefault(campaign_id, {})
            named.pop(order_id, None)
            if sign > 0:
                named[order_id] = None
        spent = self.spending.setdefault(order["customer"]["id"], [0, 0.0])
        spent[0] += sign
        spent[1] += sign * order["order_total"]


class Audience:
    """What hangs on one list: members, and what they can be told apart by."""

    def __init__(
        self,
        list_id: str,
        journal: Journal,
        changes: list[StatusChange],
        tell: Callable[[MemberEvent], None] = lambda event: None,
    ) -> None:
        self.id = list_id
        self.members = Members(list_id, journal)
        self.records = {entity: Records(entity, list_id, journal) for entity in AUDIENCE_ENTITIES}
        self.records["members"] = self.members
        self.statuses: Counter[str] = Counter()
        self.chosen: Counter[str] = Counter()
        self.segment_members: dict[int, dict[str, None]] = {}
        self.last_subscribed = self.last_unsubscribed = ""
        self.found: dict[str, tuple[int, Any]] = {}  # what `listing` remembers
        self._changes = changes
        self._tell = tell

    @property
    def forgotten(self) -> Records:
        """Hashes of addresses that were permanently deleted."""
        return self.records["forgotten"]

    def join(self, crowd: "Crowd") -> None:
        """Take in a crowd, without those who left it in an earlier life of the file."""
        self.members.join(crowd, iter((*self.forgotten, *self.records["departed"])))
        self.statuses.update(crowd.statuses())
        self.chosen.update(crowd.chosen())
        self.last_subscribed = max(self.last_subscribed, crowd.latest("opt", "subscribed"))
        self.last_unsubscribed = max(self.last_unsubscribed, crowd.latest("changed", "unsubscribed"))

    def save_member(self, member_id: str, document: Document, by: Origin, at: str | None = None) -> None:
        """Insert or replace a member, count it and write the history of its status; ``at``: when (None: now)."""
        moment = at or now()
        known = self.members.get(member_id)
        before = known["status"] if known is not None else None
        settled = _settled(document, before, moment)
        self.members.put(member_id, settled, moment)
        if known is not None:
            self.index_member(member_id, known, -1)
        self.index_member(member_id, settled)
        if settled["status"] != before:
            self._changes.append(StatusChange(self.id, member_id, before, settled["status"], by))
        self._tell(MemberEvent(self.id, member_id, known, settled, by, moment))

    def rename_member(
        self, member_id: str, new_id: str, document: Document, by: Origin = "api", at: str | None = None
    ) -> None:
        """Give a member the hash of its new address; its status is the same as before."""
        moment = at or now()
        known = self._drop(member_id)
        self.members.put(new_id, document, moment)
        self.index_member(new_id, document)
        self._tell(MemberEvent(self.id, new_id, known, document, by, moment))

    def forget_member(self, member_id: str, by: Origin = "api") -> None:
        """Delete a member for good: its address can never be written again."""
        known = self._drop(member_id)
        self.forgotten.put(member_id, {"id": member_id})
        self._changes.append(StatusChange(self.id, member_id, known["status"], DELETED, by))
        self._tell(MemberEvent(self.id, member_id, known, None, by, now()))

    def index_member(self, member_id: str, document: Document, sign: int = 1) -> None:
        """Count a member in (1) or out (-1)."""
        self.statuses[document["status"]] += sign
        if sign > 0 and document["status"] == "subscribed":
            self.last_subscribed = max(self.last_subscribed, document.get("timestamp_opt", ""))
        if sign > 0:
            self.last_unsubscribed = max(self.last_unsubscribed, document.get("unsubscribed_at", ""))
        self.chosen.update({one: sign for one, chosen in document.get("interests", {}).items() if chosen})
        for segment_id in document.get("segments", ()):
            if sign > 0:
                self.segment_members.setdefault(segment_id, {})[member_id] = None
            else:
                self.segment_members[segment_id].pop(member_id)

    def _drop(self, member_id: str) -> Document:
        known = self.members.get(member_id) or {}
        if self.members.is_of_crowd(member_id):
            self.records["departed"].put(member_id, {"id": member_id})
        self.members.remove(member_id)
        self.index_member(member_id, known, -1)
        return known


def _settled(document: Document, before: str | None, moment: str) -> Document:
    """Return a member with the time of its opt-out, or without any trace of one that it took back."""
    if document["status"] != "unsubscribed":
        return {name: value for name, value in document.items() if name not in _OPT_OUT}
    return document if before == "unsubscribed" else {**document, "unsubscribed_at": moment}


class Account:
    """Everything behind one API key. Hold ``lock`` while reading or changing it.

    ``status_changes`` is the history of consent since the start: every change of a contact's status, oldest first.
    """

    def __init__(self, audiences: Iterable[tuple[str, str, bool]] = (), campaigns: Iterable[str] = ()) -> None:
        self.lock = threading.RLock()
        self.journal = Journal()
        self.lists = Records("lists", "", self.journal)
        self.store_settings = Records("stores", "", self.journal)
        self.stores: dict[str, Store] = {}
        self.audiences: dict[str, Audience] = {}
        self.status_changes: list[StatusChange] = []
        self.listeners: list[Callable[[MemberEvent], None]] = []
        self.campaigns = frozenset(campaigns)
        self.campaign_records = Records("campaigns", "", self.journal)
        self.mailings: dict[str, Mailing] = {}
        self.mails: deque[Document] = deque(maxlen=5000)
        self.mails_by_kind: Counter[str] = Counter()
        self.recent: deque[tuple[str, str, str, str]] = deque(maxlen=15)
        self.revives_archived = False  # whether a PUT takes archived contacts for new ones (said, never recorded)
        for list_id, name, double_optin in audiences:
            self.add_audience(list_id, name, double_optin)

    @property
    def id(self) -> str:
        """The account's id: the same in every run."""
        return hashlib.md5(b"mailchimp sandbox", usedforsecurity=False).hexdigest()[:25]

    def add_audience(self, list_id: str, name: str, double_optin: bool) -> None:
        """Create an audience with its usual merge fields, or rename the one that the file brought along."""
        self.lists.put(list_id, {"id": list_id, "name": name, "double_optin": double_optin})
        fields = self.audience_for(list_id).records["merge_fields"]
        if not len(fields):
            for number, (tag, title, kind) in enumerate(_MERGE_FIELDS, 1):
                fields.put(str(number), {"merge_id": number, "tag": tag, "name": title, "type": kind})

    def audience_for(self, list_id: str) -> Audience:
        """Return what hangs on a list, made when it is first asked for."""
        if list_id not in self.audiences:
            self.audiences[list_id] = Audience(list_id, self.journal, self.status_changes, self._tell)
        return self.audiences[list_id]

    def store_for(self, store_id: str) -> Store:
        """Return the records of a store, made when they are first asked for."""
        if store_id not in self.stores:
            self.stores[store_id] = Store(store_id, self.journal)
        return self.stores[store_id]

    def mailing_for(self, campaign_id: str) -> Mailing:
        """Return to whom a campaign went and what they did, made when it is first asked for."""
        if campaign_id not in self.mailings:
            self.mailings[campaign_id] = Mailing(campaign_id, self.journal)
        return self.mailings[campaign_id]

    def records(self, kind: str, scope: str) -> Records:
        """Return the records of one kind; ``scope`` is the store, list or campaign they belong to.

        Raises:
            KeyError: there is no such kind.
        """
        top: Mapping[str, Records] = {
            "lists": self.lists,
            "stores": self.store_settings,
            "campaigns": self.campaign_records,
        }
        if kind in top:
            return top[kind]
        if kind in MAILING_ENTITIES:
            return self.mailing_for(scope).records[kind]
        holder = self.audience_for(scope) if kind in AUDIENCE_ENTITIES else self.store_for(scope)
        return holder.records[kind]

    def rebuild_indexes(self) -> None:
        """Enter all records into the indexes, once they were read from the file."""
        for store in self.stores.values():
            for entity, records in store.records.items():
                for record_id in records:
                    store.index(entity, record_id, records.get(record_id) or {})
        for audience in self.audiences.values():
            for member_id in audience.members.stored():
                audience.index_member(member_id, audience.members.get(member_id) or {})
        for mailing in self.mailings.values():
            for member_id in mailing.reactions:
                mailing.index(member_id, mailing.reactions.get(member_id) or {})

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

    def _tell(self, event: MemberEvent) -> None:
        for listener in self.listeners:
            listener(event)
