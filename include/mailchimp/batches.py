"""A batch as Mailchimp reports it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from include.mailchimp.errors import UnexpectedReply


class BatchPhase(StrEnum):
    """Where a batch is. Mailchimp works off an account's batches one at a time, in minutes to hours."""

    PENDING = "pending"
    PREPROCESSING = "preprocessing"
    STARTED = "started"
    FINALIZING = "finalizing"
    FINISHED = "finished"

    @property
    def is_terminal(self) -> bool:
        """True when the batch will not change any more and its results can be fetched."""
        return self is BatchPhase.FINISHED


@dataclass(frozen=True)
class BatchStatus:
    """One batch: its phase, counters and times (aware UTC).

    `finished` says nothing about single operations: their outcomes are in the archive alone.
    `response_body_url` is a signed link, new with every GET and valid for about 10 minutes; it must not be logged
    or stored, so it is not part of the repr. It is None until the batch is finished.
    """

    id: str
    status: BatchPhase
    total_operations: int
    finished_operations: int
    errored_operations: int
    submitted_at: datetime | None
    completed_at: datetime | None
    response_body_url: str | None

    @classmethod
    def parse(cls, reply: dict[str, Any] | None) -> BatchStatus:
        """Read a batch from a reply.

        Args:
            reply: the JSON object of one batch.

        Returns:
            The batch.

        Raises:
            UnexpectedReply: there is no id, or the phase is not one we know.
        """
        reply = reply or {}
        batch_id, phase = reply.get("id"), reply.get("status")
        if not isinstance(batch_id, str) or not batch_id:
            raise UnexpectedReply("Unexpected reply", "a batch without an id")
        if phase not in set(BatchPhase):
            raise UnexpectedReply("Unexpected reply", f"batch {batch_id} has the unknown status {phase!r}")
        return cls(
            id=batch_id,
            status=BatchPhase(phase),
            total_operations=int(reply.get("total_operations") or 0),
            finished_operations=int(reply.get("finished_operations") or 0),
            errored_operations=int(reply.get("errored_operations") or 0),
            submitted_at=_time(reply.get("submitted_at")),
            completed_at=_time(reply.get("completed_at")),
            response_body_url=reply.get("response_body_url") or None,
        )

    def __repr__(self) -> str:
        done = f"{self.finished_operations}/{self.total_operations}, {self.errored_operations} errored"
        return f"BatchStatus({self.id}, {self.status}, {done})"


def _time(text: object) -> datetime | None:
    """Mailchimp writes an absent time as an empty string."""
    if not isinstance(text, str) or not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UnexpectedReply("Unexpected reply", "a batch with a time that is not ISO 8601") from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
