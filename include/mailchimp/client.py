"""The Mailchimp Marketing API 3.0: the only code, with `results` and `transport`, that does HTTP.

Facts: base URL and authentication, paging (`count` ≤ 1000, `offset`, `total_items`), problem documents, batches and
the 120 s limit per call are as in the API's reference; the behaviour of a lost POST reply is ours: it is never
repeated blindly, since there are no idempotency keys.
"""

from __future__ import annotations

import json as json_text
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, BinaryIO
from urllib.parse import quote

import requests

from include.mailchimp.batches import BatchPhase, BatchStatus
from include.mailchimp.credentials import base_url_for
from include.mailchimp.errors import (
    BatchReplyLost,
    ConnectionFailed,
    ServerError,
    Throttled,
    TooManyPendingBatches,
    UnexpectedReply,
    problem_from,
)
from include.mailchimp.results import open_results
from include.mailchimp.retry import RetryPolicy
from include.mailchimp.throttle import Throttle
from include.mailchimp.transport import send

__all__ = ["BatchPhase", "BatchStatus", "ClientMetrics", "MailchimpClient", "base_url_for"]

Json = dict[str, Any]
MOST_PER_PAGE = 1000
_READS = 3  # of a listing that changes meanwhile


@dataclass(frozen=True)
class ClientMetrics:
    """What a client has done so far.

    Attributes:
        calls: requests sent, repeats included.
        bytes_sent: request bodies.
        bytes_received: reply bodies, unpacked, and result archives, packed.
        wait_seconds: waiting for a free connection and before repeats, summed over threads.
        throttled: replies that told us to slow down.
    """

    calls: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    wait_seconds: float = 0.0
    throttled: int = 0


class MailchimpClient:
    """Calls the API through one session; safe to use from several threads."""

    def __init__(
        self,
        session: requests.Session,
        base_url: str,
        *,
        throttle: Throttle | None = None,
        timeout: tuple[float, float] = (10.0, 60.0),
        retry: RetryPolicy | None = None,
    ) -> None:
        """Wrap a session.

        Args:
            session: carries the authentication; the client never changes it.
            base_url: as `base_url_for` gives it, ending in ``/3.0``.
            throttle: shared by all clients of an account in this process; by default one of its own.
            timeout: seconds to connect, seconds to wait for the reply (Mailchimp gives up after 120).
            retry: how often and how long to repeat; by default 8 attempts within 4 minutes.
        """
        self.base_url = base_url.rstrip("/")
        self._session = session
        self._throttle = throttle or Throttle()
        self._timeout = timeout
        self._retry = retry or RetryPolicy()
        self._metrics = ClientMetrics()
        self._metrics_lock = threading.Lock()

    @property
    def metrics(self) -> ClientMetrics:
        """The counters so far."""
        return self._metrics

    def ping(self) -> str:
        """Check the credentials.

        Returns:
            ``Everything's Chimpy!``

        Raises:
            AuthenticationFailed: the key is wrong. Every other MailchimpError is possible, as for all calls.
        """
        reply = self.get("/ping")
        if not reply or "health_status" not in reply:
            raise UnexpectedReply("Unexpected reply", "to /ping; check the host of the connection")
        return str(reply["health_status"])

    def account(self) -> Json:
        """Return the account the credentials belong to."""
        return self.get("/") or {}

    def get(self, path: str, *, params: Mapping[str, Any] | None = None) -> Json | None:
        """GET `path` (relative to the base URL, quoted). Returns the JSON object; raises MailchimpError."""
        return self._call("GET", path, params=params)

    def post(self, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None) -> Json | None:
        """POST `json`; repeated only when it was certainly not processed. Returns the JSON object, None for 204."""
        return self._call("POST", path, body=_encode(json), params=params)

    def put(self, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None) -> Json | None:
        """PUT `json`. Returns the JSON object, None for 204; raises MailchimpError."""
        return self._call("PUT", path, body=_encode(json), params=params)

    def patch(self, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None) -> Json | None:
        """PATCH with `json`. Returns the JSON object, None for 204; raises MailchimpError."""
        return self._call("PATCH", path, body=_encode(json), params=params)

    def delete(self, path: str, *, params: Mapping[str, Any] | None = None) -> Json | None:
        """DELETE `path`. Returns None for 204. A repeat after a lost reply can raise NotFound: then it is done."""
        return self._call("DELETE", path, params=params)

    def list_all(
        self,
        path: str,
        collection: str,
        params: Mapping[str, Any] | None = None,
        page_size: int = MOST_PER_PAGE,
        fields: list[str] | None = None,
    ) -> Iterator[Json]:
        """Page through a collection.

        Args:
            path: the collection's path.
            collection: name of the list in the reply, e.g. ``members``.
            params: filters and order.
            page_size: items per request, 1 to 1000.
            fields: fields of the items to fetch, e.g. ``["id", "status"]``; all by default.

        Yields:
            The items, page by page.

        Raises:
            UnexpectedReply: the number fetched differs from the last `total_items` (the collection changed
                while it was read, or a page was cut): what was yielded is incomplete, read it again.
        """
        query = dict(params or {})
        if fields:
            query["fields"] = ",".join([*(f"{collection}.{field}" for field in fields), "total_items"])
        fetched = 0
        while True:
            reply = self.get(path, params={**query, "count": page_size, "offset": fetched}) or {}
            items, total = reply.get(collection), reply.get("total_items")
            if not isinstance(items, list) or not isinstance(total, int):
                raise UnexpectedReply("Unexpected reply", f"no list {collection!r} with total_items")
            yield from items
            fetched += len(items)
            if not items or fetched >= total:
                break
        if fetched != total:
            raise UnexpectedReply("Incomplete listing", f"{fetched} of {total} {collection} fetched; read it again")

    def create_batch(self, operations: bytes) -> BatchStatus:
        """Post a batch.

        Args:
            operations: the complete text of the JSON array of operations, UTF-8.

        Returns:
            The new batch, pending.

        Raises:
            BatchReplyLost: no readable reply; the batch may exist and run. Post again only what may be done twice.
            Invalid: the whole batch is refused, nothing of it runs.
            TooManyPendingBatches: the account has no room for it now; nothing of it runs.
        """
        try:
            reply = self._call("POST", "/batches", body=b'{"operations":' + operations + b"}")
            return BatchStatus.parse(reply)
        except (ServerError, UnexpectedReply) as error:
            raise BatchReplyLost("Batch reply lost", f"{error}; the batch may exist") from error
        except ConnectionFailed as error:
            if not error.request_sent:
                raise
            raise BatchReplyLost("Batch reply lost", f"{error}; the batch may exist") from error

    def get_batch(self, batch_id: str) -> BatchStatus:
        """Return a batch; when finished with a fresh link to its results. Raises NotFound when it has expired."""
        return BatchStatus.parse(self.get(f"/batches/{quote(batch_id, safe='')}"))

    def list_batches(self, count: int = 100) -> list[BatchStatus]:
        """Return the account's batches, without links to results.

        Args:
            count: how many at most; more than 1000 are fetched in pages.
        """
        batches: list[BatchStatus] = []
        while len(batches) < count:
            asked = min(count - len(batches), MOST_PER_PAGE)
            page = self.get("/batches", params={"count": asked, "offset": len(batches)}) or {}
            found = [replace(BatchStatus.parse(batch), response_body_url=None) for batch in page.get("batches") or []]
            batches += found
            if len(found) < asked:
                break
        return batches

    def batches_since(self, moment: datetime) -> list[BatchStatus]:
        """Return the account's batches that were submitted at or after a moment, without links to results.

        Nothing is promised about the order of the listing, so all of it is read; batches may come and expire meanwhile.

        Args:
            moment: aware time, by Mailchimp's clock.

        Raises:
            UnexpectedReply: the listing changed every time it was read.
        """
        fields = ("id", "status", "total_operations", "submitted_at")
        query = {"fields": ",".join([*(f"batches.{field}" for field in fields), "total_items"])}
        for _ in range(_READS):
            found: dict[str, BatchStatus] = {}
            offset = 0
            while True:
                reply = self.get("/batches", params={**query, "count": MOST_PER_PAGE, "offset": offset}) or {}
                page: Any = reply.get("batches")
                total: Any = reply.get("total_items")
                if not isinstance(page, list) or not isinstance(total, int):
                    raise UnexpectedReply("Unexpected reply", "no list of batches with total_items")
                found |= {batch.id: batch for batch in map(BatchStatus.parse, page)}
                offset += len(page)
                if not page or offset >= total:
                    break
            if len(found) >= total:
                return [one for one in found.values() if one.submitted_at is None or one.submitted_at >= moment]
        raise UnexpectedReply("Incomplete listing", "the list of batches changed while it was read; read it again")

    def delete_batch(self, batch_id: str) -> None:
        """Stop a batch. Its results are lost: which operations ran stays unknown."""
        self.delete(f"/batches/{quote(batch_id, safe='')}")

    def download_results(self, url: str) -> AbstractContextManager[BinaryIO]:
        """Download a batch's result archive, for `archive.read_results`.

        Args:
            url: `response_body_url` of a batch fetched just now.

        Returns:
            A context manager giving the complete archive as a binary stream (on disk when large).

        Raises:
            ResultLinkExpired: get the batch again for a new link.
            ArchiveTruncated: it came incomplete; likewise.
        """
        return open_results(url, self._session, self._timeout, self._retry, self._sleep, self._count_download)

    def _call(
        self, method: str, path: str, *, body: bytes | None = None, params: Mapping[str, Any] | None = None
    ) -> Json | None:
        return self._retry.run(
            lambda: self._call_once(method, path, body, params), method=method, path=path, sleep=self._sleep
        )

    def _call_once(self, method: str, path: str, body: bytes | None, params: Mapping[str, Any] | None) -> Json | None:
        request = requests.Request(method, self.base_url + path, data=body, params=_query(params))
        if body is not None:
            request.headers["Content-Type"] = "application/json"
        with self._throttle.slot() as waited:
            began = time.monotonic()
            self._count(calls=1, bytes_sent=len(body or b""), wait_seconds=waited)
            reply = send(self._session, self._session.prepare_request(request), timeout=self._timeout)
        self._count(bytes_received=len(reply.content))
        if not 200 <= reply.status_code < 300:
            error = problem_from(reply.status_code, reply.headers.get("Content-Type", ""), reply.content)
            if isinstance(error, Throttled) and not isinstance(error, TooManyPendingBatches):
                self._throttle.slow_down(began)
                self._count(throttled=1)
            raise error
        return _decode(reply)

    def _sleep(self, seconds: float) -> None:
        self._count(wait_seconds=seconds)
        self._throttle.sleep(seconds)

    def _count_download(self, size: int) -> None:
        self._count(calls=1, bytes_received=size)

    def _count(self, **more: float) -> None:
        with self._metrics_lock:
            now = self._metrics
            self._metrics = replace(now, **{name: getattr(now, name) + value for name, value in more.items()})


def _encode(document: Any) -> bytes | None:
    return None if document is None else json_text.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def _query(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Booleans as the API wants them; absent values left out."""
    given = {name: value for name, value in (params or {}).items() if value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()}


def _decode(reply: requests.Response) -> Json | None:
    if reply.status_code == 204 or not reply.content:
        return None
    try:
        document = json_text.loads(reply.content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        hint = "a reply that is no JSON object; check the host of the connection"
        raise UnexpectedReply("Unexpected reply", hint, status=reply.status_code)
    return document
