"""No sequence of events raises anybody's consent: random lives of whole towns, told step by step in ``lives``."""

from __future__ import annotations

from collections import Counter

import pytest

from include.sandbox.audiences import subscriber_hash
from tests.consent.lives import FAMILIES, FEWEST_STEPS, PULLED_EVERY, live_many
from tests.consent.remote_steps import Unsubscribes
from tests.consent.runs import Pushes, SyncsAll
from tests.consent.shop_steps import Answers, ChangesEmail
from tests.consent.world import CLEO, EVE, World, address_of, id_of

PARTS, TOWNS = 4, 10  # parts may run on several machines


def report(tally: Counter[str]) -> str:
    """Say what happened: the totals, and below them the changes that the pipeline made."""
    totals = ("towns", "lives", "steps", "runs", "pulls", "deaths", "changes", "moved")
    lines = [", ".join(f"{tally[name]:,} {name}" for name in totals)]
    lines += [f"  {number:5,} × {name}" for name, number in sorted(tally.items()) if name not in totals]
    return "\n".join(lines)


def made(tally: Counter[str], ending: str, beginning: str = "") -> int:
    """How many changes of these kinds the pipeline made."""
    return sum(number for name, number in tally.items() if name.startswith(beginning) and name.endswith(ending))


def test_there_are_enough_lives() -> None:
    assert PARTS * TOWNS * FAMILIES >= 300
    assert FEWEST_STEPS >= 20


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_nobodys_consent_is_ever_raised(world: World, part: int, capsys: pytest.CaptureFixture[str]) -> None:
    world.tally.clear()
    live_many(world, TOWNS, number=part)
    tally = world.tally
    with capsys.disabled():
        print(f"\n{report(tally)}")

    assert tally["lives"] >= TOWNS * FAMILIES
    assert tally["steps"] >= TOWNS * FAMILIES * FEWEST_STEPS
    assert tally["runs"] >= 3 * TOWNS
    # A world in which nothing is at stake would prove nothing.
    assert made(tally, "subscribed by api", "new") >= TOWNS, "subscriptions at once"
    assert made(tally, "pending by api", "new") >= TOWNS, "subscriptions to be confirmed"
    assert made(tally, "by ecommerce", "transactional") > 0, "an opt-in lifts a transactional contact"
    assert made(tally, "unsubscribed by api", "subscribed") > 0, "opt-outs"
    assert made(tally, "unsubscribed by api", "transactional") > 0, "opt-outs of people who were never subscribed"
    assert tally["moved"] > 0, "contacts take their status along to a new address"
    assert tally["deaths"] > 0, "workers that die"


@pytest.mark.slow
def test_what_is_pulled_stays_so(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The same lives, in which the shop is told of opt-outs at Mailchimp: no later run of any kind takes them back."""
    world.tally.clear()
    live_many(world, TOWNS // 2, pulls=True)
    tally = world.tally
    with capsys.disabled():
        print(f"\n{report(tally)}")
    assert tally["pulls"] >= TOWNS // 2 * FEWEST_STEPS // PULLED_EVERY
    assert tally["opted out by a pull"] > 0
    assert tally["replays"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("priority", ["remote_wins", "local_wins"])
def test_with_two_way_sync_nobody_is_raised_but_by_the_contacts_own_hand(
    world: World, priority: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same lives again; who opts in after an opt-out is asked at most."""
    world.tally.clear()
    live_many(world, TOWNS // 2, pulls=True, priority=priority)
    tally = world.tally
    with capsys.disabled():
        print(f"\n{report(tally)}")
    assert tally["opted in by a pull"] > 0
    assert made(tally, "pending by api", "unsubscribed") > 0, "contacts that are asked"


def test_a_guest_keeps_the_contact_of_an_address_that_an_account_leaves(world: World) -> None:
    """Found by hand after a random life: under ``guests: skip`` the guest is a member, but no customer."""
    shared, new = address_of(0, CLEO), address_of(0, EVE)
    settings = {"opt_in": "single", "always_opt_in": False, "guests": "skip"}
    world.begin_life(1, double_optin=False, settings=settings)
    for step in (
        Answers(id_of(0, 5), True),
        Pushes(),
        Unsubscribes(shared),
        ChangesEmail(id_of(0, 3), new),
        Pushes(),
        SyncsAll(),
    ):
        step.do(world)
    assert world.statuses()[subscriber_hash(shared)] == "unsubscribed"
