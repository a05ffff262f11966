"""Looks after open batches: fetches the outcomes of finished ones and frees the records of those that are gone."""

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from include.load.outcomes import Answer, Outcome, classify, unless_put_works
from include.mailchimp.archive import read_results
from include.mailchimp.client import BatchStatus, MailchimpClient
from include.mailchimp.errors import ArchiveTruncated, MailchimpError, NotFound, ResultLinkExpired
from include.state import settlement
from include.state.batches import OpenBatch, open_batches, sent_methods
from include.state.database import SliceKey, StateDatabase
from include.state.settlement import Results
from include.state.stores import StoreRef, learned_order_verb

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

    def settle(self, batches: Iterable[OpenBatch], held: SliceKey | None = None) -> list[OpenBatch]:
        """Settle what has ended, release what was never posted.

        Args:
            batches: open batches.
            held: the slice whose lock the caller holds; failures to read its results are raised, others' are logged.

        Returns:
            The batches that are still open.

        Raises:
            MailchimpError: Mailchimp cannot be asked, or the results of a batch of `held` cannot be read.
        """
        return [batch for batch in batches if not self._settle_one(batch, held)]

    def _settle_one(self, batch: OpenBatch, held: SliceKey | None) -> bool:
        if batch.batch_id is None:
            return self._release(batch, held)
        try:
            return self._settle_posted(batch, batch.batch_id)
        except (ArchiveTruncated, ResultLinkExpired) as error:
            if self._too_old(batch):
                return self._give_up(batch)
            if batch.slice == held:
                raise
            log.warning("Results of batch %s cannot be read yet: %s", batch.batch_id, error)
            return False

    def _release(self, batch: OpenBatch, held: SliceKey | None) -> bool:
        """Free the records of a batch without an id, unless the worker that intended it is alive."""
        if batch.slice == held:
            return self._release_now(batch)
        with self._state.slice_lock(batch.slice) as abandoned:
            return abandoned and self._release_now(batch)

    def _release_now(self, batch: OpenBatch) -> bool:
        with self._state.begin() as connection:
            if settlement.release(connection, batch.batch_ref):
                log.info("Batch %s was never posted; its records are sent again.", batch.token)
                return True
            return False

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
                results = self._fetch(batch, status, status.response_body_url)
            except (ArchiveTruncated, ResultLinkExpired):
                if download == _DOWNLOADS - 1:
                    raise
                continue
            with self._state.begin() as connection:
                return settlement.settle(connection, batch.batch_ref, results)
        return False

    def _fetch(self, batch: OpenBatch, status: BatchStatus, url: str) -> Results:
        """Read the archive completely before anything is written: half an archive is no outcome."""
        with self._state.begin() as connection:
            methods = sent_methods(connection, batch.batch_ref)
            put_works = learned_order_verb(connection, batch.store_ref) == "put"
        answers: dict[int, tuple[Answer, int]] = {}
        with self._client.download_results(url) as stream:
            for result in read_results(stream):
                sequence = _sequence(batch.token, result.operation_id, len(methods))
                if sequence is not None:
                    answer = classify(methods[sequence], batch.slice.entity, result.status_code, result.response)
                    answers[sequence] = (answer, result.status_code)
        put_works = put_works or any(
            answer.outcome is Outcome.OK and methods[sequence] == "PUT" for sequence, (answer, _) in answers.items()
        )
        return _results(answers, status.completed_at, put_works=put_works)

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
    """Return Mailchimp's ids of the batches that have one."""
    return tuple(batch.batch_id for batch in batches if batch.batch_id is not None)


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
