"""What happens to contacts at Mailchimp without us: by themselves, by the marketer, by other programs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st

from include.mailchimp.errors import MailchimpError
from include.sandbox.audiences import set_status, subscriber_hash
from tests.consent.shop_steps import Family
from tests.consent.world import LIST, World

MEMBERS = f"/lists/{LIST}/members"


@dataclass(frozen=True)
class Unsubscribes:
    """The contact clicks on "unsubscribe"."""

    email: str

    def do(self, world: World) -> None:
        if world.contact(subscriber_hash(self.email)):
            set_status(world.account, LIST, self.email, "unsubscribed", by_contact=True)


@dataclass(frozen=True)
class Bounces:
    """Mailchimp finds the address dead."""

    email: str

    def do(self, world: World) -> None:
        if world.contact(subscriber_hash(self.email)):
            set_status(world.account, LIST, self.email, "cleaned")


@dataclass(frozen=True)
class SignsUp:
    """The contact fills in Mailchimp's own form (and confirms, where it has to)."""

    email: str

    def do(self, world: World) -> None:
        set_status(world.account, LIST, self.email, "subscribed", by_contact=True)
        world.note_wish(subscriber_hash(self.email))


@dataclass(frozen=True)
class IsArchived:
    """The marketer archives the contact."""

    email: str

    def do(self, world: World) -> None:
        with suppress(MailchimpError):
            world.elsewhere.delete(f"{MEMBERS}/{subscriber_hash(self.email)}")


@dataclass(frozen=True)
class IsUnsubscribed:
    """Another program unsubscribes the contact through the API, which leaves it open to be subscribed by anybody."""

    email: str

    def do(self, world: World) -> None:
        with suppress(MailchimpError):
            world.elsewhere.patch(f"{MEMBERS}/{subscriber_hash(self.email)}", json={"status": "unsubscribed"})


@dataclass(frozen=True)
class IsErased:
    """The marketer deletes the contact for good; nobody may bring it back."""

    email: str

    def do(self, world: World) -> None:
        with suppress(MailchimpError):
            world.elsewhere.post(f"{MEMBERS}/{subscriber_hash(self.email)}/actions/delete-permanent")


@dataclass(frozen=True)
class IsImported:
    """The marketer imports the address; one that is in the audience stays as it is."""

    email: str
    status: Literal["transactional", "subscribed"]

    def do(self, world: World) -> None:
        with suppress(MailchimpError):
            world.elsewhere.post(MEMBERS, json={"email_address": self.email, "status": self.status})
            world.note_wish(subscriber_hash(self.email))


def by_contacts(family: Family) -> st.SearchStrategy[Unsubscribes | SignsUp | Bounces]:
    """What contacts do, perhaps while a run is at work: the history tells it from the run's own doing."""
    return st.one_of(*(st.builds(kind, family.addresses) for kind in (Unsubscribes, SignsUp, Bounces)))


def by_others(family: Family) -> st.SearchStrategy[IsUnsubscribed | IsArchived | IsImported | IsErased]:
    """What is done to contacts through the API, between two runs."""
    addresses = family.addresses
    return st.one_of(
        st.builds(IsUnsubscribed, addresses),
        st.builds(IsArchived, addresses),
        st.builds(IsImported, addresses, st.sampled_from(("transactional", "subscribed"))),
        st.builds(IsErased, addresses),
    )
