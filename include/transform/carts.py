"""Abandoned carts with their lines → ``/ecommerce/stores/{store_id}/carts[/{cart_id}]``.

API reference: "Ecommerce carts · Add cart". A cart that Mailchimp holds starts its abandoned-cart automation, so only
those are sent that a mail may remind somebody of: open, with lines and an address, not too old, of the buyers that the
setting ``abandoned_carts`` names. Every other cart is left out, and so deleted where Mailchimp holds it. A cart that
somebody is still filling (setting ``cart_idle_minutes``) is no news yet, but keeps up to date what Mailchimp has.
"""

from __future__ import annotations

from datetime import timedelta

import pandas as pd

from include.documents.encoder import ChildRows, Rows, to_arrow
from include.documents.spec import Children, Document, Integer, Money, Object, Text
from include.transform import consent
from include.transform.attribution import campaign_ids
from include.transform.buyers import customer_link, with_buyer
from include.transform.lines import line_rules, under, with_placeholder
from include.transform.money import currency_digits
from include.transform.records import BuildContext, Frames, ParentLinks, Prepared, keep_rows, positions
from include.transform.rules import ErrorClass, RejectedRecord, Rule, apply_rules, unusable_id
from include.transform.urls import from_template

DOCUMENT = Document(
    "cart",
    (
        Text("id", "record_id"),
        Object(
            "customer",
            (Text("id", "customer_record_id"), Text("email_address", "new_email", clears=False), consent.FIELD),
        ),
        Text("campaign_id", "campaign_id", clears=False),
        Text("checkout_url", "checkout_url"),
        Text("currency_code", "currency_code"),
        Money("order_total", "order_total"),
        Money("tax_total", "tax_total"),
        Children(
            "lines",
            "lines",
            (
                Text("id", "line_id"),
                Text("product_id", "product_id"),
                Text("product_variant_id", "variant_id"),
                Integer("quantity", "quantity"),
                Money("price", "price"),
            ),
        ),
    ),
)


def prepare(frames: Frames, context: BuildContext) -> Prepared:
    """Derive cart documents from the extracts ``carts`` and ``cart_lines`` and what they refer to.

    Args:
        frames: ``main`` = carts, ``related`` with ``cart_lines``, ``customers``, ``line_products``, ``line_variants``.
        context: the store's settings and currency, the time that carts are idle or old at, refused campaigns.

    Returns:
        Carts with lines, rejected ones apart, and links to the products and customers they need. ``if_held`` marks
        those that are not idle yet.
    """
    carts = with_buyer(_in_scope(frames, context), frames.related["customers"], context)
    carts = carts.loc[_may_be_reminded(carts, context)].reset_index(drop=True)
    carts = carts.assign(
        key=carts["cart_id"],
        record_id=carts["cart_id"],
        currency_digits=currency_digits(carts["currency_code"]),
        campaign_id=campaign_ids(carts["campaign_id"], context),
        checkout_url=from_template(
            context.settings.checkout_url_template,
            {"checkout_token": carts["checkout_token"], "cart_id": carts["cart_id"]},
        ),
        if_held=_age(carts, context) < timedelta(minutes=context.settings.cart_idle_minutes),
    )
    related = frames.related
    lines = with_placeholder(related["cart_lines"], related["line_products"], related["line_variants"])
    cart_lines = under(carts, "cart_id", lines, ("line_id",))
    kept, rejected = _check(carts, cart_lines, context)
    rows = keep_rows(Rows(carts, {"lines": cart_lines}), kept)
    return Prepared(rows, rejected, _parents(rows))


def _in_scope(frames: Frames, context: BuildContext) -> pd.DataFrame:
    """Keep the carts that are open, have lines and are not too old."""
    carts = frames.main
    kept = carts["is_open"].fillna(True).astype(bool) & carts["cart_id"].isin(frames.related["cart_lines"]["cart_id"])
    kept &= _age(carts, context) <= timedelta(days=context.settings.cart_max_age_days)
    if context.settings.abandoned_carts == "none":
        kept &= False
    return carts.loc[kept].reset_index(drop=True)


def _may_be_reminded(carts: pd.DataFrame, context: BuildContext) -> pd.Series:
    """Tell which carts have a buyer whom a mail reaches, and whom the settings let it reach."""
    reachable = carts["customer_usable"].fillna(False).astype(bool) & ~carts["left_out"].astype(bool)
    reachable &= ~carts["buyer_erased"]
    if context.settings.abandoned_carts == "subscribed":
        reachable &= carts["buyer_opted_in"].fillna(False).astype(bool)
    return reachable


def _age(carts: pd.DataFrame, context: BuildContext) -> pd.Series:
    return context.now - carts["updated_at"]


def _check(carts: pd.DataFrame, lines: ChildRows, context: BuildContext) -> tuple[pd.Series, list[RejectedRecord]]:
    one_currency = context.settings.currency_policy == "store"
    rules = [
        Rule(
            unusable_id(carts["key"]),
            ErrorClass.MISSING_VALUE,
            "id",
            "Cart id unusable",
            "Mailchimp takes no id that is empty, blank or 0; give the cart another one",
        ),
        Rule(
            carts["currency_digits"].isna(),
            ErrorClass.INVALID_VALUE,
            "currency_code",
            "Currency unknown",
            "currency_code {currency_code} is not an ISO 4217 code; correct it in the shop",
        ),
        Rule(
            (carts["currency_code"] != context.store_currency) & one_currency,
            ErrorClass.INVALID_VALUE,
            "currency_code",
            "Currency not the store's",
            f"the cart is in {{currency_code}}, the store in {context.store_currency}; "
            "set currency_policy to order, or give each currency a store of its own",
        ),
        Rule(
            carts["order_total"].isna(),
            ErrorClass.MISSING_VALUE,
            "order_total",
            "Cart total missing",
            "Mailchimp requires order_total; fill it in in the shop",
        ),
        *line_rules(carts, lines),
    ]
    return apply_rules("carts", carts, "key", "record_id", rules)


def _parents(rows: Rows) -> tuple[ParentLinks, ...]:
    """Return the products that the lines need, and the customers that are sent on their own."""
    lines = rows.children["lines"]
    products = ParentLinks("products", "lines[].product_id", positions(lines), to_arrow(lines.rows.frame["product_id"]))
    return (products, customer_link(rows.frame))
