"""The extraction contract: which result sets a shop profile yields, with which columns, of which kinds.

A profile maps any shop database onto these names by SQL alone (one `<extract>.sql` each). Reading turns every column
into one fixed Arrow type, whatever type it has in the shop, so what comes after extraction never looks at those types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import pyarrow as pa


class Kind(StrEnum):
    """What a column means; decides which PostgreSQL types are accepted and which Arrow type is read."""

    ID = "id"
    TEXT = "text"
    MONEY = "money"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TIME = "time"
    ID_LIST = "list of ids"


ARROW_TYPES: Final[Mapping[Kind, pa.DataType]] = MappingProxyType(
    {
        Kind.ID: pa.string(),
        Kind.TEXT: pa.string(),
        Kind.MONEY: pa.decimal128(24, 8),
        Kind.INTEGER: pa.int64(),
        Kind.BOOLEAN: pa.bool_(),
        Kind.TIME: pa.timestamp("us", "UTC"),
        Kind.ID_LIST: pa.list_(pa.string()),
    }
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an extract: its name in the SQL's result, its kind, and whether every profile must have it.

    A `derived` column is worked out by the extractor; what a profile's SQL yields under its name is ignored.
    """

    name: str
    kind: Kind
    required: bool = False
    derived: bool = False


@dataclass(frozen=True, slots=True)
class ExtractContract:
    """One result set.

    `key` is the column that rows are looked up by: the record's own id, or for children the id of their parent
    (None for the single row of `store`). `windowed` extracts have `updated_at` and are read in slices. `optional`
    extracts may be left out. Of each group in `one_of` at least one column is needed. A profile that has the extract
    has to have those it `needs` as well. `dated_by` names another extract and the column that leads to its record:
    children that are records themselves and change when their parent does; `key` is then a derived column.
    """

    name: str
    key: str | None
    columns: tuple[Column, ...]
    windowed: bool = False
    optional: bool = False
    one_of: tuple[tuple[str, ...], ...] = ()
    needs: tuple[str, ...] = ()
    dated_by: tuple[str, str] | None = None
    by_name: Mapping[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", MappingProxyType({column.name: column for column in self.columns}))

    @property
    def own_columns(self) -> tuple[Column, ...]:
        """The columns that a profile's SQL yields: all but the derived ones."""
        return tuple(column for column in self.columns if not column.derived)

    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema that every frame of this extract has, whichever columns the profile provides."""
        return pa.schema([(column.name, ARROW_TYPES[column.kind]) for column in self.columns])


_PLACE = ("address1", "address2", "city", "province", "province_code", "postal_code", "country", "country_code")
_RECIPIENT = ("name", "company", *_PLACE, "phone")


def _needs(kind: Kind, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind, required=True) for name in names)


def _may_have(kind: Kind, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name in names)


def _derived(kind: Kind, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind, derived=True) for name in names)


_EXTRACTS = (
    ExtractContract(
        "store",
        key=None,
        columns=(
            *_needs(Kind.TEXT, "name", "currency_code"),
            *_may_have(Kind.TEXT, "domain", "email", "money_format", "primary_locale", "timezone", "phone", *_PLACE),
        ),
    ),
    ExtractContract(
        "products",
        key="product_id",
        windowed=True,
        columns=(
            *_needs(Kind.ID, "product_id"),
            *_needs(Kind.TIME, "updated_at"),
            *_needs(Kind.TEXT, "title"),
            *_may_have(Kind.TEXT, "handle", "url", "description", "type", "vendor", "image_url"),
            *_may_have(Kind.TIME, "published_at"),
            *_may_have(Kind.BOOLEAN, "is_deleted"),
        ),
    ),
    ExtractContract(
        "variants",
        key="product_id",
        columns=(
            *_needs(Kind.ID, "product_id", "variant_id"),
            *_needs(Kind.TEXT, "title"),
            *_may_have(Kind.TEXT, "sku", "url"),
            *_may_have(Kind.MONEY, "price"),
            *_may_have(Kind.INTEGER, "inventory_quantity"),
            *_may_have(Kind.TEXT, "image_url", "backorders", "visibility"),
            *_may_have(Kind.INTEGER, "position"),
        ),
    ),
    ExtractContract(
        "images",
        key="product_id",
        optional=True,
        columns=(
            *_needs(Kind.ID, "product_id", "image_id"),
            *_needs(Kind.TEXT, "url"),
            *_may_have(Kind.ID_LIST, "variant_ids"),
        ),
    ),
    ExtractContract(
        "customers",
        key="customer_id",
        windowed=True,
        columns=(
            *_needs(Kind.ID, "customer_id"),
            *_needs(Kind.TIME, "updated_at"),
            *_needs(Kind.TEXT, "email"),
            *_may_have(Kind.TEXT, "first_name", "last_name", "company", "phone", *_PLACE),
            *_may_have(Kind.ID, "address_id"),
            *_may_have(Kind.BOOLEAN, "is_guest", "opted_in"),
            *_may_have(Kind.TIME, "opted_in_at", "opted_out_at"),
            *_may_have(Kind.TEXT, "opt_in_source", "opt_in_ip", "language"),
            *_may_have(Kind.BOOLEAN, "is_deleted"),
        ),
    ),
    ExtractContract(
        "orders",
        key="order_id",
        windowed=True,
        one_of=(("customer_id", "email"),),
        columns=(
            *_needs(Kind.ID, "order_id"),
            *_needs(Kind.TIME, "updated_at"),
            *_may_have(Kind.ID, "customer_id"),
            *_may_have(Kind.TEXT, "email"),
            *_needs(Kind.TIME, "placed_at"),
            *_needs(Kind.TEXT, "currency_code"),
            *_needs(Kind.MONEY, "order_total"),
            *_needs(Kind.TEXT, "status"),
            *_may_have(Kind.MONEY, "tax_total", "shipping_total", "discount_total"),
            *_may_have(Kind.TEXT, "order_url"),
            *_may_have(Kind.ID, "cart_id", "campaign_id"),
            *_may_have(Kind.TEXT, "landing_site", "tracking_code"),
            *_may_have(Kind.TIME, "cancelled_at"),
            *_may_have(Kind.TEXT, "tracking_number", "tracking_carrier", "tracking_url"),
            *_may_have(Kind.TEXT, *(f"shipping_{name}" for name in _RECIPIENT)),
            *_may_have(Kind.TEXT, *(f"billing_{name}" for name in _RECIPIENT)),
            *_may_have(Kind.ID, "shipping_address_id", "billing_address_id"),
            *_may_have(Kind.BOOLEAN, "is_deleted"),
        ),
    ),
    ExtractContract(
        "order_lines",
        key="order_id",
        columns=(
            *_needs(Kind.ID, "order_id", "line_id", "product_id", "variant_id"),
            *_needs(Kind.INTEGER, "quantity"),
            *_needs(Kind.MONEY, "price"),
            *_may_have(Kind.MONEY, "discount"),
        ),
    ),
    ExtractContract(
        "order_promos",
        key="order_id",
        optional=True,
        columns=(
            *_needs(Kind.ID, "order_id"),
            *_needs(Kind.TEXT, "code", "type"),
            *_needs(Kind.MONEY, "amount_discounted"),
        ),
    ),
    ExtractContract(
        "addresses",
        key="address_id",
        optional=True,
        columns=(*_needs(Kind.ID, "address_id"), *_may_have(Kind.TEXT, *_RECIPIENT)),
    ),
    ExtractContract(
        "carts",
        key="cart_id",
        windowed=True,
        optional=True,
        one_of=(("customer_id", "email"),),
        needs=("cart_lines",),
        columns=(
            *_needs(Kind.ID, "cart_id"),
            *_needs(Kind.TIME, "updated_at"),
            *_may_have(Kind.ID, "customer_id"),
            *_may_have(Kind.TEXT, "email"),
            *_needs(Kind.TEXT, "currency_code"),
            *_needs(Kind.MONEY, "order_total"),
            *_may_have(Kind.MONEY, "tax_total"),
            *_may_have(Kind.TEXT, "checkout_token"),
            *_may_have(Kind.ID, "campaign_id"),
            *_may_have(Kind.BOOLEAN, "is_open"),
        ),
    ),
    ExtractContract(
        "cart_lines",
        key="cart_id",
        optional=True,
        needs=("carts",),
        columns=(
            *_needs(Kind.ID, "cart_id", "line_id", "product_id", "variant_id"),
            *_needs(Kind.INTEGER, "quantity"),
            *_needs(Kind.MONEY, "price"),
        ),
    ),
    # amount: of `fixed` rules in major units, of `percentage` ones in percent (15 is 15 %).
    # type: fixed or percentage; target: per_item, total or shipping. Free shipping is fixed, shipping, whatever amount.
    # other_conditions: the coupon has rules that Mailchimp can't express, such as a least order value.
    ExtractContract(
        "promo_rules",
        key="rule_id",
        windowed=True,
        optional=True,
        columns=(
            *_needs(Kind.ID, "rule_id"),
            *_needs(Kind.TIME, "updated_at"),
            *_needs(Kind.TEXT, "description"),
            *_needs(Kind.MONEY, "amount"),
            *_needs(Kind.TEXT, "type", "target"),
            *_may_have(Kind.TEXT, "title"),
            *_may_have(Kind.TIME, "starts_at", "ends_at"),
            *_may_have(Kind.BOOLEAN, "enabled", "other_conditions", "is_deleted"),
        ),
    ),
    # A code has no time of its own: its rule's `updated_at` covers it. code_key: rule_id/code_id, as a code is known
    # by both at Mailchimp; number: 1, 2, … within its rule in the order of code_id, for a cap on codes per rule.
    ExtractContract(
        "promo_codes",
        key="code_key",
        windowed=True,
        optional=True,
        needs=("promo_rules",),
        dated_by=("promo_rules", "rule_id"),
        columns=(
            *_derived(Kind.ID, "code_key"),
            *_needs(Kind.ID, "rule_id", "code_id"),
            *_needs(Kind.TEXT, "code"),
            *_may_have(Kind.TEXT, "redemption_url"),
            *_may_have(Kind.INTEGER, "usage_count"),
            *_may_have(Kind.BOOLEAN, "enabled"),
            *_derived(Kind.TIME, "updated_at"),
            *_derived(Kind.INTEGER, "number"),
            *_derived(Kind.BOOLEAN, "rule_is_deleted", "rule_other_conditions"),
        ),
    ),
    # The groups (interests) that a customer chose, by name or by Mailchimp's id. A change moves the customer.
    ExtractContract(
        "customer_groups",
        key="customer_id",
        optional=True,
        columns=(*_needs(Kind.ID, "customer_id"), *_needs(Kind.TEXT, "group_name")),
    ),
    # Tombstones of rows that are really gone. entity: products, customers, orders, carts, promo_rules or promo_codes;
    # record_id: the extract's key.
    ExtractContract(
        "deleted",
        key="record_id",
        optional=True,
        columns=(*_needs(Kind.TEXT, "entity"), *_needs(Kind.ID, "record_id"), *_needs(Kind.TIME, "deleted_at")),
    ),
    # People who asked to be erased, by the shop's id or by address. erasure_id: of the request, a number that says
    # nothing about the person, since it stays in the proof. While its row is there, nothing of the person is sent.
    ExtractContract(
        "erasures",
        key="erasure_id",
        optional=True,
        one_of=(("customer_id", "email"),),
        columns=(
            *_needs(Kind.ID, "erasure_id"),
            *_needs(Kind.TIME, "requested_at"),
            *_may_have(Kind.ID, "customer_id"),
            *_may_have(Kind.TEXT, "email"),
        ),
    ),
)

CONTRACT: Final[Mapping[str, ExtractContract]] = MappingProxyType({extract.name: extract for extract in _EXTRACTS})
