"""Members: subscriptions and opt-outs recorded in the shop → ``/lists/{list_id}/members/{subscriber_hash}``.

API reference: "List members · Add or update list member". Only people who decided are sent. Who opted in (guests too)
is PUT with the status that counts for new contacts alone; who opted out is PATCHed with that and nothing else, so that
nobody becomes a contact by it. What is sent of the status is made by :mod:`include.transform.consent` alone. Nobody is
ever deleted: leaving the shop is not an unsubscribe.
"""

from __future__ import annotations

from functools import cache

import pandas as pd
import pyarrow as pa

from include.documents.encoder import Rows, encode, hash_texts
from include.documents.spec import Document, Text, Time
from include.transform import addresses, consent, groups, merge_fields, people
from include.transform.identity import excluded, unusable_email
from include.transform.records import BuildContext, Frames, Prepared, keep_rows
from include.transform.rules import apply_rules

#: Mailchimp's codes of languages: two letters, besides these three of regions ("View and edit contact languages").
_REGIONAL = ("fr_CA", "pt_PT", "es_ES")
_LANGUAGE = r"[a-zA-Z]{2}([-_][a-zA-Z]{2})?"
_IP = r"\d{1,3}(\.\d{1,3}){3}|[0-9a-fA-F]{0,4}(:[0-9a-fA-F]{0,4}){2,7}"


def document(context: BuildContext) -> Document:
    """Declare a member document, which depends on the store's merge fields and its audience's groups.

    Nothing in it is ever cleared: an opt-out must stay one, and what a contact told Mailchimp itself is its own.
    """
    return Document(
        "member",
        (
            Text("email_address", "email_address", clears=False),
            *consent.MEMBER_FIELDS,
            merge_fields.document(context.settings, context.audience),
            groups.document(context.audience),
            Text("language", "language", clears=False),
            Text("ip_opt", "opt_in_ip", clears=False),
            Time("timestamp_opt", "opted_in_at"),
        ),
    )


@cache
def opt_out_hash() -> bytes:
    """Return the ledger's hash of a document that says nothing but the opt-out: the same for everybody."""
    no, yes = (pd.Series([value], dtype=pd.ArrowDtype(pa.bool_())) for value in (False, True))
    columns = consent.of_members(no, yes, no.astype(bool), consent.Policy("subscribed", by_ecommerce=True))
    opt_out = Document("member", consent.MEMBER_FIELDS)
    return hash_texts(encode(opt_out, Rows(pd.DataFrame(columns)), embedded=True))[0]


def prepare(frames: Frames, context: BuildContext) -> Prepared:
    """Derive member documents from the ``customers`` extract.

    Args:
        frames: ``main`` = customers; ``related`` with ``same_address`` (all customers with one of their addresses),
            ``addresses`` and ``customer_groups``, both of all of these.
        context: settings and audience of the store.

    Returns:
        One row per address with a decision; the account that speaks for it may be one outside of the chunk.
    """
    members = people.of_chunk(frames, guests=True, erased=context.erased)
    policy = consent.policy(context.settings, context.audience)
    archived = members["record_id"].isin(context.archived)
    members = members.assign(**consent.of_members(members["opted_in"], members["opted_out"], archived, policy))
    members = _in_scope(members, context)
    kept, rejected = apply_rules("members", members, "key", "record_id", people.rules(members))
    everybody, members = members.loc[kept], people.one_each(members.loc[kept])
    aliases = people.aliases(everybody, members)

    chosen = groups.chosen(
        members["customer_id"], frames.related["customer_groups"], context.settings, context.audience
    )
    members = _with_details(members, chosen, frames, context)
    subscribing = members["method"] == "PUT"
    kept, refused = apply_rules(
        "members",
        members,
        "key",
        "record_id",
        [
            *groups.rules(chosen.count.where(subscribing), context.settings),
            *merge_fields.rules(members, subscribing, context.settings, context.audience),
        ],
    )
    return Prepared(keep_rows(Rows(members), kept), [*rejected, *refused], aliases=aliases)


def _in_scope(members: pd.DataFrame, context: BuildContext) -> pd.DataFrame:
    """Keep people with a decision; nobody can be reached, nor opt out, under an address that Mailchimp refuses."""
    opts_out = (members["method"] == "PATCH").fillna(False).astype(bool)
    left_out = members["method"].isna() | (opts_out & unusable_email(members["email"]))
    # An opt-out makes nobody a contact, so it is told of everybody.
    left_out |= ~opts_out & excluded(members["email"], context.settings.exclude_emails)
    unasked_guest = people.is_set(members["is_guest"]) & members["opted_in"].isna()
    left_out |= unasked_guest & (context.settings.guests == "skip")
    return members.loc[~left_out.astype(bool)].reset_index(drop=True)


def _with_details(members: pd.DataFrame, chosen: groups.Choices, frames: Frames, context: BuildContext) -> pd.DataFrame:
    """Attach what is sent of people who subscribe, and nothing of those who opt out."""
    withheld = people.is_set(members["is_guest"]) & (context.settings.guests != "full")
    places = addresses.customer_columns(members, frames.related["addresses"])
    details = {
        "email_address": members["email"],
        "language": _language(members["language"]),
        "opt_in_ip": members["opt_in_ip"].where(_fits(members["opt_in_ip"], _IP)),
        "opted_in_at": members["opted_in_at"],
        **merge_fields.columns(members, places, withheld, context.settings, context.audience),
        **chosen.columns,
    }
    subscribing = members["method"] == "PUT"
    return members.assign(**{name: column.where(subscribing) for name, column in details.items()})


def _language(languages: pd.Series) -> pd.Series:
    """Bring ``de-AT`` or ``en_GB`` into the form of Mailchimp's codes, null where that can't be done."""
    codes = languages.str.strip().str.replace("-", "_", regex=False)
    codes = codes.where(_fits(codes, _LANGUAGE))
    short = codes.str.slice(0, 2).str.lower()
    regional = short + codes.str.slice(2).str.upper()
    return regional.where(regional.isin(_REGIONAL), short)


def _fits(texts: pd.Series, pattern: str) -> pd.Series:
    return texts.str.fullmatch(f"(?:{pattern})").fillna(False).astype(bool)
