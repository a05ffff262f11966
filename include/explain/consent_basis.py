"""On what ground somebody is, or isn't, subscribed: what the shop has on record, and which rule decided."""

from __future__ import annotations

from typing import Any

import pandas as pd

from include.explain.explanation import Step
from include.explain.reasons import asked_to_be_erased
from include.extract.slices import Extractor
from include.transform import consent, people
from include.transform.entities import Entity
from include.transform.records import BuildContext, Erased, Frames


def consent_step(extractor: Extractor, entity: Entity, key: str, context: BuildContext) -> Step:
    """Explain the consent of the person behind a row of the ``customers`` extract.

    Args:
        extractor: reads the shop.
        entity: customers or members.
        key: the shop's key; the row exists.
        context: the store's settings and audience.
    """
    frame = extractor.read_ids(entity.extract, [key])
    related = entity.read_related(extractor, frame)
    accounts = max(len(related["same_address"]), 1)
    if asked_to_be_erased(extractor, entity, frame):
        return Step("consent", "the person asked to be erased: nothing is sent of them, whatever was answered before")
    found = people.of_chunk(Frames(frame, related), guests=True, erased=Erased())
    if found.empty:
        told = "all accounts of this address are deleted in the shop: nothing is sent, nobody is unsubscribed by it"
        return Step("consent", told, {"accounts": accounts})
    person = found.iloc[0]
    opted_in, opted_out = _flag(person["opted_in"]), bool(_flag(person["opted_out"]))
    values: dict[str, Any] = {
        "opted_in": opted_in,
        "opted_in_at": None if pd.isna(person["opted_in_at"]) else person["opted_in_at"].isoformat(),
        "source": None if pd.isna(person["opt_in_source"]) else person["opt_in_source"],
        "accounts": accounts,
    }
    return Step("consent", _told(opted_in, opted_out, consent.policy(context.settings, context.audience)), values)


def _told(opted_in: bool | None, opted_out: bool, rules: consent.Policy) -> str:
    status = f"somebody who is new to the audience becomes {rules.status}; who is known there keeps the status"
    if opted_out:
        return "an opt-out is on record: it is told to Mailchimp, and nothing else of the person is"
    if opted_in is False:
        return "a deleted account said no: that still counts against subscribing, but nobody is unsubscribed by it"
    if opted_in:
        return f"a stored opt-in: {status}"
    if rules.unasked:
        return f"never asked, but always_opt_in is on: {status}"
    return "never asked: neither a yes nor a no, so nobody is subscribed; a customer becomes a transactional contact"


def _flag(value: Any) -> bool | None:
    return None if value is None or pd.isna(value) else bool(value)
