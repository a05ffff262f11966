"""What the pipeline does, to its end or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from include.load.runs import Mode
from tests.consent.remote_steps import by_contacts
from tests.consent.shop_steps import Family
from tests.consent.wire import Hook
from tests.consent.world import World
from tests.pipeline import Died


@dataclass(frozen=True)
class Pushes:
    """The scheduled run."""

    def do(self, world: World) -> None:
        world.run()


@dataclass(frozen=True)
class SyncsAll:
    """The full sync."""

    def do(self, world: World) -> None:
        world.run(mode=Mode.FULL)


@dataclass(frozen=True)
class Pulls:
    """The pull: what changed, or everything."""

    full: bool = False

    def do(self, world: World) -> None:
        world.pull(full=self.full)


@dataclass(frozen=True)
class Replays:
    """A replay of whoever was rejected."""

    def do(self, world: World) -> None:
        world.replay()


@dataclass(frozen=True)
class BringsSubscribers:
    """The one-off run for people whom only the shop knows."""

    def do(self, world: World) -> None:
        world.bring_subscribers()


@dataclass(frozen=True)
class Backfills:
    """A run over a window of the past: from one earlier step to another."""

    first: int
    length: int

    def do(self, world: World) -> None:
        start = min(self.first, len(world.moments) - 1)
        end = min(start + self.length, len(world.moments) - 1)
        world.run(since=world.moments[start], until=world.moments[end], kind="backfill")


@dataclass(frozen=True)
class PushesSome:
    """A run of a few customers, by their ids."""

    ids: tuple[int, ...]

    def do(self, world: World) -> None:
        world.run(mode=Mode.IDS, ids=self.ids)


@dataclass(frozen=True)
class Dies:
    """The worker dies at one of its requests, before Mailchimp gets it or before the reply comes back."""

    request: int
    done: bool

    def do(self, world: World) -> None:
        hook = at(self.request, _die)
        world.run(**{"after" if self.done else "before": hook})


@dataclass(frozen=True)
class IsOvertaken:
    """While a run is at work, contacts act: before one of its requests, a contact of each family."""

    request: int
    acts: tuple[Any, ...]

    def do(self, world: World) -> None:
        world.run(before=at(self.request, self._act(world)))

    def _act(self, world: World) -> Callable[[], None]:
        def act() -> None:
            for one in self.acts:
                one.do(world)

        return act


@dataclass(frozen=True)
class LosesState:
    """Somebody drops the pipeline's schema: it knows nothing any more."""

    def do(self, world: World) -> None:
        world.lose_ledger()


@dataclass(frozen=True)
class LosesStore:
    """Somebody deletes the store at Mailchimp; the contacts stay."""

    def do(self, world: World) -> None:
        world.lose_store()


def at(request: int, act: Callable[[], None]) -> Hook:
    """Make a hook that acts at one request of a run."""

    def hook(number: int) -> None:
        if number == request:
            act()

    return hook


def _die() -> None:
    raise Died


_requests = st.integers(7, 20)  # the first of them only look around
pushes = st.builds(Pushes)
losses = st.one_of(st.builds(LosesState), st.builds(LosesStore))


def interruptions(families: Sequence[Family]) -> st.SearchStrategy[Dies | IsOvertaken]:
    """Runs that something happens to."""
    acts = st.tuples(*(by_contacts(family) for family in families))
    return st.one_of(st.builds(Dies, _requests, st.booleans()), st.builds(IsOvertaken, _requests, acts))


def other_runs(families: Sequence[Family]) -> st.SearchStrategy[SyncsAll | Backfills | PushesSome]:
    """Runs that somebody starts by hand."""
    customers = st.one_of(*(family.customers for family in families))
    return st.one_of(
        st.builds(SyncsAll),
        st.builds(Backfills, st.integers(0, 20), st.integers(1, 20)),
        st.builds(PushesSome, st.lists(customers, min_size=1, max_size=3 * len(families), unique=True).map(tuple)),
    )
