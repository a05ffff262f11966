"""What Mailchimp holds, listed page by page with no more than the fields that are compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from include.config.stores import StoreSettings
from include.documents.spec import Document
from include.load.operations import Endpoint
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import Invalid, NotFound
from include.transform.entities import Entity

Record = Mapping[str, Any]

ARCHIVED: Final = "archived"

_PER_PAGE: Final = 500  # orders with their lines are large, and Mailchimp gives up on a page after two minutes
_FIELDS_INVALID: Final = 422

# What is needed of a record besides what is compared.
_BESIDES: Final[Mapping[str, tuple[str, ...]]] = {
    "members": ("status",),
    "customers": ("email_address",),
    "orders": ("customer.id", "customer.email_address", "processed_at_foreign", "currency_code", "order_total"),
    "carts": ("customer.id",),
}


class Listings:
    """Lists the records of one store.

    Args:
        client: of the account.
        settings: names store and audience.
    """

    def __init__(self, client: MailchimpClient, settings: StoreSettings) -> None:
        self._client = client
        self._settings = settings

    def all(self, entity: Entity, document: Document, rule_ids: Iterable[str] = ()) -> Iterator[tuple[str, Record]]:
        """List an entity's records.

        Args:
            entity: which.
            document: what is compared of them.
            rule_ids: the promo rules at Mailchimp, for their codes.

        Yields:
            (record id, record), archived contacts with nothing but their status.

        Raises:
            UnexpectedReply: the collection changed while it was read; what was yielded is incomplete.
        """
        endpoint = Endpoint.of(entity, self._settings)
        fields = sorted({"id", *_paths(document), *_BESIDES.get(entity.name, ())})
        if "{parent}" in endpoint.collection:
            for rule_id in rule_ids:
                parent = quote(rule_id, safe="")
                path = endpoint.collection.replace("{parent}", parent)
                try:
                    for record in self._pages(path, fields):
                        yield f"{parent}/{quote(record['id'], safe='')}", record
                except NotFound:
                    continue  # deleted meanwhile
            return
        for record in self._pages(endpoint.collection, fields):
            yield record["id"], record
        if entity.name == "members":
            for record in self._pages(endpoint.collection, ["id", "status"], {"status": ARCHIVED}):
                yield record["id"], record

    def buyers(self) -> Iterator[str]:
        """List the ids of customers that orders and carts at Mailchimp refer to; repeatedly."""
        for collection in ("orders", "carts"):
            path = f"/ecommerce/stores/{self._settings.store_id}/{collection}"
            for record in self._pages(path, ["customer.id", "id"]):
                yield record["customer"]["id"]

    def one(self, entity: Entity, record_id: str) -> Record | None:
        """Return one record, whole; None where Mailchimp doesn't hold it."""
        try:
            return self._client.get(Endpoint.of(entity, self._settings).path(record_id))
        except NotFound:
            return None

    def _pages(self, path: str, fields: list[str], params: Mapping[str, Any] | None = None) -> Iterator[Record]:
        name = path.rsplit("/", 1)[-1].replace("-", "_")
        begun = False
        try:
            for record in self._client.list_all(path, name, params, _PER_PAGE, fields):
                begun = True
                yield record
        except Invalid as error:
            if begun or error.status != _FIELDS_INVALID:
                raise
            # An account whose API doesn't know one of the fields yet: then all of them.
            yield from self._client.list_all(path, name, params, _PER_PAGE)


def _paths(document: Document) -> Iterator[str]:
    """Name the fields of a document as the query parameter does."""
    for path, _, _ in document.leaves():
        # Which merge fields there are is the audience's affair.
        yield "merge_fields" if path.startswith("merge_fields.") else path.replace("[]", "")
