"""The operator that pushes one slice of an entity through Mailchimp batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator
from airflow.sdk.configuration import conf

from mailchimp_airflow.triggers.batches import MailchimpBatchTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from mailchimp_airflow.push import Progress

_GRACE = timedelta(minutes=5)
_PAUSE = timedelta(seconds=10)


class MailchimpPushOperator(BaseOperator):
    """Extract, transform, compare and send one slice; defer while Mailchimp works on its batches.

    All progress is in the state tables, so a retry, a resumed or a cleared task continues where the last one stopped:
    it first looks after the slice's open batches, then goes on behind the last record that was dealt with.

    :param store_key: key of the store in the settings file.
    :param phase: the phase of the run that planned the slice, for example ``orders``.
    :param run_ref: the run's number in the state tables (templated).
    :param part: the slice: ``{"entity": "orders", "number": 3, "records": 20000}``, as the plan returns it.
    :param poll_interval: seconds between the first two looks at the batches; the interval then grows to a minute.
    """

    template_fields: Sequence[str] = ("run_ref", "part")
    ui_color = "#ffe01b"

    def __init__(
        self,
        *,
        store_key: str,
        phase: str,
        run_ref: int | str,
        part: Mapping[str, Any],
        poll_interval: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.store_key = store_key
        self.phase = phase
        self.run_ref = run_ref
        self.part = part
        self.poll_interval = poll_interval

    def execute(self, context: Context) -> dict[str, int]:
        """Work on the slice until Mailchimp has to be waited for, or until it is done.

        :return: what was done with the slice's records, as counts.
        """
        return self._work(context, frozenset())

    def execute_complete(self, context: Context, event: Any) -> dict[str, int]:
        """Read the results of the batches and go on; what the trigger could not do is found out again, and told."""
        told: Mapping[str, Any] = event if isinstance(event, Mapping) else {}
        if told.get("message"):
            self.log.warning("The triggerer could not wait for the batches: %s", told["message"])
            return self._work(context, None)
        return self._work(context, frozenset(told.get("batch_ids") or ()))

    def _work(self, context: Context, finished: frozenset[str] | None) -> dict[str, int]:
        """Work on the slice; `finished` are the batches that the trigger saw end, None when it saw nothing."""
        from mailchimp_airflow.push import push_slice

        entity, number = self.part["entity"], self.part["number"]
        context["slice"] = f"{number} · {self.part['records']:,} {entity}"  # type: ignore[typeddict-unknown-key]
        progress = push_slice(self.store_key, self.phase, int(self.run_ref), entity, number)
        if progress.counts is None:
            self._wait(progress, finished)
        return progress.counts or {}

    def _wait(self, progress: Progress, finished: frozenset[str] | None) -> NoReturn:
        hand_over = _hand_over()
        if progress.waiting_for:
            # Batches that are finished, but whose results cannot be had yet: without a pause the task would run in
            # circles.
            unsettled = finished is None or finished.issuperset(progress.waiting_for)
            trigger: BaseTrigger = MailchimpBatchTrigger(
                progress.conn_id,
                list(progress.waiting_for),
                poll_interval=self.poll_interval,
                deadline=(datetime.now(UTC) + progress.patience).isoformat(),
                first_delay=(max(_PAUSE, hand_over) if unsettled else hand_over).total_seconds(),
            )
        else:
            # Without a batch to wait for, others hold every place: look again in a while.
            trigger = TimeDeltaTrigger(max(_PAUSE, hand_over))
        self.defer(trigger=trigger, method_name="execute_complete", timeout=progress.patience + _GRACE)


def _hand_over() -> timedelta:
    """Return how long Airflow may need to learn that a deferred task has left its worker.

    The worker notices after `min_heartbeat_interval` at the latest, then the scheduler has to hear of it. A task that
    a trigger wakes sooner is taken for one that was killed, and stopped (apache/airflow#72716, seen with 3.3.2).
    """
    return timedelta(seconds=2 * conf.getfloat("workers", "min_heartbeat_interval"))
