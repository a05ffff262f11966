"""Brings opt-outs at Mailchimp into the shop's own tables, in the transaction that records them; opt-ins on request.

A contact's customers are those that have its address now, in any spelling that the shop, Mailchimp or a push has used:
found by the address, which is in memory only, and by the keys under which a push has met the contact.

What another store's pull of the same audience has recorded is worked off in pages, each in a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import pandas as pd
from sqlalchemy import Connection, Engine

from include.config.stores import StoreSettings
from include.documents.encoder import to_arrow
from include.extract.slices import Extractor
from include.pull.consent import Decision, ShopConsent, decide, opting_out
from include.pull.contested import contested, unknown
from include.pull.opt_ins import decide_opt_ins
from include.shops.profile import CheckedProfile
from include.shops.write_back import write_back
from include.state.consent import (
    expect_opt_outs,
    known_customers,
    note_conflicts,
    note_written_back,
    owe_again,
)
from include.state.database import StateDatabase, lock_account
from include.state.deliveries import begin_delivery, finish_delivery, move_delivery, standing_opt_outs, undelivered
from include.state.members import Mirror, StatusChange
from include.state.opt_ins import standing_opt_ins
from include.transform.erasures import are_erased, read_erased
from include.transform.identity import customer_ids, normalised
from include.transform.members import opt_out_hash
from include.transform.people import is_set
from include.transform.records import Erased

_PER_PAGE = 1000
_COLUMNS = ("customer_id", "email", "opted_in", "opted_in_at", "opted_out_at", "updated_at", "is_deleted")


class Written(NamedTuple):
    """How many customers were opted out, and in."""

    opted_out: int = 0
    opted_in: int = 0


@dataclass(frozen=True)
class WriteBack:
    """What it takes to write to a store's shop.

    Attributes:
        shop: the shop's database itself, not a replica: an opt-in of a moment ago must be seen.
        profile: the checked shop profile.
        settings: of the store.
        store_ref: the store.
    """

    shop: Engine
    profile: CheckedProfile
    settings: StoreSettings
    store_ref: int

    @property
    def is_told(self) -> bool:
        """Whether the shop is told of opt-outs at all."""
        return self.profile.profile.consent_write_back is not None

    @property
    def hears_opt_ins(self) -> bool:
        """Whether the shop is told of opt-ins too."""
        return self.is_told and self.settings.two_way_sync

    def ask(
        self,
        state: StateDatabase,
        opted_out: Sequence[str],
        addresses: Mapping[str, str],
        opted_in: Sequence[str] = (),
    ) -> list[ShopConsent]:
        """Read which customers of contacts say something else than Mailchimp does.

        Args:
            state: the state tables; in no transaction.
            opted_out: the contacts that are opted out or archived at Mailchimp.
            addresses: of contacts, by their hash, as far as they are known.
            opted_in: the contacts that are subscribed.
        """
        hashes = [*opted_out, *(opted_in if self.hears_opt_ins else ())]
        if not hashes or not self.is_told:
            return []
        with state.begin() as connection:
            known = known_customers(connection, self.store_ref, hashes)
        answers = dict.fromkeys(hashes, True) | dict.fromkeys(opted_out, False)
        found = self._customers(known, [addresses[one] for one in hashes if addresses.get(one)])
        return [one for one in found if one.member_hash in answers and one.opted_in is not answers[one.member_hash]]

    def write(
        self,
        connection: Connection,
        mirror: Mirror,
        customers: Sequence[ShopConsent],
        overruled: Mapping[str, str],
    ) -> Written:
        """Tell the shop of its customers' opt-outs, and opt-ins, as far as they stand.

        Args:
            connection: the transaction that has recorded what happened; it holds the account's lock.
            mirror: whose contacts.
            customers: who was asked.
            overruled: contacts whose opt-out doesn't count against an opt-in, with the rule that says so.

        Returns:
            How many customers the shop was told of.
        """
        hashes = sorted({one.member_hash for one in customers})
        opt_outs = opting_out(standing_opt_outs(connection, mirror, hashes), self.settings.on_remote_archive)
        priority = self.settings.sync_priority if self.settings.two_way_sync else None
        out = decide(opt_outs, [one for one in customers if one.member_hash in opt_outs], overruled, priority)
        into = Decision()
        if priority is not None:
            standing = standing_opt_ins(connection, mirror, self.store_ref, hashes, opt_out_hash())
            opt_ins = {one.member_hash: one for one in standing}
            into = decide_opt_ins(opt_ins, [one for one in customers if one.member_hash in opt_ins], priority)
        note_conflicts(connection, mirror, [*out.conflicts, *into.conflicts])
        owe_again(connection, self.store_ref, [one.member_hash for one in into.conflicts], opt_out_hash())
        if changes := [*out.changes, *into.changes]:
            write_back(connection, self.profile.profile, changes)
            note_written_back(connection, out.customers | into.customers)
            expect_opt_outs(connection, self.store_ref, out.customer_of, opt_out_hash())
        return Written(len(out.changes), len(into.changes))

    def heard(self, connection: Connection, mirror: Mirror, changes: Sequence[StatusChange]) -> None:
        """Note that the shop has heard of a page's changes; of all before it has heard already."""
        if changes and self.is_told:
            move_delivery(connection, mirror, self.store_ref, max(one.event_id for one in changes))

    def heard_all(self, connection: Connection, mirror: Mirror) -> None:
        """Note that the shop was told of every contact, changed or not."""
        if self.is_told:
            finish_delivery(connection, mirror, self.store_ref)

    def deliver(self, state: StateDatabase, mirror: Mirror) -> Iterator[Written]:
        """Tell the shop what it hasn't heard of: what another store's pull recorded, or what is older than its profile.

        Customers are found by the keys that a push has met; addresses are known to who reads the contacts alone.

        Yields:
            Page by page, how many customers the shop was told of.
        """
        if not self.is_told:
            return
        with state.begin() as connection:
            begin_delivery(connection, mirror, self.store_ref)
        while True:
            with state.begin() as connection:
                page = undelivered(connection, mirror, self.store_ref, _PER_PAGE)
                standing = standing_opt_outs(connection, mirror, page.hashes) if page else []
            if page is None:
                return
            opt_outs = opting_out(standing, self.settings.on_remote_archive)
            out = {one.member_hash for one in standing}
            customers = self.ask(state, list(opt_outs), {}, [one for one in page.hashes if one not in out])
            happened = {one: change.happened_at for one, change in opt_outs.items()}
            overruled = unknown(contested(state, mirror, customers, happened))
            with state.begin() as connection:
                if customers:
                    lock_account(connection, mirror.account_id)
                moved = move_delivery(connection, mirror, self.store_ref, page.last, page.after)
                written = self.write(connection, mirror, customers, overruled) if moved else Written()
            yield written

    def _customers(self, keys: Sequence[str], addresses: Sequence[str]) -> Iterator[ShopConsent]:
        spellings = list(dict.fromkeys([*addresses, *(one.strip().lower() for one in addresses)]))
        with self.shop.connect() as connection:
            extractor = Extractor(connection, self.profile)
            existing = sorted(extractor.existing("customers", keys))
            found = pd.concat(
                [
                    extractor.read_ids("customers", existing, columns=_COLUMNS),
                    extractor.read_ids("customers", spellings, column="email", columns=_COLUMNS),
                ],
                ignore_index=True,
            )
            erased = read_erased(extractor) if self.hears_opt_ins else Erased()
        found = found.drop_duplicates("customer_id").sort_values("customer_id")
        hashes = customer_ids(normalised(found["email"]))
        gone = is_set(found["is_deleted"]) | are_erased(found["customer_id"], hashes, erased)
        rows: Iterable[tuple[str, str, bool | None, datetime | None, datetime | None, bool]] = zip(
            to_arrow(found["customer_id"]).to_pylist(),
            to_arrow(hashes).to_pylist(),
            to_arrow(found["opted_in"]).to_pylist(),
            to_arrow(found["opted_in_at"]).to_pylist(),
            to_arrow(found["opted_out_at"].fillna(found["updated_at"])).to_pylist(),
            (~gone).tolist(),
            strict=True,
        )
        for row in rows:
            yield ShopConsent(*row)
