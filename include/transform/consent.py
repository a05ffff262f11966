"""The consent firewall: the only module that writes a field which can subscribe or unsubscribe somebody.

Mailchimp's rules for the e-commerce field (API reference "Add or update customer"; contract of this project, README
"Consent"): ``true`` subscribes an address that is new to the audience, ``false`` makes it a transactional contact;
neither changes the status of a contact that the audience already has, except that a later ``true`` subscribes a
transactional one. So ``true`` is sent for a stored opt-in and for nothing else, and an opt-out is expressed elsewhere.

Mailchimp's rules for members (API reference "Add or update list member"): ``status_if_new`` counts for addresses that
the audience doesn't have, ``status`` overrides what a contact decided. So ``status`` is sent for a stored opt-out
alone, and then nothing else is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd
import pyarrow as pa

from include.config.stores import StoreSettings
from include.documents.spec import Boolean, Text
from include.transform.audience import Audience
from include.transform.records import TEXT, look_up

_FLAG = pd.ArrowDtype(pa.bool_())

#: The consent field of a customer document; reads the column ``consent`` that the functions here make.
FIELD = Boolean("opt_in_status", "consent")

#: The status fields of a member document; they read columns that `of_members` makes. Never cleared: an update that
#: empties a status doesn't exist.
MEMBER_FIELDS = (Text("status_if_new", "new_status", clears=False), Text("status", "opt_out", clears=False))


@dataclass(frozen=True)
class Policy:
    """How a store turns stored consent into subscriptions.

    Attributes:
        status: what a contact who opted in and is new to the audience becomes: ``pending`` ones get a mail from
            Mailchimp that asks for confirmation.
        by_ecommerce: whether the e-commerce field may say true, which only the audience itself turns into a status; if
            that isn't the one wanted, the member document alone subscribes.
        unasked: whether new contacts who were never asked are treated as if they had opted in (``always_opt_in``).
    """

    status: Literal["subscribed", "pending"]
    by_ecommerce: bool
    unasked: bool = False


def policy(settings: StoreSettings, audience: Audience | None) -> Policy:
    """Make a store's policy of its settings and its audience's own rule.

    Args:
        settings: ``opt_in`` and ``always_opt_in``.
        audience: as the run found it; None: one without double opt-in.
    """
    asks = audience is not None and audience.double_optin
    confirmed = asks if settings.opt_in == "follow_audience" else settings.opt_in == "double"
    return Policy("pending" if confirmed else "subscribed", confirmed == asks, settings.always_opt_in)


def agreed(accounts: pd.DataFrame) -> dict[str, pd.Series]:
    """Find the one answer of people who have several accounts with one address.

    A no in any account is a no, unless the account changed last says yes and did so after every account that says no
    was changed. A deleted account no longer says yes. Its no still counts, but is never sent as an opt-out: deleting an
    account unsubscribes nobody. An account that was never asked says nothing.

    Args:
        accounts: all accounts of the people: ``person`` (equal for accounts with one address) and the columns of the
            ``customers`` extract.

    Returns:
        New columns for the accounts, equal for all of one person: ``opted_in`` (null unknown), ``opted_out`` (true
        where a no is to be told to Mailchimp), and ``opted_in_at`` and ``opt_in_ip`` of the yes.
    """
    in_order = accounts.sort_values(["updated_at", "customer_id"], na_position="first")
    live = in_order.loc[~_true(in_order["is_deleted"])]
    consenting = live.loc[_true(live["opted_in"])].drop_duplicates("person", keep="last")
    refusing = in_order.loc[_true(~in_order["opted_in"])]
    refused = accounts["person"].isin(refusing["person"]) & ~accounts["person"].isin(_renewed(live, refusing))
    yes = look_up(
        consenting, "person", accounts["person"], {name: name for name in ("opted_in", "opted_in_at", "opt_in_ip")}
    )
    return {
        "opted_in": yes["opted_in"].mask(refused, False),
        "opted_out": refused & accounts["person"].isin(live.loc[_true(~live["opted_in"]), "person"]),
        "opted_in_at": yes["opted_in_at"].mask(refused),
        "opt_in_ip": yes["opt_in_ip"].mask(refused),
    }


def _renewed(live: pd.DataFrame, refusing: pd.DataFrame) -> pd.Series:
    """Return the people whose yes is newer than all that their accounts said against it."""
    speaking = live.drop_duplicates("person", keep="last")
    speaking = speaking.loc[_true(speaking["opted_in"])]
    last = refusing.drop_duplicates("person", keep="last")
    refused_at = look_up(last, "person", speaking["person"], {"at": "updated_at"})["at"]
    undated = speaking["person"].isin(refusing.loc[refusing["updated_at"].isna(), "person"])
    return speaking.loc[_true(speaking["opted_in_at"] > refused_at) & ~undated, "person"]


def of_customers(opted_in: pd.Series, archived: pd.Series, rules: Policy) -> pd.Series:
    """Turn stored consent into the e-commerce field.

    Args:
        opted_in: the answer that `agreed` found: true, false, or null (never asked).
        archived: who is archived at Mailchimp: a yes could bring them back as subscribers.
        rules: the store's policy.

    Returns:
        True only where an opt-in is stored, and the audience makes of it what the policy wants. Never asked is not a
        yes, whatever ``always_opt_in`` says: the field would subscribe contacts that the audience has already.
    """
    return (_true(opted_in) & ~archived & rules.by_ecommerce).astype(_FLAG)


def of_members(opted_in: pd.Series, opted_out: pd.Series, archived: pd.Series, rules: Policy) -> dict[str, pd.Series]:
    """Turn stored consent into what a member document says of the status, and how it is sent.

    Args:
        opted_in: the answer that `agreed` found.
        opted_out: where `agreed` found a no that Mailchimp has to know.
        archived: who is archived at Mailchimp. For them a status for new contacts may count (quirk: "a later PUT can
            revive it"), and archiving was somebody's decision; so nothing is sent of them but an opt-out.
        rules: the store's policy.

    Returns:
        The columns of `MEMBER_FIELDS`, and ``method``: PUT for people to subscribe if they are new to the audience;
        PATCH for those who opted out, so that nobody comes into being by it; null for people without a decision.
    """
    subscribes = _true(opted_in)
    if rules.unasked:
        subscribes |= opted_in.isna()
    subscribes &= ~archived
    nothing = pd.Series(None, index=opted_in.index, dtype=TEXT)
    return {
        "method": nothing.mask(subscribes, "PUT").mask(opted_out, "PATCH"),
        "new_status": nothing.mask(subscribes & ~opted_out, rules.status),
        "opt_out": nothing.mask(opted_out, "unsubscribed"),
    }


def asking_again() -> dict[str, str]:
    """Return what lets Mailchimp ask an unsubscribed contact whether it wants to be subscribed again.

    Nobody is subscribed by it, but by the contact's own confirmation ("List members", status ``pending``).
    """
    return {"status": "pending"}


def may_subscribe(frame: pd.DataFrame) -> pd.Series:
    """Tell which rows of a customer or member document can make somebody a subscriber."""
    return frame["new_status"].notna() if "new_status" in frame else _true(frame["consent"])


def of_introduced(new: pd.Series) -> pd.Series:
    """Return the field for customers that come into being through an order or cart.

    Args:
        new: true where the document introduces a customer about whom the shop has no row.

    Returns:
        False for those, since nothing is stored about their consent; absent for customers that were sent before.
    """
    return new.map({True: False, False: None}).astype(_FLAG)


def _true(answers: pd.Series) -> pd.Series:
    """Read an answer that may be missing: unknown is not true."""
    return answers.fillna(False).astype(bool)
