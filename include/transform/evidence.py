"""Who can be brought to the audience with proof: people whose opt-in the shop has on record, with its time.

Nothing here decides about a status; that is the business of :mod:`include.transform.consent` alone. An opt-in counts as
proven when all accounts of the person together say yes, and it is known since when. ``always_opt_in`` proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import pandas as pd

from include.transform.identity import excluded
from include.transform.people import is_set
from include.transform.records import TEXT


class Finding(StrEnum):
    """What was found of a person; the first that fits, in this order."""

    ALREADY_CONTACT = "already_contact"
    OPTED_OUT = "opted_out"
    WITHOUT_EVIDENCE = "without_evidence"
    EXCLUDED = "excluded"
    INVALID = "invalid"
    WITH_EVIDENCE = "with_evidence"


def judge(people: pd.DataFrame, exclude_emails: Sequence[str]) -> pd.Series:
    """Tell what the shop's own records say of people.

    Args:
        people: as :func:`include.transform.people.of_chunk` makes them.
        exclude_emails: the setting of that name.

    Returns:
        A `Finding` for each row. Whom Mailchimp has, and whom it would refuse, is not known here.
    """
    finding = pd.Series(str(Finding.WITH_EVIDENCE), index=people.index, dtype=TEXT)
    finding = finding.mask(excluded(people["email"], exclude_emails), Finding.EXCLUDED)
    finding = finding.mask(~is_set(people["opted_in"]) | people["opted_in_at"].isna(), Finding.WITHOUT_EVIDENCE)
    return finding.mask(is_set(~people["opted_in"]), Finding.OPTED_OUT)
