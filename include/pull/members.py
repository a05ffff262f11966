"""Reads an audience's contacts: what changed since the last pull, and now and then everything.

What changed is read from a bookmark on, which is written with each page. A full compare finds what that has missed, and
who is not there any more; the first pull is one. Whatever is killed goes on with the page it was at.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text

from include.mailchimp.client import Json, MailchimpClient
from include.mailchimp.errors import NotFound, UnexpectedReply
from include.pull.contested import asked, contested
from include.pull.pages import MemberListing
from include.pull.rows import addresses_of, columns_of
from include.pull.write_back import WriteBack, Written
from include.state.bookmarks import (
    Bookmark,
    PullBusy,
    Reading,
    begin_reading,
    finish_reading,
    load_bookmarks,
    move_bookmark,
    pull_lock,
)
from include.state.consent import mark_own_changes
from include.state.database import StateDatabase, lock_account
from include.state.members import (
    OPT_OUTS,
    MemberRows,
    Mirror,
    count_members,
    mark_vanished,
    save_members,
    unseen_since,
    with_another_status,
)
from include.state.opt_ins import mark_asked
from include.transform.members import opt_out_hash

log = logging.getLogger(__name__)

#: How long after a full compare the next one is due, without being asked for.
FULL_AFTER: Final = timedelta(days=7)

# Mailchimp's listing may lag behind, and its clock differ from ours: what is newer than this is read again next time.
_LEAST_OVERLAP: Final = timedelta(minutes=5)
# A reading that has found nothing for long still moves on, up to here: clocks don't differ by more.
_STILL: Final = timedelta(hours=1)

#: The two listings: Mailchimp shows archived contacts only when asked.
_LISTINGS: Final = {"members": None, "archived": "archived"}
_FULL: Final = "full"
_LOOKED_UP: Final = 500  # contacts that are asked for one by one, per transaction


@dataclass
class Pulled:
    """What a pull has done: contacts read, events recorded, customers opted out (or in) in the shop, contacts gone."""

    read: int = 0
    events: int = 0
    written_back: int = 0
    opted_in: int = 0
    vanished: int = 0
    full: bool = False


@dataclass(frozen=True)
class MemberPull:
    """Pulls one audience for one store.

    Attributes:
        state: the state tables.
        client: of the account.
        mirror: the audience, and the run.
        shop: where opt-outs are written to.
        connections: how many requests at a time.
        overlap: how far back the end of a reading is read again.
        per_page: contacts of a page.
        pulled: what was done so far.
    """

    state: StateDatabase
    client: MailchimpClient
    mirror: Mirror
    shop: WriteBack
    connections: int
    overlap: timedelta
    per_page: int = 1000
    pulled: Pulled = field(default_factory=Pulled)

    def pull(self, *, full: bool = False, compares: bool = True, patience: timedelta = timedelta()) -> Pulled:
        """Read what changed, and everything if that is due.

        Args:
            full: read everything, due or not.
            compares: whether a compare that is due by now is made. What was never read is read completely either way.
            patience: how long to wait for another pull of the audience.

        Returns:
            What was done.

        Raises:
            PullBusy: another pull is reading the audience; the shop was told of what that has recorded so far.
            WriteBackFailed: the shop's database refuses an opt-out.
            MailchimpError: Mailchimp can't be reached, or an audience changed faster than it could be read.
        """
        try:
            with pull_lock(self.state, self.mirror.account_id, self.mirror.list_id, patience):
                self._deliver()
                known = self._bookmarks()
                if "members" in known:
                    for kind in _LISTINGS:
                        self._read(kind, kind)
                if full or "members" not in known or (compares and _is_due(known.get(_FULL), self._now())):
                    self._compare(known.get(_FULL))
        except PullBusy:
            self._deliver()
            raise
        return self.pulled

    def pull_contacts(self, hashes: Sequence[str]) -> None:
        """Read single contacts as they are now, by the caller who owns the audience's readings; no bookmark moves.

        Args:
            hashes: the contacts; one that isn't there any more is told as gone.
        """
        self._deliver()
        now = self._now()
        with ThreadPoolExecutor(self.connections, thread_name_prefix="members") as pool:
            self._take(pool, hashes, now)

    def was_read_since(self, age: timedelta) -> bool:
        """Tell whether what changed was read to its end so short a while ago."""
        read = self._bookmarks().get("members")
        return read is not None and read.finished_at is not None and read.finished_at > self._now() - age

    def _deliver(self) -> None:
        for written in self.shop.deliver(self.state, self.mirror):
            self._count(written)

    def _count(self, written: Written) -> None:
        self.pulled.written_back += written.opted_out
        self.pulled.opted_in += written.opted_in

    def _read(self, listing: str, kind: str) -> None:
        """Read one listing from its bookmark on, to its end."""
        mark = self._bookmarks().get(kind)
        began = self._now()
        reached_at = mark.reached_at if mark else None
        for page in self._listing(listing).pages(reached_at):
            reached_at = min(page.reached_at, began - max(self.overlap, _LEAST_OVERLAP))
            self._save(page.members, kind, reached_at)
        still = began - max(self.overlap, _STILL)
        with self.state.begin() as connection:
            finish_reading(connection, self._reading(kind), max(reached_at or still, still))

    def _listing(self, listing: str) -> MemberListing:
        return MemberListing(
            self.client,
            self.mirror.list_id,
            status=_LISTINGS[listing],
            connections=self.connections,
            per_page=self.per_page,
        )

    def _save(self, members: Sequence[Json], kind: str | None = None, reached_at: datetime | None = None) -> None:
        """Write a page: contacts, events, the shop's opt-outs and the bookmark, all or nothing."""
        rows = columns_of(members)
        customers = self.shop.ask(self.state, self._opted_out(rows), addresses_of(members), self._subscribed(rows))
        changed = {
            one: datetime.fromisoformat(at)
            for one, at, status in zip(rows.hashes, rows.changed, rows.statuses, strict=True)
            if status == "unsubscribed"
        }
        in_doubt = contested(self.state, self.mirror, customers, changed)
        overruled = asked(self.client, self.mirror.list_id, in_doubt)
        with self.state.begin() as connection:
            if customers:
                lock_account(connection, self.mirror.account_id)  # before any row: an erasure locks in this order too
            changes = save_members(connection, self.mirror, rows)
            event_ids = [one.event_id for one in changes]
            mark_own_changes(connection, self.mirror, event_ids, opt_out_hash())
            mark_asked(connection, event_ids)
            written = self.shop.write(connection, self.mirror, customers, overruled) if customers else Written()
            self.shop.heard(connection, self.mirror, changes)
            if kind is not None:
                move_bookmark(connection, self._reading(kind), reached_at)
        self.pulled.read += len(rows)
        self.pulled.events += len(changes)
        self._count(written)

    def _opted_out(self, rows: MemberRows) -> list[str]:
        """Pick who has opted out; in a full compare also who did so before, since a customer may have come after it."""
        out = {one: status for one, status in zip(rows.hashes, rows.statuses, strict=True) if status in OPT_OUTS}
        return list(out) if self.pulled.full else self._changed(out)

    def _subscribed(self, rows: MemberRows) -> list[str]:
        """Pick who is subscribed and wasn't before, if the shop is told of it."""
        statuses = zip(rows.hashes, rows.statuses, strict=True)
        subscribed = {one: status for one, status in statuses if status == "subscribed"}
        opted = dict(zip(rows.hashes, rows.opted, strict=True))
        return self._changed(subscribed, opted) if self.shop.hears_opt_ins else []

    def _changed(self, statuses: dict[str, str], opted: dict[str, str | None] | None = None) -> list[str]:
        if not statuses:
            return []
        with self.state.begin() as connection:
            return with_another_status(connection, self.mirror, statuses, opted)

    def _compare(self, unfinished: Bookmark | None) -> None:
        """Read everything, going on with a compare that was not finished, then look for those who were not met."""
        self.pulled.full = True
        if unfinished is None or unfinished.finished_at is not None:
            self._begin_compare()
        for listing in _LISTINGS:
            if self._bookmarks()[_of_full(listing)].finished_at is None:
                self._read(listing, _of_full(listing))
        started_at = self._bookmarks()[_FULL].started_at
        self._look_for_unseen(started_at)
        self._check_complete()
        known = self._bookmarks()
        with self.state.begin() as connection:
            for listing in _LISTINGS:
                finish_reading(connection, self._reading(listing), known[_of_full(listing)].reached_at)
            finish_reading(connection, self._reading(_FULL), None)
            self.shop.heard_all(connection, self.mirror)

    def _check_complete(self) -> None:
        """Compare how many contacts there are with how many were met; if some weren't, the next try reads all again.

        Who came just before they were counted is not missing: what has changed by then is read once more.
        """
        listed = sum(self._listing(listing).total() for listing in _LISTINGS)
        if self._met() >= listed:
            return
        for listing in _LISTINGS:
            self._read(listing, _of_full(listing))
        if (met := self._met()) < listed:
            self._begin_compare()
            raise UnexpectedReply("Incomplete listing", f"{met} of {listed} contacts were met; read it again")

    def _begin_compare(self) -> None:
        with self.state.begin() as connection:
            for kind in (*map(_of_full, _LISTINGS), _FULL):
                begin_reading(connection, self._reading(kind))

    def _met(self) -> int:
        with self.state.begin() as connection:
            return count_members(connection, self.mirror)

    def _look_for_unseen(self, started_at: datetime) -> None:
        """Ask for each contact that the listings didn't have: only who isn't found at all is gone."""
        after: str | None = None
        with ThreadPoolExecutor(self.connections, thread_name_prefix="members") as pool:
            while True:
                with self.state.begin() as connection:
                    hashes = unseen_since(connection, self.mirror, started_at, after, _LOOKED_UP)
                if not hashes:
                    return
                after = hashes[-1]
                self._take(pool, hashes, started_at)

    def _take(self, pool: ThreadPoolExecutor, hashes: Sequence[str], gone_by: datetime) -> None:
        found = list(pool.map(self._look_up, hashes))
        self._save([one for one in found if one is not None])
        gone = [one for one, member in zip(hashes, found, strict=True) if member is None]
        with self.state.begin() as connection:
            self.pulled.vanished += mark_vanished(connection, self.mirror, gone, gone_by)

    def _look_up(self, member_hash: str) -> Json | None:
        path = f"/lists/{self.mirror.list_id}/members/{member_hash}"
        try:
            return self.client.get(path)  # no `fields`: an audience without groups has no "interests" to ask for
        except NotFound:
            return None

    def _bookmarks(self) -> dict[str, Bookmark]:
        with self.state.begin() as connection:
            return load_bookmarks(connection, self.mirror.account_id, self.mirror.list_id)

    def _reading(self, kind: str) -> Reading:
        return Reading(self.mirror.account_id, self.mirror.list_id, kind, self.mirror.dag_run_id)

    def _now(self) -> datetime:
        with self.state.begin() as connection:
            now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return now


def _of_full(listing: str) -> str:
    return f"{_FULL} {listing}"


def _is_due(full: Bookmark | None, now: datetime) -> bool:
    return full is None or full.finished_at is None or full.finished_at < now - FULL_AFTER
