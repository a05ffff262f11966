"""The HTTP side: the API under /3.0 with its credentials and limits, and the sandbox's own pages beside it."""

import asyncio
import base64
import binascii
import logging
import re
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, Response

from include.sandbox import campaigns, page
from include.sandbox.account import DEFAULT_LIST
from include.sandbox.api import Reply
from include.sandbox.archives import RESULTS_PATH
from include.sandbox.control import add_control
from include.sandbox.faults import Answered, Fault
from include.sandbox.problems import Problem, key_invalid, key_missing, server_error, too_many_connections
from include.sandbox.records import pack
from include.sandbox.state import Sandbox

API_ROOT = "/3.0"
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_KEY = re.compile(r"[0-9a-f]{32}-[a-z]+[0-9]+")
_TOKEN = re.compile(r"[0-9a-f]{32}(-[a-z]+[0-9]+)?")

log = logging.getLogger(__name__)


def build_app(sandbox: Sandbox) -> FastAPI:
    """Return the application that serves a sandbox."""
    app = FastAPI(title="Mailchimp sandbox", docs_url=None, redoc_url=None, openapi_url=None)

    @app.api_route(API_ROOT, methods=_METHODS)
    @app.api_route(API_ROOT + "/{path:path}", methods=_METHODS)
    async def api(request: Request) -> Response:
        return await _call(sandbox, request)

    @app.get(RESULTS_PATH + "/{name}")
    async def results(name: str, request: Request) -> Response:
        return _download(sandbox, name.removesuffix("-response.tar.gz"), request)

    @app.get("/", response_class=HTMLResponse)
    def overview() -> str:
        return page.render(sandbox)

    @app.get("/sandbox/state")
    def state() -> dict[str, Any]:
        return sandbox.overview()

    @app.get("/sandbox/requests")
    def requests() -> dict[str, Any]:
        return sandbox.requests()

    @app.get("/sandbox/mails")
    def mails() -> dict[str, Any]:
        account = sandbox.account
        with account.lock:
            by_kind = dict(account.mails_by_kind)
            return {"total": sum(by_kind.values()), "by_kind": by_kind, "mails": list(account.mails)}

    @app.post("/sandbox/remind")
    def remind(after_seconds: float = 0) -> dict[str, int]:
        return {"mails": sandbox.remind(after_seconds)}

    @app.post("/sandbox/campaigns")
    def send_campaign(list_id: str = DEFAULT_LIST, title: str = "News", hours_ago: float = 24) -> dict[str, Any]:
        sent_at = datetime.now(UTC) - timedelta(hours=hours_ago)
        campaign_id = campaigns.send_campaign(sandbox.account, list_id, title=title, sent_at=sent_at)
        active = campaigns.let_react(sandbox.account, campaign_id)
        sandbox.save()
        return {"campaign_id": campaign_id, "sent": len(sandbox.account.mailing_for(campaign_id)), "active": active}

    add_control(app, sandbox)
    return app


async def _call(sandbox: Sandbox, request: Request) -> Response:
    begun = time.perf_counter()
    instance = str(uuid.uuid4())
    traffic = sandbox.traffic
    traffic.calls += 1
    traffic.active += 1
    traffic.most_active = max(traffic.most_active, traffic.active)
    path = request.scope["raw_path"].decode("ascii").partition("?")[0].removeprefix(API_ROOT)
    try:
        body = await request.body()
        traffic.bytes_received += len(body)
        reply = await _reply(sandbox, request, path, body, instance)
    finally:
        traffic.active -= 1
    traffic.statuses[reply.status] += 1
    traffic.bytes_sent += len(reply.body)
    sandbox.api.count(request.method, reply.route, reply.status)
    if sandbox.options.log_requests:
        milliseconds = (time.perf_counter() - begun) * 1000
        log.info("%s %s %s %.0f ms", request.method, path or "/", reply.status, milliseconds)
    return _response(reply, instance)


async def _reply(sandbox: Sandbox, request: Request, path: str, body: bytes, instance: str) -> Reply:
    try:
        if sandbox.traffic.active > sandbox.options.max_connections:
            raise too_many_connections()
        if sandbox.options.latency_seconds:
            await asyncio.sleep(sandbox.options.latency_seconds)
        _authorise(request.headers.get("authorization", ""), sandbox.options.api_key)
        method = _method(request)
    except Problem as problem:
        return Reply(problem.status, pack(problem.document(instance)), "refused")

    def answer() -> Reply:
        fault = sandbox.fault(method, path) if sandbox.fault else None
        base_url = str(request.base_url).rstrip("/")
        planned = None if fault else sandbox.faults.on_call(method)
        if isinstance(planned, Answered):
            return Reply(planned.status, planned.body, "fault")
        reply = fault or sandbox.api.answer(method, path, dict(request.query_params), body, instance, base_url)
        sandbox.save()
        if planned is Fault.SERVER_ERROR:
            return Reply(500, pack(server_error().document(instance)), reply.route)
        return reply

    return await run_in_threadpool(answer)


def _method(request: Request) -> str:
    override = request.headers.get("x-http-method-override")
    if override is None:
        return request.method
    if request.method != "POST":
        detail = "The X-HTTP-Method-Override header may only be used with the POST method."
        raise Problem(422, "Invalid Method Override", detail)
    return override.upper()


def _authorise(header: str, api_key: str | None) -> None:
    """Accept HTTP Basic with any user name, or a bearer token."""
    scheme, _, credentials = header.strip().partition(" ")
    key = credentials.strip()
    if scheme.lower() == "basic":
        try:
            key = base64.b64decode(key, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            raise key_invalid() from None
    elif scheme.lower() != "bearer":
        raise key_missing()
    if not key:
        raise key_missing()
    pattern = _TOKEN if scheme.lower() == "bearer" else _KEY
    if key != api_key if api_key is not None else not pattern.fullmatch(key):
        raise key_invalid()


def _response(reply: Reply, instance: str) -> Response:
    headers = {"X-Request-Id": instance}
    if reply.allow:
        headers["Allow"] = ", ".join(reply.allow)
    if reply.status == 204:
        return Response(status_code=204, headers=headers)
    kind = "application/problem+json" if reply.status >= 400 else "application/json"
    if reply.body.startswith(b"<"):
        kind = "text/html"
    headers["Content-Type"] = f"{kind}; charset=utf-8"
    return Response(reply.body, reply.status, headers)


def _download(sandbox: Sandbox, batch_id: str, request: Request) -> Response:
    """Serve results as the object store does: no credentials wanted, errors in its own XML."""
    refusal = sandbox.links.refusal(batch_id, request.url.query, "authorization" in request.headers)
    batch = sandbox.batches.batches.get(batch_id)
    if refusal is None and batch is None:
        refusal = "NoSuchKey"
    archive = sandbox.faults.on_download(batch.archive) if refusal is None and batch is not None else None
    if refusal is None and archive is None:
        refusal = "ExpiredToken"
    sandbox.traffic.downloads[refusal or "ok"] += 1
    if refusal is not None:
        status = {"SignatureDoesNotMatch": 403, "NoSuchKey": 404}.get(refusal or "", 400)
        xml = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{refusal}</Code></Error>"
        return Response(xml, status, media_type="application/xml")
    return Response(archive, media_type="application/x-gzip")
