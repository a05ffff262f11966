"""Who somebody is at Mailchimp, and whose address is left out."""

from __future__ import annotations

import hashlib

import pandas as pd
import pytest

from include.config.stores import RELAYS_AND_ROLES
from include.transform.identity import customer_ids, excluded, normalised
from include.transform.records import TEXT


def texts(*values: str | None) -> pd.Series:
    return pd.Series(list(values), dtype=TEXT)


def test_the_id_is_the_hash_of_the_trimmed_lower_case_address() -> None:
    ids = customer_ids(normalised(texts(" Ada@Engine.dev", None)))
    assert ids[0] == hashlib.md5(b"ada@engine.dev").hexdigest()
    assert ids.isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("email", "left_out"),
    [
        ("abc123@marketplace.amazon.co.uk", True),
        ("x@members.ebay.com", True),
        ("x@relay.walmart.com", True),
        ("noreply@engine.dev", True),
        ("ada@engine.dev", False),
        ("noreply.ada@engine.dev", False),
        ("ada@marketplace-amazon.dev", False),
        (None, False),
    ],
)
def test_relays_and_role_accounts_are_left_out_by_default(email: str | None, left_out: bool) -> None:
    assert excluded(texts(email), RELAYS_AND_ROLES).tolist() == [left_out]


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("*@Staff.Engine.DEV", "ada@staff.engine.dev", "ada@staffxengine.dev"),
        ("test?@*", "test1@engine.dev", "test12@engine.dev"),
        ("a+b@engine.dev", "a+b@engine.dev", "aab@engine.dev"),
        ("ada@engine.dev", "ada@engine.dev", "ada@engine.dev.uk"),
        ("[abc]@(engine).dev", "[abc]@(engine).dev", "a@engine.dev"),
        ("ö*@engine.dev", "öl@engine.dev", "ol@engine.dev"),
    ],
)
def test_only_star_and_question_mark_are_special(pattern: str, fits: str, does_not: str) -> None:
    assert excluded(texts(fits, does_not), [pattern]).tolist() == [True, False]


def test_each_of_several_patterns_has_to_fit_the_whole_address() -> None:
    emails = texts("a@x.dev", "b@y.dev", "a@x.dev.uk", "xb@y.dev")
    assert excluded(emails, ["a@x.dev", "b@y.dev"]).tolist() == [True, True, False, False]
    assert excluded(emails, []).tolist() == [False] * 4
