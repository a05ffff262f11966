"""Compares shop, ledger and Mailchimp, record by record, and writes down what has drifted. Nothing is sent.

Checksums find what differs; only these records are then read once more, from both sides, and compared field by field.
So a record that somebody changes while the comparison goes on isn't taken for a wrong one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, text

from include.config.stores import StoreSettings
from include.extract.slices import Extractor
from include.load.audience import read_audience
from include.load.errors import PreflightFailed
from include.load.preflight import check_account, check_currency
from include.load.store import check_ours, find_remote_store
from include.mailchimp.client import MailchimpClient
from include.reconcile.contents import canonical, differences, is_incomplete
from include.reconcile.judge import decide, judge, revenue
from include.reconcile.listings import Listings, Record
from include.reconcile.report import Action, Kind, MonthRevenue, Reconciliation, Rest, load_reconciliation
from include.reconcile.sides import Sides, sent_contents
from include.reconcile.staging import Staging, in_chunks, staging
from include.shops.profile import CheckedProfile
from include.state.campaigns import refused_campaigns
from include.state.database import StateDatabase
from include.state.members import ArchivedContacts
from include.state.runs import acknowledged_until
from include.state.stores import MEMBERS, register_store
from include.transform.entities import ENTITIES, Entity
from include.transform.records import BuildContext

log = logging.getLogger(__name__)

_PER_CALL: Final = 500  # records of a listing's page: above as many calls, a listing is cheaper than single records
_CHUNK: Final = 500  # records that are looked at once more together
_KEPT: Final = 20  # comparisons of a store that stay in the state tables


@dataclass(frozen=True)
class Comparer:
    """What a comparison works on.

    Attributes:
        state: the state tables, up to date.
        shop: engine of the shop's database, or of a replica.
        profile: the checked shop profile.
        client: of the account; only its GETs are used.
        settings: of the store.
    """

    state: StateDatabase
    shop: Engine
    profile: CheckedProfile
    client: MailchimpClient
    settings: StoreSettings

    def compare(self, dag_run_id: str, entities: Sequence[str] = tuple(ENTITIES)) -> Reconciliation:
        """Compare the records of a store.

        Args:
            dag_run_id: under which the result is kept; an earlier one of the same run is replaced.
            entities: which of them.

        Raises:
            PreflightFailed: settings, account, audience or store are not what they should be.
            ExtractFailed: the profile's SQL failed.
            MailchimpError: Mailchimp can't be reached, or a collection kept changing while it was listed.
        """
        before = self.client.metrics.calls
        store_ref, context = self._open()
        chosen = [entity for name, entity in ENTITIES.items() if name in self._in_scope(entities)]
        with self.state.begin() as connection:
            started_at = connection.scalar(text("SELECT clock_timestamp()"))
            marks = {entity.name: acknowledged_until(connection, store_ref, entity.name) for entity in chosen}
        listings = Listings(self.client, self.settings)
        sides = Sides(self.shop, self.profile, listings, self.settings, context)
        with staging(self.state) as staged:
            _stage(staged, sides, chosen)
            for entity in chosen:
                mark = marks[entity.name]
                judge(staged, entity.name, store_ref=store_ref, started_at=started_at, mark=mark)
                _Second(staged, sides, entity).look()
                decide(staged, entity.name, has_extract=entity.extract in self.profile.columns)
            months = revenue(staged) if "orders" in [entity.name for entity in chosen] else []
            calls = self.client.metrics.calls - before
            reference = _keep(staged, store_ref, dag_run_id, started_at, calls, months)
        with self.state.begin() as connection:
            return load_reconciliation(connection, reference)

    def _open(self) -> tuple[int, BuildContext]:
        with self.shop.connect() as connection:
            currency = check_currency(self.settings, Extractor(connection, self.profile).read_store())
        account_id = check_account(self.client, self.settings)
        if self.settings.ecommerce:
            found = find_remote_store(self.client, self.settings)
            if found is None:
                raise PreflightFailed(
                    f"Mailchimp has no store {self.settings.store_id!r}, so there is nothing to compare with. Run "
                    f"mailchimp_push__{self.settings.key} first: it creates and fills it."
                )
            check_ours(self.settings, found)
        audience = read_audience(self.state, self.client, self.settings, account_id)
        with self.state.begin() as connection:
            store = register_store(connection, self.settings, account_id)
            refused = refused_campaigns(connection, store.store_ref)
        return store.store_ref, BuildContext(
            self.settings,
            self.profile.profile,
            currency,
            audience,
            refused,
            ArchivedContacts(self.state, account_id, self.settings.list_id),
        )

    def _in_scope(self, entities: Sequence[str]) -> Sequence[str]:
        return entities if self.settings.ecommerce else [name for name in entities if name == MEMBERS]


def _stage(staged: Staging, sides: Sides, entities: Sequence[Entity]) -> None:
    names = {entity.name for entity in entities}
    if "promo_codes" in names and "promo_rules" not in names:
        sides.stage_mailchimp(staged, ENTITIES["promo_rules"])  # the codes are listed by rule
    for entity in entities:
        sides.stage_mailchimp(staged, entity)
        sides.stage_shop(staged, entity)
        log.info("%s of both sides are read", entity.name)
    if "customers" in names and not {"orders", "carts"} <= names:
        sides.stage_buyers(staged)
    staged.analyze()


@dataclass(frozen=True)
class _Second:
    """The second look at records whose checksums differ: which fields, and do they still?"""

    staged: Staging
    sides: Sides
    entity: Entity

    def look(self) -> None:
        """Name the fields in which records differ; let go of those that don't, or that an update couldn't mend."""
        for chunk in in_chunks(self._held(), _CHUNK):
            self._compare(chunk)
        # What both sides no longer have by now.
        self.staged.execute(
            f"UPDATE finding SET status = '{Rest.MOVING}' WHERE entity = :entity AND {_DOUBTFUL} AND fields = '{{}}'",  # noqa: S608
            entity=self.entity.name,
        )

    def _held(self) -> Iterator[tuple[str, str, Record]]:
        """Yield (record id, the shop's key, record) of what is to be looked at once more."""
        name = self.entity.name
        [(doubtful, listed)] = self.staged.execute(
            f"SELECT count(*), (SELECT count(*) FROM at_mailchimp WHERE entity = :entity) "  # noqa: S608
            f"FROM finding WHERE entity = :entity AND {_DOUBTFUL}",
            entity=name,
        )
        if doubtful > listed // _PER_CALL + 20:
            rules = self.staged.ids("at_mailchimp", "promo_rules") if name == "promo_codes" else ()
            records = self.sides.listings.all(self.entity, self.sides.document(self.entity), rules)
            for page in in_chunks(records, _CHUNK):
                keys = self._doubtful([record_id for record_id, _ in page])
                yield from ((record_id, keys[record_id], record) for record_id, record in page if record_id in keys)
        elif doubtful:
            for record_id, key in self._doubtful().items():
                record = self.sides.listings.one(self.entity, record_id)
                if record is not None:
                    yield record_id, key, record

    def _doubtful(self, among: Sequence[str] | None = None) -> dict[str, str]:
        rows = self.staged.execute(
            f"SELECT record_id, source_key FROM finding WHERE entity = :entity AND {_DOUBTFUL} "  # noqa: S608
            "AND (CAST(:among AS text[]) IS NULL OR record_id = ANY (:among)) ORDER BY record_id",
            entity=self.entity.name,
            among=None if among is None else list(among),
        )
        return {row.record_id: row.source_key for row in rows}

    def _compare(self, chunk: Sequence[tuple[str, str, Record]]) -> None:
        document = self.sides.document(self.entity)
        sent = sent_contents(document, self.sides.build(self.entity, [key for _, key, _ in chunk]))
        confirmed: list[tuple[str, list[str]]] = []
        cleared: list[str] = []
        for record_id, _, record in chunk:
            if record_id not in sent:
                continue
            found = differences(document, sent[record_id][0], canonical(document, record), clears=self.entity.clears)
            if found:
                confirmed.append((record_id, found))
            else:
                cleared.append(record_id)
        self._confirm(confirmed, {record_id: payload_hash for record_id, (_, payload_hash) in sent.items()})
        self.staged.execute(
            f"""
            UPDATE finding SET same = true, status = CASE
                WHEN status <> '{Kind.STALE}' THEN status
                WHEN ledger_state IS NULL THEN '{Kind.UNKNOWN}' ELSE '{Rest.EQUAL}' END
            WHERE entity = :entity AND record_id = ANY (:ids)
            """,  # noqa: S608 - constants
            entity=self.entity.name,
            ids=cleared,
        )

    def _confirm(self, confirmed: Sequence[tuple[str, list[str]]], hashes: dict[str, bytes]) -> None:
        self.staged.execute(
            f"""
            UPDATE finding f
            SET fields = ARRAY(SELECT jsonb_array_elements_text(CAST(c.fields AS jsonb))),
                status = CASE WHEN f.payload_hash <> c.payload_hash THEN '{Rest.MOVING}'
                              WHEN f.status = '{Kind.STALE}' AND c.incomplete THEN '{Kind.INCOMPLETE}'
                              ELSE f.status END
            FROM unnest(CAST(:ids AS text[]), CAST(:fields AS text[]), CAST(:incomplete AS boolean[]),
                        CAST(:hashes AS bytea[])) AS c(record_id, fields, incomplete, payload_hash)
            WHERE f.entity = :entity AND f.record_id = c.record_id
            """,  # noqa: S608 - constants
            entity=self.entity.name,
            ids=[record_id for record_id, _ in confirmed],
            fields=[json.dumps(fields) for _, fields in confirmed],
            incomplete=[is_incomplete(fields) for _, fields in confirmed],
            hashes=[hashes[record_id] for record_id, _ in confirmed],
        )


_DOUBTFUL: Final = f"held AND yielded AND NOT refused AND NOT same AND status IN ('{Kind.STALE}', '{Kind.DENIED}')"


def _keep(
    staged: Staging,
    store_ref: int,
    dag_run_id: str,
    started_at: datetime,
    calls: int,
    months: Sequence[dict[str, Any]],
) -> int:
    """Write the result into the state tables, in one transaction."""
    wrong = [month for month in months if MonthRevenue.of(month).drifted]
    with staged.connection.begin():
        connection = staged.connection
        arguments = {"store_ref": store_ref, "dag_run_id": dag_run_id, "kept": _KEPT}
        connection.execute(text("SELECT FROM store WHERE store_ref = :store_ref FOR UPDATE"), arguments)
        connection.execute(
            text("""
                DELETE FROM reconciliation WHERE store_ref = :store_ref AND (dag_run_id = :dag_run_id
                    OR reconciliation_ref <= (SELECT reconciliation_ref FROM reconciliation
                                              WHERE store_ref = :store_ref
                                              ORDER BY reconciliation_ref DESC OFFSET :kept LIMIT 1))
            """),
            arguments,
        )
        reference: int = connection.execute(
            text("""
                INSERT INTO reconciliation (store_ref, dag_run_id, started_at, finished_at, http_calls, counts, revenue)
                VALUES (:store_ref, :dag_run_id, :started_at, clock_timestamp(), :calls, CAST(:counts AS jsonb),
                        CAST(:revenue AS jsonb))
                RETURNING reconciliation_ref
            """),
            arguments
            | {
                "started_at": started_at,
                "calls": calls,
                "counts": json.dumps(_counts(connection)),
                "revenue": json.dumps(months, default=str),
            },
        ).scalar_one()
        connection.execute(
            text("""
                INSERT INTO drifted (reconciliation_ref, entity, kind, record_id, fields, action, held, source_key,
                                     payload_hash, read_at, updated_at)
                SELECT :ref, entity, status, record_id, fields, action, held, source_key, payload_hash, read_at,
                       updated_at
                FROM finding WHERE status = ANY (:kinds)
            """),
            {"ref": reference, "kinds": list(Kind)},
        )
        connection.execute(
            text("""
                INSERT INTO drifted (reconciliation_ref, entity, kind, record_id, fields, action, held)
                SELECT :ref, 'orders', :kind, *, :action, true
                FROM unnest(CAST(:months AS text[])) AS m(month), LATERAL (SELECT ARRAY['orders', 'revenue']) AS f
            """),
            {
                "ref": reference,
                "kind": Kind.REVENUE,
                "action": Action.NONE,
                "months": [f"{month['month']} {month['currency']}" for month in wrong],
            },
        )
    return reference


def _counts(connection: Connection) -> dict[str, dict[str, int]]:
    rows = connection.execute(text("SELECT entity, status, count(*) FROM finding GROUP BY entity, status")).all()
    found = {(entity, status): count for entity, status, count in rows}
    present = {entity for entity, _ in found}
    return {
        name: {status: found[name, status] for status in (*Rest, *Kind) if (name, status) in found}
        for name in ENTITIES
        if name in present
    }
