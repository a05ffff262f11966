"""Products: variants always, URLs absolute, children in a stable order."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from include.documents.encoder import encode
from include.mailchimp.contract import Product, ProductPut
from include.transform import products
from include.transform.products import PLACEHOLDER, PLACEHOLDER_ID
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
FIRST = "https://shop.dev/1.jpg"
IMAGE = {"product_id": "P1", "image_id": "I1", "url": FIRST, "variant_ids": ["P1-S", "P1-L"]}
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
    prepared = prepare(SHIRT, variants=(LARGE, SMALL), images=(IMAGE,))
    [document] = documents(products.DOCUMENT, prepared)
    assert document == {
        "id": "P1",
        "title": 'Shirt "Ada"',
        "handle": "shirt",
        "url": "https://shop.dev/p/shirt",
        "image_url": "https://shop.dev/shirt.jpg",
        "variants": [
            {"id": "P1-S", "title": "S", "price": Decimal("24.95"), "inventory_quantity": 5, "image_url": FIRST},
            {"id": "P1-L", "title": "L", "price": Decimal("24.95"), "inventory_quantity": 5, "image_url": FIRST},
        ],
        "images": [{"id": "I1", "url": FIRST, "variant_ids": ["P1-S", "P1-L"]}],
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
    both = "https://shop.dev/{handle}-p{product_id}"
    [document] = built(SHIRT | {"url": None, "handle": "größe"}, product_url_template=both)
    assert document["url"] == "https://shop.dev/gr%C3%B6%C3%9Fe-pP1"


@pytest.mark.parametrize(
    ("product", "variant", "field"),
    [
        (SHIRT | {"title": "  "}, SMALL, "title"),
        (SHIRT | {"product_id": "0"}, SMALL, "id"),
        (SHIRT, SMALL | {"variant_id": " "}, "variants[].id"),
        (SHIRT, SMALL | {"title": ""}, "variants[].title"),
        (SHIRT | {"product_id": PLACEHOLDER_ID}, SMALL, "id"),
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


def test_a_variant_id_may_stand_in_two_products_but_not_twice_in_one() -> None:
    other = SHIRT | {"product_id": "P2"}
    variants = (SMALL, LARGE, LARGE | {"variant_id": "P1-S", "position": 3}, SMALL | {"product_id": "P2"})
    prepared = prepare(SHIRT, other, variants=variants)
    assert [document["id"] for document in documents(products.DOCUMENT, prepared)] == ["P2"]
    assert [rejected.title for rejected in prepared.rejected] == ["Variant id repeated"]


def test_the_placeholder_is_a_product_as_the_api_expects_it() -> None:
    product = Product.model_validate(PLACEHOLDER)
    assert [variant.id for variant in product.variants] == [product.id] == [PLACEHOLDER_ID]
    assert product.variants[0].visibility == "hidden"


def test_prices_have_the_decimals_of_the_stores_currency() -> None:
    yen = replace(context(), store_currency="JPY")
    related = {"variants": extract("variants", SMALL | {"price": "2495.00"}), "images": extract("images")}
    prepared = products.prepare(Frames(extract("products", SHIRT), related), yen)
    assert '"price":2495,' in encode(products.DOCUMENT, prepared.rows)[0].as_py()


def test_stock_visibility_and_category_are_sent_as_the_shop_says() -> None:
    variant = SMALL | {"inventory_quantity": 0, "visibility": "visible", "backorders": "notify", "sku": "S-1"}
    [document] = built(SHIRT | {"type": "Shirts", "vendor": "Loom"}, variants=(variant,))
    assert (document["type"], document["vendor"]) == ("Shirts", "Loom")
    [sent] = document["variants"]
    assert (sent["inventory_quantity"], sent["visibility"], sent["backorders"]) == (0, "visible", "notify")
    assert sent["sku"] == "S-1"
