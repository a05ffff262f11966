"""A rehearsal: the very run that would be made, on private copies of the state and with a client that writes nothing.

There is no second logic that could drift from the first. What it can't foresee is what only Mailchimp knows: records
that it would refuse, and what other runs or people change before the real run.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text

from include.config.stores import StoreSettings
from include.extract.slices import Extractor
from include.load.drive import plan, prepare_run
from include.load.erase import erase_people
from include.load.errors import RunStopped
from include.load.phases import PHASES, Phase
from include.load.preflight import check_account, check_currency
from include.load.push import SlicePush
from include.load.remove import SliceRemoval
from include.load.runs import RunRequest, conclude_run
from include.load.segments import push_segments
from include.load.slice_step import Done, Waiting
from include.load.store import resume_automations
from include.load.subscribers import count_new_subscribers
from include.mailchimp.client import MailchimpClient
from include.rehearse.client import MOST_LOOKUPS, RehearsalClient, Watch
from include.rehearse.forecast import USUAL_PER_SECOND, Forecast, add_up, throughput
from include.rehearse.state import PrivateState, private_state, recent_batches
from include.shops.profile import CheckedProfile
from include.state.database import SliceKey
from include.state.runs import Run
from include.state.stores import StoreRef
from include.transform.entities import ENTITIES, extra_columns
from include.transform.records import BuildContext

_MOST_WAITS = 10  # for the same batches


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal works on.

    Attributes:
        engine: the database with the state tables.
        schema: their schema, whether it exists or not.
        shop: engine of the shop's database, or of a replica.
        profile: the checked shop profile.
        client: of the account; only its GETs are used.
        settings: of the store.
        watch: is called with method and path of each operation.
        most_lookups: how many records are looked up at Mailchimp.
    """

    engine: Engine
    schema: str
    shop: Engine
    profile: CheckedProfile
    client: MailchimpClient
    settings: StoreSettings
    watch: Watch | None = None
    most_lookups: int = MOST_LOOKUPS

    def forecast(self, request: RunRequest, ids: Sequence[str] = (), *, allow_deletes: bool = False) -> Forecast:
        """Tell what a run would send if it began now. Nothing is written anywhere.

        Args:
            request: what the run would be asked for.
            ids: the shop's ids to look at in a run of mode `ids`.
            allow_deletes: delete more than the store's settings allow.

        Raises:
            RunStopped: the run couldn't begin.
            MailchimpError: Mailchimp can't be reached; try again later.
        """
        with self.shop.connect() as connection:
            extractor = Extractor(connection, self.profile)
            shop, now = extractor.read_store(), extractor.read_at
        currency = check_currency(self.settings, shop)
        account_id = check_account(self.client, self.settings)
        measured = throughput(recent_batches(self.engine, self.schema, self.settings))
        found = Forecast(per_second=measured or USUAL_PER_SECOND, measured=measured is not None)
        with private_state(self.engine, self.schema, self.settings, account_id) as state, _saying_nothing():
            client = RehearsalClient(self.client, state, self.settings, found, self.watch, self.most_lookups)
            run, store = prepare_run(state, client, self.settings, request, shop, now, account_id)
            context = BuildContext(self.settings, self.profile.profile, currency)
            played = _Played(self, state, client, run, store, context, found)
            try:
                played.push(ids, allow_deletes=allow_deletes)
            except RunStopped as stopped:
                found.failures.append(str(stopped))
            played.conclude()
        found.entities = {name: found.entities[name] for name in ENTITIES if name in found.entities}
        return found


@dataclass(frozen=True)
class _Played:
    """One run, as it would go."""

    rehearsal: Rehearsal
    state: PrivateState
    client: RehearsalClient
    run: Run
    store: StoreRef
    context: BuildContext
    found: Forecast

    def push(self, ids: Sequence[str], *, allow_deletes: bool) -> None:
        settings = self.rehearsal.settings
        if settings.max_new_subscribers is not None:
            with self._extractor() as extractor:
                count = count_new_subscribers(self.state, extractor, self.run, self.context, ids)
            self.found.new_subscribers = count
        self.found.erased = erase_people(
            self.state,
            self.rehearsal.shop,
            self.rehearsal.profile,
            self.client,
            self.store,
            settings,
            self.run,
            allow_deletes=allow_deletes,
        ).erased
        for phase in PHASES.values():
            with self._extractor() as extractor:
                slices = plan(
                    self.state, self.client, settings, extractor, self.run, phase, ids, allow_deletes=allow_deletes
                )
            for part in slices:
                self._work_off(phase, SliceKey(self.run.run_ref, part.entity, part.number))
        segments = push_segments(
            self.state, self.rehearsal.shop, self.rehearsal.profile, self.client, self.store, settings
        )
        self.found.segments = {one.name: (one.joined, one.left, one.waiting) for one in segments}

    def conclude(self) -> None:
        conclusion = conclude_run(self.state, self.run, self.rehearsal.settings)
        if self.rehearsal.settings.ecommerce:
            resume_automations(self.state, self.client, self.rehearsal.settings, self.run)
        with self.state.begin() as connection:
            add_up(self.found, conclusion.summaries, _reasons(connection, self.run))
        if conclusion.failure and not self.found.failures:  # else it is incomplete for the reason that is known
            self.found.failures.append(str(conclusion.failure))

    def _work_off(self, phase: Phase, key: SliceKey) -> None:
        waited_for: Waiting | None = None
        in_vain = 0
        while in_vain < _MOST_WAITS:
            work = (SliceRemoval if phase.removes else SlicePush)(
                state=self.state,
                shop=self.rehearsal.shop,
                profile=self.rehearsal.profile,
                client=self.client,
                store=self.store,
                settings=self.rehearsal.settings,
                entity=ENTITIES[key.entity],
                context=self.context,
                slice_key=key,
            )
            step = work.step()
            if isinstance(step, Done):
                return
            # What it waits for is finished at once, unless it is a batch of a real run with results that can't be read.
            in_vain = in_vain + 1 if step == waited_for else 0
            waited_for = step
        raise RunStopped(
            f"The {key.entity} wait for a batch of another run whose results cannot be read now; ask again when that "
            "run has ended."
        )

    @contextmanager
    def _extractor(self) -> Iterator[Extractor]:
        with self.rehearsal.shop.connect() as connection:
            yield Extractor(connection, self.rehearsal.profile, extra=extra_columns(self.rehearsal.settings))


def _reasons(connection: Connection, run: Run) -> dict[str, dict[str, int]]:
    """Count the rejections that a run has found, by entity and title."""
    rows = connection.execute(
        text("""
            SELECT entity, title, count(*) FROM rejected
            WHERE store_ref = :store_ref AND dag_run_id = :dag_run_id GROUP BY entity, title
        """),
        {"store_ref": run.store_ref, "dag_run_id": run.dag_run_id},
    )
    reasons: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for entity, title, count in rows:
        reasons[entity][title] = count
    return reasons


@contextmanager
def _saying_nothing() -> Iterator[Any]:
    """Keep the engine from logging that it posts batches or creates a store: it only plays."""
    logger = logging.getLogger("include.load")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield logger
    finally:
        logger.setLevel(before)
