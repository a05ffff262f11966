"""From what was found about a record to a verdict, a sentence, and what the reader can do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from include.config.stores import StoreSettings
from include.explain.explanation import Step, Verdict
from include.explain.history import LedgerEntry, OperationEntry, RejectedEntry
from include.explain.shop_record import ShopRecord
from include.load.retries import Retry, retry_of
from include.state.rejected import PARENT_MISSING
from include.transform.entities import Entity

Judgement = tuple[Verdict, str, str]


@dataclass(frozen=True)
class Findings:
    """What was found about a record.

    Attributes:
        entity: the entity.
        key: the shop's key.
        found: what the shop yields; None: it has no such row.
        entry: the ledger's row; None: never dealt with.
        settings: the store's.
        speaker: the shop's key of the row that speaks for the record, if it is another one.
        rejected: why it is on the list of rejected records.
        operations: about it, the latest first.
        removal: since when it is to be deleted, and whether it is kept for what refers to it.
        watermark: until when all changes of the entity are acknowledged; None: it was never pushed to the end.
        missing: parents that Mailchimp doesn't hold, as (entity, the shop's key).
    """

    entity: Entity
    key: str
    found: ShopRecord | None
    entry: LedgerEntry | None
    settings: StoreSettings
    speaker: str | None = None
    rejected: RejectedEntry | None = None
    operations: Sequence[OperationEntry] = field(default_factory=list)
    removal: tuple[str, bool] | None = None
    watermark: datetime | None = None
    missing: list[tuple[str, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What it is called in sentences."""
        return f"{self.entity.name} {self.key}"

    @property
    def held(self) -> bool:
        """Whether Mailchimp is known to hold it."""
        return self.entry is not None and self.entry.on_mailchimp

    @property
    def current(self) -> bool:
        """Whether what was sent last is what the shop yields now."""
        return self.entry is not None and self.found is not None and self.entry.payload_hash == self.found.payload_hash

    def waits(self) -> bool:
        """Tell whether it waits for a parent."""
        by_rule = self.found is not None and self.found.rejected is not None and bool(self.found.rejected.waits_for)
        listed = self.rejected is not None and self.rejected.error_class == PARENT_MISSING
        return by_rule or listed

    def comes_next(self) -> bool:
        """Tell whether the next run looks at the row as it is now."""
        changed = self.found.updated_at if self.found else None
        return self.watermark is None or (changed is not None and changed >= self.watermark)

    def last(self, outcome: str | None = None) -> OperationEntry | None:
        """Return the latest operation about the record itself, of an outcome if that is given."""
        whole = (one for one in self.operations if one.child is None)
        return next((one for one in whole if outcome in {None, one.outcome}), None)

    def state_steps(self) -> list[Step]:
        """Show what the state tables have."""
        if self.entry is None:
            return [Step("ledger", "no run has ever dealt with it")]
        entry = self.entry
        values = {
            "record_id": entry.record_id,
            "acknowledged_at": _said(entry.acknowledged_at) if entry.acknowledged_at else None,
            "shop read at": _said(entry.read_at) if entry.read_at else None,
            "attempts": entry.attempts or None,
        }
        where = "at Mailchimp" if entry.on_mailchimp else "not at Mailchimp"
        steps = [Step("ledger", f"{entry.state}, {where}", values)]
        last = self.last()
        if last is not None:
            told = f"{last.method} in batch {last.batch_id or '(not posted yet)'}: {last.outcome or 'no answer yet'}"
            facts = {
                "status": last.status_code,
                "batch": last.batch_state,
                "posted_at": _said(last.posted_at) if last.posted_at else None,
                "settled_at": _said(last.settled_at) if last.settled_at else None,
                "dag": last.dag_id,
                "run": last.dag_run_id,
            }
            steps.append(Step("last operation", told, facts))
        if self.rejected is not None:
            facts = {
                "detail": self.rejected.detail,
                "field": self.rejected.field,
                "attempts": self.rejected.attempts,
                "first seen": _said(self.rejected.first_seen_at),
                "last seen": _said(self.rejected.last_seen_at),
                "run": self.rejected.dag_run_id,
            }
            steps.append(Step("last error", f"{self.rejected.error_class}: {self.rejected.title}", facts))
        if self.removal is not None:
            since, kept = self.removal
            steps.append(Step("removal", f"to be deleted since {since}{', kept for what refers to it' * kept}"))
        return steps


def judge(findings: Findings) -> Judgement:
    """Decide where a record is; the first of these that applies says it."""
    for decide in (_switched_off, _in_flight, _without_row, _as_alias, _left_out, _broken, _owed, _as_sent):
        verdict = decide(findings)
        if verdict is not None:
            return verdict
    return _never_sent(findings)


def _switched_off(f: Findings) -> Judgement | None:
    if f.settings.ecommerce or f.entity.name == "members":
        return None
    told = f"The store {f.settings.key} sends no {f.entity.name}: ecommerce is off, so only subscriptions are sent."
    return Verdict.LEFT_OUT, told, "Set ecommerce to true in the settings to send them."


def _in_flight(f: Findings) -> Judgement | None:
    if f.entry is None or f.entry.batch_ref is None:
        return None
    operation = next((one for one in f.operations if one.batch_ref == f.entry.batch_ref), None)
    if operation is None or operation.batch_id is None:
        told = f"{f.name} is about to be sent: its batch is written down, but not known to be posted."
        return Verdict.IN_FLIGHT, told, "Wait for the run, or the next one: it posts the batch, or sends it again."
    told = (
        f"{f.name} is in batch {operation.batch_id} ({operation.method}), posted {_said(operation.posted_at)} by run "
        f"{operation.dag_run_id}; Mailchimp's answer isn't read yet."
    )
    return Verdict.IN_FLIGHT, told, "Wait: the run reads the answer when the batch has ended, or else the next one."


def _without_row(f: Findings) -> Judgement | None:
    if f.found is not None:
        return None
    if f.entry is None:
        told = f"{f.name} is not in the shop ({f.entity.extract}.sql yields no such row), and was never sent."
        return Verdict.NOT_IN_SHOP, told, f"Check the id: it is the {f.entity.key}, or the id at Mailchimp."
    if f.held:
        if not f.entity.deletes:
            told = f"{f.name} is gone from the shop; it stays at Mailchimp, since contacts are never deleted by that."
            return Verdict.NOT_IN_SHOP, told, "Nothing: leaving the shop is no unsubscribe."
        return _to_be_deleted(f, "the shop has no such row any more")
    if f.entry.state in {"pending", "unknown"} and f.entity.deletes:
        told = f"{f.name} is gone from the shop; it was to be sent, and Mailchimp may hold it."
        return Verdict.TO_BE_DELETED, told, "The next run looks once more and deletes it there, if it is there."
    if f.entry.state == "rejected":
        told = f"{f.name} is gone from the shop; Mailchimp never took it."
        return Verdict.NOT_IN_SHOP, told, "Nothing: the next run takes it off the list of rejected records."
    return _deleted(f, "the shop has no such row any more")


def _to_be_deleted(f: Findings, why: str) -> Judgement:
    if f.removal is None:
        told = f"{f.name} is still at Mailchimp, although {why}."
        return Verdict.TO_BE_DELETED, told, "The next run that notices deletes it; a full sync notices everything."
    if f.removal[1]:
        told = f"{f.name} is kept at Mailchimp, although {why}: something there refers to it, or refused its deletion."
        return Verdict.TO_BE_DELETED, told, "Nothing: it is looked at again after 30 days, or by a replay at once."
    told = f"{f.name} is to be deleted at Mailchimp, because {why}."
    return Verdict.TO_BE_DELETED, told, "The next run deletes it, unless it would delete more than max_deletes."


def _deleted(f: Findings, why: str) -> Judgement:
    operation = f.last("ok")
    if operation is None or operation.method != "DELETE":
        told = f"{f.name} is not sent, because {why}; Mailchimp doesn't hold it."
    else:
        told = (
            f"{f.name} was deleted at Mailchimp {_said(operation.settled_at)} by run {operation.dag_run_id} (batch "
            f"{operation.batch_id}), because {why}."
        )
    return Verdict.DELETED, told, "Nothing. Should the shop yield it again, the next run that reads it sends it again."


def _as_alias(f: Findings) -> Judgement | None:
    if f.speaker is None:
        return None
    told = f"{f.name} and {f.entity.name} {f.speaker} have one e-mail address, so they are one record at Mailchimp."
    return Verdict.ALIAS, told, f"Look at {f.entity.name} {f.speaker}, which changed last and speaks for both."


def _left_out(f: Findings) -> Judgement | None:
    if f.found is None or not f.found.left_out:
        return None
    why = " and ".join(sentence for _, sentence in f.found.left_out)
    names = [name for name, _ in f.found.left_out]
    if f.held and f.entity.deletes:
        return _to_be_deleted(f, why)
    if {"is_deleted", "rule_is_deleted"} & set(names):
        return _deleted(f, why)
    settings = [name for name in names if name in type(f.settings).model_fields]
    step = f"Change {', '.join(settings)} in the settings, then run a full sync." if settings else "Nothing to do."
    if names == ["cart_idle_minutes"]:
        step = "Wait: a later run sends it."
    if names == ["opted_in"]:
        step = "Nothing, unless they are asked. As a customer the person is sent all the same."
    stays = "; the audience keeps it as it is" if f.held else ""
    return Verdict.LEFT_OUT, f"{f.name} is not sent, because {why}{stays}.", step


def _broken(f: Findings) -> Judgement | None:
    if f.found is None or f.found.rejected is None:
        return None
    record = f.found.rejected
    if record.waits_for:
        told = f"{f.name} waits for {record.waits_for.replace(':', ' ')}: {record.detail.rstrip('.')}."
        return Verdict.WAITING, told, "Mend the parent (its own explanation is below); then this one follows by itself."
    told = f"{f.name} breaks a rule ({record.title}, {record.field}): {record.detail.rstrip('.')}."
    return Verdict.BROKEN_RULE, told, "Correct it in the shop: the next run sends it. After other changes, replay it."


def _owed(f: Findings) -> Judgement | None:
    if f.entry is None or f.entry.state not in {"pending", "unknown"}:
        return None
    if f.entry.state == "pending":
        return Verdict.OWED, f"{f.name} is owed: a run has yet to send it, or to repeat it.", "The next run sends it."
    why = f" ({f.rejected.title}: {f.rejected.detail})" if f.rejected else ""
    told = f"{f.name} was sent, but what became of it is unknown{why}; Mailchimp may hold it or not."
    return Verdict.UNKNOWN, told, "The next run sends it again, whatever became of it."


def _as_sent(f: Findings) -> Judgement | None:
    if f.entry is None or f.entry.state not in {"synced", "rejected"}:
        return None
    return _rejected(f) if f.entry.state == "rejected" else _acknowledged(f)


def _acknowledged(f: Findings) -> Judgement:
    operation = f.last("ok")
    when = _said(f.entry.acknowledged_at) if f.entry else ""
    by = f" by run {operation.dag_run_id} in batch {operation.batch_id}" if operation else ""
    if not f.held:
        told = f"Mailchimp answered {when} that it doesn't know {f.name}, so there is nothing to change there{by}."
        return Verdict.ACKNOWLEDGED, told, "Nothing."
    if f.current:
        return Verdict.ACKNOWLEDGED, f"Mailchimp acknowledged {f.name} as it is now, {when}{by}.", "Nothing."
    told = f"Mailchimp acknowledged {f.name} {when}{by}; the shop, or what the settings make of it, has changed since."
    return Verdict.OUTDATED, told, _next_look(f)


def _rejected(f: Findings) -> Judgement:
    if f.rejected is None:
        return Verdict.OWED, f"{f.name} was rejected once, and has not been sent since.", _next_look(f)
    reason = f.rejected
    if f.waits():
        if f.missing:
            named = " and ".join(f"{name} {key}" for name, key in f.missing)
            told = f"{f.name} waits for {named}, which Mailchimp doesn't hold."
            return Verdict.WAITING, told, "It is sent as soon as that is acknowledged (its explanation is below)."
        if reason.waits_for:
            told = f"{f.name} waited for {reason.waits_for.replace(':', ' ')}, which Mailchimp holds by now."
            return Verdict.OWED, told, "The next run sends it."
    if reason.operation is None:
        told = f"{f.name} was rejected by a rule ({reason.title}) that it keeps by now."
        return Verdict.OWED, told, _next_look(f)
    run = f"run {reason.dag_run_id}, {_said(reason.last_seen_at)}, attempt {reason.attempts}"
    told = f"Mailchimp refused {f.name} ({run}): {reason.title}: {reason.detail.rstrip('.')}."
    if not f.current and f.entry is not None and f.entry.payload_hash is not None:
        return Verdict.REFUSED, f"{told} It has changed since.", _next_look(f)
    retry = retry_of(reason.error_class)
    step = "It is sent again " + (retry if retry is not Retry.ON_CHANGE else "when it changes in the shop")
    return Verdict.REFUSED, told, f"{step}; if something was mended elsewhere, replay it."


def _never_sent(f: Findings) -> Judgement:
    before = " again" if f.entry is not None and f.entry.state == "deleted" else ""
    if f.missing and f.watermark is None:
        before += ", after what it refers to"
    if f.watermark is None:
        told = f"{f.name} is not sent yet: no run has brought {f.entity.name} to Mailchimp completely so far."
        return Verdict.NOT_YET, told, f"The next run sends it{before}."
    if f.comes_next():
        told = f"{f.name} changed after the last run, which read until {_said(f.watermark)}."
        return Verdict.NOT_YET, told, f"The next run sends it{before}."
    told = (
        f"{f.name} lies outside of all windows so far: it changed before {_said(f.watermark)}, but no run has read it. "
        "A first load that was confined by dates leaves older records out; so does a row whose updated_at doesn't move."
    )
    return Verdict.NOT_YET, told, "Run a full sync without dates, or a push with this id."


def _next_look(f: Findings) -> str:
    if f.comes_next():
        return "The next run sends it."
    return "A full sync, a push with this id, or a replay sends it: its updated_at hasn't moved since the last run."


def _said(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "at an unknown time"
