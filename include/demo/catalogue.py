"""Products, their categories, variants and images."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from include.demo.columns import DAY, SECOND, Flags, Integers, integers, microseconds, money, random, times
from include.demo.purchases import read_source

_PICTURES = "https://images.completejourney-shop.dev/"
#: Further variants: how many pieces a pack holds, of every how many-th product, at what percentage of a piece's price.
_PACKS = ((2, 4, 190), (6, 12, 540))
_NO_PICTURE_SHARE = 0.1
_LONG_TITLE_EVERY = 211
_HOSTILE_DESCRIPTION_EVERY = 97
_HOSTILE_DESCRIPTION = (
    '<p class="note">100 % "fresh" & tasty 🥕</p>\n\tKeep cool \\ dry – Größe & façon “as shown”. </script>'
)


def read_products() -> pd.DataFrame:
    """The data set's products by `product_id`, ascending; what the source doesn't know is null."""
    return read_source("products").to_pandas().sort_values("product_id", ignore_index=True)


def variant_ids(product_ids: Integers) -> Integers:
    """The first variant of each product."""
    return product_ids * 10 + 1


def build_catalogue(source: pd.DataFrame, lines: pd.DataFrame, unsold: int, until: datetime) -> dict[str, pa.Table]:
    """Build the tables `categories`, `products`, `variants` and `product_images`.

    Args:
        source: what `read_products` returned.
        lines: order lines with `product_id` and `price` (cents); all of their products become part of the catalogue.
        unsold: how many products without a sale are added; every second of them soft-deleted.
        until: the shop's newest moment.
    """
    prices = lines.groupby("product_id")["price"].median()
    without_sale = source.loc[~source["product_id"].isin(prices.index), "product_id"].head(unsold)
    products = source[source["product_id"].isin(prices.index) | source["product_id"].isin(without_sale)]
    products = products.reset_index(drop=True)
    ids = products["product_id"].to_numpy()
    listed = np.rint(prices.reindex(ids).fillna(0).to_numpy()).astype(np.int64)
    # Never sold, or only ever given away: an invented price.
    price = np.where(listed > 0, listed, 99 + ids % 900)
    deleted = np.isin(ids, without_sale.to_numpy()[::2])
    category = _titled(products["product_category"].fillna(products["department"]))
    category_number, categories = pd.factorize(category, sort=True)
    return {
        "categories": pa.table(
            {
                "category_id": np.arange(1, len(categories) + 1),
                "name": pa.array(categories, pa.string()),
            }
        ),
        "products": _products(products, category, category_number + 1, deleted, microseconds(until)),
        "variants": _variants(products, price),
        "product_images": _images(ids),
    }


def _titled(texts: pd.Series) -> pd.Series:
    """The source's capitals as a title: `ICE - CRUSHED/CUBED` → `Ice - Crushed/Cubed`."""
    return texts.str.strip().str.title()


def _products(
    products: pd.DataFrame, category: pd.Series, category_id: Integers, deleted: Flags, until: int
) -> pa.Table:
    ids = products["product_id"].to_numpy()
    kind = _titled(products["product_type"]).fillna(category)
    short_title = kind + (", " + products["package_size"].str.strip()).fillna("")
    long_title = (short_title + " – ").str.repeat(100).str.slice(0, 300).str.strip()
    slug = kind.str.lower().str.replace(r"[^a-z0-9]+", "-", regex=True).str.strip("-")
    description = products["brand"] + " brand, " + category + "."
    updated_at = until - (ids % 330) * DAY - (ids % 86_400) * SECOND
    return pa.table(
        {
            "product_id": ids,
            "category_id": category_id,
            "title": pa.array(short_title.where(ids % _LONG_TITLE_EVERY != 0, long_title), pa.string()),
            "handle": pa.array(slug + "-" + products["product_id"].astype(str), pa.string()),
            "description": pa.array(
                description.where(ids % _HOSTILE_DESCRIPTION_EVERY != 0, _HOSTILE_DESCRIPTION), pa.string()
            ),
            "vendor": pa.array("Manufacturer " + products["manufacturer_id"].astype(str), pa.string()),
            "published_at": times(until - (400 + ids % 900) * DAY),
            "created_at": times(until - (410 + ids % 900) * DAY),
            "updated_at": times(updated_at),
            "deleted_at": times(updated_at, absent=~deleted),
        }
    )


def _variants(products: pd.DataFrame, price: Integers) -> pa.Table:
    """The real package first, then the invented multi-packs."""
    ids = products["product_id"].to_numpy()
    size = products["package_size"].str.strip().fillna("Standard")
    rows = np.arange(len(ids))
    parts = [(rows, 1, size, price)]
    for pieces, every, percent in _PACKS:
        packed = rows[ids % every == 0]
        parts.append((packed, len(parts) + 1, f"{pieces} × " + size.iloc[packed], price[packed] * percent // 100))
    row = np.concatenate([part[0] for part in parts])
    position = np.concatenate([np.full(len(part[0]), part[1]) for part in parts])
    product_ids = ids[row]
    generator = random(1)
    stock = generator.integers(0, 400, len(row))
    sku = pd.Series(product_ids).astype(str).radd("CJ-") + "-" + pd.Series(position).astype(str)
    return pa.table(
        {
            "variant_id": product_ids * 10 + position,
            "product_id": product_ids,
            "title": pa.array(pd.concat([part[2] for part in parts], ignore_index=True), pa.string()),
            "sku": pa.array(sku, pa.string()),
            "price": money(np.concatenate([part[3] for part in parts])),
            "inventory_quantity": integers(np.where(stock < 20, 0, stock), absent=stock > 390),
            "backorders": pa.array(np.where(product_ids % 5 == 0, "allow", "deny"), pa.string()),
            "visibility": pa.array(np.where(generator.random(len(row)) < 0.02, "hidden", "visible"), pa.string()),
            "position": position,
        }
    )


def _images(ids: Integers) -> pa.Table:
    pictured = ids[random(2).random(len(ids)) >= _NO_PICTURE_SHARE]
    packed = pictured[pictured % _PACKS[0][1] == 0]
    product_ids = np.concatenate([pictured, packed])
    position = np.concatenate([np.full(len(pictured), 1), np.full(len(packed), 2)])
    image_ids = pd.Series(product_ids * 10 + position)
    # The second picture shows the first multi-pack.
    shown = pd.Series(packed * 10 + 2).astype(str).radd("{") + "}"
    return pa.table(
        {
            "image_id": image_ids.to_numpy(),
            "product_id": product_ids,
            "position": position,
            "url": pa.array(_PICTURES + image_ids.astype(str) + ".jpg", pa.string()),
            "variant_ids": pa.concat_arrays([pa.nulls(len(pictured), pa.string()), pa.array(shown, pa.string())]),
        }
    )
