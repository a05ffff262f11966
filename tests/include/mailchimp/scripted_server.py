"""A real HTTP server on this machine that says what a test tells it to: also what no honest server would."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PROBLEM = "application/problem+json; charset=utf-8"


@dataclass(frozen=True)
class Reply:
    """One scripted reply. `cut` bytes are promised but not sent; `drop` hangs up without a word."""

    status: int = 200
    body: bytes = b"{}"
    content_type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    drop: bool = False
    delay: float = 0.0


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    raw_target: str


def json_reply(document: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(document).encode())


def problem_reply(status: int, title: str, detail: str = "", errors: list[dict[str, str]] | None = None) -> Reply:
    document: dict[str, Any] = {"title": title, "status": status, "detail": detail, "instance": "0000-1111"}
    if errors is not None:
        document["errors"] = errors
    return Reply(status, json.dumps(document).encode(), PROBLEM)


def html_reply(status: int, page: str = "<HTML><HEAD><TITLE>Access Denied</TITLE></HEAD></HTML>") -> Reply:
    return Reply(status, page.encode(), "text/html")


class ScriptedServer:
    """Answers requests in the order of `say`, or by a function; the last reply is repeated."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._replies: deque[Reply] = deque()
        self._answer: Callable[[Received], Reply] | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler_class())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def base_url(self) -> str:
        return f"{self.url}/3.0"

    def say(self, *replies: Reply) -> None:
        self._answer = None
        self._replies = deque(replies)

    def answer_by(self, answer: Callable[[Received], Reply]) -> None:
        self._answer = answer

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _next(self, request: Received) -> Reply:
        with self._lock:
            self.received.append(request)
            if self._answer:
                return self._answer(request)
            return self._replies.popleft() if len(self._replies) > 1 else self._replies[0]

    def _enter(self, step: int) -> None:
        with self._lock:
            self._at_once += step
            self.most_at_once = max(self.most_at_once, self._at_once)

    def _handler_class(script: ScriptedServer) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
                script._enter(+1)
                try:
                    reply = script._next(Received(self.command, parts.path, query, dict(self.headers), body, self.path))
                    time.sleep(reply.delay)
                finally:
                    script._enter(-1)  # before the client hears of it and sends the next request
                self.send(reply)

            def send(self, reply: Reply) -> None:
                if reply.drop:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                if reply.status != 204:
                    self.send_header("Content-Length", str(len(reply.body) + reply.cut))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if reply.status != 204:
                    self.wfile.write(reply.body)
                if reply.cut:
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
