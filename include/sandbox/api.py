"""The API as a function: method, path, query and body in, status and JSON text out. HTTP and batches both call it."""

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from include.sandbox import (
    audiences,
    campaigns,
    carts,
    customers,
    groups,
    members,
    merge_fields,
    orders,
    products,
    promotions,
    reports,
    segments,
    stores,
    tags,
    webhooks,
)
from include.sandbox.account import Account
from include.sandbox.exchange import Call, Handler, Routes, filtered, lock_for
from include.sandbox.problems import Problem, method_not_allowed, not_found, server_error
from include.sandbox.records import Document, pack

HEALTHY = "Everything's Chimpy!"
Node = dict[str | None, Any]
_ANY = None  # key of the branch for a placeholder
_END = ""  # key of what a path leads to: no segment is empty

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: JSON text ("" for 204), and the methods of the resource when the wrong one was used."""

    status: int
    body: bytes
    route: str
    allow: tuple[str, ...] = ()


def ping(_call: Call) -> Document:
    """GET /ping."""
    return {"health_status": HEALTHY}


def account_root(call: Call) -> Document:
    """GET /."""
    return {
        "account_id": call.account.id,
        "login_id": "100001",
        "account_name": "Sandbox",
        "email": "owner@sandbox.invalid",
        "first_name": "",
        "last_name": "",
        "role": "owner",
        "pricing_plan_type": "monthly",
        "account_timezone": "UTC",
        "total_subscribers": sum(
            audiences.count_by_status(call.account, list_id).get("subscribed", 0) for list_id in call.account.lists
        ),
    }


OWN_ROUTES: Routes = {"/": {"GET": account_root}, "/ping": {"GET": ping}}
_FAMILIES = (
    OWN_ROUTES,
    *(part.ROUTES for part in (audiences, members, tags, merge_fields, groups, segments, webhooks)),
    *(part.ROUTES for part in (stores, products, customers, orders, carts, promotions)),
    *(part.ROUTES for part in (campaigns, reports)),
)


class Api:
    """Finds the handler of a path, runs it under the account's lock and counts what happened."""

    def __init__(self, account: Account, options: frozenset[str] = frozenset()) -> None:
        self.account = account
        self.options = options
        self.counts: Counter[str] = Counter()
        self._count_lock = threading.Lock()
        self._tree: Node = {}
        for family in _FAMILIES:
            self.add(family)

    def add(self, routes: Routes) -> None:
        """Add a family of resources."""
        for template, handlers in routes.items():
            node, names = self._tree, []
            for part in _segments(template):
                placeholder = part.startswith("{")
                if placeholder:
                    names.append(part[1:-1])
                node = node.setdefault(_ANY if placeholder else part, {})
            node[_END] = (template, names, handlers)

    def count(self, method: str, route: str, status: int) -> None:
        """Count one call or operation by method, route and status."""
        with self._count_lock:
            self.counts[f"{method} {route} {status}"] += 1

    def answer(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | str, instance: str, base_url: str = ""
    ) -> Reply:
        """Answer one call.

        Args:
            method: upper-case HTTP method.
            path: percent-encoded path below /3.0, without the query.
            query: decoded query parameters.
            body: JSON text, "" for none.
            instance: request id for error documents.
            base_url: where the caller reached the sandbox, for links (no trailing slash).

        Returns:
            The reply; a refusal is a reply too.
        """
        route = "unknown"
        try:
            route, ids, handlers = self._find(path)
            handler = _choose(handlers, method)
            call = Call(self.account, method, body, query, ids, self.options, base_url)
            with lock_for(handler, self.account):
                document = handler(call)
            if document is None:
                return Reply(204, b"", route)
            return Reply(200, pack(filtered(document, query) if query else document), route)
        except Problem as problem:
            return Reply(problem.status, pack(problem.document(instance)), route, problem.allow)
        except Exception:
            log.exception("%s %s failed inside the sandbox", method, route)
            return Reply(500, pack(server_error().document(instance)), route)

    def _find(self, path: str) -> tuple[str, dict[str, str], Mapping[str, Handler]]:
        node, values = self._tree, []
        for part in _segments(path):
            if part in node:
                node = node[part]
            elif _ANY in node:
                values.append(unquote(part))
                node = node[_ANY]
            else:
                raise not_found()
        if _END not in node:
            raise not_found()
        route, names, handlers = node[_END]
        return route, dict(zip(names, values, strict=True)), handlers


def _segments(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _choose(handlers: Mapping[str, Handler], method: str) -> Handler:
    handler = handlers.get(method)
    if handler is None:
        raise method_not_allowed(sorted(handlers))
    return handler
