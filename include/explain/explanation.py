"""What an explanation is: a verdict in one sentence, the steps that lead to it, and what the reader can do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

HIDDEN: Final = "(not shown)"


class Verdict(StrEnum):
    """Where a record is."""

    NOT_IN_SHOP = "not in the shop"
    NOT_YET = "not sent yet"
    LEFT_OUT = "left out by a setting"
    BROKEN_RULE = "rejected before it was sent"
    REFUSED = "rejected by Mailchimp"
    WAITING = "waiting for a parent"
    OWED = "owed"
    IN_FLIGHT = "in flight"
    UNKNOWN = "unknown"
    ACKNOWLEDGED = "acknowledged"
    OUTDATED = "acknowledged, but changed since"
    DELETED = "deleted"
    TO_BE_DELETED = "to be deleted"
    ALIAS = "part of another record"


@dataclass(frozen=True)
class Step:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        told: what was found, in a sentence; no personal data.
        values: the details, JSON values; some of them may be personal.
        shown: the names in `values` that hold nothing personal; None: all of them.
    """

    name: str
    told: str
    values: Mapping[str, Any] | None = None
    shown: frozenset[str] | None = None

    def visible(self, *, private: bool) -> dict[str, Any]:
        """Return the details, personal ones hidden unless they are asked for; what is empty is left out."""
        found = {name: value for name, value in (self.values or {}).items() if value not in (None, [], {}, "")}
        if private or self.shown is None:
            return found
        return {name: value if name in self.shown else HIDDEN for name, value in found.items()}


@dataclass(frozen=True)
class Explanation:
    """Why a record is, or isn't, at Mailchimp.

    Attributes:
        entity: the entity.
        id: the shop's key, or the id at Mailchimp where the shop has none.
        record_id: the id at Mailchimp; None where it can't be told.
        at_mailchimp: whether Mailchimp is known to hold it.
        verdict: where it is.
        sentence: the verdict in a sentence; no personal data.
        next_step: what the reader can do, or waits for.
        steps: what was looked at, in order.
        others: the explanations of the records it depends on: missing parents, the record it is part of.
    """

    entity: str
    id: str
    record_id: str | None
    at_mailchimp: bool
    verdict: Verdict
    sentence: str
    next_step: str
    steps: tuple[Step, ...]
    others: tuple[Explanation, ...] = ()

    def to_json(self, *, private: bool = True) -> dict[str, Any]:
        """Return everything as JSON values.

        Args:
            private: with personal data: the shop's row and the payload as they are.
        """
        return {
            "entity": self.entity,
            "id": self.id,
            "record_id": self.record_id,
            "at_mailchimp": self.at_mailchimp,
            "verdict": str(self.verdict),
            "sentence": self.sentence,
            "next_step": self.next_step,
            "steps": [
                {"name": step.name, "told": step.told, "values": step.visible(private=private)} for step in self.steps
            ],
            "others": [other.to_json(private=private) for other in self.others],
        }

    def to_text(self, *, private: bool = False) -> str:
        """Lay the explanation out for people.

        Args:
            private: with personal data; without, e-mail addresses, names, phone numbers and addresses are hidden.
        """
        return "\n".join(self._lines(private, ""))

    def _lines(self, private: bool, indent: str) -> Iterator[str]:
        where = "at Mailchimp" if self.at_mailchimp else "not at Mailchimp"
        yield f"{indent}{self.entity} {self.id}: {where}, {self.verdict}"
        yield f"{indent}  {self.sentence}"
        yield f"{indent}  → {self.next_step}"
        for number, step in enumerate(self.steps, start=1):
            yield f"{indent}  {number}. {step.name}: {step.told}"
            for name, value in step.visible(private=private).items():
                yield f"{indent}       {name}: {value}"
        for other in self.others:
            yield ""
            yield from other._lines(private, indent + "    ")
