"""A Mailchimp client that writes nothing: it reads from the real account, notes what it is given, and plays the rest.

Every call goes through one gate. A GET is passed on. Anything else is counted, and answered as Mailchimp would: a batch
is finished at once, each of its operations by what Mailchimp holds of the record now. What can't be known without
writing is taken to go well: that a payload, a campaign or an address is accepted, and that batches of real runs that
Mailchimp is still working on succeed.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, Final
from urllib.parse import quote, unquote

from include.config.stores import StoreSettings
from include.mailchimp.batches import BatchStatus
from include.mailchimp.client import ClientMetrics, Json, MailchimpClient
from include.mailchimp.errors import NotFound
from include.rehearse.differences import differences
from include.rehearse.forecast import Forecast, Kind
from include.rehearse.state import PrivateState, Sent
from include.state.stores import MEMBERS
from include.transform.entities import ENTITIES

MOST_LOOKUPS: Final = 2_000
"""Records that are looked up at Mailchimp; beyond, the ledger is believed."""

_LINK = "rehearsal:"
_GONE = json.dumps({"title": "Resource Not Found", "status": 404, "detail": "There is none."})
_THERE = json.dumps({"title": "Invalid Resource", "status": 400, "detail": "It already exists."})

Watch = Callable[[str, str], None]


@dataclass(frozen=True)
class _Answer:
    operation_id: str
    status: int
    response: str = ""


class RehearsalClient(MailchimpClient):
    """Plays Mailchimp for a run on a `PrivateState`.

    Args:
        real: client of the account; only its GETs are used.
        state: the run's state tables.
        settings: of the store.
        forecast: is told of everything that would be written.
        watch: is called with method and path of each operation.
        most_lookups: how many records are looked up.
    """

    def __init__(
        self,
        real: MailchimpClient,
        state: PrivateState,
        settings: StoreSettings,
        forecast: Forecast,
        watch: Watch | None = None,
        most_lookups: int = MOST_LOOKUPS,
    ) -> None:
        # Not MailchimpClient's own: without its session, this object can't send anything.
        self.base_url = real.base_url
        self._real = real
        self._state = state
        self._forecast = forecast
        self._watch: Watch = watch or (lambda method, path: None)
        self._lookups = most_lookups
        self._patience = timedelta(minutes=settings.batch_timeout_minutes)
        self._store_path = f"/ecommerce/stores/{settings.store_id}"
        self._store_is_new = False
        self._store_changes: Json = {}
        self._deleted: set[str] = set()  # by single calls, of which there are few
        self._batches: dict[str, list[_Answer]] = {}  # until their answers are read: as many as may be open
        self._given = 0

    @property
    def metrics(self) -> ClientMetrics:
        """What reading has cost."""
        return self._real.metrics

    def batches_since(self, moment: datetime) -> list[BatchStatus]:
        """Return the account's batches that have ended: a rehearsal waits for none."""
        return [batch for batch in super().batches_since(moment) if batch.status.is_terminal]

    def download_results(self, url: str) -> AbstractContextManager[BinaryIO]:
        """Return the answers of a batch of the rehearsal; download those of a real one."""
        if not url.startswith(_LINK):
            return self._real.download_results(url)
        return _archive(self._batches.pop(url.removeprefix(_LINK)))

    def _call(
        self, method: str, path: str, *, body: bytes | None = None, params: Mapping[str, Any] | None = None
    ) -> Json | None:
        if method == "GET":
            return self._read(path, params)
        document = json.loads(body) if body else {}
        if (method, path) == ("POST", "/batches"):
            return self._take(document["operations"], len(body or b""))
        self._forecast.count_call(method, path)
        owner = (document.get("customer") or {}).get("id") if path.startswith(f"{self._store_path}/orders/") else None
        if owner is not None:
            self._state.note_orders([(unquote(path.rpartition("/")[2]), owner)])
        if method == "DELETE":
            self._deleted.add(path)
        elif (method, path) == ("POST", "/ecommerce/stores"):
            self._store_is_new, self._store_changes = True, document
        elif path == self._store_path:
            self._store_changes = self._store_changes | document
        return {"id": self._next()}

    def _next(self) -> int:
        self._given += 1
        return self._given

    # What is read

    def _read(self, path: str, params: Mapping[str, Any] | None) -> Json | None:
        if path.startswith("/batches/"):
            return self._batch(path.removeprefix("/batches/"))
        if path == self._store_path and self._store_changes:
            held = {} if self._store_is_new else self._real.get(path) or {}
            return held | self._store_changes
        customer_id = (params or {}).get("customer_id")
        if path == f"{self._store_path}/orders" and customer_id is not None:
            found = self._state.orders_of(customer_id, list(self._orders(path, customer_id)))
            return {"orders": [{"id": one} for one in found], "total_items": len(found)}
        return self._real.get(path, params=params)

    def _orders(self, path: str, customer_id: str) -> Iterator[str]:
        if not self._store_is_new:
            listed = self._real.list_all(path, "orders", {"customer_id": customer_id}, fields=["id"])
            yield from (order["id"] for order in listed)

    def _batch(self, batch_id: str) -> Json | None:
        """Return one of the rehearsal's batches, finished; a real one as it is, or as it will be."""
        if batch_id in self._batches:
            return _finished(batch_id)
        real = self._real.get(f"/batches/{batch_id}")
        posted = self._state.posted(batch_id)
        if real is None or real.get("status") == "finished" or posted is None:
            return real
        since, operations = posted
        if datetime.now(UTC) - since > self._patience:
            return real  # a run would give it up
        self._batches[batch_id] = [_Answer(name, 204 if method == "DELETE" else 200) for name, method in operations]
        return _finished(batch_id)

    # What would be written

    def _take(self, operations: list[Json], size: int) -> Json:
        token = operations[0]["operation_id"].rpartition("-")[0]
        sent = self._state.sent(token)
        entity = self._forecast[sent[0].entity]
        entity.batches += 1
        entity.bytes += size
        batch_id = f"rehearsal-{self._next()}"
        orders: list[tuple[str, str | None]] = []
        answers = []
        for operation, known in zip(operations, sent, strict=True):
            self._watch(operation["method"], operation["path"])
            body = json.loads(operation["body"]) if operation.get("body") else {}
            answers.append(self._answer(operation, known, body))
            if known.entity == "orders" and known.child is None:
                orders.append((known.record_id, (body.get("customer") or {}).get("id")))
        if orders:
            self._state.note_orders(orders)
        self._batches[batch_id] = answers
        return _finished(batch_id) | {"total_operations": len(operations)}

    def _answer(self, operation: Json, known: Sent, body: Json) -> _Answer:
        name, method = operation["operation_id"], operation["method"]
        kind = _kind(method, known)
        self._tally(kind, known)
        if method == "DELETE":
            where = f"{known.record_id}/{known.child}" if known.child else known.record_id
            self._forecast[known.entity].add_sample(kind, where)
            return _Answer(name, 204)
        path = f"{operation['path']}/{quote(body['id'], safe='')}" if method == "POST" else operation["path"]
        asks = known.entity != MEMBERS and (known.may_hold or method != "PUT")
        example = kind == "update" and self._forecast[known.entity].wants_sample(kind)
        held, certain = self._look_up(known, path) if asks or example else (None, False)
        found = differences(known.entity, body, held) if example and held is not None else ()
        self._forecast[known.entity].add_sample(kind, known.record_id, found)
        self._forecast.unchecked += asks and not certain
        if not asks or not certain:
            return _Answer(name, 200, "{}")
        if held is None:
            return _Answer(name, 404, _GONE) if method == "PATCH" else _Answer(name, 200, "{}")
        return _Answer(name, 400, _THERE) if method == "POST" else _Answer(name, 200, _inside(known.entity, held))

    def _tally(self, kind: Kind, known: Sent) -> None:
        entity = self._forecast[known.entity]
        if known.again:
            entity.repeats += 1
        elif kind == "create":
            entity.creates += 1
        elif kind == "update":
            entity.updates += 1
        elif kind == "delete":
            entity.deletes += 1
        else:
            entity.deletes_inside += 1

    def _look_up(self, known: Sent, path: str) -> tuple[Json | None, bool]:
        """Return what Mailchimp holds of a record, None for nothing; and whether that is certain."""
        if path in self._deleted or (self._store_is_new and known.entity != MEMBERS):
            return None, True
        if self._lookups <= 0:
            return None, False
        self._lookups -= 1
        try:
            return self._real.get(path) or {}, True
        except NotFound:
            return None, True


def _kind(method: str, known: Sent) -> Kind:
    if method == "DELETE":
        return "delete inside" if known.child else "delete"
    return "update" if known.holds else "create"


def _inside(entity: str, held: Json) -> str:
    """Return of a record what an update leaves as it is: its children and, of a cart, its customer."""
    lists = {name: [{"id": child["id"]} for child in held.get(name) or ()] for name in ENTITIES[entity].children}
    customer = {"customer": {"id": held["customer"]["id"]}} if held.get("customer") else {}
    return json.dumps(lists | customer)


def _finished(batch_id: str) -> Json:
    moment = datetime.now(UTC).isoformat()
    return {
        "id": batch_id,
        "status": "finished",
        "submitted_at": moment,
        "completed_at": moment,
        "response_body_url": _LINK + batch_id,
    }


@contextmanager
def _archive(answers: list[_Answer]) -> Iterator[BinaryIO]:
    """Pack answers as Mailchimp does."""
    content = json.dumps([
        {"operation_id": one.operation_id, "status_code": one.status, "response": one.response} for one in answers
    ]).encode()  # fmt: skip
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        member = tarfile.TarInfo("results.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    packed.seek(0)
    yield packed
