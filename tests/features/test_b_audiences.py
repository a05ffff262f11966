"""Group B of the feature map: audiences, groups and merge fields."""

from __future__ import annotations

from typing import Any

import pytest

from include.sandbox.account import Audience
from tests.features.sent import calls, error_classes
from tests.pipeline import AUDIENCE, Pipeline

LIST_ID = AUDIENCE.removeprefix("/lists/")
CONTACTS = ("members",)


def audience(pipeline: Pipeline, list_id: str = LIST_ID) -> Audience:
    """The audience inside of the sandbox."""
    return pipeline.sandbox.state.account.audience_for(list_id)


def add_groups(pipeline: Pipeline, *names: str, category: str = "Topics") -> None:
    """Add groups as somebody does at Mailchimp; each with the id id-<name>."""
    records = audience(pipeline).records
    records["categories"].put(category.lower(), {"title": category, "type": "checkboxes"})
    for name in names:
        records["interests"].put(f"id-{name.lower()}", {"name": name, "category_id": category.lower()})


def rename_group(pipeline: Pipeline, group_id: str, name: str) -> None:
    pipeline.client.patch(f"{AUDIENCE}/interest-categories/topics/interests/{group_id}", json={"name": name})


def subscriber(pipeline: Pipeline, customer_id: int, *groups: str, **columns: Any) -> str:
    """Add a customer who opted in and chose groups; returns the address."""
    address = pipeline.add_customer(customer_id, opted_in=True, **columns)
    for name in groups:
        pipeline.sql("INSERT INTO newsletter_groups VALUES (:id, :name)", id=customer_id, name=name)
    return address


def interests(pipeline: Pipeline, address: str) -> set[str]:
    """The groups that a contact is in."""
    found = pipeline.member(address)
    assert found is not None
    return {group_id.removeprefix("id-") for group_id, chosen in found["interests"].items() if chosen}


def switch(pipeline: Pipeline, group_id: str, **switches: bool) -> None:
    """Turn switches of a group, as the shop's administrator does."""
    for name, value in switches.items():
        pipeline.sql(f"UPDATE mailchimp.audience_group SET {name} = :value WHERE group_id = :id",
                     value=value, id=group_id)  # fmt: skip


def test_b1_all_audiences_of_the_account_are_imported_not_just_a_page_of_them(pipeline: Pipeline) -> None:
    for number in range(1_002):
        pipeline.sandbox.state.account.add_audience(f"list-{number}", f"List {number}", double_optin=number == 7)
    pipeline.push(entities=CONTACTS)
    assert pipeline.sql("SELECT count(*) FROM mailchimp.audience") == [(1_003,)]
    assert pipeline.sql("SELECT name FROM mailchimp.audience WHERE double_optin") == [("List 7",)]


def test_b2_all_groups_of_all_categories_are_imported(pipeline: Pipeline) -> None:
    """The API's own page has ten, the largest page a thousand."""
    add_groups(pipeline, *(f"Topic {number}" for number in range(1_002)))
    for number in range(12):
        add_groups(pipeline, f"Size {number}", category=f"Category {number}")
    pipeline.push(entities=CONTACTS)
    assert pipeline.sql("SELECT count(*), count(DISTINCT category) FROM mailchimp.audience_group") == [(1_014, 13)]


def test_b3_audiences_and_groups_are_tables_that_the_shop_can_read(pipeline: Pipeline) -> None:
    pipeline.sandbox.state.account.add_audience("club", "Club", double_optin=True)
    add_groups(pipeline, "Music", "Books")
    pipeline.push(entities=CONTACTS)
    pipeline.client.delete(f"{AUDIENCE}/interest-categories/topics/interests/id-books")
    pipeline.sandbox.state.account.lists.remove("club")
    pipeline.push(entities=CONTACTS)
    assert pipeline.sql("SELECT name, double_optin, removed_at IS NULL FROM mailchimp.audience ORDER BY name") == [
        ("Club", True, False),
        ("Demo shop customers", False, True),
    ]
    assert pipeline.sql(
        "SELECT a.name, g.category, g.name, g.removed_at IS NULL FROM mailchimp.audience_group g "
        "JOIN mailchimp.audience a USING (account_id, list_id) ORDER BY g.name"
    ) == [("Demo shop customers", "Topics", "Books", False), ("Demo shop customers", "Topics", "Music", True)]


def test_b4_a_group_that_is_switched_off_is_neither_chosen_nor_taken_away(pipeline: Pipeline) -> None:
    add_groups(pipeline, "Music", "Books")
    ada = subscriber(pipeline, 1, "Music", "Books")
    pipeline.push(entities=CONTACTS)
    switch(pipeline, "id-music", is_active=False)
    bob = subscriber(pipeline, 2, "Music", "Books")
    pipeline.sql("DELETE FROM newsletter_groups WHERE customer_id = 1 AND group_name = 'Music'")
    pipeline.full_sync(entities=CONTACTS)
    assert interests(pipeline, ada) == {"music", "books"}
    assert interests(pipeline, bob) == {"books"}


def test_b4_the_shops_switches_survive_whatever_is_read_from_mailchimp(pipeline: Pipeline) -> None:
    add_groups(pipeline, "Music")
    pipeline.push(entities=CONTACTS)
    switch(pipeline, "id-music", is_active=False, subscribe_by_default=True)
    pipeline.sql("UPDATE mailchimp.audience SET is_active = false, subscribe_by_default = true")
    rename_group(pipeline, "id-music", "Jazz")
    pipeline.sandbox.state.account.add_audience(LIST_ID, "Renamed", double_optin=True)
    pipeline.full_sync(entities=CONTACTS)
    for table, name in (("audience", "Renamed"), ("audience_group", "Jazz")):
        assert pipeline.sql(f"SELECT name, is_active, subscribe_by_default FROM mailchimp.{table}") == [
            (name, False, True)
        ]


def test_b5_who_opts_in_by_one_checkbox_joins_the_groups_subscribed_by_default(pipeline: Pipeline) -> None:
    add_groups(pipeline, "News", "Music", "Books")
    pipeline.push(entities=CONTACTS)
    switch(pipeline, "id-news", subscribe_by_default=True)
    switch(pipeline, "id-books", subscribe_by_default=True, is_active=False)
    unspecific, picky = subscriber(pipeline, 1), subscriber(pipeline, 2, "Music")
    pipeline.push(entities=CONTACTS)
    assert interests(pipeline, unspecific) == {"news"}
    assert interests(pipeline, picky) == {"music"}


def test_b6_a_run_by_hand_reads_audiences_and_groups_anew(pipeline: Pipeline) -> None:
    pipeline.push(entities=CONTACTS)
    pipeline.sandbox.state.account.add_audience("club", "Club", double_optin=False)
    add_groups(pipeline, "Music")
    assert pipeline.push(entities=CONTACTS).operations == 0
    assert pipeline.sql("SELECT name FROM mailchimp.audience ORDER BY name") == [("Club",), ("Demo shop customers",)]
    assert pipeline.sql("SELECT name FROM mailchimp.audience_group") == [("Music",)]


@pytest.mark.parametrize("selection", ["one", "many"])
def test_b8_a_contact_chooses_one_group_or_many_as_the_shop_offers_them(pipeline: Pipeline, selection: str) -> None:
    pipeline.configure(selection=selection, max_rejected_percent=100)
    add_groups(pipeline, "Music", "Books")
    one, both = subscriber(pipeline, 1, "Music"), subscriber(pipeline, 2, "Music", "Books")
    pipeline.push(entities=CONTACTS)
    assert interests(pipeline, one) == {"music"}
    if selection == "many":
        assert interests(pipeline, both) == {"music", "books"}
    else:
        assert pipeline.member(both) is None
        assert list(error_classes(pipeline, "members").values()) == ["invalid_value"]


def test_b8_of_several_groups_by_default_one_is_taken_where_one_may_be_chosen(pipeline: Pipeline) -> None:
    pipeline.configure(selection="one")
    add_groups(pipeline, "Books", "Music")
    pipeline.push(entities=CONTACTS)
    for group_id in ("id-books", "id-music"):
        switch(pipeline, group_id, subscribe_by_default=True)
    address = subscriber(pipeline, 1)
    pipeline.push(entities=CONTACTS)
    assert interests(pipeline, address) == {"books"}


def test_b9_an_audience_or_group_that_is_renamed_changes_its_name_and_nothing_else(pipeline: Pipeline) -> None:
    add_groups(pipeline, "Music", "Books")
    by_name, by_id = subscriber(pipeline, 1, "Music", "Books"), subscriber(pipeline, 2, "id-music", "id-books")
    pipeline.push()
    assert (interests(pipeline, by_id), "music" in interests(pipeline, by_name)) == ({"music", "books"}, True)
    before = {address: interests(pipeline, address) for address in (by_name, by_id)}
    pipeline.sandbox.state.account.add_audience(LIST_ID, "Renamed", double_optin=False)
    rename_group(pipeline, "id-music", "Jazz")
    pipeline.full_sync()
    assert {address: interests(pipeline, address) for address in before} == before
    assert pipeline.sql("SELECT list_id, name, removed_at FROM mailchimp.audience") == [(LIST_ID, "Renamed", None)]
    assert pipeline.sql("SELECT group_id, name FROM mailchimp.audience_group WHERE removed_at IS NULL ORDER BY 1") == [
        ("id-books", "Books"),
        ("id-music", "Jazz"),
    ]


def test_b10_audiences_groups_and_merge_fields_are_read_and_never_written(pipeline: Pipeline) -> None:
    add_groups(pipeline, "Music")
    pipeline.configure(
        merge_fields={"FNAME": "first_name", "SHOE": "company"}, tags={"all": "SELECT customer_id FROM customers"}
    )
    subscriber(pipeline, 1, "Music", "A group that only the shop has", company="8½")
    pipeline.push()
    pipeline.full_sync()
    read = [route for route in pipeline.requests() if "/lists" in route and route.startswith("GET")]
    assert {route.split()[1] for route in read} >= {"/lists", "/lists/{list_id}", "/lists/{list_id}/merge-fields"}
    written = {route.split(" /", 1)[1].split()[0] for route in pipeline.requests() if "/lists" in route} - {
        route.split(" /", 1)[1].split()[0] for route in read
    }
    assert written == {
        "lists/{list_id}/members/{subscriber_hash}",
        "lists/{list_id}/segments/{segment_id}",
    }


def test_b11_merge_fields_are_filled_from_columns_by_the_audiences_own_definitions(pipeline: Pipeline) -> None:
    for tag, kind in (("COMPANY", "text"), ("SHOES", "number")):
        pipeline.client.post(f"{AUDIENCE}/merge-fields", json={"tag": tag, "name": tag, "type": kind})
    pipeline.configure(
        merge_fields={
            "FNAME": "first_name", "COMPANY": "company", "SHOES": "company", "PHONE": "phone", "ADDRESS": "address",
            "GONE": "last_name",
        }
    )  # fmt: skip
    numeric = subscriber(pipeline, 1, company="42", phone="030 123")
    textual = subscriber(pipeline, 2, company="Mill & Co")
    for customer_id, city in ((1, "Berlin"), (2, None)):
        pipeline.sql(
            "INSERT INTO addresses (address_id, customer_id, address1, city, province, postal_code, country_code) "
            "VALUES (:id, :id, 'Street 1', :city, 'BE', '10115', 'DE')", id=customer_id, city=city,
        )  # fmt: skip
    pipeline.sql("UPDATE customers SET default_address_id = customer_id")
    pipeline.push(entities=CONTACTS)
    first, second = pipeline.member(numeric), pipeline.member(textual)
    assert first is not None
    assert second is not None
    fields = first["merge_fields"]
    assert (fields["FNAME"], fields["COMPANY"], fields["SHOES"], fields["PHONE"]) == ("Ada", "42", 42, "030 123")
    assert fields["ADDRESS"]["city"] == "Berlin"
    fields = second["merge_fields"]
    assert (fields["COMPANY"], fields["SHOES"], fields["ADDRESS"]) == ("Mill & Co", "", "")
    assert "GONE" not in fields
    assert pipeline.rejected() == {}


def test_b11_a_mapped_merge_field_or_group_that_vanished_is_told_before_anything_is_sent(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.configure(merge_fields={"PHONE": "phone"})
    add_groups(pipeline, "Music", "Books")
    subscriber(pipeline, 1, "Music")
    pipeline.push(entities=CONTACTS)
    assert caplog.text.count("gone from the audience") + caplog.text.count("isn't in the audience") == 0
    records = audience(pipeline).records
    [field] = [one for one in records["merge_fields"] if (records["merge_fields"].get(one) or {})["tag"] == "PHONE"]
    records["merge_fields"].remove(field)
    records["interests"].remove("id-music")
    for number in (1, 2):
        before = calls(pipeline, "POST", "/batches")
        pipeline.begin(entities=CONTACTS)
        assert calls(pipeline, "POST", "/batches") == before
        assert caplog.text.count("group 'Music' is gone from the audience since ") == number
        assert caplog.text.count("merge field PHONE isn't in the audience, so phone isn't sent") == number
    switch(pipeline, "id-music", is_active=False)
    pipeline.push(entities=CONTACTS)
    assert caplog.text.count("group 'Music' is gone") == 2


def test_b12_chosen_groups_follow_the_shop(pipeline: Pipeline) -> None:
    add_groups(pipeline, "Music", "Books")
    address = subscriber(pipeline, 1, "Music")
    pipeline.push(entities=CONTACTS)
    pipeline.sql("UPDATE newsletter_groups SET group_name = 'Books'")
    assert pipeline.push(entities=CONTACTS)["members"].operations == 1
    assert interests(pipeline, address) == {"books"}


def test_b13_tags_and_segments_follow_the_shops_sql(pipeline: Pipeline) -> None:
    pipeline.configure(
        tags={"buyer": "SELECT customer_id FROM orders"}, segments={"C": "SELECT 2::bigint AS customer_id"}
    )
    pipeline.add_product(1)
    buyer, other = subscriber(pipeline, 1), subscriber(pipeline, 2)
    pipeline.add_order(5, 1, 1)
    pipeline.push()

    def tags(address: str) -> list[str]:
        return [tag["name"] for tag in (pipeline.member(address) or {})["tags"]]

    assert (tags(buyer), tags(other)) == (["buyer"], ["C"])
    pipeline.sql("UPDATE orders SET customer_id = 2")
    pipeline.push()
    assert (tags(buyer), sorted(tags(other))) == ([], ["C", "buyer"])
    before = calls(pipeline, "POST", "segments")
    pipeline.push()
    assert calls(pipeline, "POST", "segments") == before


def test_b14_a_contact_has_the_customers_language(pipeline: Pipeline) -> None:
    german, canadian = subscriber(pipeline, 1, language="de-AT"), subscriber(pipeline, 2, language="fr_CA")
    pipeline.push(entities=CONTACTS)
    assert [(pipeline.member(one) or {})["language"] for one in (german, canadian)] == ["de", "fr_CA"]
