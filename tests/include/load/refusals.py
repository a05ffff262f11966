"""Makes Mailchimp refuse records, and looks at the list of them."""

from __future__ import annotations

import json
from datetime import datetime

from include.sandbox.api import Reply
from tests.pipeline import Pipeline


def seen(pipeline: Pipeline, entity: str) -> dict[str, tuple[int, datetime, datetime]]:
    rows = pipeline.sql(
        "SELECT record_id, attempts, first_seen_at, last_seen_at "
        "FROM mailchimp.rejected_records WHERE entity = :entity",
        entity=entity,
    )
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def problem(status: int, title: str) -> Reply:
    body = json.dumps({"title": title, "status": status, "detail": "for the test", "instance": ""})
    return Reply(status, body.encode(), "a fault")


def refuse(pipeline: Pipeline, *parts: str) -> None:
    """Let Mailchimp refuse operations whose method and path contain all of these texts."""

    def refused(method: str, path: str) -> Reply | None:
        if not all(part in f"{method} {path}" for part in parts):
            return None
        return problem(400, "Invalid Resource")

    pipeline.sandbox.state.operation_fault = refused


def accept(pipeline: Pipeline) -> None:
    pipeline.sandbox.state.operation_fault = None


def fill(pipeline: Pipeline) -> Pipeline:
    """Send two products and two customers."""
    for number in (1, 2):
        pipeline.add_product(number)
        pipeline.add_customer(number)
    pipeline.push()
    return pipeline
