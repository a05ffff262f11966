"""Batches: accepted at once or refused as a whole, worked off one at a time by a thread, results by link.

The phases go by the clock (pending → preprocessing → started → finalizing → finished); the operations are executed in a
shuffled order, as Mailchimp promises none, each as the API would answer it alone.
"""

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from include.mailchimp.contract import Batch as BatchRequest
from include.mailchimp.contract import Operation
from include.sandbox.api import Api, Reply
from include.sandbox.archives import Links, build_archive, entry
from include.sandbox.exchange import Call, page
from include.sandbox.faults import TOO_MANY_PENDING_TEXT, Doom, Fault, Faults
from include.sandbox.problems import bad_request, not_found, server_error
from include.sandbox.records import Document, now, pack

MAX_PENDING = 500
StandIn = Callable[[str, str], Reply | None]
"""Answers a method and a path instead of the API, or leaves them to it with None."""

_CHUNK = 20  # operations executed under one hold of the account's lock: direct calls wait a few milliseconds at most

log = logging.getLogger(__name__)


@dataclass
class Batch:
    """A batch's life; ``request`` is dropped when it is finished, ``archive`` comes then."""

    id: str
    submitted_at: str
    request: bytes
    status: str = "pending"
    total: int = 0
    finished: int = 0
    errored: int = 0
    completed_at: str = ""
    archive: bytes = b""
    stopped: threading.Event = field(default_factory=threading.Event)
    doom: Doom = field(default_factory=Doom)
    stuck: bool = False


class BatchQueue:
    """The account's batches.

    Args:
        api: executes the operations.
        links: makes the links to results.
        seconds: the least time from being taken up to ``finished``.
        seed: of the shuffling.
        retention: seconds after which a finished batch is forgotten.
        save: called with the batch whenever it should be written to the file (``archive`` or ``stopped`` set at last).
        faults: what befalls batches.
    """

    def __init__(
        self,
        api: Api,
        links: Links,
        seconds: float,
        seed: int | None,
        retention: float = 7 * 86400,
        save: Callable[[Batch], None] = lambda batch: None,
        faults: Faults | None = None,
    ) -> None:
        self.batches: dict[str, Batch] = {}
        self.fault: StandIn | None = None
        self._faults = faults or Faults()
        self._api = api
        self._links = links
        self._seconds = seconds
        self._chance = random.Random(seed)  # noqa: S311 - shuffles results, protects nothing
        self._retention = retention
        self._save = save
        self._due: dict[str, float] = {}
        self._wake = threading.Condition()
        self._closing = threading.Event()
        self._worker = threading.Thread(target=self._work, name="sandbox-batches", daemon=True)
        api.add(
            {
                "/batches": {"GET": self._list, "POST": self._create},
                "/batches/{batch_id}": {"GET": self._get, "DELETE": self._delete},
            }
        )

    def start(self) -> None:
        """Begin to work; unfinished batches from the file are executed from their beginning."""
        self._worker.start()

    def close(self) -> None:
        """Stop after the operations at hand."""
        self._closing.set()
        with self._wake:
            self._wake.notify_all()
        self._worker.join(timeout=10)

    def unfinished(self) -> list[Batch]:
        """Return the batches that Mailchimp hasn't finished, oldest first; any thread may ask."""
        return [batch for batch in list(self.batches.values()) if batch.status != "finished"]

    def restore(self, batch: Batch) -> None:
        """Take over a batch from the file."""
        self.batches[batch.id] = batch
        if batch.status == "finished":
            self._due[batch.id] = time.monotonic() + self._retention

    def _purge(self) -> None:
        for batch_id, due in list(self._due.items()):
            if due < time.monotonic() and (batch := self.batches.get(batch_id)):
                self._forget(batch)

    def _forget(self, batch: Batch) -> None:
        batch.stopped.set()
        self.batches.pop(batch.id, None)
        self._due.pop(batch.id, None)
        self._save(batch)

    def _create(self, call: Call) -> Document:
        """POST /batches: the shape of all operations is checked before any is run."""
        request = call.parse(BatchRequest)
        if len(self.unfinished()) >= MAX_PENDING:
            raise bad_request(TOO_MANY_PENDING_TEXT)
        doom = self._faults.on_post(request.operations)
        body = call.body.encode() if isinstance(call.body, str) else call.body
        batch = Batch(secrets.token_hex(5), now(), body, doom=doom)
        reply = self._render(batch, call)  # before the worker may take it up: Mailchimp says pending
        self.batches[batch.id] = batch
        self._save(batch)
        with self._wake:
            self._wake.notify_all()
        if Fault.REPLY_LOST in doom:
            raise server_error()
        return reply

    def _list(self, call: Call) -> Document:
        """GET /batches, oldest first."""
        self._purge()
        found = dict(self.batches)  # the worker may forget one meanwhile
        return page(call, "batches", list(found), lambda one: self._render(found[one], call))

    def _get(self, call: Call) -> Document:
        """GET /batches/{id}: each time with a new link to the results."""
        return self._render(self._existing(call), call)

    def _delete(self, call: Call) -> None:
        """DELETE /batches/{id}: stops it; the results are lost."""
        self._forget(self._existing(call))

    def _existing(self, call: Call) -> Batch:
        self._purge()
        batch = self.batches.get(call.ids["batch_id"])
        if batch is None:
            raise not_found()
        return batch

    def _render(self, batch: Batch, call: Call) -> Document:
        linked = batch.status == "finished" and Fault.LINK_MISSING not in batch.doom
        return {
            "id": batch.id,
            "status": batch.status,
            "total_operations": batch.total,
            "finished_operations": batch.finished,
            "errored_operations": batch.errored,
            "submitted_at": batch.submitted_at,
            "completed_at": batch.completed_at,
            "response_body_url": self._links.url(call.base_url, batch.id) if linked else "",
        }

    def _next(self) -> Batch | None:
        with self._wake:
            while not self._closing.is_set():
                for batch in self.unfinished():
                    if not batch.stuck:
                        return batch
                self._wake.wait()
        return None

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            try:
                self._run(batch)
            except Exception:
                log.exception("batch %s failed inside the sandbox and is forgotten", batch.id)
                self._forget(batch)

    def _run(self, batch: Batch) -> None:
        if Fault.BATCH_DROPPED in batch.doom:
            self._forget(batch)
            return
        begun = time.monotonic()
        batch.status, batch.finished, batch.errored = "preprocessing", 0, 0
        operations = BatchRequest.model_validate_json(batch.request).operations
        self._chance.shuffle(operations)
        self._until(begun + self._seconds * 0.25, batch)
        batch.total = len(operations)
        batch.status = "started"
        if Fault.BATCH_NEVER_ENDS in batch.doom:
            self._execute(batch, operations[: len(operations) // 2])
            batch.stuck = True
            return
        entries = self._execute(batch, operations)
        if Fault.RESULTS_MISSING in batch.doom:
            missing = set(batch.doom.victims(len(entries)))
            entries = [one for number, one in enumerate(entries) if number not in missing]
        self._until(begun + self._seconds * 0.75, batch)
        batch.status = "finalizing"
        archive = build_archive(batch.id, entries, self._chance)
        self._until(begun + self._seconds, batch)
        if batch.stopped.is_set() or self._closing.is_set():
            return
        if Fault.BATCH_VANISHED in batch.doom:
            self._forget(batch)
            return
        batch.archive, batch.request, batch.completed_at = archive, b"", now()
        self._save(batch)
        batch.status = "finished"
        self._due[batch.id] = time.monotonic() + self._retention
        log.info("batch %s: %s operations, %s errors", batch.id, batch.total, batch.errored)

    def _execute(self, batch: Batch, operations: list[Operation]) -> list[str]:
        entries: list[str] = []
        failing = batch.doom.victims(len(operations)) if Fault.OPERATIONS_FAIL in batch.doom else ()
        executed = {victim: bool(number % 2) for number, victim in enumerate(failing)}
        for start in range(0, len(operations), _CHUNK):
            if batch.stopped.is_set() or self._closing.is_set():
                break
            with self._api.account.lock:
                entries += [
                    self._one(batch, operation, executed.get(number))
                    for number, operation in enumerate(operations[start : start + _CHUNK], start)
                ]
            time.sleep(0.0002)  # the lock is not fair: let a waiting call have it
        return entries

    def _one(self, batch: Batch, operation: Operation, executed: bool | None = None) -> str:
        """Execute an operation and return its result: a 500 where `executed` says whether it was all the same."""
        path, _, text = operation.path.partition("?")
        query = {name: str(value) for name, value in operation.params.items()}
        query |= dict(parse_qsl(text))
        if path.startswith("/batches"):
            path = "/a-batch-holds-no-batches"
        reply = self.fault(operation.method, path) if self.fault else None
        if reply is None and executed is not False:
            reply = self._api.answer(operation.method, path, query, operation.body, "")
        if reply is None or executed is not None:
            reply = Reply(500, pack(server_error().document("")), "failed on the way")
        batch.finished += 1
        batch.errored += reply.status >= 400
        self._api.count(f"operation {operation.method}", reply.route, reply.status)
        return entry(reply.status, operation.operation_id or None, reply.body)

    def _until(self, moment: float, batch: Batch) -> None:
        while (left := moment - time.monotonic()) > 0 and not self._closing.is_set() and not batch.stopped.is_set():
            self._closing.wait(min(left, 0.05))
