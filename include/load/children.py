"""Deletes lines, variants and images that a record has lost: Mailchimp keeps what an update leaves out."""

from __future__ import annotations

from urllib.parse import quote

from include.config.stores import StoreSettings
from include.load.operations import Endpoint, deletions
from include.load.send import Sender
from include.state.batches import new_token
from include.state.database import SliceKey, StateDatabase
from include.state.deletions import StaleChild, claim_children, stale_children
from include.state.stores import StoreRef
from include.transform.entities import Entity


class Children:
    """The lost children of one entity's records, whichever run lost them.

    Args:
        state: the state tables.
        store: the store.
        settings: its settings.
        entity: whose children.
        endpoint: where its records live.
    """

    def __init__(
        self, state: StateDatabase, store: StoreRef, settings: StoreSettings, entity: Entity, endpoint: Endpoint
    ) -> None:
        self._state = state
        self._store = store
        self._settings = settings
        self._entity = entity
        self._endpoint = endpoint

    def delete(self, key: SliceKey, sender: Sender) -> bool:
        """Post one batch that deletes what is known to be lost; False when there is nothing.

        Args:
            key: the slice that does it.
            sender: posts its batches.

        Raises:
            NoFreeBatch: too many batches are open; nothing was done.
            ClaimConflict: others changed the records meanwhile; nothing was done.
            MailchimpError: the batch could not be posted.
        """
        if not self._entity.children:
            return False
        token = new_token()
        with self._state.begin() as connection:
            lost = stale_children(connection, self._store.store_ref, self._entity.name, self._settings.batch_operations)
            if not lost:
                return False
            body = deletions(token, [self._path(child) for child in lost])
            most = self._settings.max_open_batches
            batch_ref = claim_children(connection, self._store, key, lost, token, len(body), most)
        sender.post(batch_ref, body)
        return True

    def _path(self, lost: StaleChild) -> str:
        collection, _, child_id = lost.child.partition("/")
        return f"{self._endpoint.path(lost.record_id)}/{collection}/{quote(child_id, safe='')}"
