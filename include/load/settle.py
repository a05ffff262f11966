"""Looks after open batches: fetches the outcomes of finished ones and frees the records of those that are gone.

Every way a batch can go ends in one of these states; unless another file is named, tests/include/load/test_hand_off.py
has a test of each.

====================================  ==================================================================================
case                                  what the pipeline does
====================================  ==================================================================================
worker died before the POST           looked for (`hand_off`), not found: released, its records are sent again
worker died after it, reply lost      looked for, found by its token: adopted, settled as any other
can't be told yet                     waited for, records stay in flight; released at the age limit
archive truncated, link expired       three downloads by new links; then the task fails and its retry tries again; given
                                      up at the age limit
operations missing from the archive   unknown: sent again, three times a run, then by the next run
operations that failed on the way     transient: likewise; all others are as their answers say (test_outcomes.py)
batch gone (404), or finished         given up: all of it is unknown, and sent again; a POST of a record that is there
without a link for five minutes       after all is answered by "exists", and becomes a PATCH
never ends                            stopped and given up at the age limit (`batch_timeout_minutes`)
refused for one operation             divided (`post`); the operation's record is rejected, the others are sent
refused for the account's sake        the run stops (BatchRefused), nothing is rejected
refused for 500 pending batches       released; the slice waits for the account's oldest batch, tries again, and fails
                                      at the age limit
given up while it was being posted    stopped (test_crashes.py)
worker died while settling            nothing was written, the next step settles (test_crashes.py)
====================================  ==================================================================================

Given up: stopped at Mailchimp, so that it can't run after what is sent next. Only batches that are proven to be ours
are ever stopped.
"""

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection

from include.load.hand_off import LookUp
from include.load.outcomes import Answer, Outcome, classify, unless_put_works
from include.load.triage import OWNER
from include.mailchimp.archive import read_results
from include.mailchimp.client import BatchStatus, MailchimpClient
from include.mailchimp.errors import ArchiveTruncated, MailchimpError, NotFound, ResultLinkExpired
from include.state import settlement
from include.state.batches import OpenBatch, open_batches, sent_children, sent_methods, sent_record
from include.state.database import SliceKey, StateDatabase
from include.state.hand_off import adopt
from include.state.settlement import Results
from include.state.stores import StoreRef, learned_order_verb, load_store
from include.transform.entities import ENTITIES

log = logging.getLogger(__name__)

_DOWNLOADS = 3
_LINK_GRACE = timedelta(minutes=5)  # a finished batch has its link at once, or never gets one


def utc_now() -> datetime:
    """Return the current time, aware UTC."""
    return datetime.now(UTC)


class Settler:
    """Settles batches of one Mailchimp account, whoever posted them.

    Anybody may settle any batch: what counts is done once, under the batch's row lock. So a dead task can neither
    hold back the records in its batches nor keep a place among the account's open batches for ever.

    Args:
        state: the state tables.
        client: speaks for the account.
        batch_timeout: age at which a batch without outcome is given up and its records count as unknown.
        clock: current time, aware UTC.
    """

    def __init__(
        self,
        state: StateDatabase,
        client: MailchimpClient,
        batch_timeout: timedelta,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._state = state
        self._client = client
        self._batch_timeout = batch_timeout
        self._clock = clock
        self._look_up = LookUp(state, client)
        self._maybe: dict[int, tuple[str, ...]] = {}

    def settle(self, batches: Iterable[OpenBatch], held: SliceKey | None = None) -> list[OpenBatch]:
        """Settle what has ended, find or release what nobody noted the id of.

        Args:
            batches: open batches.
            held: the slice whose lock the caller holds; failures to read its results are raised, others' are logged.

        Returns:
            The batches that are still open.

        Raises:
            MailchimpError: Mailchimp cannot be asked, or the results of a batch of `held` cannot be read.
        """
        still_open = (self._settle_one(batch, held) for batch in batches)
        return [batch for batch in still_open if batch is not None]

    def open_batches(self, account_id: str) -> list[OpenBatch]:
        """Return the open batches of an account, each with what was found about it."""
        with self._state.begin() as connection:
            batches = open_batches(connection, account_id)
        return [replace(batch, maybe=self._maybe.get(batch.batch_ref, ())) for batch in batches]

    def _settle_one(self, batch: OpenBatch, held: SliceKey | None) -> OpenBatch | None:
        """Return None for a batch that is settled or released, else what is known of it by now."""
        if batch.batch_id is None:
            found = self._find(batch, held)
            if found is None or found.batch_id is None:
                return found
            batch = found
        try:
            return None if self._settle_posted(batch, str(batch.batch_id)) else batch
        except (ArchiveTruncated, ResultLinkExpired) as error:
            if self._too_old(batch):
                return None if self._give_up(batch) else batch
            if batch.slice == held:
                raise
            log.warning("Results of batch %s cannot be read yet: %s", batch.batch_id, error)
            return batch

    def _find(self, batch: OpenBatch, held: SliceKey | None) -> OpenBatch | None:
        """Look for a batch without an id, unless the worker that intended it is alive; None: it is released."""
        if batch.slice != held and self._state.is_owned(batch.slice):
            return batch
        found = self._look_up.find(batch)
        if found.batch is not None:
            posted_at = found.batch.submitted_at or batch.since
            with self._state.begin() as connection:
                if not adopt(connection, batch.batch_ref, found.batch.id, posted_at):
                    return batch
            log.info("Batch %s was posted by a worker that is gone, or its reply was lost.", found.batch.id)
            return replace(batch, batch_id=found.batch.id, since=posted_at)
        if found.maybe and not self._too_old(batch):
            self._maybe[batch.batch_ref] = found.maybe
            return replace(batch, maybe=found.maybe)
        with self._state.begin() as connection:
            if not settlement.release(connection, batch.batch_ref, surely_unsent=False):
                return batch
        log.info("Batch %s is not at Mailchimp; its records are sent again.", batch.token)
        return None

    def _settle_posted(self, batch: OpenBatch, batch_id: str) -> bool:
        for download in range(_DOWNLOADS):
            try:
                status = self._client.get_batch(batch_id)
            except NotFound:
                return self._give_up(batch)
            if not status.status.is_terminal:
                return self._too_old(batch) and self._give_up(batch)
            if status.response_body_url is None:
                return self._link_overdue(batch, status) and self._give_up(batch)
            try:
                results, misplaced = self._fetch(batch, status, status.response_body_url)
            except (ArchiveTruncated, ResultLinkExpired):
                if download == _DOWNLOADS - 1:
                    raise
                continue
            with self._state.begin() as connection:
                # Whoever may settle the batch deletes, and nobody writes these records anew before that is done: a
                # deletion that comes late would take the new one.
                if misplaced and settlement.lock(connection, batch.batch_ref):
                    self._delete(connection, batch, misplaced)
                return settlement.settle(connection, batch.batch_ref, results)
        return False

    def _fetch(self, batch: OpenBatch, status: BatchStatus, url: str) -> tuple[Results, list[int]]:
        """Read the archive completely before anything is written: half an archive is no outcome.

        Returns:
            The outcomes, and which operations were about records that are another customer's by now: these have to be
            deleted, and count as missing, so that they are made anew.
        """
        with self._state.begin() as connection:
            methods = sent_methods(connection, batch.batch_ref)
            inside = sent_children(connection, batch.batch_ref)
            put_works = learned_order_verb(connection, batch.store_ref) == "put"
        answers: dict[int, tuple[Answer, int]] = {}
        surplus: dict[int, list[str]] = {}
        misplaced: list[int] = []
        entity = ENTITIES[batch.slice.entity]
        with self._client.download_results(url) as stream:
            for result in read_results(stream):
                sequence = _sequence(batch.token, result.operation_id, len(methods))
                if sequence is not None:
                    answer = classify(methods[sequence], batch.slice.entity, result.status_code, result.response)
                    answers[sequence] = (answer, result.status_code)
                    if sequence in inside and answer.outcome is Outcome.OK:
                        held = updated_record(result.response)
                        surplus[sequence] = surplus_children(tuple(entity.children), inside[sequence], held)
                        if entity.owner and belongs_to_another(inside[sequence], held):
                            misplaced.append(sequence)
                            answers[sequence] = (Answer(Outcome.MISSING), 404)
        put_works = put_works or any(
            answer.outcome is Outcome.OK and methods[sequence] == "PUT" for sequence, (answer, _) in answers.items()
        )
        return replace(_results(answers, status.completed_at, put_works=put_works), surplus=surplus), misplaced

    def _delete(self, connection: Connection, batch: OpenBatch, sequences: Sequence[int]) -> None:
        store_id = load_store(connection, batch.store_ref).store_id
        path = ENTITIES[batch.slice.entity].endpoint.format(store_id=store_id)
        for sequence in sequences:
            record_id = sent_record(connection, batch.batch_ref, sequence)
            with suppress(NotFound):
                self._client.delete(f"{path}/{quote(record_id, safe='')}")

    def _give_up(self, batch: OpenBatch) -> bool:
        """Count the whole batch as unknown; stop it at Mailchimp, so that it cannot run after what is sent next."""
        if batch.batch_id is not None:
            try:
                self._client.delete_batch(batch.batch_id)
            except MailchimpError as error:
                log.info("Batch %s cannot be stopped: %s", batch.batch_id, error)
        with self._state.begin() as connection:
            lost = settlement.settle(connection, batch.batch_ref, Results(), final_state="lost")
        log.warning("Batch %s is gone without results; its records are sent again.", batch.batch_id)
        return lost

    def _link_overdue(self, batch: OpenBatch, status: BatchStatus) -> bool:
        return self._clock() - (status.completed_at or batch.since) > _LINK_GRACE

    def _too_old(self, batch: OpenBatch) -> bool:
        return self._clock() - batch.since > self._batch_timeout


def recover(
    state: StateDatabase,
    client: MailchimpClient,
    store: StoreRef,
    batch_timeout: timedelta,
    clock: Callable[[], datetime] = utc_now,
) -> list[OpenBatch]:
    """Look after all open batches of the store's account, as the first thing of a run.

    Whatever earlier runs left behind is settled or released, so that the plan of this run finds their records.

    Args:
        state: the state tables.
        client: speaks for the account.
        store: the store.
        batch_timeout: see `Settler`.
        clock: current time, aware UTC.

    Returns:
        The batches Mailchimp is still working on.
    """
    with state.begin() as connection:
        batches = open_batches(connection, store.account_id)
    return Settler(state, client, batch_timeout, clock).settle(batches)


def batch_ids(batches: Sequence[OpenBatch]) -> tuple[str, ...]:
    """Return Mailchimp's ids of the batches, and for those without one the ids of what they may be."""
    ids = (one for batch in batches for one in ((batch.batch_id,) if batch.batch_id else batch.maybe))
    return tuple(dict.fromkeys(ids))


def updated_record(response: str) -> Mapping[str, Any]:
    """Read the record that Mailchimp answers an update with; empty where the answer has none."""
    try:
        held = json.loads(response)
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}


def surplus_children(lists: Sequence[str], sent: Collection[str], held: Mapping[str, Any]) -> list[str]:
    """Find what Mailchimp still holds inside a record although the record's update no longer had it.

    Args:
        lists: names of the lists of children in the document.
        sent: what the update had, as "lines/7".
        held: the record as Mailchimp has it now.

    Returns:
        The children to delete, as "lines/7".
    """
    names = (f"{name}/{child['id']}" for name in lists for child in held.get(name) or ())
    return [name for name in names if name not in sent]


def belongs_to_another(sent: Collection[str], held: Mapping[str, Any]) -> bool:
    """Tell whether a record has kept a customer other than the one that its update named."""
    customer = (held.get("customer") or {}).get("id")
    return customer is not None and f"{OWNER}/{customer}" not in sent


def _sequence(token: str, operation_id: str | None, operations: int) -> int | None:
    """Find the operation an archive entry belongs to; None for anything that is not ours."""
    found, separator, number = (operation_id or "").rpartition("-")
    if found != token or not separator or not number.isascii() or not number.isdigit():
        return None
    return int(number) if len(number) < 9 and int(number) < operations else None


def _results(answers: dict[int, tuple[Answer, int]], completed_at: datetime | None, *, put_works: bool) -> Results:
    judged = {
        sequence: (unless_put_works(answer, code) if put_works else answer, code)
        for sequence, (answer, code) in answers.items()
    }
    return Results(
        sequence=list(judged),
        outcomes=[answer.outcome.value for answer, _ in judged.values()],
        status_codes=[code if 0 < code < 1000 else None for _, code in judged.values()],
        reasons={sequence: answer.reason for sequence, (answer, _) in judged.items() if answer.reason is not None},
        completed_at=completed_at,
    )
