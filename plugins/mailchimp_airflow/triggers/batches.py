"""Waits, without a worker, until batches are finished at Mailchimp."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

import aiohttp
from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.mailchimp.batches import BatchPhase
from include.mailchimp.errors import (
    ConnectionFailed,
    ConnectionSettingsError,
    MailchimpError,
    NotFound,
    UnexpectedReply,
    problem_from,
)
from mailchimp_airflow.hooks.connection import MailchimpConnection, missing_connection_text, read_connection
from mailchimp_airflow.hooks.mailchimp import EXAMPLE_URI

_PER_PAGE = 500
_GROWTH = 1.5
_FAILURES_IN_A_ROW = 15  # with the growing interval about ten minutes; then the task's own retries take over
_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10)


class MailchimpBatchTrigger(BaseTrigger):
    """Fires once, when all of the batches are finished or gone.

    It asks for all batches with one list call per poll, at an interval that grows by half each time. Events:
    ``{"status": "finished", "batch_ids": […]}``; ``{"status": "timeout"}`` at the deadline;
    ``{"status": "error", "message": …}`` when Mailchimp refuses, or cannot be reached many times in a row. It never
    stops a batch (that would lose its results): a cleared task finds its batches again in the ledger.

    :param mailchimp_conn_id: Airflow connection of type `mailchimp`.
    :param batch_ids: the batches to wait for.
    :param poll_interval: seconds before the second poll.
    :param max_poll_interval: seconds that the interval grows to.
    :param deadline: ISO 8601 time with offset, after which it gives up; None: never.
    :param first_delay: seconds before the first poll.
    """

    def __init__(
        self,
        mailchimp_conn_id: str,
        batch_ids: list[str],
        poll_interval: float = 2,
        max_poll_interval: float = 60,
        deadline: str | None = None,
        first_delay: float = 0,
    ) -> None:
        super().__init__()
        self.mailchimp_conn_id = mailchimp_conn_id
        self.batch_ids = list(batch_ids)
        self.poll_interval = poll_interval
        self.max_poll_interval = max_poll_interval
        self.deadline = deadline
        self.first_delay = first_delay
        # Read here, so that a wrong one fails in the operator and not after the hand-over.
        self._deadline = datetime.fromisoformat(deadline) if deadline else None
        if self._deadline and self._deadline.tzinfo is None:
            raise ValueError(f"deadline {deadline!r} has no time zone: give an ISO 8601 time with offset")

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, for the triggerer."""
        return (
            "mailchimp_airflow.triggers.batches.MailchimpBatchTrigger",
            {
                "mailchimp_conn_id": self.mailchimp_conn_id,
                "batch_ids": self.batch_ids,
                "poll_interval": self.poll_interval,
                "max_poll_interval": self.max_poll_interval,
                "deadline": self.deadline,
                "first_delay": self.first_delay,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until there is something to say."""
        try:
            yield TriggerEvent(await self._wait())
        except (MailchimpError, ConnectionSettingsError, AirflowNotFoundException) as error:
            yield TriggerEvent({"status": "error", "message": str(error)})
        except Exception as error:  # an exception that leaves a trigger fails the task without a word
            self.log.error("waiting for batches failed: %s", type(error).__name__)
            yield TriggerEvent({"status": "error", "message": f"waiting for batches failed: {type(error).__name__}"})

    async def _wait(self) -> dict[str, Any]:
        if self.first_delay > 0:
            await asyncio.sleep(self.first_delay)
        connection = await self._connection()
        waiting, interval, failures = set(self.batch_ids), self.poll_interval, 0
        async with aiohttp.ClientSession(
            timeout=_TIMEOUT, headers={"Authorization": connection.authorization}
        ) as session:
            batches = _Batches(session, connection)
            while waiting:
                try:
                    waiting = await batches.unfinished(waiting)
                    failures = 0
                except MailchimpError as error:
                    failures += 1
                    if not error.transient or failures >= _FAILURES_IN_A_ROW:
                        raise
                    self.log.warning("poll failed, attempt %d: %s", failures, error)
                if not waiting:
                    break
                left = (self._deadline - datetime.now(UTC)).total_seconds() if self._deadline else interval
                if left <= 0:
                    return {"status": "timeout"}
                self.log.info("%d of %d batches unfinished", len(waiting), len(self.batch_ids))
                # Jitter keeps the triggers of many mapped tasks from polling in step.
                await asyncio.sleep(min(left, interval * random.uniform(0.8, 1.0)))  # noqa: S311
                interval = min(interval * _GROWTH, self.max_poll_interval)
        return {"status": "finished", "batch_ids": self.batch_ids}

    async def _connection(self) -> MailchimpConnection:
        try:
            connection = await get_async_connection(self.mailchimp_conn_id)
        except AirflowNotFoundException:
            text = missing_connection_text(self.mailchimp_conn_id, "Mailchimp", EXAMPLE_URI)
            raise AirflowNotFoundException(text) from None
        # In a thread: a token's datacentre may have to be asked for.
        return await asyncio.to_thread(read_connection, connection, await get_async_extra_dejson(connection))


class _Batches:
    """Asks Mailchimp, asynchronously, how far batches are."""

    def __init__(self, session: aiohttp.ClientSession, connection: MailchimpConnection) -> None:
        self._session = session
        self._base_url = connection.base_url
        self._options = _aiohttp_options(connection)

    async def unfinished(self, batch_ids: set[str]) -> set[str]:
        """Return those of the batches that are neither finished nor gone."""
        phases = await self._listed(batch_ids)
        for batch_id in batch_ids - set(phases):
            phases[batch_id] = await self._single(batch_id)
        return {batch_id for batch_id in batch_ids if not _is_terminal(phases[batch_id])}

    async def _listed(self, wanted: set[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        offset = 0
        while True:
            fields = "batches.id,batches.status,total_items"
            reply = await self._get("/batches", {"count": str(_PER_PAGE), "offset": str(offset), "fields": fields})
            page = reply.get("batches")
            if not isinstance(page, list):
                raise UnexpectedReply("Unexpected reply", "no list of batches; check the host of the connection")
            found |= {batch["id"]: str(batch.get("status")) for batch in page if batch.get("id") in wanted}
            offset += len(page)
            if wanted <= set(found) or not page or offset >= int(reply.get("total_items") or 0):
                return found

    async def _single(self, batch_id: str) -> str:
        try:
            reply = await self._get(f"/batches/{quote(batch_id, safe='')}", {"fields": "id,status"})
        except NotFound:
            return BatchPhase.FINISHED  # gone (results are kept about 7 days): there is nothing to wait for
        return str(reply.get("status"))

    async def _get(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        try:
            url = self._base_url + path
            async with self._session.get(url, params=params, allow_redirects=False, **self._options) as reply:
                body = await reply.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ConnectionFailed("No reply", type(error).__name__) from None
        if not 200 <= reply.status < 300:
            raise problem_from(reply.status, reply.headers.get("Content-Type", ""), body)
        return _json_object(body)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise UnexpectedReply("Unexpected reply", "a reply that is no JSON object; check the host of the connection")
    return document


def _is_terminal(phase: str) -> bool:
    return phase in set(BatchPhase) and BatchPhase(phase).is_terminal


def _aiohttp_options(connection: MailchimpConnection) -> dict[str, Any]:
    """Proxy and certificate settings; aiohttp's own `trust_env` would also let a `.netrc` replace our credentials."""
    options: dict[str, Any] = {}
    scheme, _, rest = connection.base_url.partition("://")
    host = rest.partition("/")[0]
    proxies = dict(connection.transport.get("proxies") or {})
    if not proxies and connection.transport.get("trust_env", True) and not proxy_bypass(host):
        proxies = getproxies()
    if proxies.get(scheme):
        options["proxy"] = proxies[scheme]
    verify = connection.transport.get("verify", True)
    if isinstance(verify, str):
        options["ssl"] = ssl.create_default_context(cafile=verify)
    elif not verify:
        options["ssl"] = False
    return options
