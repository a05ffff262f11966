"""Operations of a batch: the HTTP method of each record, the text of the request, and how many fit into one batch."""

from collections.abc import Sequence
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.state.stores import OrderVerb

_SAFE_ID = r"^[A-Za-z0-9_.~-]+$"
_ENVELOPE_BYTES = len('{"method":"PATCH","path":"/","operation_id":"0123456789abcdef-9999","body":""},')


def methods_for(entity: str, verb: OrderVerb | None, on_mailchimp: Sequence[bool]) -> list[str]:
    """Choose the HTTP method of each record.

    Args:
        entity: name of the entity. Customers and products are PUT: create or replace, harmless to repeat.
        verb: how orders are written; None (not known yet): PUT, and see.
        on_mailchimp: for each record whether Mailchimp is known to hold it.

    Returns:
        One method per record.
    """
    if entity == "orders" and verb == "post_patch":
        return ["PATCH" if known else "POST" for known in on_mailchimp]
    return ["PUT"] * len(on_mailchimp)


def operation_sizes(collection: str, record_ids: pa.StringArray, bodies: pa.StringArray) -> np.ndarray:
    """Return the most bytes each record's operation can take in a batch request.

    Args:
        collection: path of the entity's collection.
        record_ids: ids at Mailchimp.
        bodies: payloads, escaped for embedding.
    """
    lengths = pc.add(pc.binary_length(_path_segments(record_ids)), pc.binary_length(bodies))
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64) + _ENVELOPE_BYTES + len(collection.encode())


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
    token: str, methods: Sequence[str], collection: str, record_ids: pa.StringArray, bodies: pa.StringArray
) -> bytes:
    """Write the JSON array of a batch's operations.

    The n-th operation has the id "<token>-<n>"; it is looked up in the state tables, so it needs no meaning.

    Args:
        token: the batch's token.
        methods: HTTP method of each operation.
        collection: path of the entity's collection, relative to the API root.
        record_ids: ids at Mailchimp.
        bodies: payloads, escaped for embedding.

    Returns:
        UTF-8 text, ready for `MailchimpClient.create_batch`.
    """
    count = len(bodies)
    method = pa.array(methods, pa.string())
    segment = pc.binary_join_element_wise("/", _path_segments(record_ids), "")
    paths = pc.if_else(pc.equal(method, "POST"), "", segment)
    sequence = pa.array(np.arange(count)).cast(pa.string())
    operations = pc.binary_join_element_wise(
        '{"method":"', method, f'","path":"{collection}', paths, f'","operation_id":"{token}-', sequence,
        '","body":"', bodies, '"}', "",
    )  # fmt: skip
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), operations), ",")
    return b"[" + joined[0].as_buffer().to_pybytes() + b"]"


def _path_segments(record_ids: pa.StringArray) -> pa.StringArray:
    safe = pc.match_substring_regex(record_ids, _SAFE_ID)
    if pc.all(safe, min_count=0).as_py():
        return record_ids
    return pa.array([quote(record_id, safe="") for record_id in record_ids.to_pylist()], pa.string())
