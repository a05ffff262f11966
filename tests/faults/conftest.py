"""Adds up what the fault suite did, whichever processes its tests ran in, and shows it at the end of the session."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import pytest

from include.sandbox.faults import Fault

KILLED = "KILLED"


@dataclass(frozen=True)
class Damage:
    """What was done in one seed, and what came of it; faults by name, and the kills.

    Attributes:
        injected: how often each was committed.
        affected: operations that were hit by it, where it hits whole batches.
        lost: records that Mailchimp doesn't hold as it should in the end.
        duplicated: records and mails that there are twice.
        sent_again: operations that were repeated because nobody could know their outcome.
    """

    injected: Mapping[str, int]
    affected: Mapping[str, int]
    lost: int
    duplicated: int
    sent_again: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, told: str) -> Self:
        return cls(**json.loads(told))


def table(seeds: list[Damage]) -> list[str]:
    """Lay out what was done, by fault; losses and duplicates count for every fault of the seed they are found in."""
    names = {fault.name: fault.value for fault in Fault} | {KILLED: "worker killed (SIGKILL)"}
    lines = [f"{'fault':<42}{'seeds':>6}{'times':>7}{'operations hit':>16}{'lost':>6}{'duplicated':>12}"]
    for name, told in names.items():
        struck = [one for one in seeds if one.injected.get(name)]
        hit: Counter[str] = Counter()
        for one in struck:
            hit.update(one.affected)
        affected = f"{hit[name]:,}" if any(name in one.affected for one in struck) else "one call"
        lines.append(
            f"{told:<42}{len(struck):>6}{sum(one.injected[name] for one in struck):>7}{affected:>16}"
            f"{sum(one.lost for one in struck):>6}{sum(one.duplicated for one in struck):>12}"
        )
    lines.append(
        f"operations sent again, because nobody could know their outcome: {sum(s.sent_again for s in seeds):,}"
    )
    return lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    properties = [
        value for report in reports for name, value in getattr(report, "user_properties", ()) if name == "damage"
    ]
    if properties:
        terminalreporter.section("fault suite")
        for line in table([Damage.from_json(str(told)) for told in properties]):
            terminalreporter.write_line(line)
