"""What the tests of features look at besides `Pipeline`: the documents as they were sent, and the operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from include.sandbox.account import code_key
from include.sandbox.api import Reply
from tests.pipeline import Pipeline


def sent(pipeline: Pipeline, entity: str, *ids: str) -> dict[str, Any]:
    """A record as Mailchimp keeps it, with nothing but the fields it was sent; the API shows all, empty ones too.

    Args:
        pipeline: with the sandbox.
        entity: whose record.
        ids: its id; of a promo code its rule's before.
    """
    records = pipeline.sandbox.state.account.stores["demo-shop"].records[entity]
    found = records.get(code_key(*ids) if entity == "promo_codes" else ids[0])
    assert found is not None, f"Mailchimp has no {ids} of {entity}"
    return found


def calls(pipeline: Pipeline, *parts: str) -> int:
    """How many calls and operations were made whose method, route and status contain all of these texts."""
    return sum(count for name, count in pipeline.requests().items() if all(part in name for part in parts))


def watch(pipeline: Pipeline, look: Callable[[str, str], None]) -> None:
    """Look on when Mailchimp is about to execute an operation (method, path)."""

    def see(method: str, path: str) -> Reply | None:
        look(method, path)
        return None

    pipeline.sandbox.state.operation_fault = see


def error_classes(pipeline: Pipeline, entity: str) -> dict[str, str]:
    """The records of an entity that are on the list of rejected ones, each with the class of its error."""
    rows = pipeline.sql(
        "SELECT record_id, error_class FROM mailchimp.rejected_records WHERE entity = :entity", entity=entity
    )
    return dict(rows)
