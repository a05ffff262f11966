"""How many people a run would subscribe for the first time is known before it subscribes any."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.extract.slices import Extractor
from include.load import replay, subscribers
from include.load.replay import Selection
from include.load.runs import Mode
from include.load.subscribers import count_new_subscribers
from include.transform.records import BuildContext
from tests.pipeline import AUDIENCE, Pipeline


def count(pipeline: Pipeline, ids: tuple[str, ...] = (), **options: object) -> int:
    run, _ = pipeline.begin(**options)  # type: ignore[arg-type]
    context = BuildContext(pipeline.settings, pipeline.profile.profile, "EUR")
    with pipeline.engine.connect() as connection:
        return count_new_subscribers(pipeline.state, Extractor(connection, pipeline.profile), run, context, ids)


def test_people_who_opted_in_and_were_never_sent_are_counted(pipeline: Pipeline) -> None:
    pipeline.configure(max_new_subscribers=100)
    for number, opted_in in enumerate((True, True, False, None), start=1):
        pipeline.add_customer(number, opted_in=opted_in)
    assert count(pipeline) == 2
    pipeline.push()
    assert count(pipeline, mode=Mode.FULL) == 0
    pipeline.add_customer(5, opted_in=True)
    assert count(pipeline) == 1


def test_a_person_with_two_accounts_is_one(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.configure(max_new_subscribers=100)
    for number in (1, 2):
        pipeline.add_customer(number, "same@mail.little.shop", opted_in=True)
    assert count(pipeline) == 1


def test_people_outside_of_the_window_are_not_counted(pipeline: Pipeline) -> None:
    pipeline.configure(max_new_subscribers=100)
    pipeline.add_customer(1, opted_in=True)
    assert count(pipeline, since=datetime.now(UTC) + timedelta(minutes=1)) == 0


def test_of_a_run_by_ids_only_these_are_counted(pipeline: Pipeline) -> None:
    pipeline.configure(max_new_subscribers=100)
    for number in range(1, 6):
        pipeline.add_customer(number, opted_in=True)
    assert count(pipeline, ("2", "3", "77"), mode=Mode.IDS) == 2


def test_those_who_were_never_asked_count_where_they_are_subscribed(pipeline: Pipeline) -> None:
    pipeline.configure(max_new_subscribers=100, always_opt_in=True)
    pipeline.add_customer(1)
    pipeline.add_customer(2, opted_in=False)
    assert count(pipeline) == 1


@pytest.mark.parametrize("settings", [{}, {"max_new_subscribers": 100}])
def test_nothing_is_counted_where_nobody_asks(pipeline: Pipeline, settings: dict[str, int]) -> None:
    """No limit; or a run without subscriptions."""
    pipeline.configure(**settings)
    pipeline.add_customer(1, opted_in=True)
    entities = ("orders",) if settings else ("members",)
    assert count(pipeline, entities=entities) == 0


def test_counting_stops_above_the_limit(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribers, "_ROWS", 2)
    for number in range(1, 9):
        pipeline.add_customer(number, opted_in=True)
    pipeline.configure(max_new_subscribers=3)
    assert count(pipeline) == 4
    pipeline.configure(max_new_subscribers=100)
    assert count(pipeline) == 8


def test_people_whom_a_replay_brought_up_count_in_every_later_run(pipeline: Pipeline) -> None:
    """Found in review: who was owed by a replay that nobody approved went with the next scheduled run, unasked."""
    for number in (1, 2, 3):
        pipeline.add_customer(number, opted_in=True)
    size = {"name": "Size", "tag": "SIZE", "type": "text", "required": True}
    field = pipeline.client.post(f"{AUDIENCE}/merge-fields", json=size)
    pipeline.configure(max_new_subscribers=2, ecommerce=False)
    pipeline.push()
    assert len(pipeline.rejected()) == 3
    assert field
    pipeline.client.delete(f"{AUDIENCE}/merge-fields/{field['merge_id']}")

    request = replay.request_for("replay", "unused", ("members",))
    asked, store = pipeline.begin(mode=request.mode, entities=request.entities, kind=request.kind)
    assert replay.select(pipeline.state, store, asked, Selection()) == 3
    pipeline.conclude(asked)
    assert count(pipeline, kind="scheduled") == 3
    assert count(pipeline, kind="scheduled", entities=("products",)) == 0
