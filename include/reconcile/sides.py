"""Reads both sides, entity by entity, into the temporary tables: a checksum and a few keys of each record."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import pandas as pd
import pyarrow as pa
from sqlalchemy import Engine

from include.config.stores import StoreSettings
from include.documents.spec import Document
from include.extract.slices import Extractor, Window
from include.mailchimp.errors import UnexpectedReply
from include.reconcile.contents import Canonical, canonical, checksum, compared
from include.reconcile.listings import ARCHIVED, Listings, Record
from include.reconcile.staging import Staging, in_chunks
from include.shops.profile import CheckedProfile
from include.transform.entities import Entity, extra_columns
from include.transform.identity import customer_ids, normalised
from include.transform.records import TEXT, BuildContext, Built

log = logging.getLogger(__name__)

_ALWAYS: Final = Window(None, datetime(9999, 1, 1, tzinfo=UTC))
_ROWS: Final = 5_000  # rows of the shop that are built together
_PAGE: Final = 500  # records of Mailchimp that are staged together
_LISTINGS: Final = 3  # how often a listing is begun anew because the collection changed meanwhile
_BUYS: Final = ("orders", "carts")


@dataclass(frozen=True)
class Sides:
    """Where both sides are read from.

    Attributes:
        shop: engine of the shop's database, or of a replica.
        profile: the checked shop profile.
        listings: what Mailchimp holds.
        settings: of the store.
        context: what transforms need to know.
    """

    shop: Engine
    profile: CheckedProfile
    listings: Listings
    settings: StoreSettings
    context: BuildContext

    def document(self, entity: Entity) -> Document:
        """Return what of an entity's records is compared."""
        document = entity.document if isinstance(entity.document, Document) else entity.document(self.context)
        return compared(document)

    def stage_mailchimp(self, staging: Staging, entity: Entity) -> None:
        """Stage what Mailchimp holds of an entity.

        Raises:
            UnexpectedReply: the collection kept changing while it was read.
        """
        document = self.document(entity)
        for attempt in range(1, _LISTINGS + 1):
            staging.clear("at_mailchimp", entity.name)
            try:
                rules = staging.ids("at_mailchimp", "promo_rules") if entity.name == "promo_codes" else ()
                for page in in_chunks(self.listings.all(entity, document, rules), _PAGE):
                    staging.put("at_mailchimp", entity.name, _held_rows(entity.name, document, page))
                    if entity.name in _BUYS:
                        staging.refer([record["customer"]["id"] for _, record in page])
                return
            except UnexpectedReply:
                if attempt == _LISTINGS:
                    raise
                log.info("%s changed at Mailchimp while they were listed; they are listed again", entity.name)

    def stage_buyers(self, staging: Staging) -> None:
        """Stage which customers orders and carts at Mailchimp refer to, where these aren't staged themselves."""
        for page in in_chunks(self.listings.buyers(), _PAGE):
            staging.refer(page)

    def stage_shop(self, staging: Staging, entity: Entity) -> None:
        """Stage what the shop yields of an entity.

        Raises:
            ExtractFailed: the profile's SQL failed.
        """
        document = self.document(entity)
        staging.clear("in_shop", entity.name)
        for built in self._chunks(entity):
            staging.put("in_shop", entity.name, _yielded_rows(entity.name, document, built))

    def build(self, entity: Entity, keys: Sequence[str]) -> Built:
        """Read and build single records anew, by the shop's keys."""
        with self.shop.connect() as connection:
            extractor = self._extractor(connection)
            known = sorted(extractor.existing(entity.extract, keys))
            return entity.build(extractor, extractor.read_ids(entity.extract, known), self.context)

    def _chunks(self, entity: Entity) -> Iterator[Built]:
        with self.shop.connect() as connection:
            extractor = self._extractor(connection)
            ranges, after = extractor.plan(entity.extract, _ALWAYS, 10**9), None  # one: from the first to the last key
            while ranges:
                first, last = ranges[0].first_key, ranges[0].last_key
                frame = extractor.read_range(entity.extract, after, last, _ROWS, _ALWAYS, first)
                built = entity.build(extractor, frame, self.context)
                yield built
                if len(frame) < _ROWS:
                    return
                after = built.last_key

    def _extractor(self, connection: Any) -> Extractor:
        return Extractor(connection, self.profile, extra=extra_columns(self.settings))


def sent_contents(document: Document, built: Built) -> dict[str, tuple[Canonical, bytes]]:
    """Return the contents and hashes of built payloads, by record id."""
    return {
        record_id: (canonical(document, _parsed(body)), payload_hash)
        for record_id, body, payload_hash in zip(
            built.record_ids.to_pylist(), built.bodies.to_pylist(), built.hashes, strict=True
        )
    }


def _parsed(body: str) -> dict[str, Any]:
    """Parse a payload that is escaped for embedding."""
    parsed: dict[str, Any] = json.loads(json.loads(f'"{body}"'), parse_float=Decimal)
    return parsed


def _yielded_rows(entity: str, document: Document, built: Built) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    updated = built.updated_at.cast(pa.timestamp("us", "UTC")).to_pylist()
    sent = zip(
        built.record_ids.to_pylist(), built.keys.to_pylist(), built.bodies.to_pylist(), built.hashes, updated,
        built.methods(), strict=True,
    )  # fmt: skip
    for record_id, key, body, payload_hash, moment, method in sent:
        payload = _parsed(body)
        before = rows.get(record_id)
        if before is not None and (before["updated_at"] or built.read_at) >= (moment or built.read_at):
            continue
        rows[record_id] = {
            "record_id": record_id,
            "source_key": key,
            "checksum": checksum(canonical(document, payload)),
            "payload_hash": payload_hash,
            "opts_out": entity == "members" and method == "PATCH",
            **_sale(entity, payload, (payload.get("customer") or {}).get("id")),
            "read_at": built.read_at,
            "updated_at": moment,
        }
    nothing = dict.fromkeys(("checksum", "payload_hash", "person", "currency", "total", "moment", "updated_at"))
    for record in built.rejected:
        record_id = record.record_id or record.key
        known = {"record_id": record_id, "source_key": record.key, "opts_out": False, "read_at": built.read_at}
        rows.setdefault(record_id, nothing | known)
    return [dict(sorted(row.items())) for row in rows.values()]  # the same columns in the same order


def _held_rows(entity: str, document: Document, page: Sequence[tuple[str, Record]]) -> list[dict[str, Any]]:
    buyers = [record.get("customer") or {} if entity in _BUYS else record for _, record in page]
    people = _people([buyer.get("email_address") for buyer in buyers])
    return [
        {
            "record_id": record_id,
            "checksum": None if record.get("status") == ARCHIVED else checksum(canonical(document, record)),
            "status": record.get("status"),
            **_sale(entity, record, person or buyer.get("id")),
        }
        for (record_id, record), buyer, person in zip(page, buyers, people, strict=True)
    ]


def _people(emails: Sequence[str | None]) -> list[str | None]:
    """Return who has these addresses, without the addresses."""
    known = pd.Series([email or None for email in emails], dtype=TEXT)
    return [None if pd.isna(one) else str(one) for one in customer_ids(normalised(known))]


def _sale(entity: str, record: Mapping[str, Any], person: str | None) -> dict[str, Any]:
    """Return what orders are counted by, and told apart from their doubles."""
    if entity != "orders":
        return {"person": person, "currency": None, "total": None, "moment": None}
    return {
        "person": person,
        "currency": record.get("currency_code") or None,
        "total": _amount(record.get("order_total")),
        "moment": _moment(record.get("processed_at_foreign")),
    }


def _amount(value: Any) -> Decimal:
    try:
        amount = Decimal(str(value or 0))
    except InvalidOperation:
        return Decimal(0)
    return amount if amount.is_finite() else Decimal(0)


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
