"""Pushes one slice: read, build, compare, claim, post, and settle what Mailchimp has finished."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from include.load.children import Children
from include.load.contacts import carry_contacts
from include.load.goods import Goods
from include.load.opt_ins import ask_again
from include.load.ordered_carts import close_ordered_carts
from include.load.parents import force_parents
from include.load.send import Position, Sender
from include.load.settle import batch_ids
from include.load.slice_step import Done, RowChunk, SliceStep, Waiting
from include.load.triage import Limits, Triage, triage
from include.state import settlement
from include.state.batches import ClaimConflict, NoFreeBatch
from include.state.campaigns import refuse_campaigns
from include.state.database import SliceKey
from include.state.ledger import retire
from include.state.runs import Run
from include.state.slices import Slice, close_slice
from include.state.stores import OrderVerb, learned_order_verb
from include.transform.entities import ENTITIES
from include.transform.records import Built

_MOST_ROWS = 10_000  # per chunk, when there is little to send


class SlicePush(SliceStep):
    """Brings the records of a slice to Mailchimp."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._limits = Limits(self.settings.batch_operations, self.settings.batch_bytes)
        self._dag_run_id = ""
        self._rows = 0  # rows of the next chunk; 0: as many as free batches take
        self._children = Children(self.state, self.store, self.settings, self.entity, self._endpoint)
        self._goods = Goods(self.state, self.client, self.store, self.settings, self.slice_key, self._push_products)

    def _work(self, run: Run) -> Waiting | Done:
        self._dag_run_id = run.dag_run_id
        sender = Sender(
            self.state,
            self.client,
            self.store,
            self.settings,
            self.slice_key,
            run.dag_run_id,
            removable=self.entity.deletes,
        )
        while True:
            current = self._load_slice()
            if current.done:
                return Done(self._counts())
            if current.exhausted:
                return self._finish(current, sender)
            waiting = self._goods.go_on() or self._push_chunk(run, current, sender)
            if waiting is not None:
                return waiting

    def _push_chunk(self, run: Run, current: Slice, sender: Sender) -> Waiting | None:
        """Deal with the next rows of the slice; None when it made headway."""
        own, free = self._own_open(), self._free_batches()
        probing = self._probing()
        if own and (probing or not free):
            return Waiting(batch_ids(own))
        operations = self.settings.batch_operations
        rows = max(self._rows, operations if probing else max(free, 1) * operations)
        if current.ids is None:
            chunk = self._read_next(run, current, rows)
            position = Position.in_range(current, exhausted=len(chunk.frame) < rows)
        else:
            ids = current.remaining_ids(operations)
            chunk = self._read_named(ids)
            self._retire(ids, chunk.built)
            position = Position.among_ids(current, ids)
        waiting, sent = self._send(chunk, position, sender, at_most=1 if probing else None)
        # A chunk without operations costs little: read on in larger ones.
        self._rows = 0 if sent else min(2 * rows, max(_MOST_ROWS, operations))
        return waiting

    def _finish(self, current: Slice, sender: Sender) -> Waiting | Done:
        """Repeat what may still succeed, delete what records have lost, then close the slice."""
        before: list[str] = []
        put_off: set[str] = set()  # owed, but not to be sent as they are now: a cart that was touched again
        while True:
            own = self._own_open()
            if own:
                return Waiting(batch_ids(own))
            force_parents(
                self.state,
                self.store,
                self.slice_key,
                self._build_named,
                self._limits.operations,
                self._goods.put_placeholder,
            )
            self._give_up_campaigns()
            with self.state.begin() as connection:
                unfinished = settlement.unfinished(
                    connection, self.slice_key.run_ref, self.entity.name, self.slice_key.number
                )
            again = [
                one.source_key
                for one in unfinished
                if one.attempts < settlement.MAX_ATTEMPTS and one.source_key not in put_off
            ]
            if not again:
                waiting = self._delete_children(sender)
                if waiting is not None:
                    return waiting
                with self.state.begin() as connection:
                    close_slice(connection, self.slice_key, len(unfinished))
                return Done(self._counts())
            if again == before:
                self._note_conflict()
            before, ids = again, again[: self.settings.batch_operations]
            chunk = self._read_named(ids)
            self._retire(ids, chunk.built)
            waiting, sent = self._send(chunk, Position.repeating(current), sender)
            if waiting is not None:
                return waiting
            if not sent:
                put_off.update(ids)

    def _send(
        self, chunk: RowChunk, position: Position, sender: Sender, at_most: int | None = None
    ) -> tuple[Waiting | None, bool]:
        """Sort a chunk and send what is to be sent; (why to wait, whether anything was sent)."""
        stuck: Collection[str] = ()
        if self.entity.extract == "customers":  # before people appear under new addresses
            stuck = carry_contacts(self.state, self.client, self.store, self.settings, chunk.built)
        if self.entity.name == "members" and self.settings.two_way_sync:
            ask_again(self.state, self.client, self.store, self.settings, self._dag_run_id, chunk.built)
        sorted_ = self._triage(chunk, stuck)
        if self._goods.fetch(sorted_.missing.get("products", frozenset())):
            return self._goods.go_on(), True  # once they are there, the chunk is read again
        if sorted_.stale_read_at is not None:
            # What is read from now on is newer than that read, whatever the clocks say.
            self._not_before = max(sorted_.stale_read_at, self._not_before or sorted_.stale_read_at)
            self._note_conflict()
            return None, True
        if self.entity.name == "orders":
            close_ordered_carts(self.state, self.client, self.store, self.settings, sorted_)
        segments = sorted_.segments(self._limits)[:at_most]
        try:
            for segment in segments:
                sender.send(sorted_, segment, position, self._endpoint, chunk.read_at)
        except NoFreeBatch:
            return self._wait_for_free_batch(), True
        except ClaimConflict:
            self._note_conflict()
            return None, True
        if not sorted_.complete:
            return self._wait_for(sorted_.blocked_by), True
        self._conflicts = 0
        return None, len(sorted_.sends) > 0

    def _triage(self, chunk: RowChunk, stuck: Collection[str]) -> Triage:
        verb = self._order_verb()
        with self.state.begin() as connection:
            return triage(
                connection,
                self.store,
                self.entity,
                self._endpoint,
                chunk.built,
                chunk.keys,
                verb,
                self._limits,
                chunk.read_at,
                stuck,
            )

    def _delete_children(self, sender: Sender) -> Waiting | None:
        try:
            sent = self._children.delete(self.slice_key, sender)
        except NoFreeBatch:
            return self._wait_for_free_batch() or Waiting(())
        except ClaimConflict:
            self._note_conflict()
            return Waiting(())
        return Waiting(batch_ids(self._own_open())) if sent else None

    def _give_up_campaigns(self) -> None:
        """Stop naming campaigns that Mailchimp refused, so that their orders and carts go without."""
        key = self.slice_key
        with self.state.begin() as connection:
            refused = settlement.refused_for_campaign(connection, key.run_ref, key.entity, key.number)
        if not refused:
            return
        campaigns = frozenset(self._read_named(refused).frame["campaign_id"].dropna())
        with self.state.begin() as connection:
            refuse_campaigns(connection, self.store.store_ref, campaigns)
        self.context = replace(self.context, refused_campaigns=self.context.refused_campaigns | campaigns)

    def _push_products(self, slice_key: SliceKey) -> SlicePush:
        return replace(self, entity=ENTITIES["products"], slice_key=slice_key)

    def _build_named(self, ids: Sequence[str]) -> Built:
        return self._read_named(ids).built

    def _retire(self, keys: Sequence[str], built: Built) -> None:
        """Close records owed under keys that yield another record by now, or none."""
        if self._only_with_evidence:
            return  # what it doesn't look at may still be owed, an opt-out above all
        seen = built.record_ids.to_pylist() + [record.record_id for record in built.rejected]
        with self.state.begin() as connection:
            retire(
                connection,
                self.store.store_ref,
                self.entity.name,
                keys=keys,
                seen=seen,
                removable=self.entity.deletes,
            )

    def _order_verb(self) -> OrderVerb | None:
        if self.settings.order_upsert != "auto":
            return self.settings.order_upsert
        with self.state.begin() as connection:
            return learned_order_verb(connection, self.store.store_ref)

    def _probing(self) -> bool:
        """Whether the next batch has to show which method Mailchimp accepts for orders."""
        return self.entity.name == "orders" and self._order_verb() is None
