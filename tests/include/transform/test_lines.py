"""Lines keep a product the shop still has; every other one becomes the placeholder, and no line is lost."""

from __future__ import annotations

from typing import Any

import pytest

from include.transform.lines import PLACEHOLDER_ID, with_placeholder
from include.transform.products import PLACEHOLDER
from tests.include.transform.rows import extract

SHIRT = {"product_id": "P1"}
BOOK = {"product_id": "P2"}
SMALL = {"product_id": "P1", "variant_id": "P1-S"}
GONE = (PLACEHOLDER_ID, PLACEHOLDER_ID)


def references(
    *pairs: tuple[str | None, str | None],
    products: tuple[dict[str, Any], ...] = (SHIRT, BOOK),
    variants: tuple[dict[str, Any], ...] = (SMALL,),
) -> list[tuple[str, str]]:
    lines = extract("order_lines", *({"product_id": product, "variant_id": variant} for product, variant in pairs))
    checked = with_placeholder(lines, extract("products", *products), extract("variants", *variants))
    return list(zip(checked["product_id"], checked["variant_id"], strict=True))


def test_a_line_keeps_what_the_shop_has() -> None:
    assert references(("P1", "P1-S"), ("P2", "P2")) == [("P1", "P1-S"), ("P2", "P2")]


@pytest.mark.parametrize(
    "pair",
    [
        ("P9", "P9"),  # no such product
        ("P1", "P1-L"),  # the variant was removed
        ("P1", "P1"),  # that was right while the product had no variants
        ("P2", "P1-S"),  # another product's variant
        (None, None),  # the shop has cut the reference
        ("P1", None),
        (None, "P1-S"),
    ],
)
def test_a_line_without_its_product_refers_to_the_placeholder(pair: tuple[str | None, str | None]) -> None:
    assert references(("P1", "P1-S"), pair, ("P2", "P2")) == [("P1", "P1-S"), GONE, ("P2", "P2")]


def test_a_product_marked_as_deleted_is_gone_with_its_variants() -> None:
    products = (SHIRT | {"is_deleted": True}, BOOK | {"is_deleted": False})
    assert references(("P1", "P1-S"), ("P2", "P2"), products=products) == [GONE, ("P2", "P2")]


def test_ids_that_read_alike_side_by_side_are_told_apart() -> None:
    products = ({"product_id": "1"}, {"product_id": "12"})
    variants = ({"product_id": "1", "variant_id": "23"}, {"product_id": "12", "variant_id": "4"})
    assert references(("12", "3"), ("1", "23"), products=products, variants=variants) == [GONE, ("1", "23")]


def test_lines_of_an_empty_catalogue_are_all_placeholders() -> None:
    assert references(("P1", "P1-S"), products=(), variants=()) == [GONE]
    assert references(products=(), variants=()) == []


def test_the_placeholder_is_a_product_with_one_variant_of_its_own_id() -> None:
    assert PLACEHOLDER["id"] == PLACEHOLDER_ID
    assert [variant["id"] for variant in PLACEHOLDER["variants"]] == [PLACEHOLDER_ID]
