"""What a run would send, in figures and a few examples; bounded, whatever the shop's size."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from include.rehearse.differences import Difference, names_people

Kind = Literal["create", "update", "delete", "delete inside"]

SAMPLES: Final = 5
"""Examples per entity and kind."""
USUAL_PER_SECOND: Final = 16.0
"""Operations that Mailchimp works off, as long as none of this store's batches tells (seen by users of its API)."""

_IDS = re.compile(r"(?<=/)(stores|lists|members|customers|products|orders|carts|segments|batches)/[^/]+")


@dataclass(frozen=True)
class Sample:
    """An example: the record's id (none for people), and for an update what it changes."""

    record_id: str
    differences: tuple[Difference, ...] = ()


@dataclass
class EntityForecast:
    """What a run would do with one entity's records.

    Attributes:
        extracted: rows read from the shop; of these, `unchanged` cost nothing, `skipped` are left out by the settings.
        rejected: can't be sent as they are; `reasons` counts those that this run would find, by title.
        creates: operations on records that Mailchimp isn't known to hold; `updates` on those that it holds.
        deletes: records that would be deleted; `deletes_inside`: lines, variants and images of records that stay.
        repeats: operations that would be necessary a second time.
    """

    entity: str
    extracted: int = 0
    unchanged: int = 0
    skipped: int = 0
    rejected: int = 0
    creates: int = 0
    updates: int = 0
    deletes: int = 0
    deletes_inside: int = 0
    repeats: int = 0
    batches: int = 0
    bytes: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    samples: dict[Kind, list[Sample]] = field(default_factory=dict)

    @property
    def operations(self) -> int:
        """All of them."""
        return self.creates + self.updates + self.deletes + self.deletes_inside + self.repeats

    def wants_sample(self, kind: Kind) -> bool:
        """Tell whether another example of a kind is wanted."""
        return len(self.samples.get(kind, ())) < SAMPLES

    def add_sample(self, kind: Kind, record_id: str, found: tuple[Difference, ...] = ()) -> None:
        """Keep an example, without an id that stands for a person."""
        if self.wants_sample(kind):
            shown = "" if names_people(self.entity) else record_id
            self.samples.setdefault(kind, []).append(Sample(shown, found))


@dataclass
class Forecast:
    """What a run would do.

    Attributes:
        entities: by name, parents first.
        direct: calls besides batches, by method and route.
        segments: per tag or segment how many contacts would (join, leave, wait for their contact).
        failures: why the run would count as failed.
        new_subscribers: how many contacts it would subscribe for the first time, where the settings limit that.
        erased: how many people it would erase for ever.
        unchecked: records of which it was assumed, not looked up, what Mailchimp has of them.
        per_second: operations that Mailchimp works off.
        measured: whether that comes from the store's own batches.
    """

    entities: dict[str, EntityForecast] = field(default_factory=dict)
    direct: Counter[str] = field(default_factory=Counter)
    segments: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    new_subscribers: int | None = None
    erased: int = 0
    unchecked: int = 0
    per_second: float = USUAL_PER_SECOND
    measured: bool = False

    def __getitem__(self, entity: str) -> EntityForecast:
        return self.entities.setdefault(entity, EntityForecast(entity))

    @property
    def operations(self) -> int:
        """Of all batches."""
        return sum(one.operations for one in self.entities.values())

    @property
    def batches(self) -> int:
        """How many there would be."""
        return sum(one.batches for one in self.entities.values())

    @property
    def bytes(self) -> int:
        """Of all batches' requests."""
        return sum(one.bytes for one in self.entities.values())

    @property
    def minutes(self) -> float:
        """How long Mailchimp would take for the batches."""
        return self.operations / self.per_second / 60

    def count_call(self, method: str, path: str) -> None:
        """Count a call besides the batches."""
        route = _IDS.sub(r"\1/…", path)
        self.direct[f"{method} {route}"] += 1

    def counts(self) -> dict[str, Any]:
        """Return the figures without any example: nothing of it is about a person."""
        names = ("creates", "updates", "deletes", "deletes_inside", "repeats", "unchanged", "skipped", "rejected")
        return {
            "operations": self.operations,
            "batches": self.batches,
            "bytes": self.bytes,
            "minutes": round(self.minutes, 1),
            "direct_calls": self.direct.total(),
            "would_fail": bool(self.failures),
            "entities": {one.entity: {name: getattr(one, name) for name in names} for one in self.entities.values()},
        }


def throughput(batches: Iterable[tuple[int, datetime, datetime]]) -> float | None:
    """Return the operations per second that Mailchimp worked off; None when the batches don't tell.

    Several batches wait at a time while Mailchimp works on one, so what counts is the time in which any was open.

    Args:
        batches: (operations, posted, completed) of each.
    """
    operations, seconds, until = 0, 0.0, None
    for count, posted, completed in sorted(batches, key=lambda batch: batch[1]):
        begun = posted if until is None else max(posted, until)
        operations += count
        seconds += max((completed - begun).total_seconds(), 0)
        until = completed if until is None else max(completed, until)
    return operations / seconds if seconds >= 1 else None


def add_up(forecast: Forecast, summaries: Iterable[Any], reasons: Mapping[str, Mapping[str, int]]) -> None:
    """Add what became of the rows that cost no operation.

    Args:
        forecast: is completed.
        summaries: `include.state.runs.EntitySummary` of each entity.
        reasons: titles of rejections with their numbers, by entity.
    """
    for summary in summaries:
        one = forecast[summary.entity]
        one.extracted, one.unchanged, one.skipped = summary.extracted, summary.unchanged, summary.skipped
        one.rejected, one.reasons = summary.rejected, dict(reasons.get(summary.entity, {}))
