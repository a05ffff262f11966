"""Operations of a batch: the HTTP method of each record, the text of the request, and how many fit into one batch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.config.stores import StoreSettings
from include.state.stores import OrderVerb
from include.transform.entities import Entity

_SAFE_ID = r"^[A-Za-z0-9_.~-]+$"
_ENVELOPE_BYTES = len('{"method":"PATCH","path":"/","operation_id":"0123456789abcdef-9999","body":""},')


@dataclass(frozen=True)
class Endpoint:
    """Where an entity's records live in one store.

    A nested collection has its parent's id in its path (`{parent}`); the ids of its records are
    "<parent's id>/<own id>", each percent-encoded.
    """

    collection: str

    @classmethod
    def of(cls, entity: Entity, settings: StoreSettings) -> Endpoint:
        """Return an entity's endpoint in a store."""
        path = entity.endpoint.format(store_id=settings.store_id, list_id=settings.list_id, parent="{parent}")
        return cls(path)

    def paths(self, record_ids: pa.StringArray, methods: Sequence[str]) -> pa.StringArray:
        """Return the path of each operation: of the collection for a POST, else of the record."""
        posts = pc.equal(pa.array(methods, pa.string()), "POST")
        before, nested, after = self.collection.partition("{parent}")
        if not nested:
            item = pc.binary_join_element_wise(f"{self.collection}/", _path_segments(record_ids), "")
            return pc.if_else(posts, self.collection, item)
        parts = pc.extract_regex(record_ids, r"^(?P<parent>[^/]*)/(?P<own>.*)$")
        parent, own = pc.struct_field(parts, "parent"), pc.struct_field(parts, "own")
        collection = pc.binary_join_element_wise(before, parent, after, "")
        return pc.if_else(posts, collection, pc.binary_join_element_wise(collection, own, "/"))

    def path(self, record_id: str) -> str:
        """Return the path of one record."""
        return str(self.paths(pa.array([record_id], pa.string()), ["DELETE"])[0].as_py())


def methods_for(entity: Entity, verb: OrderVerb | None, on_mailchimp: Sequence[bool]) -> list[str]:
    """Choose the HTTP method of each record.

    Args:
        entity: the entity.
        verb: how orders are written; None (not known yet): PUT, and see.
        on_mailchimp: for each record whether Mailchimp is known to hold it.

    Returns:
        One method per record.
    """
    upsert = verb or "put" if entity.name == "orders" else entity.upsert
    if upsert == "post_patch":
        return ["PATCH" if known else "POST" for known in on_mailchimp]
    return ["PUT"] * len(on_mailchimp)


def operation_sizes(endpoint: Endpoint, record_ids: pa.StringArray, bodies: pa.StringArray) -> np.ndarray:
    """Return the most bytes each record's operation can take in a batch request.

    Args:
        endpoint: where the records live.
        record_ids: ids at Mailchimp.
        bodies: payloads, escaped for embedding.
    """
    paths = endpoint.paths(record_ids, ["PUT"] * len(record_ids))
    lengths = pc.add(pc.binary_length(paths), pc.binary_length(bodies))
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64) + _ENVELOPE_BYTES


def split(sizes: np.ndarray, max_operations: int, max_bytes: int) -> list[tuple[int, int]]:
    """Cut consecutive operations into batches; returns (start, end) positions, none of them empty.

    Args:
        sizes: bytes of each operation, each at most `max_bytes`.
        max_operations: operations per batch.
        max_bytes: bytes per batch.
    """
    ends = np.cumsum(sizes)
    batches, start = [], 0
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        fitting = int(np.searchsorted(ends, before + max_bytes, side="right"))
        end = min(max(fitting, start + 1), start + max_operations)
        batches.append((start, end))
        start = end
    return batches


def batch_body(
    token: str, methods: Sequence[str], endpoint: Endpoint, record_ids: pa.StringArray, bodies: pa.StringArray
) -> bytes:
    """Write the JSON array of a batch's operations.

    The n-th operation has the id "<token>-<n>"; it is looked up in the state tables, so it needs no meaning.

    Args:
        token: the batch's token.
        methods: HTTP method of each operation.
        endpoint: where the records live.
        record_ids: ids at Mailchimp.
        bodies: payloads, escaped for embedding.

    Returns:
        UTF-8 text, ready for `MailchimpClient.create_batch`.
    """
    count = len(bodies)
    sequence = pa.array(np.arange(count)).cast(pa.string())
    operations = pc.binary_join_element_wise(
        '{"method":"', pa.array(methods, pa.string()), '","path":"', endpoint.paths(record_ids, methods),
        f'","operation_id":"{token}-', sequence, '","body":"', bodies, '"}', "",
    )  # fmt: skip
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), operations), ",")
    return b"[" + joined[0].as_buffer().to_pybytes() + b"]"


def deletions(token: str, paths: Sequence[str]) -> bytes:
    """Write the JSON array of a batch that deletes what the paths name; operation ids as in `batch_body`."""
    operations = [
        {"method": "DELETE", "path": path, "operation_id": f"{token}-{number}"} for number, path in enumerate(paths)
    ]
    return json.dumps(operations, separators=(",", ":")).encode()


def _path_segments(record_ids: pa.StringArray) -> pa.StringArray:
    safe = pc.match_substring_regex(record_ids, _SAFE_ID)
    if pc.all(safe, min_count=0).as_py():
        return record_ids
    return pa.array([quote(record_id, safe="") for record_id in record_ids.to_pylist()], pa.string())
