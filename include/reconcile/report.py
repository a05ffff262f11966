"""What a comparison has found, for people and for the repair: counts, ids and names of fields, never values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, text

from include.transform.entities import ENTITIES


class Kind(StrEnum):
    """How a record has drifted."""

    MISSING = "missing"  # the ledger says that Mailchimp has it, and Mailchimp doesn't
    STALE = "stale"  # a field differs
    INCOMPLETE = "incomplete"  # a line, a variant … is missing or too many
    ORPHANED = "orphaned"  # Mailchimp has it, the shop doesn't
    DUPLICATED = "duplicated"  # likewise, and it is the same order or person as another record
    UNKNOWN = "unknown"  # equal in both, but the ledger doesn't know it
    DENIED = "denied"  # Mailchimp has it, but the ledger says deleted, rejected or never sent
    GONE = "gone"  # the ledger alone believes in it
    REVENUE = "revenue"  # order count or revenue of a month and currency


class Rest(StrEnum):
    """How a record stands that has not drifted."""

    EQUAL = "equal"
    OWED = "owed"  # the next push deals with it
    MOVING = "moving"  # in flight, or acknowledged while the comparison went on
    REJECTED = "rejected"  # see rejected_records
    UNSENT = "unsent"  # never sent, for example older than a confined first load
    KEPT = "kept"  # customers to whom orders at Mailchimp refer
    FOREIGN = "foreign"  # contacts that the shop doesn't know


class Action(StrEnum):
    """What a repair does about a record that has drifted."""

    ACKNOWLEDGE = "acknowledge"  # the ledger learns that Mailchimp has exactly this
    OWE = "owe"  # the ledger owes it: the next push sends it
    REMOVE = "remove"  # on the list of removals: the next push looks in the shop once more, then deletes it
    FORGET = "forget"  # the ledger learns that Mailchimp doesn't have it
    HOLD = "hold"  # the ledger learns that Mailchimp has some state of it
    NONE = "none"  # reported only


_EXAMPLES: Final = 10


@dataclass(frozen=True)
class MonthRevenue:
    """Orders of one month (UTC) and currency. `drift_…` is Mailchimp minus shop, without what explains itself."""

    month: str
    currency: str
    shop_orders: int
    shop_revenue: Decimal
    mailchimp_orders: int
    mailchimp_revenue: Decimal
    drift_orders: int
    drift_revenue: Decimal

    @property
    def drifted(self) -> bool:
        """Whether the figures differ for no good reason."""
        return bool(self.drift_orders or self.drift_revenue)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> MonthRevenue:
        """Read a stored row, whose amounts are texts."""
        amounts = {name: Decimal(str(row[name])) for name in row if name.endswith("_revenue")}
        return cls(**{**row, **amounts})


@dataclass(frozen=True)
class Example:
    """One record that has drifted."""

    entity: str
    kind: str
    record_id: str
    fields: tuple[str, ...]
    action: str


@dataclass(frozen=True)
class Reconciliation:
    """One comparison.

    Attributes:
        reconciliation_ref: its number.
        store_ref: the store.
        started_at: when it began.
        seconds: how long it took.
        http_calls: calls to Mailchimp.
        counts: records by entity and finding (`Kind` or `Rest`).
        revenue: orders by month and currency.
        repairable: of what has drifted, the records that a repair does something about.
        examples: some of what has drifted.
        repaired_at: when the ledger was repaired.
    """

    reconciliation_ref: int
    store_ref: int
    started_at: datetime
    seconds: float
    http_calls: int
    counts: Mapping[str, Mapping[str, int]]
    revenue: tuple[MonthRevenue, ...]
    repairable: int
    examples: tuple[Example, ...]
    repaired_at: datetime | None

    @property
    def drifted(self) -> int:
        """How many records have drifted."""
        kinds = set(Kind)
        return sum(count for found in self.counts.values() for kind, count in found.items() if kind in kinds)

    @property
    def wrong_months(self) -> tuple[MonthRevenue, ...]:
        """The months and currencies whose figures have drifted."""
        return tuple(one for one in self.revenue if one.drifted)


def load_reconciliation(connection: Connection, reconciliation_ref: int) -> Reconciliation:
    """Read a stored comparison.

    Args:
        connection: a transaction on the state tables.
        reconciliation_ref: its number.

    Raises:
        LookupError: there is none of this number (any more).
    """
    row = connection.execute(
        text("""
            SELECT c.*, extract(epoch FROM c.finished_at - c.started_at) AS seconds,
                   (SELECT count(*) FROM drifted d
                    WHERE d.reconciliation_ref = c.reconciliation_ref AND d.action <> 'none') AS repairable
            FROM reconciliation c WHERE c.reconciliation_ref = :ref AND c.finished_at IS NOT NULL
        """),
        {"ref": reconciliation_ref},
    ).one_or_none()
    if row is None:
        raise LookupError(f"Comparison {reconciliation_ref} is not in the state tables; run the DAG again.")
    examples = connection.execute(
        text("""
            SELECT entity, kind, record_id, fields, action FROM (
                SELECT *, row_number() OVER (PARTITION BY entity, kind ORDER BY record_id) AS position
                FROM drifted WHERE reconciliation_ref = :ref
            ) AS numbered WHERE position <= :most ORDER BY entity, kind, record_id
        """),
        {"ref": reconciliation_ref, "most": _EXAMPLES},
    )
    return Reconciliation(
        row.reconciliation_ref,
        row.store_ref,
        row.started_at,
        float(row.seconds),
        row.http_calls,
        {name: row.counts[name] for name in ENTITIES if name in row.counts},
        tuple(MonthRevenue.of(month) for month in row.revenue),
        row.repairable,
        tuple(Example(one.entity, one.kind, one.record_id, tuple(one.fields), one.action) for one in examples),
        row.repaired_at,
    )


def report_table(found: Reconciliation) -> str:
    """Lay a comparison out as text for a log."""
    return "\n".join(_lines(found))


def _lines(found: Reconciliation) -> Iterator[str]:
    columns = [*Rest, *(kind for kind in Kind if kind is not Kind.REVENUE)]
    used = [name for name in columns if any(counts.get(name) for counts in found.counts.values())]
    yield f"{'entity':<12}" + "".join(f"{name:>12}" for name in used)
    for entity, counts in found.counts.items():
        yield f"{entity:<12}" + "".join(f"{counts.get(name, 0):>12,}" for name in used)
    yield from _revenue_lines(found.revenue)
    yield ""
    yield (
        f"{found.drifted:,} records have drifted, {found.repairable:,} of them can be repaired; "
        f"{found.http_calls:,} calls to Mailchimp, {found.seconds:.0f} s"
    )
    for one in found.examples:
        yield f"  {one.entity} {one.record_id}: {one.kind}, {one.action}  {', '.join(one.fields)}".rstrip(" ,")


def _revenue_lines(months: Sequence[MonthRevenue]) -> Iterator[str]:
    if not months:
        return
    yield ""
    yield f"{'month':<12}{'orders in shop':>18}{'at Mailchimp':>18}{'revenue in shop':>20}{'at Mailchimp':>20}"
    for one in months:
        mark = "  differs" if one.drifted else ""
        yield (
            f"{one.month} {one.currency:<4}{one.shop_orders:>18,}{one.mailchimp_orders:>18,}"
            f"{one.shop_revenue:>20,.2f}{one.mailchimp_revenue:>20,.2f}{mark}"
        )
