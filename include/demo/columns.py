"""Column types of the generated tables: exact money from cents, aware times from microseconds."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
WEEK: Final = 7 * DAY


def random(purpose: int) -> np.random.Generator:
    """The generator of one table; a stream of its own, so that one table's change leaves the others alone."""
    return np.random.default_rng([20_170_101, purpose])


def microseconds(moment: datetime) -> int:
    """An aware moment as microseconds since 1970, the unit of all generated times."""
    return round(moment.timestamp()) * SECOND


def whole_cents(dollars: npt.NDArray[np.float64]) -> Integers:
    """The source's floating-point dollars as cents."""
    return np.rint(dollars * 100).astype(np.int64)


def money(cents: Integers) -> pa.Array:
    """Cents as decimal128(14, 2), without a detour over floating point.

    A decimal128 is a 128-bit integer: the low word is the number of cents, the high word repeats its sign.
    """
    words = np.empty((len(cents), 2), dtype=np.int64)
    words[:, 0] = cents
    words[:, 1] = cents >> 63
    return pa.Array.from_buffers(pa.decimal128(14, 2), len(cents), [None, pa.py_buffer(words)])


def times(since_1970: Integers, absent: Flags | None = None) -> pa.Array:
    """Microseconds since 1970 as UTC times; null where `absent`."""
    return pa.array(since_1970, mask=absent).cast(pa.timestamp("us", "UTC"))


def integers(values: Integers, absent: Flags | None = None) -> pa.Array:
    """An int64 column; null where `absent`."""
    return pa.array(values, mask=absent)
