"""The entities that are pushed, and how a chunk of one becomes payloads: read what it refers to, prepare, encode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import pandas as pd

from include.documents.encoder import encode, to_arrow
from include.documents.spec import Document
from include.extract.slices import Extractor
from include.transform import customers, orders, products
from include.transform.records import BuildContext, Built, Frames, Prepared


@dataclass(frozen=True)
class Related:
    """A result set that an entity's rows refer to: ``extract`` is read where its ``column`` equals one of ``ids``.

    ``ids`` names columns of the main frame; ``column`` is the extract's key unless said otherwise.
    """

    extract: str
    ids: tuple[str, ...]
    column: str | None = None


@dataclass(frozen=True)
class Entity:
    """One kind of record: where its rows come from, how they become documents, and where those live at Mailchimp."""

    name: str
    extract: str
    key: str
    related: tuple[Related, ...]
    prepare: Callable[[Frames, BuildContext], Prepared]
    document: Document

    def path(self, store_id: str) -> str:
        """Return the path of the entity's collection, relative to the API root."""
        return f"/ecommerce/stores/{store_id}/{self.name}"

    def build(self, extractor: Extractor, frame: pd.DataFrame, context: BuildContext) -> Built:
        """Turn rows of the entity's extract into payloads.

        Args:
            extractor: reads the related rows in the snapshot that ``frame`` was read in.
            frame: rows of the extract, in key order.
            context: settings, profile and currency of the store.
        """
        prepared = self.prepare(Frames(frame, self.read_related(extractor, frame)), context)
        rows = prepared.rows.frame
        return Built(
            keys=to_arrow(rows["key"]),
            record_ids=to_arrow(rows["record_id"]),
            bodies=encode(self.document, prepared.rows, embedded=True),
            updated_at=to_arrow(rows["updated_at"]),
            parents=prepared.parents,
            rejected=prepared.rejected,
            rows=len(frame),
            last_key=None if frame.empty else str(frame[self.key].iloc[-1]),
            read_at=extractor.read_at,
        )

    def read_related(self, extractor: Extractor, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Read the result sets that rows of the entity's extract refer to, by extract."""
        related = {}
        for source in self.related:
            ids = pd.concat([frame[column] for column in source.ids]).dropna().drop_duplicates()
            related[source.extract] = extractor.read_ids(source.extract, ids, column=source.column)
        return related


ENTITIES: Final[Mapping[str, Entity]] = {
    entity.name: entity
    for entity in (
        Entity(
            "products",
            "products",
            "product_id",
            (Related("variants", ("product_id",), "product_id"), Related("images", ("product_id",), "product_id")),
            products.prepare,
            products.DOCUMENT,
        ),
        Entity(
            "customers",
            "customers",
            "customer_id",
            (Related("addresses", ("address_id",)),),
            customers.prepare,
            customers.DOCUMENT,
        ),
        Entity(
            "orders",
            "orders",
            "order_id",
            (
                Related("order_lines", ("order_id",), "order_id"),
                Related("order_promos", ("order_id",), "order_id"),
                Related("customers", ("customer_id",)),
                Related("addresses", ("shipping_address_id", "billing_address_id")),
            ),
            orders.prepare,
            orders.DOCUMENT,
        ),
    )
}
"""The entities by name, in the order in which they are pushed: parents first."""
