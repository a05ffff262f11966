"""Erases people who asked for it: at Mailchimp, and from the state tables; a proof without personal data remains.

A request is a row of the extract ``erasures``. While it stands, the transforms send nothing of the person
(:mod:`include.transform.erasures`). Here, once per request, by direct calls:

1. Their orders at Mailchimp, which are revenue, become those of the customer who is nobody, without names and
   addresses (API reference, "Update order": another ``customer.id`` moves it). An order that stays with the person all
   the same is deleted; the phase ``orders`` then sends it anew without the person.
2. Their carts and their customer are deleted.
3. Their contact is deleted permanently (API reference, "Delete list member permanently"): with its history, and such
   that Mailchimp never lets the address be imported again. The person alone can come back, by a sign-up form.
4. One transaction scrubs the state tables and closes the proof.

No pull reads the audience meanwhile: it would bring back what it has in memory. While one does, people wait.

Whatever line a worker dies at, the next run does all of it again: what is deleted already answers 404. A worker that
read a person before the request was made may still send them afterwards; the ledger then knows them, or a pull finds
them, and the next run erases them once more.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

import pandas as pd
from sqlalchemy import Engine

from include.config.stores import StoreSettings
from include.documents.encoder import to_arrow
from include.extract.slices import Extractor
from include.load.errors import TooManyDeletions
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import NotFound
from include.shops.profile import CheckedProfile
from include.state import erasures
from include.state.bookmarks import PullBusy, pull_lock
from include.state.database import StateDatabase, lock_account
from include.state.erasures import Request, Traces
from include.state.ledger import count_held
from include.state.runs import Run
from include.state.stores import MEMBERS, StoreRef
from include.transform.erasures import anonymous_order, nobodys_address, read_requests
from include.transform.identity import customer_ids

log = logging.getLogger(__name__)

_ALWAYS_ALLOWED: Final = 10  # people, however few the shop has
_PATIENCE: Final = timedelta(seconds=30)  # with a pull that reads what has changed; not with one that reads everything


@dataclass(frozen=True)
class ErasureCounts:
    """How many people were erased, and how many wait for a run that finds nothing of theirs under way."""

    erased: int = 0
    waiting: int = 0


@dataclass(frozen=True)
class _Person:
    """A request, and all that the shop and the ledger know of whom it is about."""

    request: Request
    traces: Traces
    is_new: bool


@dataclass
class _Deleted:
    """What went at Mailchimp; `orders` all that lost their customer, `gone` those that were deleted for it."""

    orders: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    carts: set[str] = field(default_factory=set)


def erase_people(
    state: StateDatabase,
    shop: Engine,
    profile: CheckedProfile,
    client: MailchimpClient,
    store: StoreRef,
    settings: StoreSettings,
    run: Run,
    *,
    allow_deletes: bool = False,
) -> ErasureCounts:
    """Fulfil the shop's requests that are not fulfilled yet; costs two queries when there are none.

    Args:
        state: the state tables.
        shop: the shop database, or a replica.
        profile: the checked profile; one without the extract has no requests.
        client: of the account.
        store: the store.
        settings: its settings; `max_deletes` and `max_deletes_percent` hold for people too.
        run: the run, for the proof.
        allow_deletes: erase more people than the settings allow.

    Raises:
        TooManyDeletions: more people are to be erased than the settings allow; nobody is.
        MailchimpError: Mailchimp can't be reached; what is left is done when this is called again.
    """
    if "erasures" not in profile.profile.sql:
        return ErasureCounts()
    with shop.connect() as connection:
        extractor = Extractor(connection, profile)
        people = _people(state, extractor, store)
        address = nobodys_address(extractor.read_store()) if people else None
    if not allow_deletes:
        _check_brake(state, store, settings, sum(person.is_new for person in people))
    ready: list[_Person] = []
    if people:
        try:
            with pull_lock(state, store.account_id, settings.list_id, _PATIENCE):
                ready = _not_in_flight(state, store, people)
                if ready:
                    ready = _Erasure(state, client, store, settings, run, address).erase(ready)
        except PullBusy as busy:
            log.info("nobody is erased now: %s", busy)
    counts = ErasureCounts(len(ready), len(people) - len(ready))
    log.info("%d people erased, %d wait until nothing of theirs is under way", counts.erased, counts.waiting)
    return counts


def _people(state: StateDatabase, extractor: Extractor, store: StoreRef) -> list[_Person]:
    """Find out who is to be erased: whose request is not fulfilled, and who came back since."""
    asked = read_requests(extractor)
    if asked.empty:
        return []
    emails = _emails_by_request(asked)
    by_request = {
        erasure_id: set(customer_ids(pd.Series(list(found), dtype=asked["email"].dtype)))
        for erasure_id, found in emails.items()
    }
    named = [one for one in to_arrow(asked["customer_id"]).to_pylist() if one]
    with state.begin() as connection:
        known = erasures.known_under(connection, store.store_ref, named)
        hashes = sorted(set().union(*by_request.values()))
        remembered = erasures.remembered(connection, store.store_ref, [*hashes, *named])
        done = erasures.fulfilled(connection, store.store_ref, to_arrow(asked["erasure_id"]).to_pylist())
    people = []
    for row in asked.to_dict("records"):
        erasure_id, customer_id = row["erasure_id"], row["customer_id"] if isinstance(row["customer_id"], str) else None
        ids = by_request.get(erasure_id, set()) | known.get(customer_id or "", set())
        if erasure_id in done and remembered.isdisjoint({*ids, customer_id}) and customer_id not in known:
            continue
        requested_at = None if pd.isna(row["requested_at"]) else row["requested_at"].to_pydatetime()
        keys = [customer_id] if customer_id else []
        traces = Traces(ids, keys, *_purchases(extractor, keys, emails.get(erasure_id, set())))
        people.append(_Person(Request(erasure_id, customer_id, requested_at), traces, erasure_id not in done))
    return people


def _emails_by_request(asked: pd.DataFrame) -> dict[str, set[str]]:
    emails: defaultdict[str, set[str]] = defaultdict(set)
    for column in ("email", "account_email"):
        pairs = zip(to_arrow(asked["erasure_id"]).to_pylist(), to_arrow(asked[column]).to_pylist(), strict=True)
        for erasure_id, email in pairs:
            if email:
                emails[erasure_id].add(email)
    return emails


def _purchases(extractor: Extractor, keys: Collection[str], emails: Collection[str]) -> tuple[set[str], set[str]]:
    """Return the ids of the orders and carts that the shop has of a person, whichever account they belong to."""
    accounts = extractor.read_ids("customers", list(emails), column="email", columns=("customer_id", "email"))
    owners = sorted({*keys, *accounts["customer_id"].dropna()})
    found = []
    for extract, key in (("orders", "order_id"), ("carts", "cart_id")):
        ids: set[str] = set()
        for column, values in (("customer_id", owners), ("email", sorted(emails))):
            if extractor.yields(extract, column):
                ids |= set(extractor.read_ids(extract, values, column=column, columns=(key,))[key].dropna())
        found.append(ids)
    return found[0], found[1]


def _check_brake(state: StateDatabase, store: StoreRef, settings: StoreSettings, wanted: int) -> None:
    """A broken profile must not empty an audience for ever."""
    if wanted <= _ALWAYS_ALLOWED:
        return
    with state.begin() as connection:
        held = max(count_held(connection, store.store_ref, entity) for entity in (MEMBERS, "customers"))
    most = max(min(settings.max_deletes, int(held * settings.max_deletes_percent / 100)), _ALWAYS_ALLOWED)
    if wanted > most:
        raise TooManyDeletions(
            f"{wanted} people are to be erased for ever, a run may erase {most} (max_deletes {settings.max_deletes}, "
            f"max_deletes_percent {settings.max_deletes_percent:g}). Nobody was erased. If that is right, run the DAG "
            "again with 'Delete whatever is gone' switched on; if not, look at erasures.sql of the profile."
        )


def _not_in_flight(state: StateDatabase, store: StoreRef, people: Sequence[_Person]) -> list[_Person]:
    """Leave people alone of whom a batch is under way: it would bring them back."""
    with state.begin() as connection:
        return [person for person in people if not erasures.in_flight(connection, store.store_ref, person.traces)]


@dataclass
class _Erasure:
    """The people that one run erases."""

    state: StateDatabase
    client: MailchimpClient
    store: StoreRef
    settings: StoreSettings
    run: Run
    nobodys_address: str | None

    def __post_init__(self) -> None:
        self._store_path = f"/ecommerce/stores/{quote(self.settings.store_id, safe='')}"
        self._list_path = f"/lists/{quote(self.settings.list_id, safe='')}"

    def erase(self, people: Sequence[_Person]) -> list[_Person]:
        """Erase people; those are returned of whom nothing is left."""
        carts = self._carts_by_customer()
        deleted = [self._erase_at_mailchimp(person, carts) for person in people]
        erased, traces, orders = [], list[Traces](), set[str]()
        with self.state.begin() as connection:
            lock_account(connection, self.store.account_id)  # nobody claims anything until this is done
            for person, gone in zip(people, deleted, strict=True):
                found = replace(
                    person.traces,
                    orders={*person.traces.orders, *gone.orders},
                    carts={*person.traces.carts, *gone.carts},
                )
                if not erasures.in_flight(connection, self.store.store_ref, found):
                    erased.append(person)
                    traces.append(found)
                    orders |= gone.gone
            if erased:
                erasures.scrub(connection, self.store.store_ref, Traces.of_all(traces), orders)
            ids = [person.request.erasure_id for person in erased]
            erasures.finish_erasures(connection, self.store.store_ref, ids)
        return erased

    def _erase_at_mailchimp(self, person: _Person, carts: Mapping[str, Collection[str]]) -> _Deleted:
        with self.state.begin() as connection:
            erasures.begin_erasure(connection, self.store.store_ref, person.request, self.run.dag_run_id)
        deleted = _Deleted()
        for record_id in sorted(person.traces.record_ids):
            orders = self._free_orders(record_id)
            deleted.orders |= orders.orders
            deleted.gone |= orders.gone
            self._count(person, orders=len(orders.orders))
            for cart_id in sorted(carts.get(record_id, ())):
                deleted.carts.add(cart_id)
                self._count(person, carts=self._delete(f"{self._store_path}/carts/{quote(cart_id, safe='')}"))
            self._count(person, customers=self._delete(f"{self._store_path}/customers/{record_id}"))
            self._count(person, contacts=self._forget(record_id))
        return deleted

    def _carts_by_customer(self) -> dict[str, set[str]]:
        """Return the ids of all carts at Mailchimp by customer: they can't be asked for by it."""
        carts: defaultdict[str, set[str]] = defaultdict(set)
        for cart in self._listed("carts", {}, ["id", "customer.id"]):
            carts[(cart.get("customer") or {}).get("id", "")].add(cart["id"])
        return carts

    def _free_orders(self, customer_id: str) -> _Deleted:
        """Take a person out of the orders that Mailchimp has of them."""
        found = self._orders_of(customer_id)
        if found and self.nobodys_address is not None:
            update = anonymous_order(self.nobodys_address)
            for order_id in found:
                self.client.patch(self._order_path(order_id), json=update)
        left = self._orders_of(customer_id) if found else []
        for order_id in left:
            self._delete(self._order_path(order_id))
        return _Deleted(set(found), set(left))

    def _orders_of(self, customer_id: str) -> list[str]:
        return [order["id"] for order in self._listed("orders", {"customer_id": customer_id}, ["id"])]

    def _order_path(self, order_id: str) -> str:
        return f"{self._store_path}/orders/{quote(order_id, safe='')}"

    def _listed(self, collection: str, params: Mapping[str, Any], fields: list[str]) -> Iterable[dict[str, Any]]:
        try:
            return list(self.client.list_all(f"{self._store_path}/{collection}", collection, params, fields=fields))
        except NotFound:  # a store that was never made, or is gone
            return []

    def _delete(self, path: str) -> int:
        try:
            self.client.delete(path)
        except NotFound:
            return 0
        return 1

    def _forget(self, member_hash: str) -> int:
        try:
            self.client.post(f"{self._list_path}/members/{member_hash}/actions/delete-permanent")
        except NotFound:
            return 0
        return 1

    def _count(self, person: _Person, **deleted: int) -> None:
        if any(deleted.values()):
            with self.state.begin() as connection:
                erasures.count_deleted(connection, self.store.store_ref, person.request.erasure_id, **deleted)
