"""A forecast as text for a log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from include.rehearse.differences import names_people
from include.rehearse.forecast import EntityForecast, Forecast

_COLUMNS: Final = {
    "create": "creates",
    "update": "updates",
    "delete": "deletes",
    "inside": "deletes_inside",
    "again": "repeats",
    "operations": "operations",
    "batches": "batches",
    "bytes": "bytes",
    "unchanged": "unchanged",
    "skipped": "skipped",
    "rejected": "rejected",
}


def forecast_table(forecast: Forecast) -> str:
    """Lay a forecast out as a text table, followed by totals, reasons and examples."""
    return "\n".join(_lines(forecast))


def _lines(forecast: Forecast) -> Iterator[str]:
    yield f"{'entity':<12}" + "".join(f"{title:>12}" for title in _COLUMNS)
    for one in forecast.entities.values():
        yield f"{one.entity:<12}" + "".join(f"{getattr(one, name):>12,}" for name in _COLUMNS.values())
    source = "measured with this store's last batches" if forecast.measured else "assumed until batches were measured"
    yield (
        f"{forecast.operations:,} operations in {forecast.batches:,} batches, {forecast.bytes:,} bytes; about "
        f"{forecast.minutes:,.1f} minutes at {forecast.per_second:,.1f} operations per second ({source})"
    )
    for call, count in sorted(forecast.direct.items()):
        yield f"besides: {count:,} × {call}"
    for name, (joined, left, waiting) in forecast.segments.items():
        yield f"segment {name}: {joined:,} join, {left:,} leave, {waiting:,} wait for their contact"
    if forecast.erased:
        yield f"people to be erased for ever: {forecast.erased:,}"
    if forecast.new_subscribers is not None:
        yield f"new subscribers: {forecast.new_subscribers:,} (not counted beyond max_new_subscribers)"
    if forecast.unchecked:
        yield f"{forecast.unchecked:,} records were too many to look up: they are taken as the ledger has them"
    if any(names_people(entity) for entity in forecast.entities):
        yield "not foreseen: what contacts did at Mailchimp since the last pull, which a run reads before people"
    for one in forecast.entities.values():
        yield from _details(one)
    for failure in forecast.failures:
        yield f"THE RUN WOULD FAIL: {failure}"


def _details(one: EntityForecast) -> Iterator[str]:
    for title, count in sorted(one.reasons.items(), key=lambda reason: -reason[1]):
        yield f"{one.entity}, rejected: {title} ({count:,})"
    for kind, samples in one.samples.items():
        named = [sample for sample in samples if sample.record_id and not sample.differences]
        if named:
            yield f"{one.entity}, {kind}: {', '.join(sample.record_id for sample in named)}"
        for sample in samples:
            if sample.differences:
                who = f" {sample.record_id}" if sample.record_id else ""
                yield f"{one.entity}, {kind}{who}: {'; '.join(map(str, sample.differences))}"
