"""Orders with lines, promos and addresses → ``/ecommerce/stores/{store_id}/orders[/{order_id}]``.

API reference: "Ecommerce orders · Add order". ``order_total`` is what the customer pays, tax and shipping included;
``price`` of a line is per unit. Only orders in a status that counts as completed are sent (setting ``order_statuses``,
default: those that the profile marks).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from include.documents.encoder import ChildRows, Rows, to_arrow
from include.documents.spec import Children, Document, Integer, Money, Object, Text, Time
from include.transform import addresses, consent
from include.transform.identity import customer_ids, normalised, unusable_email
from include.transform.money import currency_digits
from include.transform.records import (
    TEXT,
    BuildContext,
    Frames,
    ParentLinks,
    Prepared,
    children_of,
    keep_rows,
    look_up,
    positions,
)
from include.transform.rules import ErrorClass, RejectedRecord, Rule, apply_rules, unusable_id
from include.transform.totals import totals_mismatch

DOCUMENT = Document(
    "order",
    (
        Text("id", "record_id"),
        Object(
            "customer",
            (Text("id", "customer_record_id"), Text("email_address", "new_email"), consent.FIELD),
        ),
        Text("landing_site", "landing_site"),
        Text("financial_status", "financial_status"),
        Text("fulfillment_status", "fulfillment_status"),
        Text("currency_code", "currency_code"),
        Money("order_total", "order_total"),
        Text("order_url", "order_url"),
        Money("discount_total", "discount_total"),
        Money("tax_total", "tax_total"),
        Money("shipping_total", "shipping_total"),
        Time("processed_at_foreign", "placed_at"),
        Time("cancelled_at_foreign", "cancelled_at"),
        Time("updated_at_foreign", "updated_at"),
        addresses.order_address("shipping"),
        addresses.order_address("billing"),
        Children(
            "promos",
            "promos",
            (Text("code", "code"), Text("type", "type"), Money("amount_discounted", "amount_discounted")),
        ),
        Children(
            "lines",
            "lines",
            (
                Text("id", "line_id"),
                Text("product_id", "product_id"),
                Text("product_variant_id", "variant_id"),
                Integer("quantity", "quantity"),
                Money("price", "price"),
                Money("discount", "discount"),
            ),
        ),
        Text("tracking_number", "tracking_number"),
        Text("tracking_carrier", "tracking_carrier"),
        Text("tracking_url", "tracking_url"),
    ),
)

_PROMO_TYPES = ("fixed", "percentage")


def prepare(frames: Frames, context: BuildContext) -> Prepared:
    """Derive order documents from the extracts ``orders``, ``order_lines``, ``order_promos`` and what they refer to.

    Args:
        frames: ``main`` = orders, ``related`` with ``order_lines``, ``order_promos``, ``customers``, ``addresses``.
        context: settings and profile (status mapping).

    Returns:
        Orders with lines and promos, rejected ones apart, and links to the products and customers they need.
    """
    orders = _with_customer(_with_status(_in_scope(frames.main, context), context), frames.related["customers"])
    orders = orders.assign(
        key=orders["order_id"],
        record_id=orders["order_id"],
        currency_digits=currency_digits(orders["currency_code"]),
        **addresses.order_columns(orders, frames.related["addresses"], "shipping"),
        **addresses.order_columns(orders, frames.related["addresses"], "billing"),
    )
    lines = _children(orders, frames.related["order_lines"], ("line_id",))
    promos = _children(orders, frames.related["order_promos"], ("code", "type"))
    kept, rejected = _check(orders, lines, promos)
    rows = keep_rows(Rows(orders, {"lines": lines, "promos": promos}), kept)
    return Prepared(rows, rejected, _parents(rows))


def _in_scope(orders: pd.DataFrame, context: BuildContext) -> pd.DataFrame:
    """Keep live orders in a status that is sent; one in a status unknown to the profile stays, to be rejected."""
    statuses = context.profile.statuses
    wanted = context.settings.order_statuses
    left_out = [
        name for name, status in statuses.items() if not (status.completed if wanted is None else name in wanted)
    ]
    gone = orders["is_deleted"].fillna(False).astype(bool) | orders["status"].isin(left_out)
    return orders.loc[~gone].reset_index(drop=True)


def _with_status(orders: pd.DataFrame, context: BuildContext) -> pd.DataFrame:
    statuses = context.profile.statuses
    return orders.assign(
        financial_status=orders["status"].map({name: s.financial for name, s in statuses.items()}).astype(TEXT),
        fulfillment_status=orders["status"].map({name: s.fulfillment for name, s in statuses.items()}).astype(TEXT),
        status_known=orders["status"].isin(list(statuses)),
    )


def _with_customer(orders: pd.DataFrame, customers: pd.DataFrame) -> pd.DataFrame:
    """Attach the customer: by the shop's id where the order has one, else by the order's own e-mail address."""
    account = look_up(
        _identified(customers), "customer_id", orders["customer_id"], {name: name for name in ("record_id", "usable")}
    )
    own = orders["customer_id"].isna()
    introduced = _identified(orders[["email"]].where(own))
    return orders.assign(
        customer_usable=account["usable"].where(~own, introduced["usable"]).fillna(False),
        customer_record_id=account["record_id"].where(~own, introduced["record_id"]),
        new_email=introduced["email"],
        consent=consent.of_introduced(own),
    )


def _identified(people: pd.DataFrame) -> pd.DataFrame:
    """Derive from e-mail addresses who the customers are at Mailchimp, and whether it takes the addresses."""
    email = normalised(people["email"])
    return people.assign(email=email, record_id=customer_ids(email), usable=~unusable_email(email))


def _children(orders: pd.DataFrame, child: pd.DataFrame, order: tuple[str, ...]) -> ChildRows:
    """Sort child rows under their orders and give them the order's currency digits."""
    sorted_rows = children_of(orders["order_id"], child, "order_id", order)
    digits = to_arrow(orders["currency_digits"]).take(pa.array(positions(sorted_rows)))
    frame = sorted_rows.rows.frame.assign(currency_digits=pd.arrays.ArrowExtensionArray(digits))
    return ChildRows(Rows(frame), sorted_rows.offsets)


def _check(orders: pd.DataFrame, lines: ChildRows, promos: ChildRows) -> tuple[pd.Series, list[RejectedRecord]]:
    line, promo = lines.rows.frame, promos.rows.frame
    owner = positions(lines)
    repeated = pd.Series(line["line_id"].eq(line["line_id"].shift()).fillna(False).to_numpy(dtype=bool))
    repeated &= np.diff(owner, prepend=-1) == 0
    reference = unusable_id(line["line_id"]) | unusable_id(line["product_id"]) | unusable_id(line["variant_id"])
    promo_broken = ~promo["type"].isin(_PROMO_TYPES) | promo["code"].isna() | promo["amount_discounted"].isna()
    orders["computed_total"], mismatch = totals_mismatch(orders, lines)
    missing, invalid = ErrorClass.MISSING_VALUE, ErrorClass.INVALID_VALUE
    rules = [
        Rule(
            unusable_id(orders["key"]),
            missing,
            "id",
            "Order id unusable",
            "Mailchimp takes no id that is empty, blank or 0; give the order another one",
        ),
        Rule(
            ~orders["status_known"],
            invalid,
            "financial_status",
            "Order status not mapped",
            "status {status} is not under order_statuses in the shop's profile.yaml; add it there",
        ),
        Rule(
            ~orders["customer_usable"] & orders["customer_id"].notna(),
            ErrorClass.PARENT_MISSING,
            "customer.id",
            "Customer can't be sent",
            "customer {customer_id} has no usable e-mail address; see its own rejected record",
            waits_for="customers:{customer_id}",
        ),
        Rule(
            ~orders["customer_usable"],
            missing,
            "customer.email_address",
            "Order without a customer",
            "the order has neither a customer_id nor a usable e-mail address; Mailchimp can't place it",
        ),
        Rule(
            orders["currency_digits"].isna(),
            invalid,
            "currency_code",
            "Currency unknown",
            "currency_code {currency_code} is not an ISO 4217 code; correct it in the shop",
        ),
        Rule(
            orders["order_total"].isna(),
            missing,
            "order_total",
            "Order total missing",
            "Mailchimp requires order_total; fill it in in the shop",
        ),
        Rule(
            pd.Series(np.diff(lines.offsets) == 0),
            missing,
            "lines",
            "Order without lines",
            "Mailchimp refuses an order that has no lines",
        ),
        Rule(
            _any(reference, owner, orders),
            missing,
            "lines[].id",
            "Line reference missing",
            "a line has no usable line_id, product_id or variant_id",
        ),
        Rule(
            _any(repeated, owner, orders),
            invalid,
            "lines[].id",
            "Line id repeated",
            "an order may not contain the same line id more than once",
        ),
        Rule(
            _any(line["quantity"].fillna(0) < 1, owner, orders),
            invalid,
            "lines[].quantity",
            "Line quantity unusable",
            "a line's quantity is missing or below 1; returns belong into the order's status and total",
        ),
        Rule(
            _any(line["price"].isna(), owner, orders),
            missing,
            "lines[].price",
            "Line price missing",
            "Mailchimp requires the unit price of every line",
        ),
        Rule(
            _any(promo_broken, positions(promos), orders),
            invalid,
            "promos[]",
            "Promotion incomplete",
            "a promotion needs a code, an amount and a type of fixed or percentage",
        ),
        Rule(
            mismatch,
            ErrorClass.TOTALS_MISMATCH,
            "order_total",
            "Totals don't add up",
            "order_total is {order_total:.{currency_digits}f}, but lines - discount + shipping + tax make "
            "{computed_total:.{currency_digits}f}; "
            "correct the order or the profile's columns",
        ),
    ]
    return apply_rules("orders", orders, "key", "record_id", rules)


def _any(broken: pd.Series, owner: np.ndarray, orders: pd.DataFrame) -> pd.Series:
    """Tell which orders have a broken child row."""
    flags = pd.Series(False, index=orders.index)
    flags[owner[broken.fillna(True).to_numpy(dtype=bool)]] = True
    return flags


def _parents(rows: Rows) -> tuple[ParentLinks, ...]:
    """Return the products that the lines need, and the customers that are sent on their own."""
    orders, lines = rows.frame, rows.children["lines"]
    known = np.flatnonzero(orders["customer_id"].notna().to_numpy(dtype=bool))
    customers = orders[["customer_record_id", "customer_id"]].iloc[known]
    return (
        ParentLinks("products", "lines[].product_id", positions(lines), to_arrow(lines.rows.frame["product_id"])),
        ParentLinks(
            "customers",
            "customer.id",
            known,
            to_arrow(customers["customer_record_id"]),
            to_arrow(customers["customer_id"]),
        ),
    )
