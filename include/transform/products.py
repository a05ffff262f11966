"""Products with variants and images → ``PUT /ecommerce/stores/{store_id}/products/{product_id}``.

API reference: "Ecommerce products · Add or update product". Every product has at least one variant: one without
variants in the shop gets a single one that repeats its id and title, as the reference recommends.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from include.documents.encoder import Rows
from include.documents.spec import Children, Document, Integer, Money, Text, TextList, Time
from include.transform.money import CURRENCY_DIGITS
from include.transform.records import BuildContext, Frames, Prepared, children_of, keep_rows, positions
from include.transform.rules import ErrorClass, Rule, apply_rules, unusable_id

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

_LONGEST_IMAGE_ID = 50


def prepare(frames: Frames, context: BuildContext) -> Prepared:
    """Derive product documents from the extracts ``products``, ``variants`` and ``images``.

    Args:
        frames: ``main`` = products, ``related["variants"]``, ``related["images"]``.
        context: the store's settings and currency.

    Returns:
        Products with their children; URLs that aren't absolute are left out, images without one too.
    """
    products = frames.main.loc[~frames.main["is_deleted"].fillna(False).astype(bool)].reset_index(drop=True)
    products = products.assign(
        key=products["product_id"],
        record_id=products["product_id"],
        url=_absolute(_page(products, context)),
        image_url=_absolute(products["image_url"]),
    )
    variants = children_of(
        products["product_id"], _variants(frames.related["variants"], products, context), "product_id", _VARIANT_ORDER
    )
    images = children_of(products["product_id"], _images(frames.related["images"]), "product_id", ("image_id",))
    owner = pd.Series(positions(variants))
    broken_variant = pd.Series(False, index=products.index)
    broken_variant[owner[unusable_id(variants.rows.frame["variant_id"]).fillna(True).to_numpy(dtype=bool)]] = True
    untitled_variant = pd.Series(False, index=products.index)
    untitled_variant[owner[_blank(variants.rows.frame["title"]).to_numpy(dtype=bool)]] = True
    kept, rejected = apply_rules(
        "products",
        products,
        "key",
        "record_id",
        [
            Rule(
                unusable_id(products["key"]),
                ErrorClass.MISSING_VALUE,
                "id",
                "Product id unusable",
                "Mailchimp takes no id that is empty, blank or 0; give the product another one",
            ),
            Rule(
                _blank(products["title"]),
                ErrorClass.MISSING_VALUE,
                "title",
                "Product title missing",
                "Mailchimp requires a title; fill it in in the shop",
            ),
            Rule(
                broken_variant,
                ErrorClass.MISSING_VALUE,
                "variants[].id",
                "Variant id unusable",
                "a variant's id is empty, blank or 0; give it another one",
            ),
            Rule(
                untitled_variant,
                ErrorClass.MISSING_VALUE,
                "variants[].title",
                "Variant title missing",
                "Mailchimp requires a title for every variant; fill it in in the shop",
            ),
        ],
    )
    return Prepared(keep_rows(Rows(products, {"variants": variants, "images": images}), kept), rejected)


_VARIANT_ORDER = ("position", "variant_id")


def _variants(variants: pd.DataFrame, products: pd.DataFrame, context: BuildContext) -> pd.DataFrame:
    """Return the variants, with a single one for every product that has none, and the store's currency digits."""
    single = products.loc[~products["product_id"].isin(variants["product_id"]), ["product_id", "title", "image_url"]]
    if len(single):
        variants = pd.concat([variants, single.assign(variant_id=single["product_id"])], ignore_index=True)
    digits = pd.Series(CURRENCY_DIGITS[context.store_currency], variants.index, dtype=pd.ArrowDtype(pa.int64()))
    return variants.assign(
        currency_digits=digits, url=_absolute(variants["url"]), image_url=_absolute(variants["image_url"])
    )


def _images(images: pd.DataFrame) -> pd.DataFrame:
    """Return the images that Mailchimp can show."""
    usable = _absolute(images["url"]).notna() & ~unusable_id(images["image_id"], _LONGEST_IMAGE_ID)
    return images.loc[usable.fillna(False).astype(bool)]


def _page(products: pd.DataFrame, context: BuildContext) -> pd.Series:
    """Return the product pages: the shop's own column, or the store's template where that is empty."""
    template = context.settings.product_url_template
    if template is None:
        return products["url"]
    before, _, after = template.partition("{handle}" if "{handle}" in template else "{product_id}")
    named = products["handle"] if "{handle}" in template else products["product_id"]
    return products["url"].fillna(before + named + after)


def _absolute(urls: pd.Series) -> pd.Series:
    """Leave out URLs that aren't absolute: Mailchimp has no page to resolve a relative one against."""
    return urls.where(urls.str.match(r"https?://[^/\s]").fillna(False).astype(bool))


def _blank(texts: pd.Series) -> pd.Series:
    return texts.isna() | (texts.str.strip() == "")
