"""Products of a store with their variants and images.

Variants and images are merged by id and never removed by leaving them out (the documentation is silent; the official
plugins delete stale variants one by one), so whoever wants one gone has to DELETE it.
"""

from collections.abc import Iterable

from include.mailchimp.contract import (
    Product,
    ProductImage,
    ProductImagePatch,
    ProductPatch,
    ProductPut,
    Variant,
    VariantPatch,
)
from include.sandbox.account import Store
from include.sandbox.exchange import Call, Routes, existing, page
from include.sandbox.problems import bad_request, exists, not_found
from include.sandbox.records import Document, Record

_PRODUCT = ("title", "handle", "url", "description", "type", "vendor", "image_url", "published_at_foreign")
LAST_CHILD = "In order to delete this line item, delete the parent resource."


def merged(known: Iterable[Document], changes: Iterable[Document]) -> list[Document]:
    """Return children merged by id: known ones updated in place, new ones appended, none removed."""
    children = {child["id"]: child for child in known}
    for child in changes:
        children[child["id"]] = children.get(child["id"], {}) | child
    return list(children.values())


def without_child(children: list[Document], child_id: str, refusal: str = "") -> list[Document]:
    """Return the children without one of them; 404 when it isn't there, 400 with ``refusal`` for the last one."""
    kept = [child for child in children if child["id"] != child_id]
    if len(kept) == len(children):
        raise not_found()
    if not kept and refusal:
        raise bad_request(refusal)
    return kept


def child_of(children: list[Document], child_id: str) -> Document:
    """Return the child with an id or raise the 404."""
    for child in children:
        if child["id"] == child_id:
            return child
    raise not_found()


def _variant(variant: Document, record: Record | None) -> Document:
    return {
        "id": variant["id"],
        "title": variant.get("title", ""),
        "url": variant.get("url", ""),
        "sku": variant.get("sku", ""),
        "price": variant.get("price", 0),
        "inventory_quantity": variant.get("inventory_quantity", 0),
        "image_url": variant.get("image_url", ""),
        "backorders": variant.get("backorders", ""),
        "visibility": variant.get("visibility", ""),
        "created_at": record.created_at if record else "",
        "updated_at": record.updated_at if record else "",
    }


def _image(image: Document) -> Document:
    return {"id": image["id"], "url": image.get("url", ""), "variant_ids": image.get("variant_ids", [])}


def render(call: Call, store: Store, product_id: str) -> Document:
    """Return a product as the API shows it; its currency is the store's."""
    stored = existing(store.products, product_id)
    record = store.products.record(product_id)
    return {
        "id": product_id,
        "currency_code": existing(call.account.store_settings, store.id)["currency_code"],
        **{name: stored.get(name, "") for name in _PRODUCT},
        "variants": [_variant(one, record) for one in stored["variants"]],
        "images": [_image(one) for one in stored.get("images", [])],
    }


def _save(call: Call, store: Store, product_id: str, document: Document) -> None:
    verb = "updated" if product_id in store.products else "created"
    store.save("products", product_id, document)
    call.account.changed(verb, store.id, "product", product_id)


def _merge_product(call: Call, store: Store, product_id: str, changes: Document) -> Document:
    stored = existing(store.products, product_id)
    children = {name: merged(stored.get(name, []), changes.get(name, [])) for name in ("variants", "images")}
    _save(call, store, product_id, {**stored, **changes, **children})
    return render(call, store, product_id)


def list_products(call: Call) -> Document:
    """GET …/products."""
    store = call.store
    return page(call, "products", list(store.products), lambda one: render(call, store, one), {"store_id": store.id})


def create_product(call: Call) -> Document:
    """POST …/products."""
    store, document = call.store, call.sent(Product)
    if document["id"] in store.products:
        raise exists("A product")
    _save(call, store, document["id"], {**document, "variants": merged([], document["variants"])})
    return render(call, store, document["id"])


def get_product(call: Call) -> Document:
    """GET …/products/{id}."""
    return render(call, call.store, call.ids["product_id"])


def put_product(call: Call) -> Document:
    """PUT …/products/{id}: creates from the full form, or merges into what is there."""
    store, product_id = call.store, call.ids["product_id"]
    known = product_id in store.products
    document = call.sent(ProductPut if known else Product)
    call.check_id(document, product_id)
    return _merge_product(call, store, product_id, document) if known else create_product(call)


def update_product(call: Call) -> Document:
    """PATCH …/products/{id}."""
    store, product_id = call.store, call.ids["product_id"]
    existing(store.products, product_id)
    return _merge_product(call, store, product_id, call.sent(ProductPatch))


def delete_product(call: Call) -> None:
    """DELETE …/products/{id}, also when orders refer to it."""
    store, product_id = call.store, call.ids["product_id"]
    existing(store.products, product_id)
    store.remove("products", product_id)
    call.account.changed("deleted", store.id, "product", product_id)


def list_variants(call: Call) -> Document:
    """GET …/products/{id}/variants."""
    product = get_product(call)
    variants = {one["id"]: one for one in product["variants"]}
    extra = {"store_id": call.store.id, "product_id": product["id"]}
    return page(call, "variants", list(variants), variants.__getitem__, extra)


def create_variant(call: Call) -> Document:
    """POST …/products/{id}/variants (text for a taken id inferred)."""
    store, product_id = call.store, call.ids["product_id"]
    product, variant = existing(store.products, product_id), call.sent(Variant)
    if any(one["id"] == variant["id"] for one in product["variants"]):
        raise exists("A variant")
    return child_of(_merge_product(call, store, product_id, {"variants": [variant]})["variants"], variant["id"])


def get_variant(call: Call) -> Document:
    """GET …/variants/{id}."""
    return child_of(get_product(call)["variants"], call.ids["variant_id"])


def put_variant(call: Call) -> Document:
    """PUT …/variants/{id}: create or update."""
    store, product_id, variant_id = call.store, call.ids["product_id"], call.ids["variant_id"]
    existing(store.products, product_id)
    variant = call.sent(Variant)
    call.check_id(variant, variant_id)
    return child_of(_merge_product(call, store, product_id, {"variants": [variant]})["variants"], variant_id)


def update_variant(call: Call) -> Document:
    """PATCH …/variants/{id}."""
    store, product_id, variant_id = call.store, call.ids["product_id"], call.ids["variant_id"]
    child_of(existing(store.products, product_id)["variants"], variant_id)
    variant = {**call.sent(VariantPatch), "id": variant_id}
    return child_of(_merge_product(call, store, product_id, {"variants": [variant]})["variants"], variant_id)


def delete_variant(call: Call) -> None:
    """DELETE …/variants/{id}; not the last one (inferred)."""
    store, product_id = call.store, call.ids["product_id"]
    product = existing(store.products, product_id)
    product["variants"] = without_child(product["variants"], call.ids["variant_id"], LAST_CHILD)
    _save(call, store, product_id, product)


def list_images(call: Call) -> Document:
    """GET …/products/{id}/images."""
    images = {one["id"]: one for one in get_product(call)["images"]}
    extra = {"store_id": call.store.id, "product_id": call.ids["product_id"]}
    return page(call, "images", list(images), images.__getitem__, extra)


def create_image(call: Call) -> Document:
    """POST …/products/{id}/images (text for a taken id inferred)."""
    store, product_id = call.store, call.ids["product_id"]
    product, image = existing(store.products, product_id), call.sent(ProductImage)
    if any(one["id"] == image["id"] for one in product.get("images", [])):
        raise exists("An image")
    return child_of(_merge_product(call, store, product_id, {"images": [image]})["images"], image["id"])


def get_image(call: Call) -> Document:
    """GET …/images/{id}."""
    return child_of(get_product(call)["images"], call.ids["image_id"])


def update_image(call: Call) -> Document:
    """PATCH …/images/{id}."""
    store, product_id, image_id = call.store, call.ids["product_id"], call.ids["image_id"]
    child_of(existing(store.products, product_id).get("images", []), image_id)
    image = {**call.sent(ProductImagePatch), "id": image_id}
    return child_of(_merge_product(call, store, product_id, {"images": [image]})["images"], image_id)


def delete_image(call: Call) -> None:
    """DELETE …/images/{id}."""
    store, product_id = call.store, call.ids["product_id"]
    product = existing(store.products, product_id)
    product["images"] = without_child(product.get("images", []), call.ids["image_id"])
    _save(call, store, product_id, product)


_PRODUCTS = "/ecommerce/stores/{store_id}/products"
ROUTES: Routes = {
    _PRODUCTS: {"GET": list_products, "POST": create_product},
    _PRODUCTS + "/{product_id}": {
        "GET": get_product,
        "PUT": put_product,
        "PATCH": update_product,
        "DELETE": delete_product,
    },
    _PRODUCTS + "/{product_id}/variants": {"GET": list_variants, "POST": create_variant},
    _PRODUCTS + "/{product_id}/variants/{variant_id}": {
        "GET": get_variant,
        "PUT": put_variant,
        "PATCH": update_variant,
        "DELETE": delete_variant,
    },
    _PRODUCTS + "/{product_id}/images": {"GET": list_images, "POST": create_image},
    _PRODUCTS + "/{product_id}/images/{image_id}": {"GET": get_image, "PATCH": update_image, "DELETE": delete_image},
}
