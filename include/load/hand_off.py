"""Finds a batch that may have been posted although nobody noted its id: its worker died, or the reply was lost.

The rule. An intended batch whose worker is gone is looked for among the account's batches:

- A *candidate* is a batch that no row of ours names, that was submitted at a time when ours may have been (from the
  intention until `_POSTED_WITHIN` after it, with a tolerance for clocks), and that has as many operations as ours; a
  batch that hasn't begun may have any number, because Mailchimp counts them later.
- A candidate that has finished tells by its archive, in which every operation's id begins with the batch's random
  token. With our token it is ours: it is *adopted*, and settled as any other. Otherwise it is somebody else's.
- A candidate that has not finished can't be asked. It is *waited for*, and never touched: it may be another program's.
  Our records stay in flight meanwhile, so nobody sends them.
- When no candidate is left, the batch was never posted, and its records are *released*: they are sent again.
- Nobody waits for ever: candidates are few, because the time they may have been submitted at is short, and at the age
  limit of batches the records are released whatever candidates are left.

So two orphans of one size each find their own, other programs' batches cost a download at most, and nothing is sent
twice while it can be known that it was sent. What can't be known does no harm: when a candidate's results can't be read
until the age limit, or Mailchimp accepts a request only minutes after its sender died, a PUT is repeated with the
newest payload, and a POST is answered with "exists", which is mended by a PATCH. Mailchimp works off batches in the
order they came, so what is sent again comes last.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from include.mailchimp.archive import read_results
from include.mailchimp.batches import BatchPhase, BatchStatus
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import ArchiveTruncated, NotFound, ResultLinkExpired
from include.state.batches import OpenBatch
from include.state.database import StateDatabase
from include.state.hand_off import known_batches

log = logging.getLogger(__name__)

_POSTED_WITHIN: Final = timedelta(minutes=15)  # after the intention: all attempts of a POST, and its time-out
_CLOCK_TOLERANCE: Final = timedelta(minutes=5)
_NOT_BEGUN: Final = frozenset({BatchPhase.PENDING, BatchPhase.PREPROCESSING})
_NOBODYS: Final = ""  # in place of the token of a batch that isn't the pipeline's


@dataclass(frozen=True)
class Found:
    """What the look-up found: the batch itself, or which batches may be it; neither: it was never posted."""

    batch: BatchStatus | None = None
    maybe: tuple[str, ...] = ()


class LookUp:
    """Looks for batches of one account; what it has learned about others' batches it remembers.

    Args:
        state: the state tables.
        client: speaks for the account.
    """

    def __init__(self, state: StateDatabase, client: MailchimpClient) -> None:
        self._state = state
        self._client = client
        self._tokens: dict[str, str] = {}

    def find(self, batch: OpenBatch) -> Found:
        """Look for an intended batch. The caller makes sure that nobody is just posting it.

        Raises:
            MailchimpError: Mailchimp can't be asked.
        """
        maybe = []
        for candidate in self._candidates(batch):
            if not candidate.status.is_terminal:
                maybe.append(candidate.id)
                continue
            token = self._token(candidate.id)
            if token == batch.token:
                return Found(candidate)
            if token is None:
                maybe.append(candidate.id)
        return Found(maybe=tuple(maybe))

    def _candidates(self, batch: OpenBatch) -> list[BatchStatus]:
        first, last = batch.since - _CLOCK_TOLERANCE, batch.since + _POSTED_WITHIN + _CLOCK_TOLERANCE
        listed = [one for one in self._client.batches_since(first) if _may_be(one, batch, last)]
        with self._state.begin() as connection:  # after the listing: whoever posted one of these has noted it by now
            known = known_batches(connection, [one.id for one in listed])
        return [one for one in listed if one.id not in known]

    def _token(self, batch_id: str) -> str | None:
        """Return the token of a finished batch's operations; None while its results can't be read."""
        if batch_id not in self._tokens:
            token = self._read_token(batch_id)
            if token is None:
                return None
            self._tokens[batch_id] = token
        return self._tokens[batch_id]

    def _read_token(self, batch_id: str) -> str | None:
        try:
            url = self._client.get_batch(batch_id).response_body_url
            if url is None:
                return None
            with self._client.download_results(url) as stream:
                for result in read_results(stream):
                    if result.operation_id:
                        return result.operation_id.rpartition("-")[0] or _NOBODYS
        except NotFound:
            return _NOBODYS
        except (ArchiveTruncated, ResultLinkExpired) as error:
            log.info("Results of batch %s cannot be read yet: %s", batch_id, error)
            return None
        return _NOBODYS


def _may_be(listed: BatchStatus, batch: OpenBatch, last: datetime) -> bool:
    in_time = listed.submitted_at is None or listed.submitted_at <= last
    return in_time and (listed.status in _NOT_BEGUN or listed.total_operations == batch.operations)
