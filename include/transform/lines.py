"""Lines of orders and carts: attached to their records, what they may refer to, the rules they must keep.

Mailchimp refuses an order or cart with a line whose product or variant the store doesn't have (API reference: "Add
order"), while shops keep orders longer than products. Such lines refer to one placeholder product instead, so that the
revenue stays; official plugins do the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.documents.encoder import ChildRows, Rows, to_arrow
from include.transform.products import PLACEHOLDER_ID
from include.transform.records import children_of, positions
from include.transform.rules import ErrorClass, Rule, unusable_id

#: Stands in no id: PostgreSQL's text can't hold it.
_SEPARATOR = "\x00"


def with_placeholder(lines: pd.DataFrame, products: pd.DataFrame, variants: pd.DataFrame) -> pd.DataFrame:
    """Point lines to the placeholder where the shop no longer has their product or variant.

    Args:
        lines: lines with ``product_id`` and ``variant_id``; null where the shop has cut the reference.
        products: the products of these lines, as far as the shop has them (``product_id``, ``is_deleted``).
        variants: all variants of these products (``product_id``, ``variant_id``).

    Returns:
        The lines, in order, those without a product with `PLACEHOLDER_ID` as product and variant.
    """
    there = existing_pairs(lines, products, variants)
    if there.all():
        return lines
    return lines.assign(
        product_id=lines["product_id"].where(there, PLACEHOLDER_ID),
        variant_id=lines["variant_id"].where(there, PLACEHOLDER_ID),
    )


def existing_pairs(lines: pd.DataFrame, products: pd.DataFrame, variants: pd.DataFrame) -> pd.Series:
    """Tell which lines refer to a live product of the shop and to one of its variants.

    A product without variants is sent with one of its own id (see `include.transform.products`), so a line that repeats
    the product's id as variant fits it.
    """
    product, variant = to_arrow(lines["product_id"]), to_arrow(lines["variant_id"])
    gone = products["is_deleted"].fillna(False).astype(bool)
    live = to_arrow(products.loc[~gone, "product_id"])
    owner, listed = _ids(variants)
    sold = pc.is_in(owner, live, skip_nulls=True)
    there = pc.is_in(_pairs(product, variant), _pairs(owner.filter(sold), listed.filter(sold)), skip_nulls=True)
    if not pc.all(there).as_py():
        single = pc.and_(pc.is_in(product, live, skip_nulls=True), pc.invert(pc.is_in(product, owner)))
        there = pc.or_(there, pc.and_(single, pc.fill_null(pc.equal(product, variant), False)))
    return pd.Series(there.to_numpy(zero_copy_only=False), index=lines.index)


def under(records: pd.DataFrame, key: str, child: pd.DataFrame, order: Sequence[str]) -> ChildRows:
    """Sort child rows under their records and give them the record's currency digits.

    Args:
        records: orders or carts, with ``currency_digits``.
        key: their id, in both frames.
        child: lines, or other rows with amounts in the record's currency.
        order: columns that fix the order below one record.
    """
    sorted_rows = children_of(records[key], child, key, order)
    digits = to_arrow(records["currency_digits"]).take(pa.array(positions(sorted_rows)))
    frame = sorted_rows.rows.frame.assign(currency_digits=pd.arrays.ArrowExtensionArray(digits))
    return ChildRows(Rows(frame), sorted_rows.offsets)


def line_rules(records: pd.DataFrame, lines: ChildRows) -> list[Rule]:
    """Return what Mailchimp asks of every line (API reference, "Add order line item", "Add cart line item").

    Args:
        records: orders or carts.
        lines: their lines, sorted by ``line_id`` below each record.
    """
    line, owner = lines.rows.frame, positions(lines)
    repeated = (line["line_id"] == line["line_id"].shift()).fillna(False).astype(bool)
    repeated &= np.diff(owner, prepend=-1) == 0
    reference = unusable_id(line["line_id"]) | unusable_id(line["product_id"]) | unusable_id(line["variant_id"])
    return [
        Rule(
            with_child(reference, lines, records),
            ErrorClass.MISSING_VALUE,
            "lines[].id",
            "Line reference missing",
            "a line has no usable line_id, product_id or variant_id",
        ),
        Rule(
            with_child(repeated, lines, records),
            ErrorClass.INVALID_VALUE,
            "lines[].id",
            "Line id repeated",
            "one record may not contain the same line id more than once",
        ),
        Rule(
            with_child(line["quantity"].fillna(0) < 1, lines, records),
            ErrorClass.INVALID_VALUE,
            "lines[].quantity",
            "Line quantity unusable",
            "a line's quantity is missing or below 1; returns belong into the order's status and total",
        ),
        Rule(
            with_child(line["price"].isna(), lines, records),
            ErrorClass.MISSING_VALUE,
            "lines[].price",
            "Line price missing",
            "Mailchimp requires the unit price of every line",
        ),
    ]


def with_child(broken: pd.Series, children: ChildRows, records: pd.DataFrame) -> pd.Series:
    """Tell which records have a child row that breaks a rule; null counts as broken."""
    flags = pd.Series(False, index=records.index)
    flags[positions(children)[broken.fillna(True).to_numpy(dtype=bool)]] = True
    return flags


def _ids(variants: pd.DataFrame) -> tuple[pa.StringArray, pa.StringArray]:
    return to_arrow(variants["product_id"]), to_arrow(variants["variant_id"])


def _pairs(product: pa.StringArray, variant: pa.StringArray) -> pa.StringArray:
    return pc.binary_join_element_wise(product, variant, _SEPARATOR)
