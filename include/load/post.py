"""Posts intended batches and notes their ids. A batch that is refused is divided until what is to blame stands alone.

Mailchimp refuses a batch as a whole when it can't read one of its operations; nothing of it is done then. Its records
stay claimed and are posted again in halves, and so on with the half that is refused: for one bad record among n, log2 n
posts more are refused, and as many accepted. The bad record becomes a rejected one. Where the account has no place for
one more open batch, the half is released; the slice repeats its records at its end.

When not a single half is accepted, the records may not be to blame: then an errand without any record (a ping) is
posted. If that is refused as well, or if record after record is refused with the same words, the run stops and nothing
is rejected.
"""

from __future__ import annotations

import json
import logging
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from include.load.errors import RunStopped
from include.load.outcomes import reason_for
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import BatchReplyLost, Invalid, MailchimpError
from include.state import settlement
from include.state.batches import mark_posted, new_token
from include.state.database import SliceKey, StateDatabase
from include.state.hand_off import divide, has_place, refuse
from include.state.stores import StoreRef

_MOST_ALIKE: Final = 20
"""Records that are refused with the same words, and none accepted, before the run stops."""

log = logging.getLogger(__name__)

Operations = list[dict[str, Any]]


class BatchRefused(RunStopped):
    """Mailchimp refuses batches, whatever is in them; nothing of them was done."""


@dataclass
class _Piece:
    """An intended batch: what is left of a refused one."""

    batch_ref: int
    operations: Operations
    refusal: Invalid | None = None


class Poster:
    """Posts the batches of one slice.

    Args:
        state: the state tables.
        client: speaks for the account.
        store: the store.
        slice_key: the slice.
        most_open: open batches that the account may have.
    """

    def __init__(
        self, state: StateDatabase, client: MailchimpClient, store: StoreRef, slice_key: SliceKey, most_open: int
    ) -> None:
        self._state = state
        self._client = client
        self._store = store
        self._key = slice_key
        self._most_open = most_open

    def post(self, batch_ref: int, body: bytes) -> None:
        """Post an intended batch and note its id; if it is refused, find the records that are to blame.

        Args:
            batch_ref: the batch in the state tables.
            body: its operations.

        Raises:
            BatchRefused: Mailchimp refuses batches, whatever is in them; the records are free again.
            BatchReplyLost: the batch may be there; the next step looks for it.
            MailchimpError: the batch could not be posted; its records are free again.
        """
        try:
            self._hand_over(batch_ref, body)
        except Invalid as refusal:
            log.warning("Mailchimp refuses a batch of %s, which is divided: %s", self._key.entity, refusal)
            operations = json.loads(body)
            if not all(isinstance(operation, dict) for operation in operations):  # a fault of ours, not of a record
                self._release([batch_ref])
                raise BatchRefused(f"Mailchimp refuses a batch: {refusal}. Nothing of it was done.") from refusal
            self._find_culprits(_Piece(batch_ref, operations, refusal))

    def _hand_over(self, batch_ref: int, body: bytes) -> None:
        try:
            status = self._client.create_batch(body)
        except (BatchReplyLost, Invalid):
            raise  # it stays intended: it is looked for, or divided
        except MailchimpError:
            self._release([batch_ref])
            raise
        with self._state.begin() as connection:
            noted = mark_posted(connection, batch_ref, status.id)
        if not noted:
            log.warning("Batch %s was given up while it was posted; its records are sent again.", status.id)
            self._stop(status.id)
            return
        log.info("Batch %s of %s, %d bytes.", status.id, self._key.entity, len(body))

    def _stop(self, batch_id: str) -> None:
        """Stop a batch nobody knows of, so that it cannot run after what is sent next."""
        try:
            self._client.delete_batch(batch_id)
        except MailchimpError as error:
            log.warning("Batch %s cannot be stopped: %s", batch_id, error)

    def _release(self, batch_refs: Sequence[int]) -> None:
        with self._state.begin() as connection:
            for batch_ref in batch_refs:
                settlement.release(connection, batch_ref)

    def _find_culprits(self, refused: _Piece) -> None:
        left, alone, accepted = deque([refused]), list[_Piece](), False
        try:
            while left:
                piece = left.popleft()
                if piece.refusal is None and self._accepted(piece, len(left) + len(alone)):
                    accepted = True
                elif piece.refusal is None:
                    continue
                elif len(piece.operations) > 1:
                    left.extendleft(reversed(self._halves(piece)))
                else:
                    alone.append(piece)
                    if not accepted:
                        self._check(alone)
        except Exception:
            self._release([piece.batch_ref for piece in (*left, *alone)])
            raise
        for piece in alone:
            self._reject(piece)

    def _accepted(self, piece: _Piece, besides: int) -> bool:
        """Post a piece; False when it is refused, or released because the account has no place for it."""
        with self._state.begin() as connection:
            free = has_place(connection, self._store.account_id, piece.batch_ref, self._most_open, besides)
        if not free:
            self._release([piece.batch_ref])
            return False
        try:
            self._hand_over(piece.batch_ref, _body(piece.operations))
        except Invalid as refusal:
            piece.refusal = refusal
            return False
        return True

    def _halves(self, piece: _Piece) -> list[_Piece]:
        at, tokens = len(piece.operations) // 2, (new_token(), new_token())
        halves = [_numbered(piece.operations[:at], tokens[0]), _numbered(piece.operations[at:], tokens[1])]
        sizes = len(_body(halves[0])), len(_body(halves[1]))
        with self._state.begin() as connection:
            other_ref = divide(connection, piece.batch_ref, at, tokens, sizes)
        if other_ref is None:
            return []
        return [_Piece(piece.batch_ref, halves[0]), _Piece(other_ref, halves[1])]

    def _check(self, alone: Sequence[_Piece]) -> None:
        """Make sure that it is the records that Mailchimp refuses.

        Raises:
            BatchRefused: it isn't.
        """
        if len(alone) == 1:
            errand = [{"method": "GET", "path": "/ping"}]
            try:
                self._client.create_batch(_body(_numbered(errand, new_token())))
            except Invalid as refusal:
                raise BatchRefused(
                    f"Mailchimp refuses every batch, even one without any record: {refusal}. Nothing was done."
                ) from refusal
        elif len(alone) >= _MOST_ALIKE and len({_words(piece.refusal) for piece in alone}) == 1:
            raise BatchRefused(
                f"Mailchimp refuses one of the {self._key.entity} after the other with the same words: "
                f"{alone[-1].refusal}. None was sent, none is rejected; please report this text."
            ) from alone[-1].refusal

    def _reject(self, piece: _Piece) -> None:
        if piece.refusal is None:
            return
        reason = replace(reason_for(piece.refusal), field=None)
        with self._state.begin() as connection:
            refuse(connection, piece.batch_ref, reason, piece.refusal.status)
        log.warning("Mailchimp refuses one of the %s in any batch; it is rejected.", self._key.entity)


def _numbered(operations: Operations, token: str) -> Operations:
    return [{**operation, "operation_id": f"{token}-{number}"} for number, operation in enumerate(operations)]


def _body(operations: Operations) -> bytes:
    return json.dumps(operations, ensure_ascii=False, separators=(",", ":")).encode()


def _words(refusal: Invalid | None) -> str:
    """What a refusal says, whatever numbers it names."""
    return re.sub(r"\d+", "#", str(refusal))
