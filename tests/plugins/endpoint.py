"""Somebody for Mailchimp to call: a store that takes webhooks, and a server with the plugin's app."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
import uvicorn

from include.sandbox.account import DEFAULT_LIST
from include.sandbox.deliveries import signature
from include.state.stores import register_store
from mailchimp_airflow import webhooks
from mailchimp_airflow.hooks.shop import HURRIED
from tests.pipeline import SETTINGS, Pipeline

ANN = "ann@mail.little.shop"
SECRET = "0123456789abcdef0123456789abcdef"
FORM = {
    "type": "unsubscribe",
    "fired_at": "2026-11-21 11:59:58",
    "data[list_id]": DEFAULT_LIST,
    "data[email]": ANN,
    "data[merges][FNAME]": "Ann",
}
BODY = urlencode(FORM).encode()


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Run an ASGI app as Airflow's API server does; yields its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@dataclass
class Endpoint:
    """A store that takes webhooks, and a server with the plugin's app."""

    pipeline: Pipeline
    monkeypatch: pytest.MonkeyPatch
    file: Path
    url: str = ""

    def configure(self, **settings: Any) -> None:
        self.file.write_text(json.dumps({"stores": [SETTINGS | {"webhooks": True} | settings]}), encoding="utf-8")
        self.forget()

    def connect(self, **extra: Any) -> None:
        known = {"conn_type": "mailchimp", "password": self.pipeline.sandbox.api_key, "host": self.pipeline.sandbox.url}
        self.monkeypatch.setenv("AIRFLOW_CONN_MAILCHIMP", json.dumps(known | {"extra": extra}))
        self.forget()

    def connect_shop(self, **fields: Any) -> None:
        url = self.pipeline.engine.url
        known = {"conn_type": "postgres", "host": url.query["host"], "login": "postgres", "schema": url.database}
        self.monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", json.dumps(known | fields))
        self.forget()

    def register(self, **parts: Any) -> None:
        """Make the webhook at Mailchimp, and note its secret in the connection."""
        made = self.pipeline.client.post(
            f"/lists/{DEFAULT_LIST}/webhooks", json={"url": f"{self.url}/webhooks/demo", **parts}
        )
        self.connect(webhook_secret=made["signing_secret"])

    def be_patient(self) -> None:
        """Give the database longer than a webhook may take: the machine may be doing something else."""
        self.monkeypatch.setattr(webhooks, "_ANSWER_SECONDS", 20)
        self.monkeypatch.setattr(webhooks, "_STATEMENT", timedelta(seconds=15))
        self.monkeypatch.setitem(HURRIED, "connect_timeout", "15")

    def forget(self) -> None:
        """Have settings and connections read anew, as after half a minute."""
        self.monkeypatch.setattr(webhooks, "reception", webhooks.Reception())

    def call(
        self, body: bytes = BODY, header: str | None = None, path: str = "demo", **options: Any
    ) -> requests.Response:
        """Call as Mailchimp does, signed unless a header says otherwise (empty: none)."""
        signed = signature(SECRET, int(time.time()), body) if header is None else header
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        headers |= {"X-Mailchimp-Signature": signed} if signed else {}
        return requests.post(f"{self.url}/webhooks/{path}", data=body, headers=headers, timeout=30, **options)

    def stored(self) -> list[tuple[Any, ...]]:
        return self.pipeline.sql("SELECT type, member_hash FROM mailchimp.webhook_event ORDER BY webhook_event_id")


@contextmanager
def open_endpoint(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Endpoint]:
    """Serve the app for the pipeline's store, which a run has registered before."""
    monkeypatch.setenv("STORES_FILE", str(folder / "stores.yaml"))
    endpoint = Endpoint(pipeline, monkeypatch, folder / "stores.yaml")
    endpoint.be_patient()
    endpoint.configure()
    endpoint.connect(webhook_secret=SECRET)
    endpoint.connect_shop()
    with pipeline.state.begin() as connection:
        register_store(connection, pipeline.settings, pipeline.sandbox.state.account.id)
    with served(webhooks.app) as url:
        endpoint.url = url
        yield endpoint
