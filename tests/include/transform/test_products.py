"""Products: variants always, URLs absolute, children in a stable order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from include.mailchimp.contract import ProductPut
from include.transform import products
from include.transform.records import Frames, Prepared
from tests.include.transform.rows import CHANGED, context, documents, extract

SHIRT = {
    "product_id": "P1",
    "updated_at": CHANGED,
    "title": 'Shirt "Ada"',
    "handle": "shirt",
    "url": "https://shop.dev/p/shirt",
    "image_url": "https://shop.dev/shirt.jpg",
    "published_at": CHANGED,
}
SMALL = {
    "product_id": "P1",
    "variant_id": "P1-S",
    "title": "S",
    "price": "24.95",
    "inventory_quantity": 5,
    "position": 1,
}
LARGE = SMALL | {"variant_id": "P1-L", "title": "L", "position": 2}


def prepare(
    *rows: dict[str, Any],
    variants: tuple[dict[str, Any], ...] = (SMALL,),
    images: tuple[dict[str, Any], ...] = (),
    **settings: Any,
) -> Prepared:
    related = {"variants": extract("variants", *variants), "images": extract("images", *images)}
    return products.prepare(Frames(extract("products", *rows), related), context(**settings))


def built(*rows: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    return documents(products.DOCUMENT, prepare(*rows, **options))


def test_a_product_as_the_api_expects_it() -> None:
    image = {"product_id": "P1", "image_id": "I1", "url": "https://shop.dev/1.jpg", "variant_ids": ["P1-S", "P1-L"]}
    prepared = prepare(SHIRT, variants=(LARGE, SMALL), images=(image,))
    [document] = documents(products.DOCUMENT, prepared)
    assert document == {
        "id": "P1",
        "title": 'Shirt "Ada"',
        "handle": "shirt",
        "url": "https://shop.dev/p/shirt",
        "image_url": "https://shop.dev/shirt.jpg",
        "variants": [
            {"id": "P1-S", "title": "S", "price": Decimal("24.95"), "inventory_quantity": 5},
            {"id": "P1-L", "title": "L", "price": Decimal("24.95"), "inventory_quantity": 5},
        ],
        "images": [{"id": "I1", "url": "https://shop.dev/1.jpg", "variant_ids": ["P1-S", "P1-L"]}],
        "published_at_foreign": "2026-11-01T12:00:00+00:00",
    }
    ProductPut.model_validate(
        {**document, "variants": [v | {"price": float(v["price"])} for v in document["variants"]]}
    )


def test_a_product_without_variants_gets_one_that_repeats_it() -> None:
    [document] = built(SHIRT, variants=())
    assert document["variants"] == [
        {"id": "P1", "title": 'Shirt "Ada"', "image_url": "https://shop.dev/shirt.jpg"},
    ]


def test_relative_urls_are_left_out() -> None:
    [document] = built(
        SHIRT | {"image_url": "/media/1.jpg"}, images=({"product_id": "P1", "image_id": "1", "url": "x.jpg"},)
    )
    assert "image_url" not in document
    assert "images" not in document


def test_the_product_page_comes_from_the_template_where_the_shop_has_none() -> None:
    template = "https://shop.dev/{handle}.html"
    [document] = built(SHIRT | {"url": None}, product_url_template=template)
    assert document["url"] == "https://shop.dev/shirt.html"
    [document] = built(SHIRT, product_url_template=template)
    assert document["url"] == "https://shop.dev/p/shirt"


@pytest.mark.parametrize(
    ("product", "variant", "field"),
    [
        (SHIRT | {"title": "  "}, SMALL, "title"),
        (SHIRT | {"product_id": "0"}, SMALL, "id"),
        (SHIRT, SMALL | {"variant_id": " "}, "variants[].id"),
        (SHIRT, SMALL | {"title": ""}, "variants[].title"),
    ],
)
def test_a_product_that_cannot_be_expressed_is_one_rejected_record(
    product: dict[str, Any], variant: dict[str, Any], field: str
) -> None:
    other = SHIRT | {"product_id": "P2"}
    prepared = prepare(product, other, variants=(variant, SMALL | {"product_id": "P2"}))
    assert [document["id"] for document in documents(products.DOCUMENT, prepared)] == ["P2"]
    assert [rejected.field for rejected in prepared.rejected] == [field]


def test_deleted_products_are_not_sent() -> None:
    assert built(SHIRT | {"is_deleted": True}) == []
