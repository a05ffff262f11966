"""Images: only what can be shown, variants that exist, and no product or variant without one where there is any."""

from __future__ import annotations

from typing import Any

from tests.include.transform.test_products import LARGE, SHIRT, SMALL, built

SHIRT_IMAGE = "https://shop.dev/shirt.jpg"


def image(number: int, *variant_ids: str, **columns: Any) -> dict[str, Any]:
    url = f"https://shop.dev/{number}.jpg"
    return {"product_id": "P1", "image_id": str(number), "url": url, "variant_ids": list(variant_ids)} | columns


def shown(product: dict[str, Any], variants: tuple[dict[str, Any], ...], *images: dict[str, Any]) -> list[str | None]:
    """The addresses of the product's image and of its variants'."""
    [document] = built(product, variants=variants, images=images)
    return [one.get("image_url") for one in (document, *document["variants"])]


def test_a_variant_shows_the_first_image_that_lists_it_or_else_the_products() -> None:
    images = (image(3, "P1-L"), image(2, "P1-L"), image(1))
    assert shown(SHIRT, (SMALL, LARGE), *images) == [SHIRT_IMAGE, SHIRT_IMAGE, "https://shop.dev/2.jpg"]


def test_a_variants_own_image_comes_first() -> None:
    own = SMALL | {"image_url": "https://shop.dev/own.jpg"}
    assert shown(SHIRT, (own,), image(1, "P1-S")) == [SHIRT_IMAGE, "https://shop.dev/own.jpg"]


def test_a_product_without_an_image_of_its_own_shows_its_first_one() -> None:
    product = SHIRT | {"image_url": "relative.jpg"}
    assert shown(product, (SMALL,), image(2), image(1)) == ["https://shop.dev/1.jpg"] * 2
    assert shown(product, (SMALL,)) == [None, None]


def test_images_belong_to_their_own_product() -> None:
    other = SHIRT | {"product_id": "P2", "image_url": None}
    twin = SMALL | {"product_id": "P2"}  # the same variant id as the shirt's
    documents = built(SHIRT, other, variants=(SMALL, twin), images=(image(1, "P1-S"),))
    assert [document["variants"][0].get("image_url") for document in documents] == ["https://shop.dev/1.jpg", None]


def test_an_image_lists_only_variants_that_its_product_has() -> None:
    images = (image(1, "P1-S", "gone", "P1-L"), image(2, "gone"), image(3, variant_ids=None), image(4, "P1-L"))
    [document] = built(SHIRT, variants=(SMALL, LARGE), images=images)
    assert [one.get("variant_ids") for one in document["images"]] == [["P1-S", "P1-L"], None, None, ["P1-L"]]


def test_an_image_may_list_the_variant_that_stands_for_a_product_without_any() -> None:
    [document] = built(SHIRT, variants=(), images=(image(1, "P1"),))
    assert document["images"][0]["variant_ids"] == ["P1"]
    assert document["variants"][0]["image_url"] == "https://shop.dev/1.jpg"


def test_images_that_cannot_be_shown_are_left_out() -> None:
    images = (
        image(1),
        image(1, url="https://shop.dev/again.jpg"),
        image(2, url="/relative.jpg"),
        image(3, image_id="i" * 51),
        image(4, image_id="0"),
    )
    [document] = built(SHIRT, images=images)
    assert document["images"] == [{"id": "1", "url": "https://shop.dev/1.jpg"}]
