"""Members: who decided is sent, guests too; opt-outs as such; details as the audience's rules and the settings say."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from include.documents.encoder import encode
from include.mailchimp.contract.members import MemberPatch, MemberPut
from include.transform import groups, members
from include.transform.audience import Audience, Group, MergeField
from include.transform.records import BuildContext, Frames, Prepared
from tests.include.transform.rows import CHANGED, context, documents, extract

NEWS = Group("9a1", "News", "Topics")
SALES = Group("9a2", "Sales", "Topics")
OLD = Group("9a3", "Catalogue", "Topics", is_active=False)
NAMES = (MergeField("FNAME", "text"), MergeField("LNAME", "text"))

ADA = {
    "customer_id": "7",
    "updated_at": CHANGED,
    "email": " Ada.Lovelace@Engine.dev ",
    "first_name": "Ada",
    "last_name": "Lovelace",
    "opted_in": True,
    "opted_in_at": CHANGED - timedelta(days=3),
    "opt_in_ip": "203.0.113.9",
    "language": "en-GB",
}
ADA_ID = hashlib.md5(b"ada.lovelace@engine.dev").hexdigest()


def prepare(
    *rows: dict[str, Any],
    elsewhere: tuple[dict[str, Any], ...] = (),
    chosen: tuple[tuple[str, str], ...] = (),
    audience: Audience | None = None,
    **settings: Any,
) -> Prepared:
    """Prepare a chunk of customers; `chosen` are pairs of customer and group."""
    related = {
        "addresses": extract("addresses"),
        "same_address": extract("customers", *rows, *elsewhere),
        "customer_groups": extract(
            "customer_groups", *({"customer_id": customer, "group_name": name} for customer, name in chosen)
        ),
    }
    return members.prepare(Frames(extract("customers", *rows), related), in_audience(audience, **settings))


def in_audience(audience: Audience | None, **settings: Any) -> BuildContext:
    return replace(context(**settings), audience=audience)


def audience(*groups: Group, double_optin: bool = False) -> Audience:
    return Audience("a1b2c3d4e5", double_optin, NAMES, groups)


def built(*rows: dict[str, Any], audience: Audience | None = None, **options: Any) -> list[dict[str, Any]]:
    prepared = prepare(*rows, audience=audience, **options)
    return documents(members.document(in_audience(audience)), prepared)


def methods(prepared: Prepared) -> list[tuple[str, str]]:
    return list(zip(prepared.rows.frame["record_id"], prepared.rows.frame["method"], strict=True))


def test_a_member_as_the_api_expects_it() -> None:
    prepared = prepare(ADA)
    [document] = documents(members.document(in_audience(None)), prepared)
    assert document == {
        "email_address": "ada.lovelace@engine.dev",
        "status_if_new": "subscribed",
        "merge_fields": {"FNAME": "Ada", "LNAME": "Lovelace"},
        "language": "en",
        "ip_opt": "203.0.113.9",
        "timestamp_opt": "2026-10-29T12:00:00+00:00",
    }
    MemberPut.model_validate(document)
    assert methods(prepared) == [(ADA_ID, "PUT")]


@pytest.mark.parametrize(
    ("opt_in", "double_optin", "status"),
    [
        ("follow_audience", False, "subscribed"),
        ("follow_audience", True, "pending"),
        ("single", True, "subscribed"),
        ("double", False, "pending"),
    ],
)
def test_double_opt_in_makes_new_contacts_pending(opt_in: str, double_optin: bool, status: str) -> None:
    [document] = built(ADA, audience=audience(double_optin=double_optin), opt_in=opt_in)
    assert document["status_if_new"] == status


def test_who_was_never_asked_is_left_out_unless_the_shop_always_opts_in() -> None:
    unasked = ADA | {"opted_in": None, "opted_in_at": None}
    assert built(unasked) == []
    [document] = built(unasked, always_opt_in=True)
    assert document["status_if_new"] == "subscribed"
    assert "timestamp_opt" not in document


def test_an_opt_out_is_a_patch_of_nothing_else() -> None:
    prepared = prepare(ADA | {"opted_in": False}, chosen=(("7", "news"),), audience=audience(NEWS), always_opt_in=True)
    assert methods(prepared) == [(ADA_ID, "PATCH")]
    for clear in (False, True):
        [body] = encode(members.document(in_audience(audience(NEWS))), prepared.rows, clear=clear).to_pylist()
        assert body == '{"status":"unsubscribed"}'
        MemberPatch.model_validate_json(body)


def test_a_change_of_a_known_contact_empties_nothing() -> None:
    nameless = ADA | {"first_name": None, "last_name": "  ", "language": None, "opt_in_ip": None}
    prepared = prepare(nameless)
    plain, clearing = (
        encode(members.document(in_audience(None)), prepared.rows, clear=clear).to_pylist() for clear in (False, True)
    )
    assert plain == clearing
    assert '""' not in plain[0]


def test_a_deleted_account_unsubscribes_nobody() -> None:
    assert built(ADA | {"is_deleted": True}) == []
    assert built(ADA | {"is_deleted": True, "opted_in": False}) == []


def test_excluded_addresses_are_left_out() -> None:
    assert built(ADA, exclude_emails=["*@ENGINE.dev"]) == []
    assert prepare(ADA, exclude_emails=["*@ENGINE.dev"]).rejected == []


@pytest.mark.parametrize(
    ("guests", "merge_fields"),
    [
        ("first_name_only", {"VORNAME": "Ada"}),
        ("skip", {"VORNAME": "Ada"}),
        ("full", {"VORNAME": "Ada", "LNAME": "Lovelace"}),
    ],
)
def test_guests_may_subscribe_whatever_else_is_sent_of_them(guests: str, merge_fields: dict[str, str]) -> None:
    mapping = {"VORNAME": "first_name", "LNAME": "last_name"}
    prepared = prepare(ADA | {"is_guest": True}, guests=guests, merge_fields=mapping)
    [document] = documents(members.document(in_audience(None, merge_fields=mapping)), prepared)
    assert document["merge_fields"] == merge_fields
    assert document["status_if_new"] == "subscribed"


@pytest.mark.parametrize("email", [None, "", "a b@c.dev", "x@example.com"])
def test_an_unusable_address_is_one_rejected_record(email: str | None) -> None:
    prepared = prepare(ADA | {"customer_id": "8", "email": email}, ADA)
    assert methods(prepared) == [(ADA_ID, "PUT")]
    [rejected] = prepared.rejected
    assert (rejected.entity, rejected.key, rejected.field) == ("members", "8", "email_address")
    assert not email or email not in rejected.detail


def test_accounts_without_an_address_do_not_answer_for_each_other() -> None:
    prepared = prepare(ADA | {"email": "", "customer_id": "8"}, ADA | {"email": "", "opted_in": False})
    assert [rejected.key for rejected in prepared.rejected] == ["8"]


def test_nobody_opts_out_under_an_address_that_mailchimp_refuses() -> None:
    prepared = prepare(ADA | {"email": "x@example.com", "opted_in": False})
    assert (len(prepared.rows.frame), prepared.rejected) == (0, [])


def test_several_accounts_of_one_address_are_one_member() -> None:
    later = timedelta(hours=1)
    newer = ADA | {"customer_id": "9", "updated_at": CHANGED + later, "opted_in": None, "first_name": "Augusta"}
    prepared = prepare(ADA, elsewhere=(newer,))
    [document] = documents(members.document(in_audience(None)), prepared)
    assert document["merge_fields"]["FNAME"] == "Augusta"
    assert document["ip_opt"] == "203.0.113.9"  # of the account that opted in
    assert prepared.rows.frame[["key", "updated_at"]].to_numpy().tolist() == [["7", CHANGED + later]]
    refusal = newer | {"opted_in": False}
    assert methods(prepare(ADA, elsewhere=(refusal,))) == [(ADA_ID, "PATCH")]


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("de", "de"),
        ("DE_at", "de"),
        ("pt-PT", "pt_PT"),
        ("pt-BR", "pt"),
        ("fr_ca", "fr_CA"),
        ("english", None),
        ("", None),
    ],
)
def test_languages_are_mailchimps_codes(language: str, code: str | None) -> None:
    [document] = built(ADA | {"language": language})
    assert document.get("language") == code


@pytest.mark.parametrize(
    ("address", "sent"),
    [("2001:db8::1", True), ("10.1.2.3", True), ("10.1.2.x", False), ("unknown", False), ("", False)],
)
def test_only_an_ip_address_is_sent_as_one(address: str, sent: bool) -> None:
    [document] = built(ADA | {"opt_in_ip": address})
    assert ("ip_opt" in document) is sent


def test_chosen_groups_are_set_and_all_other_active_ones_unset() -> None:
    where = audience(NEWS, SALES, OLD)
    [document] = built(ADA, audience=where, chosen=(("7", " news "), ("7", "Catalogue"), ("8", "Sales")))
    assert document["interests"] == {"9a1": True, "9a2": False}
    [document] = built(ADA, audience=where, chosen=(("7", "9A2"),))
    assert document["interests"] == {"9a1": False, "9a2": True}


def test_who_chose_no_group_gets_those_subscribed_by_default() -> None:
    where = audience(replace(NEWS, subscribe_by_default=True), SALES, replace(OLD, subscribe_by_default=True))
    [document] = built(ADA, audience=where)
    assert document["interests"] == {"9a1": True}
    [document] = built(ADA, audience=where, chosen=(("7", "sales"),))
    assert document["interests"] == {"9a1": False, "9a2": True}
    [document] = built(ADA, audience=where, chosen=(("7", "catalogue"),))
    assert "interests" not in document  # an active choice of something that is no longer offered
    [document] = built(ADA, audience=audience(NEWS, SALES))
    assert "interests" not in document


def test_more_than_one_group_is_refused_where_the_store_allows_one() -> None:
    where = audience(NEWS, SALES)
    prepared = prepare(ADA, audience=where, chosen=(("7", "news"), ("7", "sales")), selection="one")
    assert len(prepared.rows.frame) == 0
    [rejected] = prepared.rejected
    assert (rejected.entity, rejected.key, rejected.record_id) == ("members", "7", ADA_ID)
    assert (rejected.error_class, rejected.title) == ("invalid_value", "More than one group chosen")
    assert len(built(ADA, audience=where, chosen=(("7", "news"),), selection="one")) == 1
    assert len(built(ADA | {"opted_in": False}, audience=where, chosen=(("7", "news"), ("7", "sales")))) == 1


def test_an_opt_out_is_sent_however_many_groups_were_chosen() -> None:
    where = audience(NEWS, SALES)
    chosen = (("7", "news"), ("7", "sales"))
    prepared = prepare(ADA | {"opted_in": False}, audience=where, chosen=chosen, selection="one")
    assert (methods(prepared), prepared.rejected) == ([(ADA_ID, "PATCH")], [])


def test_a_name_that_two_groups_have_chooses_neither() -> None:
    where = audience(NEWS, Group("9b1", "news", "Channels"), SALES)
    assert "interests" not in built(ADA, audience=where, chosen=(("7", "News"),))[0]
    [document] = built(ADA, audience=where, chosen=(("7", "9b1"),))
    assert document["interests"] == {"9a1": False, "9b1": True, "9a2": False}
    [problem] = groups.problems(context().settings, where)
    assert "news" in problem


def test_one_group_by_default_where_the_store_allows_one() -> None:
    where = audience(replace(NEWS, subscribe_by_default=True), replace(SALES, subscribe_by_default=True))
    [document] = built(ADA, audience=where, selection="one")
    assert document["interests"] == {"9a1": True}
    [problem] = groups.problems(context(selection="one").settings, where)
    assert "only News" in problem
    assert groups.problems(context().settings, where) == []
