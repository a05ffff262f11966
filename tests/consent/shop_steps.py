"""What customers and the shop's owner do: one step each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st

from tests.consent.world import ADA, BOB, CAST, CLEO, DAN, EVE, PRODUCT, World, address_of, id_of


@dataclass(frozen=True)
class Renames:
    """The customer changes her name: nothing that consent could follow from."""

    customer: int

    def do(self, world: World) -> None:
        world.sql("UPDATE customers SET first_name = first_name || 'a' WHERE customer_id = :id", id=self.customer)


@dataclass(frozen=True)
class Answers:
    """The customer says yes or no to the newsletter, perhaps once more."""

    customer: int
    opted_in: bool

    def do(self, world: World) -> None:
        world.consent(self.customer, self.opted_in)


@dataclass(frozen=True)
class IsForgotten:
    """The shop deletes what the customer said: never asked."""

    customer: int

    def do(self, world: World) -> None:
        world.sql("DELETE FROM newsletter_consents WHERE customer_id = :id", id=self.customer)


@dataclass(frozen=True)
class ChangesEmail:
    """The customer has another address, perhaps one that somebody else has or had."""

    customer: int
    email: str

    def do(self, world: World) -> None:
        world.sql("UPDATE customers SET email = :email WHERE customer_id = :id", email=self.email, id=self.customer)


@dataclass(frozen=True)
class IsDeleted:
    """The account is closed, as shops do it: the row stays."""

    customer: int

    def do(self, world: World) -> None:
        world.sql(
            "UPDATE customers SET deleted_at = coalesce(deleted_at, clock_timestamp()) WHERE customer_id = :id",
            id=self.customer,
        )


@dataclass(frozen=True)
class IsRestored:
    """The account is opened again."""

    customer: int

    def do(self, world: World) -> None:
        world.sql("UPDATE customers SET deleted_at = NULL WHERE customer_id = :id", id=self.customer)


@dataclass(frozen=True)
class Orders:
    """The customer orders something; the order carries her to Mailchimp as well."""

    customer: int

    def do(self, world: World) -> None:
        [(last,)] = world.sql("SELECT coalesce(max(order_id), 0) FROM orders")
        world.add_order(last + 1, self.customer, PRODUCT)


@dataclass(frozen=True)
class LeavesCart:
    """The customer leaves a cart behind."""

    customer: int

    def do(self, world: World) -> None:
        [(last,)] = world.sql("SELECT coalesce(max(cart_id), 0) FROM carts")
        world.add_cart(last + 1, self.customer, PRODUCT)


@dataclass(frozen=True)
class Configures:
    """The owner changes the store's settings."""

    opt_in: Literal["follow_audience", "single", "double"]
    always_opt_in: bool
    guests: Literal["first_name_only", "full", "skip"]

    def do(self, world: World) -> None:
        world.set(**vars(self))


@dataclass(frozen=True)
class Family:
    """What can happen to one family, as far as the shop knows."""

    number: int

    @property
    def customers(self) -> st.SearchStrategy[int]:
        return st.sampled_from([id_of(self.number, one) for one in sorted(CAST)])

    @property
    def addresses(self) -> st.SearchStrategy[str]:
        names = (ADA, BOB, CLEO, DAN, EVE, CLEO.upper())
        return st.sampled_from([address_of(self.number, name) for name in names])

    @property
    def answers(self) -> st.SearchStrategy[Answers]:
        return st.builds(Answers, self.customers, st.booleans())

    @property
    def renames(self) -> st.SearchStrategy[Renames]:
        return st.builds(Renames, self.customers)

    @property
    def email_changes(self) -> st.SearchStrategy[ChangesEmail]:
        return st.builds(ChangesEmail, self.customers, self.addresses)

    @property
    def lives_of_accounts(self) -> st.SearchStrategy[IsForgotten | IsDeleted | IsRestored]:
        return st.one_of(*(st.builds(kind, self.customers) for kind in (IsForgotten, IsDeleted, IsRestored)))

    @property
    def purchases(self) -> st.SearchStrategy[Orders | LeavesCart]:
        return st.one_of(st.builds(Orders, self.customers), st.builds(LeavesCart, self.customers))


configurations = st.builds(
    Configures,
    st.sampled_from(("follow_audience", "single", "double")),
    st.booleans(),
    st.sampled_from(("first_name_only", "full", "skip")),
)
