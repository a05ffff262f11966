"""Products: verbs, merging of variants and images, children by their own paths."""

from tests.include.sandbox.conftest import PRODUCT, STORE, Api

PATH = f"{STORE}/products/p1"


def test_post_of_a_known_product_is_refused(shop: Api) -> None:
    assert shop.refused(400, "POST", f"{STORE}/products", PRODUCT)["detail"] == (
        "We were unable to process the request. A product with the provided ID already exists in the account."
    )


def test_put_creates_and_merges(shop: Api) -> None:
    new = {"id": "p2", "title": "Hat", "variants": [{"id": "a", "title": "A"}]}
    created = shop.ok("PUT", f"{STORE}/products/p2", new)
    assert (created["currency_code"], created["handle"], created["images"]) == ("EUR", "", [])
    image = {"id": "i1", "url": "https://kauf-demo.shop/1.jpg"}
    shop.ok("PUT", f"{STORE}/products/p2", {"id": "p2", "variants": [{"id": "b", "title": "B"}], "images": [image]})
    product = shop.ok("PATCH", f"{STORE}/products/p2", {"title": "Cap", "variants": [{"id": "a", "title": "A2"}]})
    assert product["title"] == "Cap"
    assert [(one["id"], one["title"]) for one in product["variants"]] == [("a", "A2"), ("b", "B")]
    assert product["images"] == [{**image, "variant_ids": []}]


def test_put_needs_the_full_form_to_create_and_the_id_of_the_path(shop: Api) -> None:
    problem = shop.refused(400, "PUT", f"{STORE}/products/p2", {"id": "p2"})
    assert problem["errors"] == [{"field": "", "message": "Required fields were not provided: title, variants"}]
    shop.refused(400, "PUT", f"{STORE}/products/p2", PRODUCT)


def test_patch_and_delete_of_an_unknown_product(shop: Api) -> None:
    shop.refused(404, "PATCH", f"{STORE}/products/none", {"title": "T"})
    shop.refused(404, "DELETE", f"{STORE}/products/none")
    shop.ok("DELETE", PATH)
    shop.refused(404, "GET", PATH)


def test_variants_have_paths_of_their_own(shop: Api) -> None:
    shop.ok("PUT", f"{PATH}/variants/v2", {"id": "v2", "title": "L", "price": 1})
    assert "already exists" in shop.refused(400, "POST", f"{PATH}/variants", {"id": "v2", "title": "L"})["detail"]
    assert shop.ok("PATCH", f"{PATH}/variants/v2", {"sku": "S"})["price"] == 1
    assert shop.ok("GET", f"{PATH}/variants")["total_items"] == 2
    shop.ok("DELETE", f"{PATH}/variants/v2")
    shop.refused(404, "GET", f"{PATH}/variants/v2")
    assert "parent resource" in shop.refused(400, "DELETE", f"{PATH}/variants/v1")["detail"]


def test_images_have_paths_of_their_own(shop: Api) -> None:
    shop.ok("POST", f"{PATH}/images", {"id": "i1", "url": "https://kauf-demo.shop/1.jpg"})
    shop.refused(400, "POST", f"{PATH}/images", {"id": "i1", "url": ""})
    assert shop.ok("PATCH", f"{PATH}/images/i1", {"variant_ids": ["v1"]})["variant_ids"] == ["v1"]
    assert shop.ok("GET", f"{PATH}/images")["total_items"] == 1
    shop.ok("DELETE", f"{PATH}/images/i1")
    shop.refused(404, "GET", f"{PATH}/images/i1")
