"""Messages to people when runs fail, are late, or succeed again: through Airflow's notifiers, once per incident.

An incident begins with a failed run, and ends with the next one of its kind that succeeds. While it lasts, runs that
fail for the same reason are not told again; another reason is. What is going on is kept in an Airflow Variable,
`mailchimp_incident__<dag id>__<kind of run>`, so it is known even when the shop's database is what fails; delete the
Variable to be told once more.

Every task leaves the reason of its failure to the run's last task, which always runs, and tells it. Should that one
not get so far, the DAG's own callback tells that the run failed.
"""

from __future__ import annotations

import asyncio
import html
import importlib
import inspect
import logging
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from airflow.sdk import BaseNotifier, Variable
from airflow.sdk.configuration import conf
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from include.config.stores import Notifier, StoreSettings, load_stores

log = logging.getLogger(__name__)

Callback = Callable[[Any], None]

#: Where a task leaves why it failed.
FAILURE: Final = "failure"

#: What notifiers call the parts of a message; those that are not set are filled in.
_FILLED: Final = {
    **dict.fromkeys(("subject", "title", "summary"), "{{ alert.subject }}"),
    **dict.fromkeys(("text", "message", "body"), "{{ alert.text }}"),
    "html_content": "{{ alert.html }}",
}

_SCHEDULED: Final = "scheduled"
_BACKFILL: Final = "backfill"
_LATE: Final = "late"
#: An incident that no run of its kind need ever end, because none has to follow, is over after this time.
_FORGOTTEN_AFTER: Final = timedelta(days=1)


class NotifierUnusable(ValueError):
    """The setting `notify` names something that can't be used; the text says what is wrong."""


@dataclass(frozen=True)
class Message:
    """What is told: templates of a notifier's arguments find it as ``alert``."""

    subject: str
    text: str
    html: str
    link: str

    @classmethod
    def of(cls, subject: str, lines: list[str], link: str) -> Message:
        """Lay a message out as text and as HTML."""
        paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
        return cls(
            subject, "\n".join([*lines, link]), f'{paragraphs}<p><a href="{html.escape(link)}">The run</a></p>', link
        )


def of_dag(store: StoreSettings, *, has_deadline: bool = False) -> dict[str, Any]:
    """Return what a DAG of a store is made with, so that its failures and delays are told.

    :param store: the store.
    :param has_deadline: whether the store's deadline is for its runs.
    :raises NotifierUnusable: the setting `notify` is wrong.
    """
    settings: dict[str, Any] = {}
    if make_notifiers(store):
        settings["on_failure_callback"] = partial(_tell_untold, store.key)
    if has_deadline and store.deadline_minutes is not None:
        settings["deadline"] = DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(minutes=store.deadline_minutes),
            callback=AsyncCallback(tell_late, kwargs={"store_key": store.key}),
        )
    return settings


def of_tasks(store: StoreSettings) -> dict[str, Any]:
    """Return the default arguments of all tasks, so that they leave the reason of a failure.

    :param store: the store.
    """
    return {"on_failure_callback": leave_reason} if store.notify else {}


def of_steps(store: StoreSettings) -> dict[str, Any]:
    """Return the default arguments of tasks that come one after the other: the one that fails tells it itself.

    :param store: the store.
    """
    return {"on_failure_callback": [leave_reason, partial(tell_failure, store.key)]} if store.notify else {}


def of_last_task(store: StoreSettings) -> dict[str, Any]:
    """Return the arguments of the task that runs last, whatever happens: it tells how the run went.

    :param store: the store.
    """
    if not store.notify:
        return {}
    return {
        "on_failure_callback": [leave_reason, partial(tell_failure, store.key)],
        "on_success_callback": partial(tell_recovery, store.key),
    }


def make_notifiers(store: StoreSettings) -> list[BaseNotifier]:
    """Make the notifiers of a store.

    :param store: the store.
    :raises NotifierUnusable: one can't be imported, is no notifier, or doesn't take its arguments.
    """
    return [_make_notifier(store.key, entry) for entry in store.notify]


def _make_notifier(store_key: str, entry: Notifier) -> BaseNotifier:
    where = f"store {store_key!r}, setting 'notify': {entry.notifier}"
    module, _, name = entry.notifier.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise NotifierUnusable(
            f"{where} can't be imported ({error}). Correct its name, or install the package that has it wherever "
            "DAGs are parsed and tasks run."
        ) from None
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise NotifierUnusable(f"{where} is no notifier; it has to be a subclass of airflow.sdk.BaseNotifier")
    known = inspect.signature(found).parameters
    filled = {argument: template for argument, template in _FILLED.items() if argument in known}
    try:
        return found(**filled | entry.kwargs)
    except (TypeError, ValueError) as error:
        raise NotifierUnusable(f"{where} can't be made with the given kwargs: {error}") from None


def leave_reason(context: Any) -> None:
    """Leave why a task failed to the task that tells it; in words that are our own, for others may name people.

    :param context: the task's context.
    """
    context["ti"].xcom_push(key=FAILURE, value=_reason(context.get("exception")))


def _reason(error: BaseException | str | None) -> str:
    if isinstance(error, BaseException):
        ours = type(error).__module__.startswith(("include.", "mailchimp_airflow."))
        return str(error) if ours else f"{type(error).__name__}, see its log"
    return "it was killed or lost, see its log"


def tell_failure(store_key: str, context: Any) -> None:
    """Tell that a run failed, unless the incident is known.

    :param store_key: the store.
    :param context: a task's context.
    """
    reasons = _reasons(context)
    _begin_incident(store_key, context, [_cause(one) for one in reasons], reasons)


def _cause(reason: str) -> str:
    """Return the task and the first clause of what it left: figures and details make no other cause."""
    task_id, _, told = reason.partition(": ")
    clause = re.split(r"[.:;(]", re.sub(r"\d[\d.,:]*", "#", told), maxsplit=1)[0]
    return f"{task_id}: {clause.strip()}"


def _tell_untold(store_key: str, context: Any) -> None:
    """Tell that a run failed whose last task told nothing: it could not be started, or was killed."""
    if not _in_airflow():
        return  # `dag.test` calls this outside of any of Airflow's processes; the last task has told it
    incident = Variable.get(_key(context), default=None, deserialize_json=True)
    if incident is None or context["run_id"] not in incident["runs"]:
        _begin_incident(store_key, context, ["untold"], [str(context.get("reason") or "The run failed.")])


def _begin_incident(store_key: str, context: Any, reasons: list[str], lines: list[str]) -> None:
    key, run_id, now = _key(context), context["run_id"], datetime.now(UTC)
    known = Variable.get(key, default=None, deserialize_json=True)
    if known and _kind(context) != _SCHEDULED and now - datetime.fromisoformat(known["told_at"]) > _FORGOTTEN_AFTER:
        known = None
    told_before = list(known["reasons"]) if known else []
    told = known is not None and set(reasons) <= set(told_before)
    if not told:
        dag_id = context["dag"].dag_id
        lines = [
            f"Run {run_id} of {dag_id} failed:",
            *lines,
            *_most_rejected(store_key, dag_id, run_id),
            "Further runs that fail for this reason are not told; that they succeed again is.",
        ]
        told = send(store_key, Message.of(f"{dag_id} failed", lines, link(dag_id, run_id)), context)
    if told:
        runs = [*(known["runs"] if known else []), run_id]
        told_at = known["told_at"] if known and set(reasons) <= set(told_before) else now.isoformat()
        incident = {
            "reasons": list(dict.fromkeys([*told_before, *reasons])),
            "told_at": told_at,
            "runs": list(dict.fromkeys(runs)),
        }
        Variable.set(key, incident, serialize_json=True)


def tell_recovery(store_key: str, context: Any) -> None:
    """Tell that a run succeeded, if those before it failed.

    A backfill's runs have nothing to do with each other: its incident ends when each of them has succeeded.

    :param store_key: the store.
    :param context: a task's context.
    """
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    late = Variable.get(_late_key(dag_id), default=None)
    if late is not None and late != run_id:
        Variable.delete(_late_key(dag_id))
    key = _key(context)
    known = Variable.get(key, default=None, deserialize_json=True)
    if known is None:
        return
    failed = [one for one in known["runs"] if one != run_id] if _kind(context) == _BACKFILL else []
    if failed:
        Variable.set(key, known | {"runs": failed}, serialize_json=True)
        return
    lines = [f"Run {run_id} of {dag_id} succeeded; {len(known['runs'])} before it had failed."]
    if send(store_key, Message.of(f"{dag_id} succeeds again", lines, link(dag_id, run_id)), context):
        Variable.delete(key)


async def tell_late(store_key: str, context: Mapping[str, Any] | None = None) -> None:
    """Tell that a run is late, unless the one before it was; runs of a backfill may take their time.

    :param store_key: the store.
    :param context: what Airflow's triggerer knows of the run.
    """
    run = (context or {}).get("dag_run") or {}
    if run.get("run_type") != _BACKFILL:
        await asyncio.to_thread(_tell_late, store_key, run)


def _tell_late(store_key: str, run: Mapping[str, Any]) -> None:
    dag_id, run_id = run["dag_id"], run["dag_run_id"]
    known = Variable.get(_late_key(dag_id), default=None)
    minutes = load_stores().store(store_key).deadline_minutes
    lines = [
        f"Run {run_id} of {dag_id} is not finished {minutes} minutes after it was queued (deadline_minutes).",
        "It goes on. Is the scheduler behind, does Mailchimp take long, or does a task wait for its retry?",
    ]
    message = Message.of(f"{dag_id} is late", lines, link(dag_id, run_id))
    if known is not None or send(store_key, message, {"run_id": run_id, "dag_run": run}):
        Variable.set(_late_key(dag_id), run_id)


def send(store_key: str, message: Message, context: Any) -> bool:
    """Hand a message to all notifiers of a store; one that fails is logged and holds back none of the others.

    :param store_key: the store.
    :param message: what to tell.
    :param context: what the notifiers' templates may refer to, besides ``alert``.
    :return: whether anybody was told.
    """
    delivered = False
    for notifier in make_notifiers(load_stores().store(store_key)):
        told = {**context, "alert": asdict(message)}
        try:
            notifier.render_template_fields(told)  # type: ignore[arg-type]
            notifier.notify(told)  # type: ignore[arg-type]
        except Exception as error:
            # Its text may hold addresses.
            log.error("%s could not tell %r: %s", type(notifier).__name__, message.subject, type(error).__name__)
        else:
            delivered = True
    return delivered


def link(dag_id: str, run_id: str) -> str:
    """Return the address of a run in Airflow's UI.

    :param dag_id: the DAG.
    :param run_id: its run.
    """
    base = (conf.get("api", "base_url", fallback="") or "http://localhost:8080").rstrip("/")
    return f"{base}/dags/{quote(dag_id)}/runs/{quote(run_id, safe='')}"


def _reasons(context: Any) -> list[str]:
    """Collect what the failed tasks left; each reason once, however many slices failed for it."""
    tasks = [task.task_id for task in context["dag"].tasks]
    found: dict[str, None] = {}
    for task_id in tasks:
        left = context["ti"].xcom_pull(task_ids=task_id, key=FAILURE)
        for reason in left if isinstance(left, list) else [left]:
            if reason:
                found[f"{task_id}: {reason}"] = None
    return list(found)


def _most_rejected(store_key: str, dag_id: str, run_id: str) -> list[str]:
    """Name what a run's records were rejected for; nothing when the shop's database can't be asked."""
    try:
        from include.state.rejected import top_error_classes
        from include.state.runs import find_run
        from mailchimp_airflow.store import open_store

        with open_store(store_key) as store, store.state.begin() as connection:
            run = find_run(connection, dag_id, run_id)
            reasons = top_error_classes(connection, run.store_ref, run_id) if run else []
    except Exception as error:
        log.info("what was rejected is not known: %s", type(error).__name__)
        return []
    return [f"Rejected: {'; '.join(reasons)}"] if reasons else []


def _kind(context: Any) -> str:
    run = context.get("dag_run")
    kind = getattr(run, "run_type", None) or context["run_id"].partition("__")[0]
    return str(getattr(kind, "value", kind))


def _key(context: Any) -> str:
    return f"mailchimp_incident__{context['dag'].dag_id}__{_kind(context)}"


def _late_key(dag_id: str) -> str:
    return f"mailchimp_incident__{dag_id}__{_LATE}"


def _in_airflow() -> bool:
    return hasattr(sys.modules.get("airflow.sdk.execution_time.task_runner"), "SUPERVISOR_COMMS")
