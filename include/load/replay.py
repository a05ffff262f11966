"""Replays rejected records: counts them, makes them owed again, and says what became of them.

There is no second engine. A replay is a run that names records (`Mode.IDS`), whose ids are in the state tables: their
current rows are read, judged and sent like any others, parents first. A record that is rejected again stays where it
was, one that Mailchimp takes leaves the list, and so does one that the shop no longer has. What a run may do to a
contact's consent is not touched by any of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from include.load.retries import TERMINAL, retry_of
from include.load.runs import Mode, RunRequest
from include.state.database import StateDatabase
from include.state.rejected import top_error_classes
from include.state.replays import (
    RejectedCount,
    ReplayCount,
    Selection,
    count_rejected,
    owe_again,
    replay_outcomes,
)
from include.state.runs import QUIET_REPLAY, Run
from include.state.stores import StoreRef
from include.transform.entities import ENTITIES

__all__ = ["Replay", "Selection", "count", "counts_table", "outcome", "request_for", "select"]


@dataclass(frozen=True)
class Replay:
    """What a replay came to.

    Attributes:
        counts: by entity and former class.
        reasons: why records were rejected again, most frequent first.
    """

    counts: tuple[ReplayCount, ...]
    reasons: tuple[str, ...]

    def total(self, name: str) -> int:
        """Add up one of the counts."""
        return sum(getattr(one, name) for one in self.counts)

    def to_json(self) -> dict[str, int]:
        """Return the totals."""
        return {name: self.total(name) for name in ("records", "succeeded", "gone", "rejected", "open")}


def count(state: StateDatabase, store_ref: int, selection: Selection) -> list[RejectedCount]:
    """Count what a replay would send; records of terminal classes are counted too.

    Args:
        state: the state tables.
        store_ref: the store.
        selection: which records.
    """
    with state.begin() as connection:
        return count_rejected(connection, store_ref, selection)


def selected(counts: Sequence[RejectedCount], selection: Selection) -> list[RejectedCount]:
    """Return those counts whose records a replay sends: terminal classes count only where they are named."""
    chosen = replace(selection, terminal=TERMINAL)
    return [one for one in counts if chosen.replays(one.error_class)]


def request_for(dag_id: str, dag_run_id: str, entities: Sequence[str], *, quiet: bool = True) -> RunRequest:
    """Make the request of a replay.

    Args:
        dag_id: the DAG.
        dag_run_id: its run.
        entities: those that have records to replay.
        quiet: hold the store's automations back meanwhile, until the carts are sent.
    """
    in_order = tuple(entity for entity in ENTITIES if entity in entities)
    return RunRequest(dag_id, dag_run_id, QUIET_REPLAY if quiet else "manual", Mode.IDS, None, None, in_order)


def select(state: StateDatabase, store: StoreRef, run: Run, selection: Selection) -> int:
    """Give the selected records to a run and make them owed.

    From here on nothing depends on the run: should it die, the next push sends these records.

    Args:
        state: the state tables.
        store: the store.
        run: of a request by `request_for`.
        selection: which records.

    Returns:
        How many records they are.
    """
    with state.begin() as connection:
        return owe_again(connection, store, run.run_ref, replace(selection, terminal=TERMINAL))


def outcome(state: StateDatabase, run: Run) -> Replay:
    """Say what became of the records of a replay.

    Args:
        state: the state tables.
        run: the replay's run, after its phases.
    """
    with state.begin() as connection:
        counts = replay_outcomes(connection, run.run_ref)
        reasons = top_error_classes(connection, run.store_ref, run.dag_run_id)
    return Replay(tuple(counts), tuple(reasons))


def counts_table(counts: Sequence[RejectedCount], selection: Selection) -> str:
    """Lay out what a replay would send, and what becomes of it without one."""
    if not counts:
        return "no rejected record fits"
    lines = [f"{'entity':<12} {'error class':<16} {'records':>9}  {'last seen':<17} without a replay"]
    chosen = selected(counts, selection)
    for one in counts:
        told = f"sent again {retry_of(one.error_class)}" if one in chosen else "left out: name its class to replay it"
        lines.append(
            f"{one.entity:<12} {one.error_class:<16} {one.records:>9,}  {one.last_seen_at:%Y-%m-%d %H:%M}  {told}"
        )
    lines.append(f"{sum(one.records for one in chosen):,} records are replayed")
    return "\n".join(lines)


def outcome_table(replayed: Replay) -> str:
    """Lay out what became of the records of a replay."""
    names = ("records", "succeeded", "gone", "rejected", "open")
    lines = [f"{'entity':<12} {'was':<16}" + "".join(f"{name:>11}" for name in names)]
    lines += [
        f"{one.entity:<12} {one.error_class:<16}" + "".join(f"{getattr(one, name):>11,}" for name in names)
        for one in replayed.counts
    ]
    if replayed.reasons:
        lines.append(f"rejected again for: {'; '.join(replayed.reasons)}")
    return "\n".join(lines)
