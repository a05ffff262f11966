"""The people behind the shop's accounts: one per e-mail address, however many accounts have it.

Mailchimp knows customers and contacts by address alone. Which account speaks for a person, and what all of them say
together, must not depend on which of them happen to be read in one chunk, or two chunks would take turns in changing
the same record; so the chunk's rows are looked at together with all other accounts of their addresses.
"""

from __future__ import annotations

import pandas as pd

from include.transform import consent
from include.transform.erasures import are_erased
from include.transform.identity import customer_ids, normalised, unusable_email
from include.transform.records import Erased, Frames, find
from include.transform.rules import ErrorClass, Rule, unusable_id


def of_chunk(frames: Frames, *, guests: bool, erased: Erased) -> pd.DataFrame:
    """Derive the people of a chunk of the ``customers`` extract.

    Accounts speak before guests, and of several the one changed last; deleted ones are silent. Of the newsletter all
    accounts speak together (:func:`include.transform.consent.agreed`).

    Args:
        frames: ``main`` = customers, ``related["same_address"]`` = all customers with one of the chunk's addresses.
        guests: whether people who are guests only count.
        erased: people who don't count at all.

    Returns:
        A row for each row of the chunk whose person has an account that counts, be it that row or another: the columns
        of the extract as the speaking account has them, and ``key`` (the row of the chunk), ``record_id``, ``email``
        in normal form, ``person``, ``updated_at`` (the newest of all accounts), ``opted_in``, ``opted_out``, ``rank``,
        ``counts`` (whether the row of the chunk itself does).
    """
    chunk = _identified(frames.main)
    chunk = chunk.loc[~are_erased(chunk["customer_id"], chunk["record_id"], erased)]
    accounts = _with_others(chunk, frames.related["same_address"])
    accounts = accounts.assign(**consent.agreed(accounts))
    accounts["silent"] = is_set(accounts["is_deleted"]) | (is_set(accounts["is_guest"]) & (not guests))
    in_order = accounts.sort_values(["updated_at", "customer_id"], na_position="first")
    newest = in_order.drop_duplicates("person", keep="last")
    counting = in_order.loc[~in_order["silent"]]
    speaking = counting.loc[(~is_set(counting["is_guest"])).sort_values(kind="stable").index]
    speaking = speaking.drop_duplicates("person", keep="last")

    chunk = accounts.iloc[: len(chunk)]
    chunk = chunk.loc[chunk["person"].isin(speaking["person"])].reset_index(drop=True)
    people = speaking.take(find(speaking["person"], chunk["person"])).reset_index(drop=True)
    changed = newest["updated_at"].take(find(newest["person"], chunk["person"])).reset_index(drop=True)
    people = people.assign(key=chunk["customer_id"], updated_at=changed)
    return people.assign(rank=_rank(chunk, people), counts=~chunk["silent"])


def one_each(people: pd.DataFrame) -> pd.DataFrame:
    """Keep one row per person, of which only the keys differ: the speaking account's, else that of a live one."""
    chosen = people.sort_values("rank", kind="stable").drop_duplicates("person", keep="last")
    return chosen.sort_index().reset_index(drop=True)


def aliases(people: pd.DataFrame, chosen: pd.DataFrame) -> list[tuple[str, str]]:
    """Name the accounts that share the record of a chosen one.

    Args:
        people: of the chunk.
        chosen: those that `one_each` kept.

    Returns:
        (the shop's id, the record's id) of each; without this nobody would know that an address is still in use when
        the account that speaks for it leaves it.
    """
    others = people.loc[people["counts"] & ~people["key"].isin(chosen["key"])]
    return list(zip(others["key"].tolist(), others["record_id"].tolist(), strict=True))


def rules(people: pd.DataFrame) -> list[Rule]:
    """Return what everybody needs who is sent to Mailchimp."""
    return [
        Rule(
            unusable_id(people["key"]),
            ErrorClass.MISSING_VALUE,
            "customer_id",
            "Customer id missing",
            "the shop's customer_id is empty or 0; give every customer an id",
        ),
        Rule(
            people["email"].isna() | (people["email"] == ""),
            ErrorClass.MISSING_VALUE,
            "email_address",
            "E-mail address missing",
            "Mailchimp knows customers by e-mail address; add one in the shop or leave the customer out",
        ),
        Rule(
            unusable_email(people["email"]),
            ErrorClass.INVALID_VALUE,
            "email_address",
            "E-mail address refused",
            "the address is malformed or of a domain that Mailchimp refuses as fake; correct it in the shop",
        ),
    ]


def is_set(flags: pd.Series) -> pd.Series:
    """Read an optional flag: null is no."""
    return flags.fillna(False).astype(bool)


def _identified(customers: pd.DataFrame) -> pd.DataFrame:
    """Attach who the accounts are; one without an address is a person of its own."""
    email = normalised(customers["email"])
    record_id = customer_ids(email)
    person = record_id.where(email != "").fillna("account " + customers["customer_id"].fillna(""))
    return customers.assign(email=email, record_id=record_id, person=person)


def _with_others(chunk: pd.DataFrame, same_address: pd.DataFrame) -> pd.DataFrame:
    others = same_address.loc[~same_address["customer_id"].isin(chunk["customer_id"])]
    return pd.concat([chunk, _identified(others)], ignore_index=True) if len(others) else chunk.reset_index(drop=True)


def _rank(chunk: pd.DataFrame, people: pd.DataFrame) -> pd.Series:
    """Tell which row of several of one person is its best key: the speaking account, a live one, the newest."""
    rank = chunk.assign(speaks=chunk["customer_id"] == people["customer_id"], live=~chunk["silent"])
    order = rank.sort_values(["speaks", "live", "updated_at", "customer_id"], na_position="first").index
    return pd.Series(range(len(order)), index=order).sort_index()
