"""Orders with lines, promos and addresses → ``/ecommerce/stores/{store_id}/orders[/{order_id}]``.

API reference: "Ecommerce orders · Add order". ``order_total`` is what the customer pays, tax and shipping included;
``price`` of a line is per unit. Only orders in a status that counts as completed are sent (setting ``order_statuses``,
default: those that the profile marks). Of a refunded or cancelled order the total is what was really paid.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import numpy as np
import pandas as pd

from include.documents.encoder import ChildRows, Rows, to_arrow
from include.documents.spec import Children, Document, Integer, Money, Object, Text, Time
from include.transform import addresses, consent
from include.transform.attribution import campaign_ids, tracking_codes
from include.transform.buyers import customer_link, with_buyer
from include.transform.erasures import without_people
from include.transform.lines import line_rules, under, with_child, with_placeholder
from include.transform.money import currency_digits
from include.transform.records import TEXT, BuildContext, Frames, ParentLinks, Prepared, keep_rows, positions
from include.transform.rules import ErrorClass, RejectedRecord, Rule, apply_rules, unusable_id
from include.transform.totals import add_up

DOCUMENT = Document(
    "order",
    (
        Text("id", "record_id"),
        Object(
            "customer",
            (Text("id", "customer_record_id"), Text("email_address", "new_email", clears=False), consent.FIELD),
        ),
        Text("campaign_id", "campaign_id", clears=False),
        Text("cart_id", "cart_id", clears=False),
        Text("landing_site", "landing_site"),
        Text("financial_status", "financial_status"),
        Text("fulfillment_status", "fulfillment_status"),
        Text("currency_code", "currency_code"),
        Money("order_total", "order_total"),
        Text("order_url", "order_url"),
        Money("discount_total", "discount_total"),
        Money("tax_total", "tax_total"),
        Money("shipping_total", "shipping_total"),
        Text("tracking_code", "tracking_code", clears=False),
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

_PROMO_TYPES: Final = ("fixed", "percentage")
#: What the extract calls a discount that Mailchimp knows as one of the type ``fixed`` with the amount 0.
_FREE_SHIPPING: Final = "free_shipping"
_CANCELLED: Final = "cancelled"
#: Financial statuses of orders that are alive, whenever they may have been cancelled before.
_ALIVE: Final = ("pending", "paid")
_LONGEST_CART_ID: Final = 50
#: What is added up for the total, by the setting ``prices``.
_PARTS: Final = {"gross": "lines - discount + shipping", "net": "lines - discount + shipping + tax"}


def prepare(frames: Frames, context: BuildContext) -> Prepared:
    """Derive order documents from the extracts ``orders``, ``order_lines``, ``order_promos`` and what they refer to.

    Args:
        frames: ``main`` = orders, ``related`` with ``order_lines``, ``order_promos``, ``customers``, ``addresses`` and,
            of the products that the lines name, ``line_products`` and ``line_variants``.
        context: settings, profile (status mapping), the store's currency, refused campaigns.

    Returns:
        Orders with lines and promos, rejected ones apart, and links to the products and customers they need.
    """
    related = frames.related
    orders = with_buyer(_in_scope(frames.main, context), related["customers"], context)
    orders = _with_status(orders, context)
    orders = orders.assign(
        key=orders["order_id"],
        record_id=orders["order_id"],
        currency_digits=currency_digits(orders["currency_code"]),
        cancelled_at=_cancelled_at(orders),
        campaign_id=campaign_ids(orders["campaign_id"], context),
        cart_id=orders["cart_id"].mask(unusable_id(orders["cart_id"], _LONGEST_CART_ID)),
        tracking_code=tracking_codes(orders["tracking_code"]),
        **addresses.order_columns(orders, related["addresses"], "shipping"),
        **addresses.order_columns(orders, related["addresses"], "billing"),
    )
    orders = without_people(_without_guest_details(orders, context), context.erased)
    orders = orders.loc[~orders["left_out"].astype(bool)].reset_index(drop=True)
    order_lines = with_placeholder(related["order_lines"], related["line_products"], related["line_variants"])
    lines = under(orders, "order_id", order_lines, ("line_id",))
    promos = under(orders, "order_id", _promos(related["order_promos"]), ("code", "type"))
    kept, rejected = _check(orders, lines, promos, context)
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


def _cancelled_at(orders: pd.DataFrame) -> pd.Series:
    """Return when orders were cancelled: cancelled ones always have a time, live ones never.

    Any value of ``cancelled_at_foreign`` cancels the order at Mailchimp, so a time that a shop keeps of an order that
    it has taken up again must not be sent.
    """
    when = orders["cancelled_at"].mask(orders["financial_status"].isin(_ALIVE))
    return when.mask(orders["financial_status"].eq(_CANCELLED).fillna(False) & when.isna(), orders["updated_at"])


def _without_guest_details(orders: pd.DataFrame, context: BuildContext) -> pd.DataFrame:
    """Keep names and addresses of guests to the shop where only their first name may be known (setting ``guests``)."""
    guest = orders["buyer_is_guest"]
    if context.settings.guests == "full" or not guest.any():
        return orders
    columns = [f"{kind}_{name}" for kind in ("shipping", "billing") for name in addresses.RECIPIENT]
    return orders.assign(**{column: orders[column].mask(guest) for column in columns})


def _promos(promos: pd.DataFrame) -> pd.DataFrame:
    """Express free shipping as Mailchimp does (API reference, "Add order": ``promos``)."""
    free = promos["type"].eq(_FREE_SHIPPING).fillna(False).astype(bool)
    if not free.any():
        return promos
    return promos.assign(
        type=promos["type"].mask(free, "fixed"), amount_discounted=promos["amount_discounted"].mask(free, Decimal(0))
    )


def _check(
    orders: pd.DataFrame, lines: ChildRows, promos: ChildRows, context: BuildContext
) -> tuple[pd.Series, list[RejectedRecord]]:
    promo = promos.rows.frame
    promo_broken = ~promo["type"].isin(_PROMO_TYPES) | promo["code"].isna() | promo["amount_discounted"].isna()
    prices = context.settings.prices
    totals = add_up(orders, lines, prices)
    orders["computed_total"] = totals.total
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
            "customer {customer_id} is not in the shop or has no usable e-mail address; correct it there",
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
            (orders["currency_code"] != context.store_currency) & (context.settings.currency_policy == "store"),
            invalid,
            "currency_code",
            "Currency not the store's",
            f"the order is in {{currency_code}}, the store in {context.store_currency}; "
            "set currency_policy to order, or give each currency a store of its own",
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
        *line_rules(orders, lines),
        Rule(
            with_child(promo_broken, promos, orders),
            invalid,
            "promos[]",
            "Promotion incomplete",
            "a promotion needs a code, an amount and a type of fixed, percentage or free_shipping",
        ),
        Rule(
            totals.too_large,
            invalid,
            "order_total",
            "Amount too large",
            "an amount of the order is beyond 92 billion; does the shop keep amounts in minor units?",
        ),
        Rule(
            totals.mismatch,
            ErrorClass.TOTALS_MISMATCH,
            "order_total",
            "Totals don't add up",
            f"order_total is {{order_total:.{{currency_digits}}f}}, but {_PARTS[prices or 'net']} make "
            "{computed_total:.{currency_digits}f}; "
            "correct the order or the profile's columns",
        ),
    ]
    return apply_rules("orders", orders, "key", "record_id", rules)


def _parents(rows: Rows) -> tuple[ParentLinks, ...]:
    """Return the products that the lines need, and the customers that are sent on their own."""
    lines = rows.children["lines"]
    products = ParentLinks("products", "lines[].product_id", positions(lines), to_arrow(lines.rows.frame["product_id"]))
    return (products, customer_link(rows.frame))
