"""Which campaign an order or cart came from, as far as Mailchimp takes it."""

from __future__ import annotations

import pandas as pd

from include.transform.records import BuildContext

#: The only tracking code there is (API reference, "Add order").
_TRACKING_CODE = "prec"
_CAMPAIGN = r"[0-9a-f]{10}"


def campaign_ids(ids: pd.Series, context: BuildContext) -> pd.Series:
    """Leave out what is no campaign's id, and ids that Mailchimp refused.

    One bad id costs the whole order ("A campaign with the provided ID does not exist in the account for this list."),
    and an order without its campaign is worth more than none.
    """
    refused = ids.isin(list(context.refused_campaigns))
    return ids.where(ids.str.fullmatch(_CAMPAIGN).fillna(False).astype(bool) & ~refused)


def tracking_codes(codes: pd.Series) -> pd.Series:
    """Leave out tracking codes that Mailchimp doesn't know."""
    return codes.where((codes == _TRACKING_CODE).fillna(False).astype(bool))
