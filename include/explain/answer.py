"""Answers why a record is, or isn't, at Mailchimp: what the shop yields now, beside what the state tables know.

Mailchimp isn't asked, and nothing is changed. What was sent and acknowledged is in the ledger; what would be sent now
is found by the same transforms that every run uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from sqlalchemy import Connection, Engine

from include.config.stores import StoreSettings
from include.explain import history
from include.explain.consent_basis import consent_step
from include.explain.consent_trail import trail_step
from include.explain.explanation import Explanation, Step
from include.explain.history import Known, LedgerEntry, OperationEntry, RejectedEntry
from include.explain.judgement import Findings, judge
from include.explain.shop_record import ShopRecord, payload_step, read_record
from include.extract.slices import Extractor
from include.shops.profile import CheckedProfile
from include.state.database import StateDatabase
from include.state.ledger import acknowledged
from include.state.members import ArchivedContacts
from include.state.migrate import is_migrated
from include.state.rejected import PARENT_MISSING
from include.state.runs import acknowledged_until
from include.transform.audience import Audience
from include.transform.entities import ENTITIES, Entity, extra_columns
from include.transform.identity import customer_ids, normalised
from include.transform.records import TEXT, BuildContext

_DEEPEST = 3  # order → customer, order → product
_PEOPLE = ("customers", "members")


def explain(
    state: StateDatabase,
    shop: Engine,
    profile: CheckedProfile,
    settings: StoreSettings,
    entity: str,
    record: str,
) -> Explanation:
    """Explain one record.

    Args:
        state: the state tables; they need not exist yet.
        shop: engine of the shop's database, or of a replica.
        profile: the checked shop profile.
        settings: the store's settings.
        entity: name of the entity.
        record: the shop's key, the id at Mailchimp, or a person's e-mail address.

    Raises:
        ValueError: there is no such entity.
        ExtractFailed: the shop can't be read.
        StateOutdated: the state tables belong to another version.
    """
    if entity not in ENTITIES:
        raise ValueError(f"There is no entity {entity!r}; there are {', '.join(ENTITIES)}.")
    known = None
    if is_migrated(state.engine, state.schema):
        with state.begin() as connection:
            known = history.known_store(connection, settings.key, settings.store_id)
    with shop.connect() as connection:
        extractor = Extractor(connection, profile, extra=extra_columns(settings))
        context = BuildContext(
            settings,
            profile.profile,
            str(extractor.read_store()["currency_code"]),
            audience=Audience.from_json(known.audience) if known and known.audience else None,
            refused_campaigns=known.refused_campaigns if known else frozenset(),
            now=extractor.read_at,
        )
        if known:
            contacts = ArchivedContacts(state, known.account_id, settings.list_id)
            context = replace(context, archived_among=contacts)
        return _Explaining(state, extractor, context, known).explain(ENTITIES[entity], record.strip(), _DEEPEST)


@dataclass(frozen=True)
class _Explaining:
    state: StateDatabase
    extractor: Extractor
    context: BuildContext
    known: Known | None

    def explain(self, entity: Entity, asked: str, depth: int) -> Explanation:
        key, entries = self._identify(entity, asked)
        found = read_record(
            self.extractor, entity, key, self.context, held=any(entry.on_mailchimp for entry in entries)
        )
        entry, speaker = self._entry(entity, key, found, entries)
        rejected: RejectedEntry | None = None
        sent: list[OperationEntry] = []
        findings = Findings(entity, key, found, entry, settings=self.context.settings, speaker=speaker)
        if self.known is not None:
            with self.state.begin() as connection:
                if entry is not None:
                    rejected = history.rejection(connection, self.known.store_ref, entity.name, entry.record_id)
                    sent = history.operations(connection, self.known.store_ref, entity.name, entry, rejected)
                findings = replace(
                    findings,
                    rejected=rejected,
                    operations=sent,
                    removal=self._removal(connection, entity, entry),
                    watermark=acknowledged_until(connection, self.known.store_ref, entity.name),
                    missing=self._missing_parents(connection, found),
                )
        verdict, sentence, next_step = judge(findings)
        return Explanation(
            entity=entity.name,
            id=key,
            record_id=entry.record_id if entry else (found.record_id if found else None),
            at_mailchimp=bool(entry and entry.on_mailchimp),
            verdict=verdict,
            sentence=sentence,
            next_step=next_step,
            steps=tuple(self._steps(entity, findings)),
            others=tuple(self._others(entity, findings, depth)),
        )

    def _identify(self, entity: Entity, asked: str) -> tuple[str, list[LedgerEntry]]:
        """Find the shop's key, and the ledger's rows of it, whichever way the record was named."""
        names = [asked]
        if "@" in asked and entity.name in _PEOPLE:
            address = normalised(pd.Series([asked], dtype=TEXT))
            names = [str(customer_ids(address)[0])]
            rows = self.extractor.read_ids(entity.extract, [asked, str(address[0])], column="email")
            if not rows.empty:
                return self._with_entries(entity, str(rows.sort_values("updated_at")[entity.key].iloc[-1]), names)
        elif asked in self.extractor.existing(entity.extract, [asked]):
            return self._with_entries(entity, asked, [])
        entries = self._entries(entity, names)
        return self._with_entries(entity, entries[0].key, names) if entries else (names[0], [])

    def _with_entries(self, entity: Entity, key: str, names: Sequence[str]) -> tuple[str, list[LedgerEntry]]:
        return key, self._entries(entity, [key, *names])

    def _entries(self, entity: Entity, names: Sequence[str]) -> list[LedgerEntry]:
        if self.known is None:
            return []
        with self.state.begin() as connection:
            return history.ledger_entries(connection, self.known.store_ref, entity.name, names)

    def _entry(
        self, entity: Entity, key: str, found: ShopRecord | None, entries: list[LedgerEntry]
    ) -> tuple[LedgerEntry | None, str | None]:
        """Return the ledger's row of what the shop's row yields, and the row that speaks for it, if another does."""
        record_id = found.record_id if found else None
        if record_id is not None:
            entries = [one for one in self._entries(entity, [record_id]) if one.record_id == record_id]
        entry = next(iter(entries), None)
        if entry is None or entry.key == key or self.known is None:
            return entry, None
        with self.state.begin() as connection:
            part_of = history.alias_of(connection, self.known.store_ref, entity.name, key)
        return entry, entry.key if part_of == entry.record_id else None

    def _removal(self, connection: Connection, entity: Entity, entry: LedgerEntry | None) -> tuple[str, bool] | None:
        if entry is None or self.known is None:
            return None
        listed = history.removal(connection, self.known.store_ref, entity.name, entry.record_id)
        return None if listed is None else (listed[0].isoformat(timespec="seconds"), listed[1])

    def _missing_parents(self, connection: Connection, found: ShopRecord | None) -> list[tuple[str, str]]:
        """Return the parents that Mailchimp doesn't hold, as (entity, the shop's key)."""
        if found is None or self.known is None:
            return []
        if found.rejected is not None and found.rejected.waits_for:
            name, _, key = found.rejected.waits_for.partition(":")
            return [(name, key)]
        missing = []
        for parent in found.parents:
            held = acknowledged(connection, self.known.store_ref, parent.entity, [parent.record_id])
            if not held:
                missing.append((parent.entity, parent.key))
        return missing

    def _steps(self, entity: Entity, findings: Findings) -> list[Step]:
        found, steps = findings.found, []
        if found is None:
            steps.append(Step("shop row", f"{entity.extract}.sql yields no row of this {entity.key}"))
        else:
            steps.append(found.row)
            if entity.name in _PEOPLE:
                steps.append(consent_step(self.extractor, entity, found.key, self.context))
                steps += self._contact(found.contact)
            told = "; ".join(sentence for _, sentence in found.left_out)
            names = [name for name, _ in found.left_out if name]
            steps.append(Step("settings", told or "none of them leaves it out", {"left out by": names}))
            if found.rejected is not None:
                steps.append(
                    Step(
                        "rules", found.rejected.title, {"field": found.rejected.field, "detail": found.rejected.detail}
                    )
                )
            if found.payload is not None:
                steps.append(payload_step(entity, found))
                steps.append(_parents_step(found, findings.missing))
        return [*steps, *findings.state_steps()]

    def _contact(self, member_hash: str | None) -> list[Step]:
        """Explain what pulls know of a person."""
        if member_hash is None or self.known is None:
            return []
        with self.state.begin() as connection:
            return [trail_step(connection, self.known.account_id, self.context.settings.list_id, member_hash)]

    def _others(self, entity: Entity, findings: Findings, depth: int) -> list[Explanation]:
        """Explain what the record depends on."""
        if depth <= 1:
            return []
        wanted = [(entity.name, findings.speaker)] if findings.speaker else []
        if findings.waits():
            wanted += findings.missing or _named(findings.rejected)
        return [
            self.explain(ENTITIES[name], key, depth - 1)
            for name, key in dict.fromkeys(wanted)
            if name in ENTITIES and key
        ]


def _parents_step(found: ShopRecord, missing: Sequence[tuple[str, str]]) -> Step:
    named = [f"{parent.entity} {parent.key}" for parent in found.parents]
    lacking = [f"{name} {key}" for name, key in missing]
    told = f"Mailchimp lacks {', '.join(lacking)}" if lacking else "Mailchimp holds all that it refers to"
    return Step("parents", told if named else "it refers to nothing else", {"refers to": named})


def _named(rejected: RejectedEntry | None) -> list[tuple[str, str]]:
    """Return the parent that a rejected record was found to wait for."""
    if rejected is None or rejected.error_class != PARENT_MISSING or not rejected.waits_for:
        return []
    name, _, key = rejected.waits_for.partition(":")
    return [(name, key)]
