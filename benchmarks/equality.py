"""Whether the variants produce the same documents: equal after parsing, numbers by their decimal value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

#: Order id → method, path and parsed body of its operation.
Documents: TypeAlias = dict[str, dict[str, Any]]


class DocumentsDiffer(AssertionError):
    """Two variants don't agree; the message says where."""


def documents(bodies: Iterable[bytes]) -> Documents:
    """Parse batch bodies.

    Args:
        bodies: JSON arrays of operations.

    Returns:
        What would be done to each order; operation ids are left out, they depend on what else is in the batch.
    """
    found: Documents = {}
    for body in bodies:
        for operation in json.loads(body):
            parsed = json.loads(operation["body"], parse_float=Decimal, parse_int=Decimal)
            found[parsed["id"]] = {"method": operation["method"], "path": operation["path"], "body": parsed}
    return found


def compare(reference: Documents, others: Mapping[str, Documents]) -> set[str]:
    """Compare variants with the pipeline's own documents.

    Args:
        reference: of the pipeline.
        others: variant → its documents of the same orders.

    Returns:
        Ids of orders that only the others accept: those which break a rule of the pipeline.

    Raises:
        DocumentsDiffer: another variant lacks an order, or has another document for it.
    """
    rejected: set[str] = set()
    for name, found in others.items():
        if missing := sorted(reference.keys() - found.keys()):
            raise DocumentsDiffer(f"{name} lacks {len(missing)} orders, first order {missing[0]}")
        rejected |= found.keys() - reference.keys()
        for order_id, expected in reference.items():
            if found[order_id] != expected:
                raise DocumentsDiffer(f"{name}, order {order_id}: {_difference(expected, found[order_id], '')}")
    return rejected


def _difference(expected: Any, found: Any, path: str) -> str:
    """The first place where two JSON values differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in [*expected, *found]:
            if expected.get(key) != found.get(key):
                return _difference(expected.get(key), found.get(key), f"{path}.{key}")
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for position, (left, right) in enumerate(zip(expected, found, strict=True)):
            if left != right:
                return _difference(left, right, f"{path}[{position}]")
    return f"{path.lstrip('.')} is {found!r}, not {expected!r}"
