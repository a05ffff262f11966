"""The sorted sequence behind member listings, against a plain sorted list."""

from random import Random

import pytest

from include.sandbox.timeline import Timeline, Window, merged, within


@pytest.mark.parametrize("seed", range(4))
def test_it_is_a_sorted_list_whatever_happens_to_it(seed: int) -> None:
    chance = Random(seed)
    entries = {(chance.randrange(500), f"{number:x}") for number in range(6000)}
    timeline = Timeline(entries)
    for number in range(9000):
        if chance.random() < 0.45:
            entry = chance.choice(tuple(entries)) if number % 50 == 0 else (chance.randrange(500), f"{number:x}")
            entries.discard(entry)
            timeline.discard(entry)
        else:
            entry = (chance.randrange(500), f"n{number:x}")
            entries.add(entry)
            timeline.add(entry)
    expected = sorted(entries)
    assert (len(timeline), list(timeline.between(0, len(timeline)))) == (len(expected), expected)
    for _ in range(200):
        start, size = chance.randrange(len(expected)), chance.randrange(3000)
        assert list(timeline.between(start, start + size)) == expected[start : start + size]
        assert timeline.at(start) == expected[start]
        assert timeline.rank(expected[start]) == start
        moment = chance.randrange(-2, 502)
        assert timeline.rank((moment, "")) == sum(one[0] < moment for one in expected)


def test_it_may_become_empty_and_full_again() -> None:
    timeline = Timeline([(1, "a")])
    timeline.discard((1, "b"))
    timeline.discard((1, "a"))
    timeline.discard((1, "a"))
    assert (len(timeline), timeline.rank((5, "")), list(timeline.between(0, 10))) == (0, 0, [])
    for number in range(10_000):
        timeline.add((number, "a"))
    assert (len(timeline), timeline.at(9_999)) == (10_000, (9_999, "a"))


@pytest.mark.parametrize("seed", range(4))
def test_two_of_them_are_paged_as_one(seed: int) -> None:
    chance = Random(seed)
    one = sorted({(chance.randrange(40), f"{chance.randrange(10**6):x}") for _ in range(300)})
    two = sorted({(chance.randrange(40), f"x{chance.randrange(10**6):x}") for _ in range(150 * seed)})
    after, before = chance.choice([None, 5]), chance.choice([None, 30])

    def inside(moment: int) -> bool:
        return (after is None or moment > after) and (before is None or moment < before)

    windows = [within(Timeline(part), after, before) for part in (one, two)]
    expected = sorted(entry for entry in (*one, *two) if inside(entry[0]))
    assert len(windows[0]) + len(windows[1]) == len(expected)
    for start in range(0, len(expected) + 20, 7):
        assert merged(windows[0], windows[1], start, start + 25) == expected[start : start + 25]


def test_an_inverted_range_is_empty() -> None:
    timeline = Timeline([(number, "a") for number in range(10)])
    window = within(timeline, 7, 3)
    assert isinstance(window, Window)
    assert (len(window), list(window.between(0, 5))) == (0, [])
