"""Tags and static segments from the shop's SQL: who is to be in each, and only the differences are sent.

A tag is a static segment of the audience (API reference: "Segments"). Calls are made directly, 500 contacts each: they
answer for every contact at once, and what is acknowledged is recorded before the next. A crash in between repeats one
call, which changes nothing.

Contacts are put in once Mailchimp is known to hold them; until then they wait for the run that finds them there.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Final

import psycopg2
from psycopg2.extensions import cursor as Cursor
from sqlalchemy import Connection, Engine

from include.config.stores import StoreSettings
from include.documents.encoder import to_arrow
from include.extract.connection import cursor_of
from include.extract.describe import describe, refusal
from include.extract.frames import ExtractFailed
from include.extract.slices import Extractor
from include.load.errors import RunStopped
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import NotFound, redact
from include.shops.profile import CheckedProfile
from include.state.database import StateDatabase
from include.state.ledger import acknowledged
from include.state.segments import (
    SegmentMember,
    held_by_others,
    members_between,
    record_members,
    save_segment,
    segment_ids,
)
from include.state.stores import MEMBERS, StoreRef
from include.transform.identity import customer_ids, normalised

log = logging.getLogger(__name__)

#: What a call to a static segment takes of each, additions and removals (API reference, "Batch add or remove members").
MOST_PER_CALL: Final = 500
#: Customers that are compared at a time.
CHUNK: Final = 10_000


@dataclass
class SegmentCounts:
    """What was done with one tag or segment: contacts that joined, left, and those Mailchimp doesn't hold yet."""

    name: str
    joined: int = 0
    left: int = 0
    waiting: int = 0


@dataclass(frozen=True)
class _Source:
    """The SQL of one tag or segment, and where it is written."""

    name: str
    setting: str
    sql: str


def push_segments(
    state: StateDatabase,
    shop: Engine,
    profile: CheckedProfile,
    client: MailchimpClient,
    store: StoreRef,
    settings: StoreSettings,
) -> list[SegmentCounts]:
    """Bring all tags and segments of a store up to date; one call for an unchanged shop, none without any.

    Args:
        state: the state tables.
        shop: the shop database, or a replica.
        profile: the checked profile.
        client: of the account.
        store: the store.
        settings: names tags and segments, each with its SQL.

    Returns:
        Counts per tag and segment, in the order of their names.

    Raises:
        RunStopped: the SQL of one doesn't work; when PostgreSQL refuses it as such, nothing was sent.
    """
    sources = _sources(settings)
    if not sources:
        return []
    with shop.connect() as connection:
        extractor = Extractor(connection, profile)
        _check(connection, sources)
        audience = f"/lists/{settings.list_id}/segments"
        remote = client.list_all(audience, "segments", {"type": "static"}, fields=["id", "name"])
        named = {segment["name"]: int(segment["id"]) for segment in remote}
        counts = []
        for source in sources:
            segment_id = _ensure_segment(state, client, store, audience, source.name, named)
            segment = _Segment(state, extractor, client, store, source.name, f"{audience}/{segment_id}")
            # Closed here: a cursor that outlives an error would spoil the connection for whoever gets it next.
            with closing(_wanted(connection, source)) as wanted:
                try:
                    counts.append(segment.push(wanted))
                except ExtractFailed as error:
                    raise RunStopped(f"The customers of setting {source.setting!r} can't be read: {error}") from None
    return counts


def _sources(settings: StoreSettings) -> list[_Source]:
    both = sorted(settings.tags.keys() & settings.segments.keys())
    if both:
        raise RunStopped(
            f"Store {settings.key!r} has tags and segments of one name: {', '.join(both)}. To Mailchimp a tag is a "
            f"static segment; leave one of each out."
        )
    sources = [
        _Source(name, f"{kind}.{name}", sql.strip().removesuffix(";"))
        for kind, statements in (("tags", settings.tags), ("segments", settings.segments))
        for name, sql in statements.items()
    ]
    return sorted(sources, key=lambda source: source.name)


def _check(connection: Connection, sources: Sequence[_Source]) -> None:
    """Let PostgreSQL look at every statement before anything is sent."""
    problems = []
    with cursor_of(connection) as cursor:
        for source in sources:
            try:
                columns = [name for name, _ in describe(cursor, source.sql)]
            except psycopg2.Error as error:
                problems.append(f"setting {source.setting!r}{redact(refusal(error))}")
            else:
                if "customer_id" not in columns:
                    found = ", ".join(columns) or "none"
                    problems.append(f"setting {source.setting!r}: yields no column customer_id, but {found}")
    if problems:
        raise RunStopped("\n  - ".join(["The SQL of tags and segments can't be used:", *problems]))


def _wanted(connection: Connection, source: _Source) -> Generator[list[str]]:
    """Yield the customer ids that belong into a segment, in byte order, chunk by chunk."""
    named: Cursor = connection.connection.cursor(name="segment_members")  # its rows stay with the server until fetched
    with named as cursor:
        try:
            cursor.execute(
                f'SELECT DISTINCT customer_id::text COLLATE "C" FROM (\n{source.sql}\n) AS members '  # noqa: S608
                "WHERE customer_id IS NOT NULL ORDER BY 1"
            )
            while chunk := [customer_id for (customer_id,) in cursor.fetchmany(CHUNK)]:
                yield chunk
        except psycopg2.Error as error:
            # The server's text may quote what is in the tables.
            raise RunStopped(
                f"The SQL of setting {source.setting!r} failed in the shop database: {type(error).__name__} (SQLSTATE "
                f"{error.pgcode or 'none'}). Run it there by hand to see why."
            ) from None


def _ensure_segment(
    state: StateDatabase,
    client: MailchimpClient,
    store: StoreRef,
    audience: str,
    name: str,
    named: Mapping[str, int],
) -> int:
    """Find a segment by the id it had, or else by its name, or create it."""
    with state.begin() as connection:
        segment_id = segment_ids(connection, store.store_ref).get(name)
    if segment_id is not None and segment_id in named.values():
        return segment_id
    if name in named:
        segment_id = named[name]
    else:
        created: dict[str, Any] = client.post(audience, json={"name": name, "static_segment": []}) or {}
        segment_id = int(created["id"])
    with state.begin() as connection:
        save_segment(connection, store.store_ref, name, segment_id)
    return segment_id


class _Segment:
    """One tag or segment on its way to what the shop wants."""

    def __init__(
        self,
        state: StateDatabase,
        extractor: Extractor,
        client: MailchimpClient,
        store: StoreRef,
        name: str,
        path: str,
    ) -> None:
        self._state = state
        self._extractor = extractor
        self._client = client
        self._store_ref = store.store_ref
        self._path = path
        self._counts = SegmentCounts(name)

    def push(self, wanted: Iterator[list[str]]) -> SegmentCounts:
        """Walk through the customers wanted and those in the segment side by side, in the order of their ids."""
        after: str | None = None
        for chunk in wanted:
            self._push_chunk(chunk, after, chunk[-1])
            after = chunk[-1]
        self._push_chunk([], after, None)
        return self._counts

    def _push_chunk(self, wanted: Sequence[str], after: str | None, until: str | None) -> None:
        emails = self._emails(wanted)
        contacts = {member.member_hash for member in emails}
        there = set()
        for page in self._members(after, until):
            there |= emails.keys() & set(page)
            self._remove([member for member in page if member not in emails], contacts)
        self._add({member: email for member, email in emails.items() if member not in there})

    def _emails(self, ids: Sequence[str]) -> dict[SegmentMember, str]:
        """Look up which contacts stand for customers now, and their addresses; customers without one are left out."""
        customers = self._extractor.read_ids("customers", ids, columns=("customer_id", "email"))
        emails = normalised(customers["email"])
        columns = (customers["customer_id"], customer_ids(emails), emails)
        rows = zip(*(to_arrow(column).to_pylist() for column in columns), strict=True)
        return {SegmentMember(customer_id, contact): email for customer_id, contact, email in rows if contact}

    def _members(self, after: str | None, until: str | None) -> Iterator[list[SegmentMember]]:
        more = True
        while more:
            with self._state.begin() as connection:
                page = members_between(connection, self._store_ref, self._counts.name, after, until, CHUNK)
            yield page
            more = len(page) == CHUNK
            after = page[-1].customer_id if more else after

    def _add(self, arriving: Mapping[SegmentMember, str]) -> None:
        hashes = [member.member_hash for member in arriving]
        with self._state.begin() as connection:
            held = acknowledged(connection, self._store_ref, "customers", hashes)
            held |= acknowledged(connection, self._store_ref, MEMBERS, hashes)
        joining = [member for member in arriving if member.member_hash in held]
        self._counts.waiting += len(arriving) - len(joining)
        for part in _parts(joining):
            self._call("members_to_add", [arriving[member] for member in part])
            self._record(added=part)

    def _remove(self, leaving: Sequence[SegmentMember], staying: Collection[str]) -> None:
        """A contact leaves unless it stands for another customer of the segment as well."""
        if not leaving:
            return
        with self._state.begin() as connection:
            staying = held_by_others(connection, self._store_ref, self._counts.name, leaving) | set(staying)
        emails = self._emails([member.customer_id for member in leaving])
        self._record(removed=[member for member in leaving if member.member_hash in staying])
        for part in _parts([one for one in leaving if one.member_hash not in staying and one in emails]):
            self._call("members_to_remove", [emails[member] for member in part])
            self._record(removed=part)
        for member in leaving:
            if member.member_hash not in staying and member not in emails:  # gone from the shop, or has a new address
                with suppress(NotFound):
                    self._client.delete(f"{self._path}/members/{member.member_hash}")
                self._record(removed=[member])

    def _call(self, what: str, emails: Collection[str]) -> None:
        reply = self._client.post(self._path, json={what: sorted(set(emails))}) or {}
        ignored = sum(len(error.get("email_addresses", ())) for error in reply.get("errors", ()))
        if ignored:
            # Archived or deleted at Mailchimp: asking again in every run would not bring the contacts back.
            log.warning("%s: Mailchimp ignored %d of %d contacts", self._counts.name, ignored, len(emails))

    def _record(self, added: Sequence[SegmentMember] = (), removed: Sequence[SegmentMember] = ()) -> None:
        with self._state.begin() as connection:
            record_members(connection, self._store_ref, self._counts.name, added, removed)
        self._counts.joined += len(added)
        self._counts.left += len(removed)


def _parts(members: Sequence[SegmentMember]) -> Iterator[Sequence[SegmentMember]]:
    return (members[start : start + MOST_PER_CALL] for start in range(0, len(members), MOST_PER_CALL))
