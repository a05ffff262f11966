"""Taking the integration away: said first, confirmed by the store's id, and complete."""

from __future__ import annotations

import pytest

from include.load.errors import PreflightFailed, RunStopped
from include.load.teardown import check_unused, inventory, inventory_table, remove_state, remove_store
from include.sandbox.account import DEFAULT_LIST
from include.state.runs import finish_run
from include.state.segments import SegmentMember, record_members, save_segment
from include.state.tables import metadata
from tests.include.load.shop import TinyShop


@pytest.fixture
def filled(shop: TinyShop) -> TinyShop:
    """A shop whose every table of state has something in it, and no run at work."""
    shop.add_products(1, 3)
    shop.add_customers(1, 2)
    shop.run("products", "customers")
    shop.execute("UPDATE mailchimp.run SET state = 'success'")
    store_ref = shop.store().store_ref
    with shop.state.begin() as connection:
        save_segment(connection, store_ref, "VIP", 7)
        record_members(connection, store_ref, "VIP", [SegmentMember("1", "ada")], [])
        for table, values in {
            "rejected": "'orders', '9', 'PUT', 'invalid', 'Bad', 'bad', NULL, NULL, NULL, 1, now(), now(), 'r'",
            "watermark": "'products', now()",
            "removal": "'orders', '9'",
            "stale_child": "'orders', '9', 'lines/1', 0",
            "alias": "'customers', '1', 'md5'",
            "carried_contact": "'a', 'b', now()",
            "refused_campaign": "'c1'",
        }.items():
            connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({store_ref}, {values})")
        connection.exec_driver_sql(
            f"INSERT INTO reconciliation (store_ref, dag_run_id, started_at) VALUES ({store_ref}, 'r', now())"
        )
        connection.exec_driver_sql(
            "INSERT INTO drifted (reconciliation_ref, entity, kind, record_id, action, held) "
            "SELECT reconciliation_ref, 'orders', 'stale', '9', 'owe', true FROM reconciliation"
        )
        connection.exec_driver_sql(
            "INSERT INTO replay (run_ref, entity, record_id, store_ref, source_key, error_class) "
            f"SELECT min(run_ref), 'orders', '9', {store_ref}, '9', 'invalid' FROM run"
        )
        connection.exec_driver_sql(
            f"INSERT INTO erasure (store_ref, erasure_id, dag_run_id) VALUES ({store_ref}, 'e', 'r')"
        )
        connection.exec_driver_sql("INSERT INTO audience VALUES ('account-1', 'news', 'News', false)")
        connection.exec_driver_sql("INSERT INTO audience_group VALUES ('account-1', 'news', 'g', 'c', 'C', 'G')")
    return shop


def rows(shop: TinyShop) -> dict[str, int]:
    return {name: shop.query(f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in metadata.tables}


def test_what_there_is_is_said_first(filled: TinyShop) -> None:
    found = inventory(filled.state, filled.client, filled.settings, "account-1")
    assert found.local
    assert (found.local.records, found.local.rejected, found.local.open_batches) == (
        {"customers": 2, "products": 3}, 1, 0,
    )  # fmt: skip
    assert found.remote == {"products": 3, "customers": 2, "promo_rules": 0, "carts": 0, "orders": 0}
    table = inventory_table(found)
    assert "products" in table
    assert f"contacts of audience '{DEFAULT_LIST}' stay" in table
    assert rows(filled)["store"] == 1


def test_nothing_at_all_is_said_too(shop: TinyShop) -> None:
    shop.client.delete("/ecommerce/stores/demo-shop")
    found = inventory(shop.state, shop.client, shop.settings, "account-1")
    assert (found.local, found.remote) == (None, None)
    assert "No state is kept of this store.\nMailchimp has no store 'demo-shop'." in inventory_table(found)
    assert rows(shop)["store"] == 0  # asking registers nothing


def test_the_state_goes_completely_and_mailchimp_keeps_all(filled: TinyShop) -> None:
    assert min(rows(filled).values()) > 0, "a table without rows proves nothing"
    deleted = remove_state(filled.state, filled.store().store_ref)
    assert (deleted["ledger"], deleted["segment_member"], deleted["store"]) == (5, 1, 1)
    assert set(rows(filled).values()) == {0}
    assert len(filled.held("products")) == 3


def test_other_stores_and_their_audiences_keep_their_state(filled: TinyShop) -> None:
    first = filled.store()
    filled.configure(key="second", store_id="demo-shop-2")
    second = filled.store()
    remove_state(filled.state, second.store_ref)
    left = rows(filled)
    assert (left["store"], left["ledger"], left["audience"]) == (1, 5, 1)
    remove_state(filled.state, first.store_ref)
    assert set(rows(filled).values()) == {0}


def test_a_run_at_work_keeps_its_state(filled: TinyShop) -> None:
    run, before = filled.begin(), rows(filled)
    with pytest.raises(RunStopped, match=rf"in use by {run.dag_run_id}"):
        remove_state(filled.state, run.store_ref)
    with pytest.raises(RunStopped, match="nothing was removed"):
        check_unused(filled.state, run.store_ref)
    assert rows(filled) == before
    with filled.state.begin() as connection:
        finish_run(connection, run.run_ref, "failed")
    remove_state(filled.state, run.store_ref)
    assert set(rows(filled).values()) == {0}


def test_neither_the_run_that_asks_nor_a_dead_one_is_at_work(filled: TinyShop) -> None:
    filled.begin()
    filled.execute("UPDATE mailchimp.run SET started_at = now() - interval '2 days'")
    run = filled.begin()
    check_unused(filled.state, run.store_ref, besides=run.run_ref)
    remove_state(filled.state, run.store_ref, besides=run.run_ref)
    assert set(rows(filled).values()) == {0}


def test_the_store_goes_only_when_its_id_is_typed(filled: TinyShop) -> None:
    for typed in ("", "demo", "demo-shop "):
        with pytest.raises(PreflightFailed, match="type its id exactly: demo-shop"):
            remove_store(filled.client, filled.settings, typed)
    assert len(filled.held("products")) == 3
    assert remove_store(filled.client, filled.settings, "demo-shop")
    assert inventory(filled.state, filled.client, filled.settings, "account-1").remote is None
    assert len(list(filled.client.list_all(f"/lists/{DEFAULT_LIST}/members", "members"))) == 2
    assert not remove_store(filled.client, filled.settings, "demo-shop")


def test_a_store_of_another_integration_is_never_deleted(shop: TinyShop) -> None:
    shop.client.patch("/ecommerce/stores/demo-shop", json={"platform": "Magento"})
    with pytest.raises(PreflightFailed, match="another integration"):
        remove_store(shop.client, shop.settings, "demo-shop")
    assert shop.held("products") == {}
