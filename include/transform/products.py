"""Products with variants and images → ``PUT /ecommerce/stores/{store_id}/products/{product_id}``.

API reference: "Ecommerce products · Add or update product". Every product has at least one variant: one without
variants in the shop gets a single one that repeats its id and title, as the reference recommends. Prices are sent as
the profile yields them, in the store's currency: whether they include tax is for its SQL to decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from include.documents.encoder import ChildRows, Rows
from include.documents.spec import Children, Document, Integer, Money, Text, TextList, Time
from include.transform import images
from include.transform.money import CURRENCY_DIGITS
from include.transform.records import BuildContext, Frames, Prepared, children_of, keep_rows, positions
from include.transform.rules import ErrorClass, RejectedRecord, Rule, apply_rules, unusable_id
from include.transform.urls import absolute, from_template

DOCUMENT = Document(
    "product",
    (
        Text("id", "record_id"),
        Text("title", "title"),
        Text("handle", "handle"),
        Text("url", "url"),
        Text("description", "description"),
        Text("type", "type"),
        Text("vendor", "vendor"),
        Text("image_url", "image_url"),
        Children(
            "variants",
            "variants",
            (
                Text("id", "variant_id"),
                Text("title", "title"),
                Text("url", "url"),
                Text("sku", "sku"),
                Money("price", "price"),
                Integer("inventory_quantity", "inventory_quantity"),
                Text("image_url", "image_url"),
                Text("backorders", "backorders"),
                Text("visibility", "visibility"),
            ),
        ),
        Children(
            "images",
            "images",
            (Text("id", "image_id"), Text("url", "url"), TextList("variant_ids", "variant_ids")),
        ),
        Time("published_at_foreign", "published_at"),
    ),
)

#: The product and the variant that stand in for what order and cart lines refer to, but the shop no longer has
#: (complaints of integrations without one: whole orders refused, or revenue dropped).
PLACEHOLDER_ID: Final = "deleted-product"
_PLACEHOLDER_TITLE = "Product no longer in the shop"
#: Its document, for ``PUT /ecommerce/stores/{store_id}/products/deleted-product``.
PLACEHOLDER: Final[Mapping[str, Any]] = {
    "id": PLACEHOLDER_ID,
    "title": _PLACEHOLDER_TITLE,
    "variants": [{"id": PLACEHOLDER_ID, "title": _PLACEHOLDER_TITLE, "visibility": "hidden"}],
}


_VARIANT_ORDER: Final = ("position", "variant_id")


def prepare(frames: Frames, context: BuildContext) -> Prepared:
    """Derive product documents from the extracts ``products``, ``variants`` and ``images``.

    Args:
        frames: ``main`` = products, ``related["variants"]``, ``related["images"]``.
        context: the store's settings and currency.

    Returns:
        Products with their children; URLs that aren't absolute are left out, images without one too.
    """
    products = frames.main.loc[~frames.main["is_deleted"].fillna(False).astype(bool)].reset_index(drop=True)
    ids = products["product_id"]
    own_variants = _variants(frames.related["variants"], products, context)
    variants = children_of(ids, own_variants, "product_id", _VARIANT_ORDER)
    shown = children_of(ids, images.showable(frames.related["images"]), "product_id", ("image_id",))
    shown = images.of_known_variants(shown, variants)
    products = products.assign(
        key=ids,
        record_id=ids,
        url=absolute(_page(products, context)),
        image_url=absolute(products["image_url"]).fillna(images.of_products(shown)),
    )
    variants = images.of_variants(variants, shown, products)
    kept, rejected = _check(products, variants)
    return Prepared(keep_rows(Rows(products, {"variants": variants, "images": shown}), kept), rejected)


def _check(products: pd.DataFrame, variants: ChildRows) -> tuple[pd.Series, list[RejectedRecord]]:
    variant = variants.rows.frame
    repeated = variant.duplicated(["product_id", "variant_id"])
    rules = [
        Rule(
            unusable_id(products["key"]),
            ErrorClass.MISSING_VALUE,
            "id",
            "Product id unusable",
            "Mailchimp takes no id that is empty, blank or 0; give the product another one",
        ),
        Rule(
            products["key"] == PLACEHOLDER_ID,
            ErrorClass.INVALID_VALUE,
            "id",
            "Product id reserved",
            f"{PLACEHOLDER_ID} stands in for products that the shop no longer has; give the product another id",
        ),
        Rule(
            _blank(products["title"]),
            ErrorClass.MISSING_VALUE,
            "title",
            "Product title missing",
            "Mailchimp requires a title; fill it in in the shop",
        ),
        Rule(
            _with_variant(unusable_id(variant["variant_id"]), variants, products),
            ErrorClass.MISSING_VALUE,
            "variants[].id",
            "Variant id unusable",
            "a variant's id is empty, blank or 0; give it another one",
        ),
        Rule(
            _with_variant(repeated, variants, products),
            ErrorClass.INVALID_VALUE,
            "variants[].id",
            "Variant id repeated",
            "several variants of the product have the same id; give each its own",
        ),
        Rule(
            _with_variant(_blank(variant["title"]), variants, products),
            ErrorClass.MISSING_VALUE,
            "variants[].title",
            "Variant title missing",
            "Mailchimp requires a title for every variant; fill it in in the shop",
        ),
    ]
    return apply_rules("products", products, "key", "record_id", rules)


def _with_variant(broken: pd.Series, variants: ChildRows, products: pd.DataFrame) -> pd.Series:
    """Tell which products have a variant that breaks a rule; null counts as broken."""
    flags = pd.Series(False, index=products.index)
    flags[positions(variants)[broken.fillna(True).to_numpy(dtype=bool)]] = True
    return flags


def _variants(variants: pd.DataFrame, products: pd.DataFrame, context: BuildContext) -> pd.DataFrame:
    """Return the variants, with a single one for every product that has none, and the store's currency digits."""
    single = products.loc[~products["product_id"].isin(variants["product_id"]), ["product_id", "title"]]
    if len(single):
        variants = pd.concat([variants, single.assign(variant_id=single["product_id"])], ignore_index=True)
    digits = pd.Series(CURRENCY_DIGITS[context.store_currency], variants.index, dtype=pd.ArrowDtype(pa.int64()))
    return variants.assign(
        currency_digits=digits, url=absolute(variants["url"]), image_url=absolute(variants["image_url"])
    )


def _page(products: pd.DataFrame, context: BuildContext) -> pd.Series:
    """Return the product pages: the shop's own column, or the store's template where that is empty."""
    columns = {"product_id": products["product_id"], "handle": products["handle"]}
    return products["url"].fillna(from_template(context.settings.product_url_template, columns))


def _blank(texts: pd.Series) -> pd.Series:
    return texts.isna() | (texts.str.strip() == "")
