"""Images of products: which can be shown, and which product or variant shows which.

API reference: "Ecommerce products · Add or update product". A product without an image of its own shows its first
one, a variant the one that lists it, or else the product's, so that no recommendation in a mail stays blank.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.documents.encoder import ChildRows, Rows, to_arrow
from include.transform.records import TEXT, positions
from include.transform.rules import unusable_id
from include.transform.urls import absolute

_LONGEST_ID = 50
#: Stands in no id: PostgreSQL's text can't hold it.
_SEPARATOR = "\x00"


def showable(images: pd.DataFrame) -> pd.DataFrame:
    """Keep the images that Mailchimp can show: with an absolute address and an id of their own within the product."""
    usable = absolute(images["url"]).notna() & ~unusable_id(images["image_id"], _LONGEST_ID)
    kept = images.loc[usable.fillna(False).astype(bool)]
    return kept.loc[~kept.duplicated(["product_id", "image_id"])]


def of_known_variants(images: ChildRows, variants: ChildRows) -> ChildRows:
    """Leave out of every image's ``variant_ids`` the variants that its product doesn't have.

    Args:
        images: images below their products.
        variants: the variants that are sent, below the same products.
    """
    image = images.rows.frame
    listed, owner = _listed(image)
    if not len(listed):
        return images
    keep = pc.is_in(listed, pair_ids(variants.rows.frame), skip_nulls=True)
    counts = np.bincount(owner[keep.to_numpy(zero_copy_only=False)], minlength=len(image))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    ids = pc.list_flatten(to_arrow(image["variant_ids"])).filter(keep)
    column = pd.arrays.ArrowExtensionArray(pa.ListArray.from_arrays(offsets, ids))
    return ChildRows(Rows(image.assign(variant_ids=column)), images.offsets)


def of_products(images: ChildRows) -> pd.Series:
    """Return the address of each product's first image, null where it has none."""
    first = images.offsets[:-1]
    taken = pa.array(first, mask=np.diff(images.offsets) == 0)
    return pd.Series(pd.arrays.ArrowExtensionArray(to_arrow(images.rows.frame["url"]).take(taken)))


def of_variants(variants: ChildRows, images: ChildRows, products: pd.DataFrame) -> ChildRows:
    """Give variants without an image the first one that lists them, or else the product's.

    Args:
        variants: variants below their products, with ``image_url``.
        images: images below the same products.
        products: the products, with ``image_url``.
    """
    variant, image = variants.rows.frame, images.rows.frame
    listed, owner = _listed(image)
    position = pc.index_in(pair_ids(variant), listed, skip_nulls=True)
    own = pd.Series(
        pd.arrays.ArrowExtensionArray(to_arrow(image["url"]).take(pa.array(owner)).take(position)), dtype=TEXT
    )
    whole = products["image_url"].take(positions(variants)).reset_index(drop=True)
    shown = variant["image_url"].fillna(own).fillna(whole)
    return ChildRows(Rows(variant.assign(image_url=shown)), variants.offsets)


def pair_ids(variants: pd.DataFrame) -> pa.StringArray:
    """Return one text per (product, variant); null where either id is."""
    return pc.binary_join_element_wise(to_arrow(variants["product_id"]), to_arrow(variants["variant_id"]), _SEPARATOR)


def _listed(images: pd.DataFrame) -> tuple[pa.StringArray, np.ndarray]:
    """Return the variants that images list, as of `pair_ids`, and the position of the image that lists each."""
    lists = to_arrow(images["variant_ids"])
    owner = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    product = to_arrow(images["product_id"]).take(pa.array(owner))
    return pc.binary_join_element_wise(product, pc.list_flatten(lists), _SEPARATOR), owner
