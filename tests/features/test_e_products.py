"""Group E of the feature map: products and variants."""

from __future__ import annotations

import pytest

from include.load.errors import TooManyDeletions
from include.transform.products import PLACEHOLDER_ID
from tests.features.sent import calls, error_classes, sent, watch
from tests.pipeline import STORE, Pipeline

GOODS = ("products",)


def add_image(
    pipeline: Pipeline, image_id: int, url: str, *, position: int = 1, variant_ids: str | None = None
) -> None:
    """Add an image to product 1."""
    pipeline.sql(
        "INSERT INTO product_images (image_id, product_id, position, url, variant_ids) "
        "VALUES (:id, 1, :position, :url, CAST(:variants AS bigint[]))",
        id=image_id, position=position, url=url, variants=variant_ids,
    )  # fmt: skip


def without_a_trace(pipeline: Pipeline, statement: str) -> None:
    """Change a product as an import does that leaves its updated_at as it was."""
    before = pipeline.sql("SELECT product_id, updated_at FROM products")
    pipeline.sql(statement)
    pipeline.sql("ALTER TABLE products DISABLE TRIGGER stamp_updated_at")
    for product_id, updated_at in before:
        pipeline.sql("UPDATE products SET updated_at = :at WHERE product_id = :id", at=updated_at, id=product_id)
    pipeline.sql("ALTER TABLE products ENABLE TRIGGER stamp_updated_at")


def test_e1_a_product_has_its_code_title_description_and_absolute_addresses(pipeline: Pipeline) -> None:
    pipeline.add_product(1, title="Müsli “Berg” 500 g", handle="muesli", description="Oats & nuts", vendor="Mill")
    add_image(pipeline, 7, "https://cdn.little.shop/muesli.jpg")
    pipeline.push(entities=GOODS)
    product = pipeline.held("products")["1"]
    assert {name: product[name] for name in ("title", "handle", "description", "vendor", "url", "image_url")} == {
        "title": "Müsli “Berg” 500 g",
        "handle": "muesli",
        "description": "Oats & nuts",
        "vendor": "Mill",
        "url": "https://little.shop/p/muesli",
        "image_url": "https://cdn.little.shop/muesli.jpg",
    }


def test_e1_an_address_that_is_not_absolute_is_left_out_and_costs_nothing_else(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    add_image(pipeline, 7, "/pictures/1.jpg")
    pipeline.push(entities=GOODS)
    assert {"image_url", "images"} & sent(pipeline, "products", "1").keys() == set()
    assert pipeline.rejected() == {}


def test_e1_a_template_makes_the_address_where_the_shop_has_none(pipeline: Pipeline) -> None:
    pipeline.sql("UPDATE shop SET domain = NULL")
    pipeline.add_product(1, handle="tea & cake")
    pipeline.push(entities=GOODS)
    assert "url" not in sent(pipeline, "products", "1")
    pipeline.configure(product_url_template="https://shop.invalid/p/{product_id}-{handle}")
    pipeline.full_sync(entities=GOODS)
    assert pipeline.held("products")["1"]["url"] == "https://shop.invalid/p/1-tea%20%26%20cake"


def test_e2_the_category_is_the_type_and_follows_its_name(pipeline: Pipeline) -> None:
    pipeline.sql("INSERT INTO categories (category_id, name) VALUES (5, 'Breakfast')")
    pipeline.add_product(1, category_id=5)
    pipeline.add_product(2)
    pipeline.push(entities=GOODS)
    assert pipeline.held("products")["1"]["type"] == "Breakfast"
    assert "type" not in sent(pipeline, "products", "2")
    pipeline.sql("UPDATE categories SET name = 'Cereals'")
    assert pipeline.push(entities=GOODS)["products"].operations == 1
    assert pipeline.held("products")["1"]["type"] == "Cereals"


def test_e3_the_date_of_publication_is_utc_whatever_the_shop_writes(pipeline: Pipeline) -> None:
    pipeline.add_product(1, published_at="2024-05-01T00:30:00+02:00")
    pipeline.add_product(2)
    pipeline.push(entities=GOODS)
    assert pipeline.held("products")["1"]["published_at_foreign"] == "2024-04-30T22:30:00+00:00"
    assert "published_at_foreign" not in sent(pipeline, "products", "2")


def test_e4_every_product_has_at_least_one_variant(pipeline: Pipeline) -> None:
    pipeline.add_product(1, variants=0)
    pipeline.add_product(2, variants=3)
    pipeline.push(entities=GOODS)
    variants = {product_id: product["variants"] for product_id, product in pipeline.held("products").items()}
    assert [(one["id"], one["title"]) for one in variants["1"]] == [("1", "Product 1")]
    assert [one["id"] for one in variants["2"]] == ["20", "21", "22"]


def test_e4_the_stand_in_goes_when_the_shop_adds_variants(pipeline: Pipeline) -> None:
    pipeline.add_product(1, variants=0)
    pipeline.push(entities=GOODS)
    pipeline.sql("INSERT INTO variants (variant_id, product_id, title, price) VALUES (10, 1, 'Small', 5)")
    pipeline.push(entities=GOODS)
    assert [one["id"] for one in pipeline.held("products")["1"]["variants"]] == ["10"]


def test_e5_only_changed_products_are_sent_whatever_their_dates_say(pipeline: Pipeline) -> None:
    for number in (1, 2, 3):
        pipeline.add_product(number)
    pipeline.push(entities=GOODS)
    # A date without a change: looked at, not sent.
    pipeline.sql("UPDATE products SET updated_at = clock_timestamp() WHERE product_id = 1")
    ran = pipeline.push(entities=GOODS)
    assert (ran["products"].extracted, ran["products"].unchanged, ran["products"].operations) == (1, 1, 0)
    # A change with a date.
    pipeline.sql("UPDATE variants SET price = 12 WHERE product_id = 2")
    ran = pipeline.push(entities=GOODS)
    assert (ran["products"].extracted, ran["products"].operations) == (1, 1)
    # A change without a date: the full sync compares contents.
    without_a_trace(pipeline, "UPDATE variants SET price = 13 WHERE product_id = 3")
    assert pipeline.push(entities=GOODS).conclusion.summaries == ()  # nothing was looked at
    assert pipeline.full_sync(entities=GOODS)["products"].operations == 1
    prices = {product_id: product["variants"][0]["price"] for product_id, product in pipeline.held("products").items()}
    assert prices == {"1": 10, "2": 12, "3": 13}


def test_e6_a_product_that_is_there_already_is_taken_over_not_added_twice(pipeline: Pipeline) -> None:
    pipeline.push()
    pipeline.client.post(
        f"{STORE}/products", json={"id": "1", "title": "Old", "variants": [{"id": "10", "title": "x"}]}
    )
    pipeline.add_product(1, title="New")
    ran = pipeline.push(entities=GOODS)
    assert (ran["products"].acknowledged, ran.failure, pipeline.rejected()) == (1, None, {})
    assert {product_id: product["title"] for product_id, product in pipeline.held("products").items()} == {"1": "New"}
    assert [one["id"] for one in pipeline.held("products")["1"]["variants"]] == ["10"]


def test_e6_a_product_that_somebody_deleted_at_mailchimp_comes_back_with_its_next_change(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.push(entities=GOODS)
    pipeline.client.delete(f"{STORE}/products/1")
    pipeline.sql("UPDATE products SET title = 'Changed'")
    assert pipeline.push(entities=GOODS)["products"].acknowledged == 1
    assert pipeline.held("products")["1"]["title"] == "Changed"
    assert pipeline.push(entities=GOODS).operations == 0


@pytest.mark.parametrize("purchase", ["orders", "carts"])
def test_e7_a_product_is_there_before_what_it_was_put_into(pipeline: Pipeline, purchase: str) -> None:
    """Also when its own date says that there is nothing to look at."""
    pipeline.add_customer(1)
    pipeline.push()
    pipeline.add_product(1)
    pipeline.add_product(2)
    pipeline.sql("UPDATE products SET updated_at = now() - interval '1 year'")
    assert pipeline.push().conclusion.summaries == ()
    (pipeline.add_order if purchase == "orders" else pipeline.add_cart)(5, 1, 1)
    seen: list[tuple[str, str]] = []
    watch(pipeline, lambda method, path: seen.append((method, path)))
    pipeline.push()
    written = ("PUT", f"{STORE}/orders/5") if purchase == "orders" else ("POST", f"{STORE}/carts")
    assert seen == [("PUT", f"{STORE}/products/1"), written]
    assert set(pipeline.held("products")) == {"1"}
    assert set(pipeline.held(purchase)) == {"5"}
    assert pipeline.sql("SELECT acknowledged_at > now() - interval '1 minute' FROM mailchimp.ledger "
                        "WHERE entity = 'products' AND record_id = '1'") == [(True,)]  # fmt: skip


def test_e8_each_variant_has_its_own_stock_backorders_visibility_sku_and_price(pipeline: Pipeline) -> None:
    pipeline.add_product(1, variants=2)
    pipeline.sql(
        "UPDATE variants SET sku = 'S-1', price = 19.99, inventory_quantity = 3, backorders = 'yes', "
        "visibility = 'hidden' WHERE variant_id = 11"
    )
    pipeline.push(entities=GOODS)
    fields = ("sku", "price", "inventory_quantity", "backorders", "visibility")
    assert [tuple(one[name] for name in fields) for one in pipeline.held("products")["1"]["variants"]] == [
        ("", 10, 5, "", "visible"),
        ("S-1", 19.99, 3, "yes", "hidden"),
    ]


def test_e9_a_variant_without_an_image_shows_its_products(pipeline: Pipeline) -> None:
    pipeline.add_product(1, variants=2)
    add_image(pipeline, 7, "https://little.shop/all.jpg")
    add_image(pipeline, 8, "https://little.shop/blue.jpg", position=2, variant_ids="{11}")
    pipeline.push(entities=GOODS)
    product = pipeline.held("products")["1"]
    assert [one["image_url"] for one in product["variants"]] == [
        "https://little.shop/all.jpg",
        "https://little.shop/blue.jpg",
    ]
    assert [(one["id"], one["variant_ids"]) for one in product["images"]] == [("7", []), ("8", ["11"])]


@pytest.mark.parametrize(
    ("prices", "accepted"), [("net", {"1", "3"}), ("gross", {"2", "3"}), (None, {"1", "2", "3"})]
)  # fmt: skip
def test_e10_orders_add_up_with_or_without_tax_as_the_shops_prices_are(
    pipeline: Pipeline, prices: str | None, accepted: set[str]
) -> None:
    pipeline.configure(prices=prices, max_rejected_percent=100)
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_order(1, 1, 1, order_total="11.90", tax_total="1.90")
    pipeline.add_order(2, 1, 1, order_total="10.00", tax_total="1.60")
    pipeline.add_order(3, 1, 1)
    pipeline.push()
    assert set(pipeline.held("orders")) == accepted
    assert set(error_classes(pipeline, "orders").values()) <= {"totals_mismatch"}


def test_e11_a_product_that_the_shop_removed_is_removed(pipeline: Pipeline) -> None:
    for number in (1, 2, 3):
        pipeline.add_product(number)
    pipeline.push(entities=GOODS)
    pipeline.sql("UPDATE products SET deleted_at = now() WHERE product_id = 1")
    pipeline.sql("DELETE FROM variants WHERE product_id = 2")
    pipeline.sql("DELETE FROM products WHERE product_id = 2")
    assert pipeline.push(entities=GOODS)["products"].deleted == 2
    assert set(pipeline.held("products")) == {"3"}


def test_e11_a_shop_that_seems_to_have_lost_its_products_loses_none_at_mailchimp(pipeline: Pipeline) -> None:
    for number in range(1, 15):
        pipeline.add_product(number)
    pipeline.push(entities=GOODS)
    pipeline.sql("UPDATE products SET deleted_at = now()")
    with pytest.raises(TooManyDeletions):
        pipeline.push(entities=GOODS)
    assert len(pipeline.held("products")) == 14
    assert calls(pipeline, "DELETE", "products") == 0


def test_e12_an_order_of_a_product_that_is_gone_keeps_its_revenue(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.add_product(2)
    pipeline.add_customer(1)
    pipeline.add_order(5, 1, 1, 2)
    pipeline.sql("UPDATE products SET deleted_at = now() WHERE product_id = 1")
    ran = pipeline.push()
    assert (ran["orders"].acknowledged, ran["orders"].rejected) == (1, 0)
    order = pipeline.held("orders")["5"]
    assert order["order_total"] == 20
    assert [(one["product_id"], one["price"]) for one in order["lines"]] == [(PLACEHOLDER_ID, 10), ("2", 10)]
    placeholder = pipeline.held("products")[PLACEHOLDER_ID]
    assert [one["visibility"] for one in placeholder["variants"]] == ["hidden"]
    assert set(pipeline.held("products")) == {"2", PLACEHOLDER_ID}


def test_e12_a_product_that_goes_after_its_order_leaves_the_order_as_it_was(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.add_customer(1)
    pipeline.add_order(5, 1, 1)
    pipeline.push()
    pipeline.sql("UPDATE products SET deleted_at = now()")
    pipeline.push()
    assert pipeline.held("products").keys() <= {PLACEHOLDER_ID}
    assert pipeline.held("orders")["5"]["order_total"] == 10
    pipeline.sql("UPDATE orders SET status = 'shipped'")
    pipeline.push()
    order = pipeline.held("orders")["5"]
    assert (order["fulfillment_status"], [one["product_id"] for one in order["lines"]]) == ("shipped", [PLACEHOLDER_ID])
