"""Rules that a record must keep to be expressible at Mailchimp, and what becomes of one that doesn't.

A rule is a boolean column with an error class and a message. A row that breaks a rule becomes a rejected record that
names entity, id, field and reason; all other rows go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd


class ErrorClass(StrEnum):
    """Why a record was turned down before it was sent; the outcome classes of sent ones are in ``load.outcomes``."""

    MISSING_VALUE = "missing_value"
    INVALID_VALUE = "invalid_value"
    TOTALS_MISMATCH = "totals_mismatch"
    PARENT_MISSING = "parent_missing"
    NOT_EXPRESSIBLE = "not_expressible"


@dataclass(frozen=True)
class RejectedRecord:
    """A record that is not sent, and why.

    ``key`` is the shop's id (the extract's key), ``record_id`` the id at Mailchimp; ``waits_for`` names the parent
    (``entity:<record id or shop's key>``) whose acknowledgement would make another try worthwhile. ``detail`` holds no
    personal data.
    """

    entity: str
    key: str
    record_id: str
    error_class: str
    title: str
    detail: str
    field: str | None = None
    waits_for: str | None = None


@dataclass(frozen=True)
class Rule:
    """One rule: ``broken`` is true for the rows that break it, null counts as kept.

    ``detail`` and ``waits_for`` may contain ``{column}`` placeholders, filled from the broken row; never name a
    personal column.
    """

    broken: pd.Series
    error_class: ErrorClass
    field: str
    title: str
    detail: str
    waits_for: str | None = None


def apply_rules(
    entity: str, frame: pd.DataFrame, key: str, record_id: str, rules: Sequence[Rule]
) -> tuple[pd.Series, list[RejectedRecord]]:
    """Check rules in order; the first one that a row breaks is the one it is rejected for.

    Args:
        entity: name of the entity, for the rejected records.
        frame: one row per record.
        key: column with the shop's id.
        record_id: column with the id at Mailchimp; where that can't be derived, the shop's id stands in.
        rules: the rules, most fundamental first.

    Returns:
        A boolean column that is true for rows that keep all rules, and the rejected records.
    """
    kept = pd.Series(True, index=frame.index)
    rejected: list[RejectedRecord] = []
    for rule in rules:
        broken = rule.broken.fillna(False).astype(bool) & kept
        if not broken.any():
            continue
        kept &= ~broken
        for row in frame.loc[broken].to_dict("records"):
            shop_id = str(row[key])
            known = isinstance(row[record_id], str) and bool(row[record_id])
            rejected.append(
                RejectedRecord(
                    entity=entity,
                    key=shop_id,
                    record_id=row[record_id] if known else shop_id,
                    error_class=rule.error_class,
                    title=rule.title,
                    detail=rule.detail.format_map(row),
                    field=rule.field,
                    waits_for=rule.waits_for.format_map(row) if rule.waits_for else None,
                )
            )
    return kept, rejected


def unusable_id(ids: pd.Series, longest: int | None = None) -> pd.Series:
    """Tell which ids Mailchimp refuses: empty, blank, ``"0"``, or longer than allowed (contract: ids)."""
    stripped = ids.str.strip()
    broken = ids.isna() | (stripped == "") | (stripped == "0")
    return broken | (ids.str.len() > longest) if longest else broken
