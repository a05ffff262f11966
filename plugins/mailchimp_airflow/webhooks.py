"""The address that Mailchimp's webhooks call: checks a call, stores what it is about, and answers within a second.

`GET /mailchimp/webhooks/<key>` answers 200, which Mailchimp asks for before it takes the address. `POST` is answered:

| answer | when |
|---|---|
| 200 | the event is stored, or is about nothing that is read here (campaigns, types that are not known) |
| 400 | signed, but no event of the store's audience |
| 401 | not signed with the secret of the connection, or more than five minutes ago |
| 404 | no store of this key takes webhooks |
| 409 | a call with this signature was taken before |
| 413 | the body is longer than any event |
| 503 | the event can't be stored now; Mailchimp calls again |

Nobody is logged in here: the signature says who calls. An answer tells why, and nothing of the call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from fastapi import FastAPI, HTTPException, Request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from include.config.stores import StoreSettings, load_stores
from include.pull.webhook import MOST_BYTES, SIGNATURE_HEADER, Malformed, NotSigned, WebhookEvent, read_event, verify
from include.state.database import StateDatabase
from include.state.webhooks import ReceivedEvent, StoreNotRegistered, store_event
from mailchimp_airflow.hooks.connection import webhook_secrets
from mailchimp_airflow.hooks.shop import HURRIED, shop_engine

log = logging.getLogger(__name__)

_ANSWER_SECONDS: Final = 0.8
_STATEMENT: Final = timedelta(milliseconds=600)
_BODY_SECONDS: Final = 10
_READ_AGAIN_SECONDS: Final = 30.0
_THREADS: Final = 3  # as many as an engine has connections

app = FastAPI(title="Mailchimp webhooks", docs_url=None, redoc_url=None, openapi_url=None)


@dataclass(frozen=True)
class _Desk:
    """What it takes to receive a store's calls."""

    settings: StoreSettings
    state: StateDatabase
    secrets: tuple[str, ...]
    read_at: float


class Reception:
    """Receives calls. Settings and connections are kept for half a minute, database connections as long as they last.

    All that may have to wait is done in a few threads, and not waited for longer than an answer may take.
    """

    def __init__(self) -> None:
        self._desks: dict[str, _Desk] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="mailchimp-webhooks")

    async def knows(self, store_key: str) -> bool:
        """Tell whether a store takes webhooks.

        :param store_key: key of the store in the settings file.
        :raises HTTPException: 503, the settings can't be read.
        """
        if await self._hurry(_settings, store_key) is None:
            return False
        if store_key not in self._desks:
            self._threads.submit(self._desk, store_key)  # so that the first call finds all open
        return True

    async def receive(self, store_key: str, signature: str | None, body: bytes) -> str:
        """Check a call and store what it is about.

        :param store_key: key of the store in the settings file.
        :param signature: the header, if there is one.
        :param body: as it came.
        :return: what was done: ``stored``, or ``ignored``.
        :raises HTTPException: the call is refused; the status says why.
        """
        done: str = await self._hurry(self._receive, store_key, signature, body)
        return done

    async def _hurry(self, work: Any, *arguments: Any) -> Any:
        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
            return await asyncio.wait_for(future, _ANSWER_SECONDS)
        except TimeoutError:
            log.warning("A webhook's call was not worked off in time; Mailchimp calls again.")
            raise HTTPException(503, "the database does not answer in time") from None

    def _receive(self, store_key: str, signature: str | None, body: bytes) -> str:
        desk = self._desk(store_key)
        if desk is None:
            raise HTTPException(404, "no store of this key takes webhooks")
        if not desk.secrets:
            conn_id = desk.settings.mailchimp_conn_id
            log.warning("The extra `webhook_secret` of connection %r is missing: no webhook can be checked.", conn_id)
            raise HTTPException(503, "the secret of the webhook is not configured yet")
        try:
            verified = verify(signature, body, desk.secrets, datetime.now(UTC))
            event = read_event(body, desk.settings.list_id)
        except NotSigned as error:
            raise HTTPException(401, str(error)) from None
        except Malformed as error:
            raise HTTPException(400, str(error)) from None
        if event is None:
            return "ignored"
        if not self._store(desk, event, verified):
            raise HTTPException(409, "a call with this signature was taken before")
        return "stored"

    def _store(self, desk: _Desk, event: WebhookEvent, signature: str) -> bool:
        received = ReceivedEvent(event.type, event.fired_at, event.member_hashes, signature)
        try:
            return store_event(desk.state, desk.settings.key, desk.settings.list_id, received, _STATEMENT)
        except StoreNotRegistered as error:
            log.warning("A webhook's event can't be stored: %s. Let its pull run once.", error)
            raise HTTPException(503, "the store is not registered yet") from None
        except (DBAPIError, NoConnectionFree) as error:
            log.warning("A webhook's event can't be stored now: %s", type(getattr(error, "orig", error)).__name__)
            raise HTTPException(503, "the database can't store the event now") from None

    def _desk(self, store_key: str) -> _Desk | None:
        known = self._desks.get(store_key)
        # A secret is put in right after the webhook was made: its absence isn't kept.
        if known is not None and known.secrets and time.monotonic() - known.read_at < _READ_AGAIN_SECONDS:
            return known
        settings = _settings(store_key)
        if settings is None:
            return None
        try:
            desk = self._open(settings, known)
        except (AirflowNotFoundException, ValueError) as error:
            if known is None:
                log.warning("No webhooks of store %r can be taken: %s", store_key, error)
                raise HTTPException(503, "the connections of the store can't be read") from None
            desk = known  # Airflow's database may be down; what was true half a minute ago will do
        self._desks[store_key] = desk
        return desk

    def _open(self, settings: StoreSettings, known: _Desk | None) -> _Desk:
        secrets = webhook_secrets(BaseHook.get_connection(settings.mailchimp_conn_id).extra_dejson)
        engine = shop_engine(settings.shop_conn_id, HURRIED)
        if known is not None and known.state.engine.url == engine.url:
            engine = known.state.engine
        elif known is not None:
            known.state.engine.dispose()
        return _Desk(settings, StateDatabase(engine, load_stores().state_schema), secrets, time.monotonic())


def _settings(store_key: str) -> StoreSettings | None:
    try:
        stores = load_stores().stores
    except ValueError as error:
        log.warning("No webhooks can be taken: %s", error)
        raise HTTPException(503, "the settings can't be read") from None
    return next((one for one in stores if one.key == store_key and one.enabled and one.webhooks), None)


reception = Reception()


@app.api_route("/webhooks/{store_key}", methods=["GET", "HEAD"])
async def validate(store_key: str) -> dict[str, str]:
    """Answer Mailchimp, which asks for the address before it takes it.

    :param store_key: key of the store in the settings file.
    """
    if not await reception.knows(store_key):
        raise HTTPException(404, "no store of this key takes webhooks")
    return {"status": "ready"}


@app.post("/webhooks/{store_key}")
async def receive(store_key: str, request: Request) -> dict[str, str]:
    """Take a call of Mailchimp's.

    :param store_key: key of the store in the settings file.
    :param request: the call.
    """
    try:
        body = await asyncio.wait_for(_body(request), _BODY_SECONDS)
    except TimeoutError:
        raise HTTPException(408, "the body does not come") from None
    return {"status": await reception.receive(store_key, request.headers.get(SIGNATURE_HEADER), body)}


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(413, "the body is longer than any event")
    return bytes(body)
