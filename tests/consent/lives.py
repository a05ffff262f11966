"""Random lives of whole towns, one after another, as hypothesis draws them; the same ones every time.

In a town many families live at once: each goes through a random sequence of steps of its own, in between come the
steps that concern all (runs, settings, losses). Every family's sequence is one life.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.consent import remote_steps, runs, shop_steps
from tests.consent.shop_steps import Configures, Family
from tests.consent.world import Violation, World

FAMILIES = 8
FEWEST_STEPS = 20

Weighted = tuple[tuple[int, st.SearchStrategy[Any]], ...]


@dataclass(frozen=True)
class EachOnItsOwn:
    """Something happens in every family."""

    steps: tuple[Any, ...]

    def do(self, world: World) -> None:
        for step in self.steps:
            step.do(world)


@dataclass(frozen=True)
class Town:
    """What happens, from an empty audience on."""

    families: int
    double_optin: bool
    settings: Configures
    steps: list[Any]


def _often(weighted: Weighted) -> st.SearchStrategy[Any]:
    """Draw by weight. The first of all is what hypothesis puts in place of steps that don't matter for a failure."""
    return st.sampled_from([kind for often, kind in weighted for _ in range(often)]).flatmap(lambda kind: kind)


def _steps_of(family: Family) -> st.SearchStrategy[Any]:
    return _often(
        (
            (1, family.renames),
            (10, family.answers),
            (6, family.email_changes),
            (4, family.lives_of_accounts),
            (3, family.purchases),
            (5, remote_steps.by_contacts(family)),
            (4, remote_steps.by_others(family)),
        )
    )


def towns(count: int) -> st.SearchStrategy[Town]:
    """Draw the lives of so many families."""
    families = [Family(number) for number in range(count)]
    steps = _often(
        (
            (33, st.builds(EachOnItsOwn, st.tuples(*map(_steps_of, families)))),
            (2, shop_steps.configurations),
            (5, runs.pushes),
            (3, runs.interruptions(families)),
            (2, runs.other_runs(families)),
            (1, runs.losses),
        )
    )
    return st.builds(
        Town,
        st.just(count),
        st.booleans(),
        shop_steps.configurations,
        st.lists(steps, min_size=FEWEST_STEPS, max_size=FEWEST_STEPS + 2),
    )


PULLED_EVERY = 2


def _with_pulls(steps: Sequence[Any]) -> Iterator[Any]:
    """Pull every few steps, each fourth time everything, with runs of the rarer kinds: the rest stays the same."""
    for number, step in enumerate(steps, start=1):
        yield step
        if number % PULLED_EVERY == 0:
            yield runs.Pulls(full=number % (4 * PULLED_EVERY) == 0)
        if number % (5 * PULLED_EVERY) == 0:
            yield from (runs.Replays(), runs.BringsSubscribers())


def live(world: World, town: Town, *, pulls: bool = False, priority: str | None = None) -> None:
    """Let a town live; after it, one whole push has to leave every opt-out respected.

    Args:
        world: where.
        town: what happens.
        pulls: whether the shop is told what happens at Mailchimp.
        priority: which side counts in doubt, with two-way sync; None: without.

    Raises:
        Violation: a rule of the firewall was broken; the note says at which step.
    """
    both_ways = {"two_way_sync": priority is not None, "sync_priority": priority or "remote_wins"}
    world.begin_life(town.families, double_optin=town.double_optin, settings=vars(town.settings) | both_ways)
    world.tally["towns"] += 1
    world.tally["lives"] += town.families
    steps = [*_with_pulls(town.steps), runs.Pulls()] if pulls else town.steps
    for number, step in enumerate([*steps, runs.Pushes()], start=1):
        world.moments.append(datetime.now(UTC))
        try:
            step.do(world)
        except Violation as error:
            error.add_note(f"at step {number}, {step}, of {town}")
            raise
        world.tally["steps"] += town.families
    world.assert_opt_outs_arrived()


def live_many(
    world: World,
    count: int,
    *,
    number: int = 0,
    families: int = FAMILIES,
    pulls: bool = False,
    priority: str | None = None,
    shrinks: bool = False,
) -> None:
    """Let many towns live, the same ones every time.

    Args:
        world: where.
        count: how many.
        number: other towns for another number.
        families: of each town; one, to understand what is wrong.
        pulls: whether the shop is told what happens at Mailchimp.
        priority: which side counts in doubt, with two-way sync; None: without.
        shrinks: whether to look for the shortest life with the same failure.

    Raises:
        Violation: a rule of the firewall was broken.
    """

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink) if shrinks else (Phase.generate,),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(towns(families))
    def happens(town: Town) -> None:
        if found and not shrinks:  # hypothesis wants to see it once more
            raise found[0]
        try:
            live(world, town, pulls=pulls, priority=priority)
        except Violation as violation:
            found.append(violation)
            raise

    found: list[Violation] = []
    happens()
