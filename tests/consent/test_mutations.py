"""The property can fail: every one of these mistakes is found by the same lives that find none in the product."""

from __future__ import annotations

from types import ModuleType

import pytest

from include.state import aliases
from include.transform import consent, two_way
from tests.consent.lives import live_many
from tests.consent.mutation import Mutant
from tests.consent.test_firewall_holds import TOWNS
from tests.consent.world import Violation, World

_LIVE_NO = 'refused & accounts["person"].isin(live.loc[_true(~live["opted_in"]), "person"])'
_ANY_NO = 'accounts["person"].isin(refusing["person"]) & ~accounts["person"].isin(_renewed(live, refusing))'
_MISTAKES: tuple[tuple[str, ModuleType, str, str], ...] = (
    (
        "unknown counts as yes",
        consent,
        "_true(opted_in) & ~archived",
        "opted_in.fillna(True).astype(bool) & ~archived",
    ),
    (
        "an unknown answer subscribes as a member",
        consent,
        "subscribes = _true(opted_in)",
        "subscribes = opted_in.fillna(True).astype(bool)",
    ),
    (
        "unknown counts as no",
        consent,
        "subscribes = _true(opted_in)",
        "opted_out = ~_true(opted_in); subscribes = ~opted_out",
    ),
    (
        "a yes overrides what the contact decided: status instead of status_if_new",
        consent,
        '"opt_out": nothing.mask(opted_out, "unsubscribed")',
        '"opt_out": nothing.mask(opted_out, "unsubscribed").mask(subscribes & ~opted_out, rules.status)',
    ),
    ("opt-outs are not told", consent, f'"opted_out": {_LIVE_NO}', f'"opted_out": {_LIVE_NO} & False'),
    (
        "always_opt_in applies to those who said no",
        consent,
        "subscribes |= opted_in.isna()",
        "subscribes |= True; opted_out = opted_out & False",
    ),
    (
        "always_opt_in applies to contacts that the audience has already",
        consent,
        "_true(opted_in) & ~archived",
        "(_true(opted_in) | (opted_in.isna() & rules.unasked)) & ~archived",
    ),
    (
        "double opt-in is ignored",
        consent,
        '"pending" if confirmed else "subscribed"',
        '"subscribed"',
    ),
    ("the audience's rule stands in for the store's", consent, "confirmed == asks", "True"),
    (
        "a no in another account with the same address is ignored",
        consent,
        f"refused = {_ANY_NO}",
        'refused = _true(~accounts["opted_in"])',
    ),
    ("the no of a deleted account is forgotten", consent, "refusing = in_order.loc[", "refusing = live.loc["),
    (
        "a deleted account still says yes",
        consent,
        'live.loc[_true(live["opted_in"])].drop',
        'in_order.loc[_true(in_order["opted_in"])].drop',
    ),
    (
        "an old yes beats a newer no",
        consent,
        '_true(speaking["opted_in_at"] > refused_at)',
        '_true(speaking["opted_in_at"].notna())',
    ),
    (
        "an address that others still use is taken along",
        aliases,
        "AND a.entity IN ('customers', 'members') AND a.source_key <> n.key)",
        "AND false)",
    ),
)
#: Which of the property's parts finds a mistake soonest; the first, unless said otherwise.
_FOUND_BY = {
    "always_opt_in applies to contacts that the audience has already": 2,
    "the audience's rule stands in for the store's": 3,
    "the no of a deleted account is forgotten": 2,
    "a deleted account still says yes": 1,
    "an old yes beats a newer no": 2,
    "an address that others still use is taken along": 1,
}
MUTANTS = tuple(Mutant(*mistake) for mistake in _MISTAKES)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_property_finds(mutant: Mutant, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.lives(monkeypatch)
    with pytest.raises(Violation):
        live_many(world, TOWNS, number=_FOUND_BY.get(mutant.mistake, 0))


@pytest.mark.slow
def test_the_property_of_two_way_sync_finds_an_old_opt_in_that_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = Mutant("an old opt-in counts", two_way, "if second(opted_in_at) <= opted_out_at:", "if False:")
    mutant.lives(monkeypatch)
    with pytest.raises(Violation):
        live_many(world, TOWNS // 2, pulls=True, priority="local_wins")
