"""What the forms of the DAGs have in common; imports no pipeline, because every DAG file needs it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from airflow.sdk import Param

from include.load.errors import PreflightFailed

#: What is pushed, parents first.
ENTITIES: Final = ("products", "members", "customers", "promo_rules", "promo_codes", "orders", "carts")

#: What people call it.
SHOWN: Final = {
    "products": "Products",
    "members": "Subscriptions",
    "customers": "Customers",
    "promo_rules": "Coupons",
    "promo_codes": "Coupon codes",
    "orders": "Orders",
    "carts": "Abandoned carts",
}


def moment_param(title: str, description: str, section: str = "Window") -> Param:
    """Return a field for a time that may be left empty.

    :param title: its name.
    :param description: what it means.
    :param section: the part of the form it belongs to.
    """
    return Param(
        None, type=["null", "string"], format="date-time", section=section, title=title, description=description
    )


def moment(text: str | None) -> datetime | None:
    """Read a time that was typed into a form.

    :param text: ISO 8601, with a time zone.
    :return: None for an empty field.
    :raises PreflightFailed: it has no time zone.
    """
    if not text:
        return None
    read = datetime.fromisoformat(text)
    if read.tzinfo is None:
        raise PreflightFailed(f"The time {text} has no time zone; write it like 2026-11-21T10:00:00+00:00.")
    return read
