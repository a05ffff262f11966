"""Deletes at Mailchimp what the shop no longer yields.

A slice of this kind names rows of the shop. They are read once more: what Mailchimp holds under their keys and they no
longer yield is deleted, everything else stays. So it never matters who noticed a deletion, when, or how often.
"""

from __future__ import annotations

from collections.abc import Sequence

from include.load.operations import deletions
from include.load.send import Sender
from include.load.settle import batch_ids
from include.load.slice_step import Done, RowChunk, SliceStep, Waiting
from include.mailchimp.errors import NotFound
from include.state import removals, settlement
from include.state.aliases import alias_keys, hand_over
from include.state.batches import ClaimConflict, NoFreeBatch, new_token
from include.state.deletions import claim_removals
from include.state.removals import Removal
from include.state.runs import Run
from include.state.slices import Progress, Slice, advance, close_slice
from include.transform.rules import ErrorClass


class SliceRemoval(SliceStep):
    """Removes records of a slice."""

    def _work(self, run: Run) -> Waiting | Done:
        sender = Sender(self.state, self.client, self.store, self.settings, self.slice_key, run.dag_run_id)
        while True:
            current = self._load_slice()
            if current.done:
                return Done(self._counts())
            if not current.exhausted:
                keys = list(current.remaining_ids(self.settings.batch_operations))
                waiting = self._remove(keys, current, keys[-1], sender)
            elif own := self._own_open():
                waiting = Waiting(batch_ids(own))
            else:
                owed, left = self._owed()
                if not owed:
                    with self.state.begin() as connection:
                        close_slice(connection, self.slice_key, left)
                    return Done(self._counts())
                waiting = self._remove(owed, current, current.cursor, sender)
            if waiting is not None:
                return waiting

    def _owed(self) -> tuple[list[str], int]:
        """Return the keys of records whose deletion is to be tried once more, and how many records are left open."""
        key = self.slice_key
        with self.state.begin() as connection:
            unfinished = settlement.unfinished(connection, key.run_ref, key.entity, key.number)
            due = {one.source_key for one in removals.due(connection, self.store.store_ref, key.entity)}
        again = [one.source_key for one in unfinished if one.attempts < settlement.MAX_ATTEMPTS]
        return [one for one in again if one in due][: self.settings.batch_operations], len(unfinished)

    def _remove(self, keys: Sequence[str], current: Slice, cursor: str | None, sender: Sender) -> Waiting | None:
        """Delete what some keys no longer yield; None when it made headway."""
        named, extract = self._with_aliases(keys), self.entity.extract
        # Keys that the shop doesn't have, some of which may not even be of the key's type, yield nothing.
        chunk = self._read(lambda shop: shop.read_ids(extract, sorted(shop.existing(extract, named))))
        with self.state.begin() as connection:
            blocking = removals.in_flight(connection, self.store.store_ref, self.entity.name, keys)
        if blocking:
            return self._wait_for(blocking)
        gone = self._gone(keys, chunk)
        try:
            self._delete(gone, current, cursor or "", sender)
        except NoFreeBatch:
            return self._wait_for_free_batch()
        except ClaimConflict:
            self._note_conflict()
        return None

    def _with_aliases(self, keys: Sequence[str]) -> list[str]:
        """Add the keys of other rows that may still yield the same records."""
        with self.state.begin() as connection:
            held = removals.held_under(connection, self.store.store_ref, self.entity.name, keys)
            ids = [record.record_id for record in held]
            return [*keys, *alias_keys(connection, self.store.store_ref, self.entity.name, ids)]

    def _gone(self, keys: Sequence[str], chunk: RowChunk) -> list[Removal]:
        """Return what Mailchimp holds under the keys and nothing yields any more; forget false alarms."""
        built, store_ref, entity = chunk.built, self.store.store_ref, self.entity.name
        speakers = dict(zip(built.record_ids.to_pylist(), built.keys.to_pylist(), strict=True))
        # What became inexpressible can't be corrected at Mailchimp, so it must not stay there as it was.
        rejected = [one.record_id for one in built.rejected if one.error_class != ErrorClass.NOT_EXPRESSIBLE]
        yielded = {*speakers, *rejected}
        alive = {*built.keys.to_pylist(), *(key for key, _ in built.aliases)}
        with self.state.begin() as connection:
            held = removals.held_under(connection, store_ref, entity, keys)
            false_alarms = [one for one in held if one.record_id in yielded]
            removals.drop(connection, store_ref, entity, [one.record_id for one in false_alarms])
            # Another row of the shop is the same record, and what Mailchimp has of it comes from the row that is gone.
            left = [one.record_id for one in false_alarms if one.source_key not in alive and one.record_id in speakers]
            hand_over(connection, store_ref, entity, {record_id: speakers[record_id] for record_id in left})
        gone = [record for record in held if record.record_id not in yielded]
        return self._unreferenced(gone) if self.entity.name == "customers" else gone

    def _unreferenced(self, customers: list[Removal]) -> list[Removal]:
        """Leave out the customers that orders at Mailchimp refer to: their revenue would lose its buyer."""
        path = f"/ecommerce/stores/{self.settings.store_id}/orders"
        needed = []
        for customer in customers:
            try:
                found = self.client.get(
                    path, params={"customer_id": customer.record_id, "count": 1, "fields": "total_items"}
                )
            except NotFound:
                found = None
            if found and found.get("total_items"):
                needed.append(customer.record_id)
        with self.state.begin() as connection:
            removals.keep(connection, self.store.store_ref, self.entity.name, needed)
        return [customer for customer in customers if customer.record_id not in needed]

    def _delete(self, gone: Sequence[Removal], current: Slice, cursor: str, sender: Sender) -> None:
        progress = Progress(old_cursor=current.cursor, new_cursor=cursor, extracted=0, unchanged=0, rejected=0)
        token, batch_ref, body = new_token(), None, b""
        with self.state.begin() as connection:
            if gone:
                body = deletions(token, [self._endpoint.path(record.record_id) for record in gone])
                batch_ref = claim_removals(
                    connection, self.store, self.slice_key, gone, token, len(body), self.settings.max_open_batches
                )
            if not advance(connection, self.slice_key, progress):
                raise ClaimConflict(f"Another worker moved slice {self.slice_key.number} of {self.entity.name}.")
        if batch_ref is not None:
            sender.post(batch_ref, body)
