"""Consent: one answer per person, true for nothing but a stored opt-in, and opt-outs that say nothing else."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.documents.encoder import encode
from include.transform import consent, customers, members
from include.transform.audience import Audience, Group
from include.transform.consent import Policy
from include.transform.records import BuildContext, Frames
from tests.include.transform.rows import CHANGED, context, documents, extract

HOUR = timedelta(hours=1)
ADA = {"customer_id": "7", "updated_at": CHANGED, "email": "ada@engine.dev"}


def yes(number: int, hour: int, *, at: int | None = None, **columns: Any) -> dict[str, Any]:
    asked = CHANGED + HOUR * (hour if at is None else at)
    stored = {"opted_in": True, "opted_in_at": asked, "opt_in_ip": f"10.0.0.{number}"}
    return account(number, hour, **stored | columns)


def no(number: int, hour: int, **columns: Any) -> dict[str, Any]:
    return account(number, hour, opted_in=False, **columns)


def account(number: int, hour: int, **columns: Any) -> dict[str, Any]:
    return ADA | {"customer_id": str(number), "updated_at": CHANGED + HOUR * hour} | columns


def answer(*accounts: dict[str, Any]) -> tuple[bool | None, bool]:
    """What all accounts of one person say together, which must not depend on their order: the yes, the opt-out."""
    answers = set()
    for order in itertools.permutations(accounts):
        frame = extract("customers", *order).assign(person="ada")
        columns = consent.agreed(frame)
        opted_in = {None if pd.isna(value) else bool(value) for value in columns["opted_in"]}
        answers.add((*opted_in, *{bool(value) for value in columns["opted_out"]}))
    [(opted_in, opted_out)] = answers
    return opted_in, opted_out


@pytest.mark.parametrize(
    ("accounts", "expected"),
    [
        ([yes(1, 0)], (True, False)),
        ([no(1, 0)], (False, True)),
        ([account(1, 0)], (None, False)),
        ([yes(1, 0), account(2, 5)], (True, False)),  # never asked is not a no
        ([no(1, 0), account(2, 5)], (False, True)),
        ([yes(1, 0), no(2, 5)], (False, True)),  # the no is newer
        ([no(1, 0), yes(2, 5)], (True, False)),  # changed her mind afterwards
        ([no(1, 3), yes(2, 5, at=2)], (False, True)),  # the yes is the older answer, its account was changed since
        ([no(1, 3), yes(2, 5, at=3)], (False, True)),  # at the same time: a no holds
        ([no(1, 0), no(3, 4), yes(2, 5)], (True, False)),
        ([no(1, 0), yes(2, 5), account(3, 9)], (False, True)),  # the account changed last doesn't say yes
        ([no(1, 0), yes(2, 5, opted_in_at=None)], (False, True)),  # nobody knows when
        ([no(1, 0, updated_at=None), yes(2, 5)], (False, True)),
        ([no(1, 0, updated_at=None), no(3, 0), yes(2, 5)], (False, True)),
        ([no(1, 0), yes(2, 5), account(3, 0, updated_at=None)], (True, False)),  # undated is not the newest
    ],
)
def test_accounts_with_one_address_have_one_answer(
    accounts: list[dict[str, Any]], expected: tuple[bool | None, bool]
) -> None:
    assert answer(*accounts) == expected


def test_a_deleted_account_no_longer_says_yes() -> None:
    assert answer(yes(1, 0, is_deleted=True), account(2, 1)) == (None, False)


def test_deleting_an_account_neither_lifts_its_no_nor_sends_it_as_an_opt_out() -> None:
    assert answer(yes(1, 0), no(2, 1, is_deleted=True)) == (False, False)
    assert answer(no(1, 0), no(2, 1, is_deleted=True)) == (False, True)


def test_time_and_place_are_those_of_the_yes() -> None:
    frame = extract("customers", account(1, 9), yes(2, 5), yes(3, 1)).assign(person="ada")
    columns = consent.agreed(frame)
    assert set(columns["opt_in_ip"]) == {"10.0.0.2"}
    assert set(columns["opted_in_at"]) == {CHANGED + 5 * HOUR}
    refused = consent.agreed(extract("customers", yes(2, 5), no(1, 9)).assign(person="ada"))
    assert refused["opt_in_ip"].isna().all()


def audience(*, double_optin: bool) -> Audience:
    return Audience("a1b2c3d4e5", double_optin)


@pytest.mark.parametrize(
    ("opt_in", "double_optin", "policy"),
    [
        ("follow_audience", False, Policy("subscribed", by_ecommerce=True)),
        ("follow_audience", True, Policy("pending", by_ecommerce=True)),
        ("single", False, Policy("subscribed", by_ecommerce=True)),
        ("single", True, Policy("subscribed", by_ecommerce=False)),
        ("double", False, Policy("pending", by_ecommerce=False)),
        ("double", True, Policy("pending", by_ecommerce=True)),
    ],
)
def test_the_policy_of_a_store(opt_in: str, double_optin: bool, policy: Policy) -> None:
    settings = context(opt_in=opt_in).settings
    assert consent.policy(settings, audience(double_optin=double_optin)) == policy


def test_nothing_known_of_the_audience_means_no_double_opt_in() -> None:
    assert consent.policy(context().settings, None) == Policy("subscribed", by_ecommerce=True)
    assert consent.policy(context(opt_in="double").settings, None) == Policy("pending", by_ecommerce=False)


GROUPS = (Group("g1", "News", "Topics", subscribe_by_default=True), Group("g2", "Sales", "Topics"))

accounts_of_few_people = st.lists(
    st.fixed_dictionaries(
        {
            "updated_at": st.one_of(st.none(), st.integers(0, 5).map(lambda hour: CHANGED + HOUR * hour)),
            "email": st.sampled_from(["ada@engine.dev", " Ada@engine.dev", "bob@engine.dev", "", None]),
            "opted_in": st.sampled_from([True, False, None]),
            "opted_in_at": st.one_of(st.none(), st.integers(0, 5).map(lambda hour: CHANGED + HOUR * hour)),
            "is_guest": st.sampled_from([True, False, None]),
            "is_deleted": st.sampled_from([True, False, None]),
            "first_name": st.sampled_from(["Ada", None]),
        }
    ),
    min_size=1,
    max_size=6,
).map(lambda rows: [row | {"customer_id": str(number)} for number, row in enumerate(rows, start=1)])

contexts = st.builds(
    lambda audience, **settings: replace(context(**settings), audience=audience),
    st.one_of(st.none(), st.builds(Audience, st.just("a1"), st.booleans(), st.just(()), st.just(GROUPS))),
    opt_in=st.sampled_from(["follow_audience", "single", "double"]),
    always_opt_in=st.booleans(),
    guests=st.sampled_from(["first_name_only", "full", "skip"]),
)


def frames(rows: list[dict[str, Any]], everybody: list[dict[str, Any]]) -> Frames:
    related = {
        "same_address": extract("customers", *everybody),
        "addresses": extract("addresses"),
        "customer_groups": extract("customer_groups", {"customer_id": "1", "group_name": "sales"}),
    }
    return Frames(extract("customers", *rows), related)


def address(row: dict[str, Any]) -> str:
    return (row["email"] or "").strip().lower()


def agrees(accounts: list[dict[str, Any]]) -> bool:
    """Whether people with these accounts may be subscribed: the rule once more, account by account."""
    live = [row for row in accounts if not row["is_deleted"]]
    refusals = [row["updated_at"] for row in accounts if row["opted_in"] is False]
    if not refusals or None in refusals:
        return not refusals and any(row["opted_in"] for row in live)
    newest = max(live, key=lambda row: (row["updated_at"] is not None, row["updated_at"], row["customer_id"]))
    return bool(newest["opted_in"] and newest["opted_in_at"] and newest["opted_in_at"] > max(refusals))


@settings(max_examples=50, deadline=None)
@given(accounts_of_few_people, contexts)
def test_nobody_is_subscribed_without_a_stored_opt_in(rows: list[dict[str, Any]], context: BuildContext) -> None:
    people: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        people.setdefault(address(row), []).append(row)
    always = context.settings.always_opt_in
    by_ecommerce = consent.policy(context.settings, context.audience).by_ecommerce
    for document in documents(customers.DOCUMENT, customers.prepare(frames(rows, rows), context)):
        assert document["opt_in_status"] is (agrees(people[document["email_address"]]) and by_ecommerce)
    subscribed = set()
    for document in documents(members.document(context), members.prepare(frames(rows, rows), context)):
        if email := document.get("email_address"):
            unasked = all(row["opted_in"] is not False for row in people[email])
            assert agrees(people[email]) or (always and unasked)
            assert document.keys() >= {"status_if_new"}
            assert "status" not in document
            subscribed.add(email)
    live = {address(row) for row in rows if not row["is_deleted"]} - {""}
    assert {email for email in live if agrees(people[email])} <= subscribed


@settings(max_examples=50, deadline=None)
@given(accounts_of_few_people, contexts)
def test_an_opt_out_says_nothing_else_even_where_it_changes_a_known_contact(
    rows: list[dict[str, Any]], context: BuildContext
) -> None:
    prepared = members.prepare(frames(rows, rows), context)
    refused = {address(row) for row in rows if row["opted_in"] is False and not row["is_deleted"]}
    for clear in (False, True):
        bodies = encode(members.document(context), prepared.rows, clear=clear).to_pylist()
        for body, method, email in zip(
            bodies, prepared.rows.frame["method"], prepared.rows.frame["email"], strict=True
        ):
            assert (body == '{"status":"unsubscribed"}') is (method == "PATCH")
            assert method == "PUT" or email in refused


@settings(max_examples=50, deadline=None)
@given(accounts_of_few_people, contexts, st.data())
def test_documents_do_not_depend_on_how_people_fall_into_chunks(
    rows: list[dict[str, Any]], context: BuildContext, data: st.DataObject
) -> None:
    chosen = data.draw(st.sets(st.sampled_from(range(len(rows))), min_size=1))
    chunk = [row for number, row in enumerate(rows) if number in chosen]
    for prepare, document in ((customers.prepare, customers.DOCUMENT), (members.prepare, members.document(context))):
        whole, part = prepare(frames(rows, rows), context), prepare(frames(chunk, rows), context)
        texts = dict(zip(whole.rows.frame["record_id"], encode(document, whole.rows).to_pylist(), strict=True))
        for record_id, text in zip(part.rows.frame["record_id"], encode(document, part.rows).to_pylist(), strict=True):
            assert texts[record_id] == text
        keys = part.rows.frame["key"]
        assert set(keys) <= {row["customer_id"] for row in chunk}
        assert part.rows.frame["record_id"].is_unique
        changed = dict(zip(whole.rows.frame["record_id"], whole.rows.frame["updated_at"].astype(str), strict=True))
        assert part.rows.frame["updated_at"].astype(str).tolist() == [
            changed[record_id] for record_id in part.rows.frame["record_id"]
        ]
