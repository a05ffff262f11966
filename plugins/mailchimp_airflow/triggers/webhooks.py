"""Watches, without a worker, for events of webhooks that no run has worked off yet."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

if TYPE_CHECKING:
    from include.state.database import StateDatabase

_LONGEST_PAUSE = 30.0
_LOOKED_AT = 1000  # events; who comes with more comes again


class MailchimpWebhookTrigger(BaseEventTrigger):
    """Fires when events of a store's webhooks are waiting, and goes on watching.

    What came within a moment is told by one event, ``{"store": …, "waiting": …}``: how many, not about whom. The same
    ones are told again after a while, if they are still waiting: a run may have failed, or its DAG may be paused. A
    database that can't be reached is asked again after growing pauses.

    :param store_key: key of the store in the settings file.
    :param shop_conn_id: Airflow connection of the database that has the state tables.
    :param state_schema: their schema.
    :param poll_seconds: between two looks.
    :param collect_seconds: from the first new event on, before it is told.
    :param remind_seconds: after which events that are still waiting are told again.
    """

    def __init__(
        self,
        store_key: str,
        shop_conn_id: str,
        state_schema: str,
        poll_seconds: float = 2,
        collect_seconds: float = 2,
        remind_seconds: float = 600,
    ) -> None:
        super().__init__()
        self.store_key = store_key
        self.shop_conn_id = shop_conn_id
        self.state_schema = state_schema
        self.poll_seconds = poll_seconds
        self.collect_seconds = collect_seconds
        self.remind_seconds = remind_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, for the triggerer."""
        return (
            "mailchimp_airflow.triggers.webhooks.MailchimpWebhookTrigger",
            {
                "store_key": self.store_key,
                "shop_conn_id": self.shop_conn_id,
                "state_schema": self.state_schema,
                "poll_seconds": self.poll_seconds,
                "collect_seconds": self.collect_seconds,
                "remind_seconds": self.remind_seconds,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look again and again; whatever goes wrong, never end."""
        pause = self.poll_seconds
        while True:
            try:
                async for waiting in self._watch():
                    pause = self.poll_seconds
                    if waiting:
                        yield TriggerEvent({"store": self.store_key, "waiting": waiting})
            except Exception as error:  # a watcher that has ended says nothing any more, and nobody notices
                self.log.warning(
                    "store %s: webhooks can't be watched (%s), next try in %.0f s",
                    self.store_key,
                    type(error).__name__,
                    pause,
                )
            # Jitter keeps the watchers of many stores from knocking in step.
            await asyncio.sleep(pause * random.uniform(0.8, 1.0))  # noqa: S311
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _watch(self) -> AsyncIterator[int]:
        """Yield after each look how many events have to be told."""
        state = await self._open()
        told: set[int] = set()
        told_at = 0.0
        clock = asyncio.get_running_loop().time
        try:
            while True:
                waiting = await asyncio.to_thread(_waiting, state, self.store_key)
                if waiting - told and self.collect_seconds:
                    await asyncio.sleep(self.collect_seconds)
                    waiting = await asyncio.to_thread(_waiting, state, self.store_key)
                due = waiting - told or (waiting and clock() - told_at >= self.remind_seconds)
                if due:
                    told_at = clock()
                told = waiting
                yield len(waiting) if due else 0
                await asyncio.sleep(self.poll_seconds)
        finally:
            state.engine.dispose()

    async def _open(self) -> StateDatabase:
        from include.state.database import StateDatabase
        from mailchimp_airflow.hooks.shop import HURRIED, engine_of, missing_shop

        try:
            connection = await get_async_connection(self.shop_conn_id)
        except AirflowNotFoundException:
            raise missing_shop(self.shop_conn_id) from None
        extra = await get_async_extra_dejson(connection)
        return StateDatabase(engine_of(connection, extra, HURRIED), self.state_schema)


def _waiting(state: StateDatabase, store_key: str) -> set[int]:
    from include.state.webhooks import waiting_ids

    with state.begin() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = '10s'")
        return waiting_ids(connection, store_key, _LOOKED_AT)
