"""Tags and static segments follow the shop's SQL, by differences only."""

from __future__ import annotations

from typing import Any

import pytest

from include.load import segments
from include.load.errors import RunStopped
from include.load.segments import SegmentCounts, push_segments
from include.sandbox.account import DEFAULT_LIST
from tests.include.load.shop import Died, MortalClient, TinyShop

SEGMENTS = f"/lists/{DEFAULT_LIST}/segments"
EVEN = "SELECT id AS customer_id FROM shop_customers WHERE id % 2 = 0 -- 50 % of them"
LISTED = "SELECT customer_id FROM listed;\n"


class Segmented:
    """A tiny shop with customers at Mailchimp, whose tag or segment is pushed."""

    def __init__(self, shop: TinyShop) -> None:
        self.shop = shop
        shop.execute("CREATE TABLE listed (customer_id bigint)")
        shop.configure(tags={"VIP": LISTED})

    def push(self, client: MortalClient | None = None) -> list[SegmentCounts]:
        shop = self.shop
        return push_segments(shop.state, shop.engine, shop.profile, client or shop.client, shop.store(), shop.settings)

    def vip(self) -> tuple[int, int, int]:
        (counts,) = self.push()
        return counts.joined, counts.left, counts.waiting

    def enlist(self, first: int, last: int) -> None:
        self.shop.execute("INSERT INTO listed SELECT generate_series(:a, :b)", a=first, b=last)

    def delist(self, first: int, last: int) -> None:
        self.shop.execute("DELETE FROM listed WHERE customer_id BETWEEN :a AND :b", a=first, b=last)

    def change_email(self, customer: int, email: str) -> None:
        sql = "UPDATE shop_customers SET email = :email, updated_at = now() WHERE id = :id"
        self.shop.execute(sql, email=email, id=customer)

    def ids(self) -> dict[str, int]:
        return {one["name"]: one["id"] for one in self.shop.client.list_all(SEGMENTS, "segments")}

    def inside(self, name: str = "VIP") -> list[str]:
        members = self.shop.client.list_all(f"{SEGMENTS}/{self.ids()[name]}/members", "members")
        return sorted(member["email_address"].partition("@")[0] for member in members)

    def calls(self, method: str) -> int:
        counts = self.shop.sandbox.state.api.counts
        return sum(count for call, count in counts.items() if call.startswith(method) and "/segments" in call)


@pytest.fixture
def shop(shop: TinyShop) -> Segmented:
    shop.add_customers(1, 12)
    shop.run("customers")
    return Segmented(shop)


def test_tags_and_segments_are_made_and_filled(shop: Segmented) -> None:
    shop.shop.configure(tags={"even": EVEN}, segments={"early": "SELECT '1' AS customer_id, 'x' AS more"})
    assert shop.push() == [SegmentCounts("early", joined=1), SegmentCounts("even", joined=6)]
    assert shop.inside("even") == ["c10", "c12", "c2", "c4", "c6", "c8"]
    assert shop.inside("early") == ["c1"]


def test_an_unchanged_shop_costs_one_get_and_none_without_tags(shop: Segmented) -> None:
    shop.enlist(1, 5)
    shop.vip()
    gets, posts = shop.calls("GET"), shop.calls("POST")
    assert shop.vip() == (0, 0, 0)
    assert (shop.calls("GET"), shop.calls("POST"), shop.calls("DELETE")) == (gets + 1, posts, 0)
    shop.shop.configure()
    assert shop.push() == []
    assert shop.calls("GET") == gets + 1


def test_only_differences_are_sent(shop: Segmented) -> None:
    shop.enlist(1, 5)
    shop.vip()
    shop.delist(1, 2)
    shop.enlist(6, 6)
    assert shop.vip() == (1, 2, 0)
    assert shop.inside() == ["c3", "c4", "c5", "c6"]
    shop.delist(1, 12)
    assert shop.vip() == (0, 4, 0)
    assert shop.inside() == []


@pytest.mark.parametrize(("chunk", "call"), [(1, 1), (3, 2), (5, 500)])
def test_chunks_and_calls_of_any_size_come_to_the_same(
    shop: Segmented, monkeypatch: pytest.MonkeyPatch, chunk: int, call: int
) -> None:
    monkeypatch.setattr(segments, "CHUNK", chunk)
    monkeypatch.setattr(segments, "MOST_PER_CALL", call)
    shop.enlist(1, 9)
    assert shop.vip() == (9, 0, 0)
    shop.delist(2, 8)
    shop.enlist(11, 12)
    assert shop.vip() == (2, 7, 0)
    assert shop.inside() == ["c1", "c11", "c12", "c9"]
    assert shop.vip() == (0, 0, 0)


def test_at_most_500_contacts_go_into_one_call(shop: Segmented) -> None:
    shop.shop.add_customers(13, 1100)
    shop.shop.configure(tags={"VIP": LISTED}, batch_operations=500)
    shop.shop.run("customers")
    shop.enlist(1, 1100)
    posts = shop.calls("POST")
    assert shop.vip() == (1100, 0, 0)
    assert shop.calls("POST") == posts + 1 + 3  # the segment, and 500 + 500 + 100


def test_people_whom_mailchimp_does_not_hold_yet_wait_without_a_call(shop: Segmented) -> None:
    shop.shop.add_customers(13, 14)
    shop.enlist(12, 14)
    assert shop.vip() == (1, 0, 2)
    posts = shop.calls("POST")
    assert shop.vip() == (0, 0, 2)
    assert shop.calls("POST") == posts
    shop.shop.run("customers")
    assert shop.vip() == (2, 0, 0)
    assert shop.inside() == ["c12", "c13", "c14"]


def test_a_new_address_takes_the_place_of_the_old_one(shop: Segmented) -> None:
    shop.enlist(1, 2)
    shop.vip()
    shop.change_email(1, "new1@shop.test-mail.org")
    assert shop.vip() == (0, 1, 1)  # Mailchimp doesn't know the new one yet
    assert shop.inside() == ["c2"]
    shop.shop.run("customers")
    assert shop.vip() == (1, 0, 0)
    assert shop.inside() == ["c2", "new1"]


def test_who_left_the_shop_leaves_the_segment(shop: Segmented) -> None:
    shop.enlist(1, 3)
    shop.vip()
    shop.shop.execute("DELETE FROM shop_customers WHERE id < 3")
    shop.delist(1, 1)  # the second is listed still
    assert shop.vip() == (0, 2, 0)
    assert shop.inside() == ["c3"]


@pytest.mark.parametrize("chunk", [1, 10])
@pytest.mark.parametrize(("sooner", "later"), [(1, 2), (2, 1)])
def test_one_address_of_two_customers_leaves_with_the_last_of_them(
    shop: Segmented, monkeypatch: pytest.MonkeyPatch, chunk: int, sooner: int, later: int
) -> None:
    monkeypatch.setattr(segments, "CHUNK", chunk)
    shop.change_email(2, "C1@shop.test-mail.org ")
    shop.enlist(1, 3)
    shop.vip()
    assert shop.inside() == ["c1", "c3"]
    shop.delist(sooner, sooner)
    shop.vip()
    assert shop.inside() == ["c1", "c3"]
    shop.delist(later, later)
    shop.vip()
    assert shop.inside() == ["c3"]


def test_people_whom_others_put_in_stay(shop: Segmented) -> None:
    theirs = {"name": "VIP", "static_segment": ["c9@shop.test-mail.org"]}
    shop.shop.client.post(SEGMENTS, json=theirs)
    shop.enlist(1, 1)
    shop.vip()
    shop.delist(1, 1)
    shop.vip()
    assert shop.inside() == ["c9"]


def test_an_archived_contact_is_asked_for_once(shop: Segmented, caplog: pytest.LogCaptureFixture) -> None:
    (archived,) = [one for one in shop.shop.held("customers").values() if one["email_address"].startswith("c1@")]
    shop.shop.client.delete(f"/lists/{DEFAULT_LIST}/members/{archived['id']}")
    shop.enlist(1, 2)
    assert shop.vip() == (2, 0, 0)
    assert "VIP: Mailchimp ignored 1 of 2 contacts" in caplog.text
    assert "@" not in caplog.text
    assert shop.vip() == (0, 0, 0)


def test_a_segment_deleted_at_mailchimp_is_made_anew_and_a_renamed_one_is_kept(shop: Segmented) -> None:
    shop.enlist(1, 2)
    shop.vip()
    shop.shop.client.patch(f"{SEGMENTS}/{shop.ids()['VIP']}", json={"name": "Best"})
    assert shop.vip() == (0, 0, 0)
    shop.shop.client.delete(f"{SEGMENTS}/{shop.ids()['Best']}")
    assert shop.vip() == (2, 0, 0)
    assert shop.inside() == ["c1", "c2"]


def test_a_death_between_calls_repeats_at_most_one(shop: Segmented, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "MOST_PER_CALL", 4)

    class Mortal(MortalClient):
        posts = 0

        def post(self, path: str, **body: Any) -> dict[str, Any] | None:
            self.posts += 1
            reply = super().post(path, **body)
            if self.posts == 3:  # the segment, the first four; dies when the second four are in
                raise Died
            return reply

    client = shop.shop.new_client()
    client.__class__ = Mortal
    shop.enlist(1, 12)
    with pytest.raises(Died):
        shop.push(client)
    assert shop.vip() == (8, 0, 0)
    assert len(shop.inside()) == 12
    assert shop.vip() == (0, 0, 0)


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT customer FROM listed", r"setting 'tags.VIP', line 1: PostgreSQL refuses it: .*customer.* not exist"),
        ("SELECT 'ada@shop.org'::bigint AS customer_id", 'invalid input syntax for type bigint: "<e-mail>"'),
        ("SELECT customer_id AS id FROM listed", "setting 'tags.VIP': yields no column customer_id, but id"),
        ("DELETE FROM listed RETURNING customer_id", "PostgreSQL refuses it: syntax error"),
        ("SELECT 1 / (customer_id - 1) AS customer_id FROM listed", r"'tags.VIP' failed .*SQLSTATE 22012"),
        ("SELECT email::bigint AS customer_id FROM shop_customers", r"'tags.VIP' failed .*SQLSTATE 22P02"),
        ("SELECT 'x' AS customer_id", r"customers of setting 'tags.VIP' can't be read"),
    ],
)
def test_broken_sql_is_told_with_its_setting_and_without_data(shop: Segmented, sql: str, told: str) -> None:
    shop.enlist(1, 1)
    shop.shop.configure(tags={"VIP": sql})
    with pytest.raises(RunStopped, match=told) as stopped:
        shop.push()
    assert "@" not in str(stopped.value)
    shop.shop.execute("SELECT 1")  # the connection went back to its pool in order


def test_one_refused_statement_keeps_all_others_from_being_sent(shop: Segmented) -> None:
    shop.shop.configure(tags={"a": EVEN, "b": "SELEC 1"})
    with pytest.raises(RunStopped, match=r"tags\.b"):
        shop.push()
    assert shop.ids() == {}


def test_the_shop_cannot_be_changed_by_a_segment(shop: Segmented) -> None:
    shop.enlist(1, 1)
    shop.shop.execute(
        "CREATE FUNCTION empty_it() RETURNS bigint LANGUAGE sql AS 'DELETE FROM listed RETURNING customer_id'"
    )
    shop.shop.configure(tags={"VIP": "SELECT empty_it() AS customer_id"})
    with pytest.raises(RunStopped, match="SQLSTATE 25006"):
        shop.push()


def test_a_tag_and_a_segment_of_one_name_are_refused(shop: Segmented) -> None:
    shop.shop.configure(tags={"VIP": EVEN}, segments={"VIP": LISTED})
    with pytest.raises(RunStopped, match="VIP"):
        shop.push()
