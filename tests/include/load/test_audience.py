"""The audience's rules as a run finds them: complete, by id, with the shop's own switches."""

from __future__ import annotations

import logging

import pytest

from include.load.audience import read_audience, read_audiences
from include.load.errors import PreflightFailed
from include.sandbox.account import DEFAULT_LIST
from include.transform.audience import Audience, Group, MergeField
from tests.include.load.shop import TinyShop

CATEGORIES = f"/lists/{DEFAULT_LIST}/interest-categories"


def read(shop: TinyShop) -> Audience:
    return read_audience(shop.state, shop.client, shop.settings, "account-1")


def add_category(shop: TinyShop, title: str) -> str:
    created = shop.client.post(CATEGORIES, json={"title": title, "type": "checkboxes"})
    assert created
    return str(created["id"])


def add_group(shop: TinyShop, category_id: str, name: str) -> str:
    created = shop.client.post(f"{CATEGORIES}/{category_id}/interests", json={"name": name})
    assert created
    return str(created["id"])


def test_the_rules_are_read(shop: TinyShop) -> None:
    options = {"choices": ["S", "M", "L"]}
    size = {"tag": "SIZE", "name": "Size", "type": "dropdown", "required": True, "options": options}
    shop.client.post(f"/lists/{DEFAULT_LIST}/merge-fields", json=size)
    topics = add_category(shop, "Topics")
    music = add_group(shop, topics, "Music")
    audience = read(shop)
    assert (audience.list_id, audience.double_optin) == (DEFAULT_LIST, False)
    assert MergeField("FNAME", "text") in audience.merge_fields
    assert MergeField("SIZE", "dropdown", required=True, choices=("S", "M", "L")) in audience.merge_fields
    assert audience.groups == (Group(music, "Music", "Topics"),)
    assert Audience.from_json(audience.to_json()) == audience


def test_more_than_a_page_of_groups_and_categories_is_read(shop: TinyShop) -> None:
    """Mailchimp's default page has ten; a plugin that didn't ask for more lost the rest."""
    for number in range(12):
        category = add_category(shop, f"Category {number}")
        for group in range(12 if number == 0 else 1):
            add_group(shop, category, f"Group {group}")
    assert len(read(shop).groups) == 12 + 11


def test_the_shops_switches_hold_whatever_mailchimp_says(shop: TinyShop) -> None:
    topics = add_category(shop, "Topics")
    music, books = add_group(shop, topics, "Music"), add_group(shop, topics, "Books")
    read(shop)
    switch = "UPDATE mailchimp.audience_group SET is_active = false, subscribe_by_default = true WHERE group_id = :id"
    shop.execute(switch, id=music)
    shop.client.patch(f"{CATEGORIES}/{topics}/interests/{music}", json={"name": "Jazz"})
    shop.client.delete(f"{CATEGORIES}/{topics}/interests/{books}")
    assert read(shop).groups == (Group(music, "Jazz", "Topics", False, True, ("Music",)),)


def test_all_audiences_of_the_account_are_listed(shop: TinyShop) -> None:
    shop.sandbox.state.account.add_audience("club", "Club", True)
    read_audiences(shop.state, shop.client, "account-1")
    rows = shop.query("SELECT list_id, name, double_optin, removed_at FROM audience ORDER BY name")
    assert [(row["list_id"], row["double_optin"], row["removed_at"]) for row in rows] == [
        ("club", True, None),
        (DEFAULT_LIST, False, None),
    ]


def test_an_audience_that_is_gone_is_told(shop: TinyShop) -> None:
    shop.configure(list_id="gone")
    with pytest.raises(PreflightFailed, match="'gone' of store 'demo' is gone"):
        read(shop)


def test_settings_that_do_not_fit_the_audience_are_warned_of(shop: TinyShop, caplog: pytest.LogCaptureFixture) -> None:
    shop.sandbox.state.account.add_audience(DEFAULT_LIST, "Demo", True)
    shop.configure(opt_in="single", merge_fields={"FNAME": "first_name", "SHOE": "company"})
    with caplog.at_level(logging.WARNING, logger="include.load.audience"):
        assert read(shop).double_optin
    assert "SHOE" in caplog.text
    assert "complain about abuse" in caplog.text
    caplog.clear()
    shop.configure()
    read(shop)
    assert caplog.text == ""
