"""Makes sure of the products that orders and carts refer to, before these are sent.

A product that Mailchimp doesn't hold (its window was another one, it was left out of the run) is pushed at once, in a
slice of its own that belongs to the run. Lines of products that the shop no longer has point to one placeholder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from include.config.stores import StoreSettings
from include.mailchimp.client import MailchimpClient
from include.state.database import SliceKey, StateDatabase, lock_account
from include.state.ledger import record_held
from include.state.slices import Slice, add_slice, slices_of
from include.state.stores import StoreRef
from include.transform.products import PLACEHOLDER, PLACEHOLDER_ID

if TYPE_CHECKING:
    from include.load.slice_step import SliceStep, Waiting


class Goods:
    """The products that one slice of orders or carts needs.

    Args:
        state: the state tables.
        client: of the account.
        store: the store.
        settings: its settings.
        slice_key: the slice that needs them.
        push: makes the work on a slice of products.
    """

    def __init__(
        self,
        state: StateDatabase,
        client: MailchimpClient,
        store: StoreRef,
        settings: StoreSettings,
        slice_key: SliceKey,
        push: Callable[[SliceKey], SliceStep],
    ) -> None:
        self._state = state
        self._client = client
        self._store = store
        self._settings = settings
        self._slice_key = slice_key
        self._push = push
        self._asked_for: set[str] | None = None

    def fetch(self, missing: Collection[str]) -> bool:
        """Arrange for products that Mailchimp lacks; False when that was done before, and didn't help.

        Args:
            missing: their ids.
        """
        wanted = set(missing)
        if PLACEHOLDER_ID in wanted:
            self.put_placeholder()
        asked_for = self._known()
        new = wanted - asked_for - {PLACEHOLDER_ID}
        if new:
            with self._state.begin() as connection:
                lock_account(connection, self._store.account_id)
                add_slice(connection, self._slice_key.run_ref, "products", self._phase, sorted(new))
            asked_for |= new
        return bool(new) or PLACEHOLDER_ID in wanted

    def go_on(self) -> Waiting | None:
        """Push what was arranged for; None when all of it is done."""
        from include.load.slice_step import Waiting

        for part in self._slices():
            if not part.done:
                result = self._push(part.key).step()
                if isinstance(result, Waiting):
                    return result
        return None

    def put_placeholder(self) -> None:
        """Make the product that lines of vanished ones refer to, whatever the ledger says."""
        path = f"/ecommerce/stores/{self._settings.store_id}/products/{PLACEHOLDER_ID}"
        self._client.put(path, json=PLACEHOLDER)
        with self._state.begin() as connection:
            record_held(connection, self._store.store_ref, "products", PLACEHOLDER_ID)

    @property
    def _phase(self) -> str:
        return f"products of {self._slice_key.entity} {self._slice_key.number}"

    def _slices(self) -> list[Slice]:
        with self._state.begin() as connection:
            return slices_of(connection, self._slice_key.run_ref, "products", self._phase)

    def _known(self) -> set[str]:
        if self._asked_for is None:
            self._asked_for = {product_id for part in self._slices() for product_id in part.ids or ()}
        return self._asked_for
