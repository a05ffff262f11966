"""Group D of the feature map: the e-commerce store, its first load, and the loads after it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.config.stores import SettingsError, load_stores
from include.load.errors import PreflightFailed
from include.load.teardown import inventory, inventory_table
from include.sandbox.api import Reply
from include.transform.entities import ENTITIES
from tests.airflow_home import isolate_airflow
from tests.features.sent import calls, error_classes, watch
from tests.pipeline import SETTINGS, STORE, Died, Pipeline, email_hash

isolate_airflow()

CLUB = {"key": "club", "store_id": "club-shop", "list_id": "c1ub000000"}
REFUSED = json.dumps({"title": "Invalid Resource", "status": 400, "detail": "Title refused."}).encode()


def store(pipeline: Pipeline, store_id: str = "demo-shop") -> dict[str, Any]:
    """The store as Mailchimp shows it."""
    return pipeline.client.get(f"/ecommerce/stores/{store_id}") or {}


def stores(pipeline: Pipeline) -> set[str]:
    return {one["id"] for one in pipeline.client.list_all("/ecommerce/stores", "stores")}


def fill(pipeline: Pipeline) -> None:
    """One record of each kind."""
    pipeline.add_product(1)
    pipeline.add_customer(1, opted_in=True)
    pipeline.add_order(5, 1, 1)
    pipeline.add_cart(6, 1, 1)
    pipeline.sql("INSERT INTO coupons (coupon_id, description, type, amount) VALUES (7, 'Ten off', 'fixed', 10)")
    pipeline.sql("INSERT INTO coupon_codes (code_id, coupon_id, code) VALUES (70, 7, 'TEN')")


def held_by_entity(pipeline: Pipeline) -> dict[str, int]:
    entities = ("products", "customers", "orders", "carts", "promo_rules")
    return {entity: len(pipeline.held(entity)) for entity in entities} | {"promo_codes": len(pipeline.codes("7"))}


def midnight(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def settings_file(folder: Path, monkeypatch: pytest.MonkeyPatch, *stores: dict[str, Any]) -> Path:
    file = folder / "stores.yaml"
    file.write_text(json.dumps({"stores": [SETTINGS | one for one in stores]}), encoding="utf-8")  # JSON is YAML
    monkeypatch.setenv("STORES_FILE", str(file))
    return file


def dags(file: str = "") -> dict[str, Any]:
    """The DAGs that the settings file makes: of one of the DAG files, or of all."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(Path(__file__).parents[2] / "dags" / file))
    assert bag.import_errors == {}
    return dict(bag.dags)


def test_d1_the_shops_data_go_over_unless_that_is_switched_off(pipeline: Pipeline) -> None:
    assert pipeline.settings.ecommerce
    fill(pipeline)
    pipeline.configure(ecommerce=False)
    pipeline.push()
    assert (calls(pipeline, "ecommerce"), stores(pipeline)) == (0, set())
    assert pipeline.status("c1@mail.little.shop") == "subscribed"
    pipeline.configure()
    pipeline.push()
    assert held_by_entity(pipeline) == dict.fromkeys(held_by_entity(pipeline), 1)
    pipeline.configure(ecommerce=False)
    pipeline.sql("UPDATE products SET title = 'Changed'")
    pipeline.push()
    assert pipeline.held("products")["1"]["title"] == "Product 1"


@pytest.mark.parametrize(("mode", "sent"), [("all", {"1", "2"}), ("subscribed", {"1"}), ("none", set())])
def test_d2_carts_of_everybody_of_subscribers_or_of_nobody(pipeline: Pipeline, mode: str, sent: set[str]) -> None:
    """Those that were sent before the setting was changed go."""
    pipeline.add_product(1)
    pipeline.add_customer(1, opted_in=True)
    pipeline.add_customer(2)
    for number in (1, 2):
        pipeline.add_cart(number, number, 1)
    pipeline.push()
    assert set(pipeline.held("carts")) == {"1", "2"}
    pipeline.configure(abandoned_carts=mode)
    pipeline.full_sync()
    assert set(pipeline.held("carts")) == sent


def test_d3_each_audience_has_its_store_and_its_own_contacts(pipeline: Pipeline) -> None:
    pipeline.sandbox.state.account.add_audience(CLUB["list_id"], "Club", False)
    fill(pipeline)
    pipeline.push()
    pipeline.configure(**CLUB)
    pipeline.sql("UPDATE shop SET domain = 'club.little.shop'")
    pipeline.add_product(2)
    pipeline.add_customer(2, opted_in=True)
    pipeline.push()
    assert (store(pipeline)["list_id"], store(pipeline, "club-shop")["list_id"]) == ("a1b2c3d4e5", "c1ub000000")
    assert set(pipeline.held("products")) == {"1"}
    club = pipeline.client.list_all("/ecommerce/stores/club-shop/products", "products")
    assert {one["id"] for one in club} == {"1", "2"}
    contacts = pipeline.client.list_all("/lists/c1ub000000/members", "members")
    assert {one["email_address"] for one in contacts} == {"c1@mail.little.shop", "c2@mail.little.shop"}
    assert pipeline.member("c2@mail.little.shop") is None


def test_d3_a_store_stays_with_its_audience_and_shares_its_id_with_no_other(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.sandbox.state.account.add_audience(CLUB["list_id"], "Club", False)
    pipeline.push()
    pipeline.configure(list_id=CLUB["list_id"])
    with pytest.raises(PreflightFailed, match="A store can't move"):
        pipeline.push()
    pipeline.configure(**CLUB)
    with pytest.raises(PreflightFailed, match=r"domain 'little\.shop' of 'club' belongs to another store"):
        pipeline.push()
    assert stores(pipeline) == {"demo-shop"}
    file = settings_file(tmp_path, monkeypatch, {}, CLUB | {"store_id": "demo-shop"})
    with pytest.raises(SettingsError, match="2 stores have the store_id 'demo-shop'"):
        load_stores(file)


def test_d4_the_settings_file_is_the_set_of_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is switched off has no runs any more; it can still be taken away."""
    settings_file(tmp_path, monkeypatch, {"enabled": False}, CLUB)
    found = set(dags())
    assert found >= {f"mailchimp_{kind}__club" for kind in ("push", "full_sync", "replay", "teardown")}
    assert {dag_id for dag_id in found if not dag_id.endswith("__club")} == {"mailchimp_teardown__demo"}
    settings_file(tmp_path, monkeypatch, {})
    assert set(dags("push.py")) == {"mailchimp_push__demo"}


def test_d4_a_store_that_is_chosen_is_made_and_one_that_is_not_is_kept(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.sandbox.state.account.add_audience(CLUB["list_id"], "Club", False)
    fill(pipeline)
    pipeline.push()
    pipeline.sql("UPDATE shop SET domain = 'club.little.shop'")
    pipeline.configure(**CLUB)
    with caplog.at_level("INFO", logger="include.load.store"):
        pipeline.push()
    assert "store club-shop created" in caplog.text
    assert stores(pipeline) == {"demo-shop", "club-shop"}
    pipeline.configure()
    account = str((pipeline.client.account() or {})["account_id"])
    what_would_go = inventory_table(inventory(pipeline.state, pipeline.client, pipeline.settings, account))
    assert f"{'products':<14}{1:>14}{1:>14}" in what_would_go
    assert set(pipeline.held("orders")) == {"5"}


def test_d5_the_first_load_brings_all_entities(pipeline: Pipeline) -> None:
    fill(pipeline)
    assert pipeline.full_sync().failure is None
    assert held_by_entity(pipeline) == dict.fromkeys(held_by_entity(pipeline), 1)
    assert pipeline.status("c1@mail.little.shop") == "subscribed"
    assert set(pipeline.ledger("members").values()) == {"synced"}


def test_d5_a_load_can_be_confined_to_entities_and_a_range_of_dates(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    for number, day in enumerate(("2023-06-01", "2024-06-01", "2025-06-01"), start=1):
        pipeline.add_customer(number)
        pipeline.add_order(number, number, 1)
        pipeline.sql("UPDATE orders SET updated_at = :day WHERE order_id = :id", day=midnight(day), id=number)
    pipeline.full_sync(entities=("customers", "orders"), since=midnight("2024-01-01"), until=midnight("2025-01-01"))
    assert set(pipeline.held("orders")) == {"2"}
    assert len(pipeline.held("customers")) == 3  # whenever they changed: orders need them
    assert set(pipeline.held("products")) == {"1"}  # not chosen, but the order needs it
    pipeline.full_sync()
    assert set(pipeline.held("orders")) == {"1", "2", "3"}


def test_d5_a_first_load_of_a_part_of_the_history_stays_one(pipeline: Pipeline) -> None:
    fill(pipeline)
    pipeline.add_order(6, 1, 1)
    pipeline.sql("UPDATE orders SET updated_at = :day WHERE order_id = 6", day=midnight("2023-06-01"))
    pipeline.full_sync(since=midnight("2024-01-01"))
    pipeline.push()
    assert set(pipeline.held("orders")) == {"5"}
    assert pipeline.full_sync()["orders"].operations == 1


def test_d6_scheduled_runs_look_at_what_changed_since_the_last_one(pipeline: Pipeline) -> None:
    fill(pipeline)
    first = pipeline.push(kind="scheduled")
    marks = pipeline.sql("SELECT entity, acknowledged_until FROM mailchimp.watermark")
    assert dict(marks) == dict.fromkeys(ENTITIES, first.run.window_end)
    pipeline.add_product(2)
    pipeline.sql("UPDATE orders SET status = 'shipped'")
    ran = pipeline.push(kind="scheduled")
    assert ran.run.window_start == first.run.window_end
    looked_at = {one.entity: one.extracted for one in ran.conclusion.summaries if one.extracted}
    assert looked_at == {"products": 1, "orders": 1}
    assert pipeline.held("orders")["5"]["fulfillment_status"] == "shipped"
    assert set(pipeline.held("products")) == {"1", "2"}


def test_d6_the_schedule_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_file(tmp_path, monkeypatch, {"schedule_push": "7 * * * *"}, CLUB | {"schedule_push": "never"})
    found = dags("push.py")
    assert found["mailchimp_push__demo"].timetable.expression == "7 * * * *"
    assert found["mailchimp_push__club"].schedule is None


def test_d7_a_shop_that_was_switched_off_for_a_while_is_brought_up_to_date(pipeline: Pipeline) -> None:
    """By the next run already; a full sync compares everything besides, which costs nothing where nothing differs."""
    fill(pipeline)
    pipeline.push()
    pipeline.sql("UPDATE products SET title = 'Changed', updated_at = now() - interval '1 year'")
    pipeline.add_product(2)
    pipeline.add_order(8, 1, 2)
    pipeline.sql("DELETE FROM coupon_codes")
    pipeline.sql("DELETE FROM coupons")
    pipeline.push()
    assert (set(pipeline.held("orders")), set(pipeline.held("promo_rules"))) == ({"5", "8"}, set())
    assert pipeline.full_sync()["products"].operations == 1
    assert pipeline.held("products")["1"]["title"] == "Changed"
    assert pipeline.full_sync().operations == 0


def test_d7_a_store_that_was_emptied_at_mailchimp_is_filled_again(pipeline: Pipeline) -> None:
    fill(pipeline)
    pipeline.push()
    before = pipeline.digests()
    pipeline.client.delete(STORE)
    pipeline.full_sync()
    assert pipeline.digests() == before


def test_d8_all_products_can_be_synced_alone(pipeline: Pipeline) -> None:
    """What differs is sent, whatever its date says; nothing else is touched."""
    fill(pipeline)
    pipeline.add_product(2)
    pipeline.push()
    pipeline.sql("UPDATE products SET title = 'Changed', updated_at = now() - interval '1 year' WHERE product_id = 2")
    pipeline.sql("UPDATE orders SET status = 'shipped'")
    ran = pipeline.full_sync(entities=("products",))
    assert [(one.entity, one.extracted, one.operations) for one in ran.conclusion.summaries] == [("products", 2, 1)]
    assert pipeline.held("products")["2"]["title"] == "Changed"
    assert pipeline.held("orders")["5"]["fulfillment_status"] == ""


def test_d8_the_full_sync_says_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_file(tmp_path, monkeypatch, {})
    dag = dags("full_sync.py")["mailchimp_full_sync__demo"]
    assert "whenever the two have drifted apart" in dag.doc_md
    assert dag.params["mode"] == "full"
    assert "products" in dag.params.get_param("entities").schema["examples"]


def test_d9_what_changes_of_the_shop_itself_changes_the_store(pipeline: Pipeline) -> None:
    pipeline.add_product(1)
    pipeline.push()
    assert store(pipeline)["name"] == "Little shop"
    pipeline.sql(
        "UPDATE shop SET name = 'Big shop', currency_code = 'USD', timezone = 'America/New_York', "
        "domain = 'big.little.shop', address1 = '5 Main Street', city = 'Albany', country_code = 'US'"
    )
    pipeline.push()
    found = store(pipeline)
    assert {name: found[name] for name in ("name", "currency_code", "timezone", "domain")} == {
        "name": "Big shop",
        "currency_code": "USD",
        "timezone": "America/New_York",
        "domain": "big.little.shop",
    }
    assert found["address"].items() >= {"address1": "5 Main Street", "city": "Albany", "country_code": "US"}.items()
    written = calls(pipeline, "PATCH", "/ecommerce/stores/{store_id} ")
    assert written > 0
    pipeline.push()
    assert calls(pipeline, "PATCH", "/ecommerce/stores/{store_id} ") == written


def test_d10_mailchimp_has_all_that_product_recommendations_are_made_of(pipeline: Pipeline) -> None:
    pipeline.sql("INSERT INTO categories (category_id, name) VALUES (3, 'Breakfast')")
    for number in (1, 2):
        pipeline.add_product(number, category_id=3, vendor="Mill", description="Oats", published_at="2024-05-01Z")
        pipeline.sql(
            "INSERT INTO product_images (product_id, url) VALUES (:id, 'https://cdn.little.shop/p.jpg')", id=number
        )
    pipeline.add_customer(1)
    pipeline.add_order(5, 1, 1, 2)
    pipeline.push()
    for product in pipeline.held("products").values():
        fields = ("title", "url", "image_url", "type", "vendor", "description", "published_at_foreign")
        assert [name for name in fields if not product[name]] == []
        assert [(one["price"], one["inventory_quantity"], one["visibility"]) for one in product["variants"]] == [
            (10, 5, "visible")
        ]
    order = pipeline.held("orders")["5"]
    assert order["customer"]["id"] == email_hash("c1@mail.little.shop")
    assert [(one["product_id"], one["product_variant_id"]) for one in order["lines"]] == [("1", "10"), ("2", "20")]
    assert order["processed_at_foreign"]


def syncing(pipeline: Pipeline) -> bool:
    return bool(store(pipeline).get("is_syncing"))


def test_d11_automations_rest_while_the_store_is_filled_and_only_then(pipeline: Pipeline) -> None:
    fill(pipeline)
    seen: set[tuple[bool, bool]] = set()

    def look(_method: str, path: str) -> None:
        settings = pipeline.sandbox.state.account.store_settings.get("demo-shop") or {}
        seen.add(("carts" in path, settings["is_syncing"]))

    watch(pipeline, look)
    pipeline.push()
    assert seen == {(False, True), (True, False)}  # a cart that comes while the store is quiet is never reminded of
    assert not syncing(pipeline)
    assert pipeline.mails() == {}
    seen.clear()
    pipeline.sql("UPDATE orders SET updated_at = now() - interval '1 year', status = 'shipped'")
    pipeline.full_sync()
    assert seen == {(False, True)}
    assert not syncing(pipeline)
    assert pipeline.mails() == {}


def test_d11_a_run_that_died_leaves_the_store_quiet_until_the_next_one(pipeline: Pipeline) -> None:
    fill(pipeline)

    def die() -> None:
        if syncing(pipeline):
            raise Died

    with pytest.raises(Died):
        pipeline.push(dies=die)
    assert syncing(pipeline)
    pipeline.push(since=midnight("2020-01-01"))
    assert not syncing(pipeline)


def test_d13_products_come_before_customers_and_both_before_their_orders(pipeline: Pipeline) -> None:
    fill(pipeline)
    seen: list[str] = []
    watch(pipeline, lambda _method, path: seen.append(path.removeprefix(STORE)))
    pipeline.push()
    customer = f"/customers/{email_hash('c1@mail.little.shop')}"
    assert [path for path in seen if path.startswith(("/products", "/customers", "/orders", "/carts"))] == [
        "/products/1",
        customer,
        "/orders/5",
        "/carts",
    ]


def test_d13_an_order_waits_until_its_product_is_acknowledged(pipeline: Pipeline) -> None:
    pipeline.configure(max_rejected_percent=100)
    pipeline.add_customer(1)
    for order_id, product_id in ((5, 1), (6, 2)):
        pipeline.add_product(product_id)
        pipeline.add_order(order_id, 1, product_id)
    pipeline.sandbox.state.operation_fault = lambda _method, path: (
        Reply(400, REFUSED, "products") if path.endswith("/products/1") else None
    )
    pipeline.push()
    assert set(pipeline.held("orders")) == {"6"}
    assert error_classes(pipeline, "products") == {"1": "invalid"}
    assert error_classes(pipeline, "orders") == {"5": "parent_missing"}
    assert calls(pipeline, "orders/{order_id}", "400") == 0  # it was not even tried
    pipeline.sandbox.state.operation_fault = None
    pipeline.sql("UPDATE products SET title = 'Corrected' WHERE product_id = 1")
    pipeline.push()
    assert (set(pipeline.held("orders")), pipeline.rejected()) == ({"5", "6"}, {})


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        ({"domain": "other.shop"}, "belongs to the site 'other.shop'"),
        ({"domain": "little.shop", "platform": "Magento"}, "made by another integration"),
        ({"domain": "little.shop", "id": "their-shop"}, "belongs to another store"),
    ],
)
def test_d14_two_sites_never_share_a_store(pipeline: Pipeline, theirs: dict[str, str], told: str) -> None:
    made = {"id": "demo-shop", "list_id": "a1b2c3d4e5", "name": "Theirs", "currency_code": "EUR"} | theirs
    pipeline.client.post("/ecommerce/stores", json=made)
    fill(pipeline)
    with pytest.raises(PreflightFailed, match=told):
        pipeline.push()
    assert stores(pipeline) == {made["id"]}
    assert list(pipeline.client.list_all(f"/ecommerce/stores/{made['id']}/products", "products")) == []
    assert store(pipeline, made["id"])["name"] == "Theirs"
