"""Requests that reach the sandbox without a network: thousands of runs would spend half their time on sockets.

Method, path, query, body and reply are those of HTTP; credentials and limits, which only the server checks, are left
out, and the results of batches are downloaded over HTTP as always. Here a run can be made to die, or something to
happen at Mailchimp, at one of its requests.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from include.sandbox.app import API_ROOT
from include.sandbox.server import SandboxServer

Hook = Callable[[int], None]
"""Is told the number of a request (1, 2, …); what it raises ends the run there."""


class Wire(BaseAdapter):
    """Answers the requests of a session out of the sandbox's memory.

    ``before`` is called before each request, ``after`` when Mailchimp has done it and the reply is on its way;
    ``requests`` counts them.
    """

    def __init__(self, sandbox: SandboxServer) -> None:
        super().__init__()
        self._sandbox = sandbox
        self.requests = 0
        self.before: Hook | None = None
        self.after: Hook | None = None

    def listen(self, before: Hook | None = None, after: Hook | None = None) -> None:
        """Count requests anew, and call these at each of them."""
        self.requests, self.before, self.after = 0, before, after

    def send(self, request: requests.PreparedRequest, **_options: Any) -> requests.Response:  # type: ignore[override]
        self.requests += 1
        number = self.requests
        if self.before is not None:
            self.before(number)
        response = self._answer(request)
        if self.after is not None:
            self.after(number)
        return response

    def close(self) -> None:
        pass

    def _answer(self, request: requests.PreparedRequest) -> requests.Response:
        address = urlsplit(request.url or "")
        path, query = address.path.removeprefix(API_ROOT) or "/", dict(parse_qsl(address.query))
        origin = self._sandbox.origin
        reply = self._sandbox.state.api.answer(request.method or "", path, query, request.body or b"", "", origin)
        response = requests.Response()
        response.request, response.url, response.status_code = request, request.url or "", reply.status
        kind = "application/problem+json" if reply.status >= 400 else "application/json"
        response.headers["Content-Type"] = f"{kind}; charset=utf-8"
        response.raw = HTTPResponse(io.BytesIO(reply.body), status=reply.status, preload_content=False)
        return response
