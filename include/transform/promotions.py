"""Coupons → ``…/promo-rules[/{rule_id}]`` and ``…/promo-rules/{rule_id}/promo-codes[/{code_id}]`` of a store.

API reference: "Ecommerce promo rules · Add promo rule", "Ecommerce promo codes · Add promo code". A rule says what a
coupon gives and when, a code is what the buyer types in. Mailchimp knows when a rule ends, so an expired one is sent as
the shop has it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.documents.encoder import Rows, to_arrow
from include.documents.spec import Boolean, Document, Integer, Money, Text, Time
from include.transform.money import CURRENCY_DIGITS, SCALE
from include.transform.records import TEXT, BuildContext, Frames, ParentLinks, Prepared, keep_rows
from include.transform.rules import ErrorClass, RejectedRecord, Rule, apply_rules, unusable_id
from include.transform.urls import absolute, encoded, from_template

RULES_DOCUMENT = Document(
    "promo rule",
    (
        Text("id", "record_id"),
        Text("title", "title"),
        Text("description", "description"),
        Time("starts_at", "starts_at", clears=True),
        Time("ends_at", "ends_at", clears=True),
        Money("amount", "amount", digits="amount_digits"),
        Text("type", "type"),
        Text("target", "target"),
        Boolean("enabled", "enabled"),
        Time("updated_at_foreign", "updated_at"),
    ),
)

# No updated_at_foreign: a code's time of change is its rule's, and would move with every other code of the rule.
CODES_DOCUMENT = Document(
    "promo code",
    (
        Text("id", "code_id"),
        Text("code", "code"),
        Text("redemption_url", "redemption_url"),
        Integer("usage_count", "usage_count"),
        Boolean("enabled", "enabled"),
    ),
)

# What the API reference allows; the title is measured in bytes.
_LONGEST_ID: Final = 50
_LONGEST_TITLE: Final = 100
_LONGEST_DESCRIPTION: Final = 255
_LONGEST_CODE: Final = 50
_LONGEST_URL: Final = 2000

_TYPES: Final = ("fixed", "percentage")
_TARGETS: Final = ("per_item", "total", "shipping")
_AMOUNT: Final = pa.decimal128(24, SCALE)
_ONE_PERCENT: Final = pa.scalar(Decimal("0.01"), pa.decimal128(3, 2))


def prepare_rules(frames: Frames, context: BuildContext) -> Prepared:
    """Derive promo rules from the extract ``promo_rules``.

    Args:
        frames: ``main`` = promo_rules.
        context: the store's settings and currency.

    Returns:
        Rules as Mailchimp expresses them: percentages as fractions, free shipping as a fixed amount on shipping.
    """
    rules = frames.main.loc[~_is(frames.main["is_deleted"])].reset_index(drop=True)
    free = _is(rules["type"] == "free_shipping")
    rules = rules.assign(
        key=rules["rule_id"],
        record_id=rules["rule_id"],
        amount=rules["amount"].mask(free & rules["amount"].isna(), 0),
        type=rules["type"].mask(free, "fixed"),
        target=rules["target"].mask(free, "shipping"),
        title=_cut_bytes(rules["title"], _LONGEST_TITLE),
        description=_told(rules["description"], rules["title"]).str.slice(stop=_LONGEST_DESCRIPTION),
        enabled=rules["enabled"].fillna(True),
    )
    kept, rejected = _check_rules(rules, context)
    rules = _with_written_amounts(rules.loc[kept].reset_index(drop=True), context)
    return Prepared(Rows(rules), rejected)


def prepare_codes(frames: Frames, context: BuildContext) -> Prepared:
    """Derive promo codes from the extract ``promo_codes``.

    Args:
        frames: ``main`` = promo_codes, with what the extractor knows of their rules.
        context: the store's settings.

    Returns:
        The codes of rules that are sent, at most ``max_codes_per_rule`` each, and links to those rules.
    """
    codes = frames.main.loc[_codes_in_scope(frames.main, context)].reset_index(drop=True)
    codes = codes.assign(
        key=codes["code_key"],
        record_id=encoded(codes["rule_id"]) + "/" + encoded(codes["code_id"]),
        redemption_url=absolute(codes["redemption_url"]).fillna(
            from_template(context.settings.redemption_url_template, {"code": codes["code"]})
        ),
        enabled=codes["enabled"].fillna(True),
    )
    kept, rejected = _check_codes(codes)
    rows = keep_rows(Rows(codes), kept)
    rules = ParentLinks("promo_rules", "promo_rule_id", np.arange(len(rows.frame)), to_arrow(rows.frame["rule_id"]))
    return Prepared(rows, rejected, (rules,))


def _codes_in_scope(codes: pd.DataFrame, context: BuildContext) -> pd.Series:
    left_out = _is(codes["rule_is_deleted"])
    if context.settings.coupons == "matching_only":
        left_out |= _is(codes["rule_other_conditions"])
    most = context.settings.max_codes_per_rule
    if most is not None:
        left_out |= _is(codes["number"] > most)
    return ~left_out


def _with_written_amounts(rules: pd.DataFrame, context: BuildContext) -> pd.DataFrame:
    """Turn percentages into fractions, and say with how many decimals each amount is written.

    A fraction gets as many as it needs: two for whole percentages.
    """
    amount, percentage = to_arrow(rules["amount"]), to_arrow(rules["type"] == "percentage")
    fraction = pc.cast(pc.round(pc.multiply(amount, _ONE_PERCENT), SCALE), _AMOUNT)
    digits: pa.Array = pa.array([SCALE] * len(rules), pa.int64())
    for fewer in (6, 4, 2):
        digits = pc.if_else(pc.equal(pc.round(fraction, fewer), fraction), fewer, digits)
    return rules.assign(
        amount=pd.arrays.ArrowExtensionArray(pc.if_else(percentage, fraction, amount)),
        amount_digits=pd.arrays.ArrowExtensionArray(
            pc.if_else(percentage, digits, CURRENCY_DIGITS[context.store_currency])
        ),
    )


def _check_rules(rules: pd.DataFrame, context: BuildContext) -> tuple[pd.Series, list[RejectedRecord]]:
    missing, invalid = ErrorClass.MISSING_VALUE, ErrorClass.INVALID_VALUE
    on_shipping = (rules["type"] == "fixed") & (rules["target"] == "shipping")
    checks = [
        Rule(
            unusable_id(rules["key"], _LONGEST_ID),
            missing,
            "id",
            "Promotion id unusable",
            f"Mailchimp takes no id that is empty, blank, 0 or longer than {_LONGEST_ID} characters; "
            "give the coupon another one",
        ),
        Rule(
            _is(rules["other_conditions"]) & (context.settings.coupons == "matching_only"),
            ErrorClass.NOT_EXPRESSIBLE,
            "other_conditions",
            "Not expressible at Mailchimp",
            "the coupon has conditions besides its code, amount, start and end; remove them in the shop, or set "
            "coupons to all to send it without them",
        ),
        Rule(
            _blank(rules["description"]),
            missing,
            "description",
            "Promotion description missing",
            "Mailchimp requires a description, and there is no title to stand in; fill in one of them in the shop",
        ),
        Rule(
            ~rules["type"].isin(_TYPES),
            invalid,
            "type",
            "Promotion type unknown",
            "type {type} is none of fixed, percentage and free_shipping; map it in promo_rules.sql",
        ),
        Rule(
            ~rules["target"].isin(_TARGETS),
            invalid,
            "target",
            "Promotion target unknown",
            "target {target} is none of per_item, total and shipping; map it in promo_rules.sql",
        ),
        Rule(
            rules["amount"].isna(),
            missing,
            "amount",
            "Promotion amount missing",
            "Mailchimp requires an amount; fill it in in the shop",
        ),
        Rule(
            rules["amount"] < 0,
            invalid,
            "amount",
            "Promotion amount negative",
            "the amount is {amount:f}; a coupon can only take something off",
        ),
        Rule(
            (rules["amount"] == 0) & ~_is(on_shipping),
            invalid,
            "amount",
            "Promotion amount zero",
            "Mailchimp takes 0 only for free shipping (a fixed amount with target shipping)",
        ),
        Rule(
            (rules["type"] == "percentage") & (rules["amount"] > 100),
            invalid,
            "amount",
            "Percentage above 100",
            "the amount is {amount:f} %; promo_rules.sql yields percentages as 15 for 15 %",
        ),
        Rule(
            rules["ends_at"].dt.floor("s") <= rules["starts_at"].dt.floor("s"),
            invalid,
            "ends_at",
            "Promotion ends before it starts",
            "ends_at ({ends_at}) must be later than starts_at ({starts_at}); correct it in the shop",
        ),
    ]
    return apply_rules("promo_rules", rules, "key", "record_id", checks)


def _check_codes(codes: pd.DataFrame) -> tuple[pd.Series, list[RejectedRecord]]:
    missing, invalid = ErrorClass.MISSING_VALUE, ErrorClass.INVALID_VALUE
    checks = [
        Rule(
            unusable_id(codes["code_id"], _LONGEST_ID),
            missing,
            "id",
            "Promo code id unusable",
            f"Mailchimp takes no id that is empty, blank, 0 or longer than {_LONGEST_ID} characters; "
            "give the code another one",
        ),
        Rule(
            codes["updated_at"].isna(),
            ErrorClass.PARENT_MISSING,
            "promo_rule_id",
            "Promotion missing",
            "the code belongs to promotion {rule_id}, which promo_rules.sql does not yield",
            waits_for="promo_rules:{rule_id}",
        ),
        Rule(
            _blank(codes["code"]),
            missing,
            "code",
            "Promo code missing",
            "there is nothing for the buyer to type in; fill in the code in the shop",
        ),
        Rule(
            codes["code"].str.len() > _LONGEST_CODE,
            invalid,
            "code",
            "Promo code too long",
            f"Mailchimp takes at most {_LONGEST_CODE} characters; shorten the code in the shop",
        ),
        Rule(
            codes["redemption_url"].isna(),
            missing,
            "redemption_url",
            "Redemption URL missing",
            "promo_codes.sql yields no absolute redemption_url; fill it in, or set redemption_url_template",
        ),
        Rule(
            codes["redemption_url"].str.len() > _LONGEST_URL,
            invalid,
            "redemption_url",
            "Redemption URL too long",
            f"Mailchimp takes at most {_LONGEST_URL} characters; shorten the address",
        ),
    ]
    return apply_rules("promo_codes", codes, "key", "record_id", checks)


def _told(texts: pd.Series, instead: pd.Series) -> pd.Series:
    """Return texts, others instead where they are blank."""
    return texts.mask(_blank(texts), instead)


def _cut_bytes(texts: pd.Series, longest: int) -> pd.Series:
    """Shorten texts to a number of UTF-8 bytes, between two characters."""
    array = to_arrow(texts)
    if (pc.max(pc.binary_length(array)).as_py() or 0) <= longest:
        return texts
    cut = [None if text is None else text.encode()[:longest].decode(errors="ignore") for text in array.to_pylist()]
    return pd.Series(cut, index=texts.index, dtype=TEXT)


def _blank(texts: pd.Series) -> pd.Series:
    return texts.isna() | _is(texts.str.strip() == "")


def _is(flags: pd.Series) -> pd.Series:
    """Read an optional flag: null is no."""
    return flags.fillna(False).astype(bool)
