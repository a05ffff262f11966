"""Campaigns that Mailchimp refused to attribute an order or cart to: they are not named again."""

from collections.abc import Collection

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from include.state.tables import refused_campaign


def refused_campaigns(connection: Connection, store_ref: int) -> frozenset[str]:
    """Return the ids that were refused."""
    column = refused_campaign.c.campaign_id
    return frozenset(connection.execute(select(column).where(refused_campaign.c.store_ref == store_ref)).scalars())


def refuse_campaigns(connection: Connection, store_ref: int, campaign_ids: Collection[str]) -> None:
    """Remember refused ids."""
    if campaign_ids:
        rows = [{"store_ref": store_ref, "campaign_id": campaign_id} for campaign_id in sorted(campaign_ids)]
        connection.execute(insert(refused_campaign).on_conflict_do_nothing(), rows)
