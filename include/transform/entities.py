"""The entities that are pushed, and how a chunk of one becomes payloads: read what it refers to, prepare, encode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import pandas as pd

from include.config.stores import StoreSettings
from include.documents.encoder import encode, to_arrow
from include.documents.spec import Document
from include.extract.contract import CONTRACT
from include.extract.slices import Extractor
from include.transform import carts, customers, members, orders, products, promotions
from include.transform.erasures import read_erased
from include.transform.identity import contact_hashes, normalised
from include.transform.records import BuildContext, Built, Erased, Frames, Prepared


@dataclass(frozen=True)
class Related:
    """A result set that an entity's rows refer to: `extract` is read where its `column` equals one of `ids`.

    Attributes:
        extract: what is read.
        ids: columns with the ids, of the main frame or of the related frame `of`.
        column: the extract's column they are compared with; its key unless said otherwise.
        of: the frame that has the ids; the main frame unless said otherwise.
        columns: the only columns that are needed; all unless said otherwise.
        name: under which `prepare` finds it; the extract's name unless said otherwise.
        folded: look for the ids in normal form (trimmed, lower case) too.
    """

    extract: str
    ids: tuple[str, ...]
    column: str | None = None
    of: str | None = None
    columns: tuple[str, ...] | None = None
    name: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Entity:
    """One kind of record: where its rows come from, how they become documents, and where those live at Mailchimp.

    Attributes:
        name: also what the state tables call it.
        extract: the result set its rows come from.
        key: the extract's key.
        related: what its rows refer to.
        prepare: turns rows into prepared records.
        document: their document, or how to make it for a store.
        endpoint: path of the collection, relative to the API root, with {store_id}, {list_id}, or {parent} in it.
        upsert: PUT whatever is there, or POST what is new and PATCH what Mailchimp holds.
        children: what Mailchimp keeps inside a record although an update leaves it out: name of the list in the
            document → (child frame, column with the ids).
        owner: column with the customer, of a record that Mailchimp never gives to another one.
        deletes: whether a record that the shop no longer yields is deleted at Mailchimp.
        clears: whether an update spells out emptied values.
    """

    name: str
    extract: str
    key: str
    related: tuple[Related, ...]
    prepare: Callable[[Frames, BuildContext], Prepared]
    document: Document | Callable[[BuildContext], Document]
    endpoint: str
    upsert: Literal["put", "post_patch"] = "put"
    children: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    owner: str | None = None
    deletes: bool = True
    clears: bool = True

    @property
    def of_people(self) -> bool:
        """Whether its records are people, or name some."""
        return any(extract == "customers" for extract in (self.extract, *(one.extract for one in self.related)))

    def build(self, extractor: Extractor, frame: pd.DataFrame, context: BuildContext) -> Built:
        """Turn rows of the entity's extract into payloads.

        Args:
            extractor: reads the related rows in the snapshot that ``frame`` was read in.
            frame: rows of the extract, in key order.
            context: settings, profile and currency of the store.
        """
        erased = read_erased(extractor) if self.of_people else Erased()
        context = replace(context, now=extractor.read_at, erased=erased, archived=self._archived(frame, context))
        prepared = self.prepare(Frames(frame, self.read_related(extractor, frame)), context)
        rows = prepared.rows.frame
        document = self.document if isinstance(self.document, Document) else self.document(context)
        return Built(
            keys=to_arrow(rows["key"]),
            record_ids=to_arrow(rows["record_id"]),
            bodies=encode(document, prepared.rows, embedded=True),
            updated_at=to_arrow(rows["updated_at"]),
            parents=prepared.parents,
            rejected=prepared.rejected,
            rows=len(frame),
            last_key=None if frame.empty else str(frame[self.key].iloc[-1]),
            read_at=extractor.read_at,
            source=prepared.rows,
            document=document,
            aliases=prepared.aliases,
        )

    def _archived(self, frame: pd.DataFrame, context: BuildContext) -> frozenset[str]:
        if self.extract != "customers":
            return frozenset()
        return context.archived_among(contact_hashes(frame["email"]))

    def read_related(self, extractor: Extractor, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Read the result sets that rows of the entity's extract refer to, by name."""
        related: dict[str, pd.DataFrame] = {}
        for source in self.related:
            rows = frame if source.of is None else related[source.of]
            ids = pd.concat([rows[column] for column in source.ids])
            if source.folded:
                ids = pd.concat([ids, normalised(ids)])
            related[source.name or source.extract] = extractor.read_ids(
                source.extract, ids, column=source.column, columns=source.columns
            )
        return related


def extra_columns(settings: StoreSettings) -> dict[str, tuple[str, ...]]:
    """Return the columns beyond the contract that a store's settings name, by extract."""
    known = CONTRACT["customers"].by_name.keys() | {"address"}
    named = tuple(sorted(set(settings.merge_fields.values()) - known))
    return {"customers": named} if named else {}


_STORE: Final = "/ecommerce/stores/{store_id}"
_SAME_ADDRESS: Final = Related("customers", ("email",), "email", name="same_address", folded=True)
_ADDRESSES: Final = Related("addresses", ("address_id",), of="same_address")


def _goods_of(lines: str) -> tuple[Related, Related]:
    """Return what tells whether the goods of lines still exist."""
    product_id, key = ("product_id",), "product_id"
    return (
        Related("products", product_id, key, of=lines, columns=("product_id", "is_deleted"), name="line_products"),
        Related("variants", product_id, key, of=lines, columns=("product_id", "variant_id"), name="line_variants"),
    )


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
            f"{_STORE}/products",
            children={"variants": ("variants", "variant_id"), "images": ("images", "image_id")},
        ),
        Entity(
            "members",
            "customers",
            "customer_id",
            (_SAME_ADDRESS, _ADDRESSES, Related("customer_groups", ("customer_id",), of="same_address")),
            members.prepare,
            members.document,
            "/lists/{list_id}/members",
            deletes=False,
            clears=False,
        ),
        Entity(
            "customers",
            "customers",
            "customer_id",
            (_SAME_ADDRESS, _ADDRESSES),
            customers.prepare,
            customers.DOCUMENT,
            f"{_STORE}/customers",
        ),
        Entity(
            "promo_rules",
            "promo_rules",
            "rule_id",
            (),
            promotions.prepare_rules,
            promotions.RULES_DOCUMENT,
            f"{_STORE}/promo-rules",
            upsert="post_patch",
        ),
        Entity(
            "promo_codes",
            "promo_codes",
            "code_key",
            (),
            promotions.prepare_codes,
            promotions.CODES_DOCUMENT,
            f"{_STORE}/promo-rules/{{parent}}/promo-codes",
            upsert="post_patch",
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
                *_goods_of("order_lines"),
            ),
            orders.prepare,
            orders.DOCUMENT,
            f"{_STORE}/orders",
            children={"lines": ("lines", "line_id")},
        ),
        Entity(
            "carts",
            "carts",
            "cart_id",
            (Related("cart_lines", ("cart_id",)), Related("customers", ("customer_id",)), *_goods_of("cart_lines")),
            carts.prepare,
            carts.DOCUMENT,
            f"{_STORE}/carts",
            upsert="post_patch",
            children={"lines": ("lines", "line_id")},
            owner="customer_record_id",
        ),
    )
}
"""The entities by name, in the order in which they are pushed: parents first."""
