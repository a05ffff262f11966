"""Renders declared documents from columns: one Arrow kernel call per field instead of Python code per record.

Every key is a constant, every value column is turned into text as a whole, and ``binary_join_element_wise`` glues them
together row by row; child rows are rendered the same way and joined per parent by offsets. A batch operation carries
its body as JSON *inside* a JSON string, so the encoder can write text that is already escaped once more
(``embedded=True``), which saves escaping whole bodies afterwards.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.documents.spec import (
    Boolean,
    Children,
    Document,
    Field,
    Integer,
    Leaf,
    Money,
    Object,
    Text,
    TextList,
    Time,
)

#: Part of every payload hash: bytes differ between encoders even where JSON is equal (12.5 / 12.50), so a change here
#: is a change of every record, and has to be visible as one.
ENCODER_VERSION = b"1"

_QUOTE, _BACKSLASH, _FIRST_PRINTABLE = 0x22, 0x5C, 0x20


@dataclass(frozen=True)
class Rows:
    """A frame and its child frames.

    ``children`` maps a child frame's name to its rows, which must be sorted by parent, and ``offsets`` of length
    ``len(parent) + 1``: the children of parent *i* are rows ``offsets[i]:offsets[i + 1]``.
    """

    frame: pd.DataFrame
    children: Mapping[str, ChildRows] = field(default_factory=dict)


@dataclass(frozen=True)
class ChildRows:
    """The rows of a child frame and where each parent's rows begin (see :class:`Rows`)."""

    rows: Rows
    offsets: np.ndarray


def encode(document: Document, rows: Rows, *, embedded: bool = False) -> pa.StringArray:
    """Render one JSON text per row.

    :param document: what to render.
    :param rows: Arrow-backed columns named in the document, with child frames.
    :param embedded: escape the text once more, ready to stand between the quotes of a JSON string.
    :return: as many strings as the frame has rows, none null; absent values are left out, never null or empty.
    :raises KeyError: a column or child frame that the document names is missing.
    """
    writer = _Writer(embedded)
    return writer.object(document.fields, rows, keep_empty=True)


def hash_texts(texts: pa.StringArray) -> list[bytes]:
    """Hash each text: 16 bytes of BLAKE2b, keyed with the encoder's version.

    :param texts: non-null strings.
    :return: one digest per text, in order.
    """
    offsets, data = _buffers(texts)
    view = data.data
    blake = hashlib.blake2b
    bounds = offsets.tolist()
    return [
        blake(view[start:end], digest_size=16, person=ENCODER_VERSION).digest()
        for start, end in itertools.pairwise(bounds)
    ]


def to_arrow(column: pd.Series | pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column as one contiguous Arrow array, without copying where it already is one."""
    array = column.array.__arrow_array__() if isinstance(column, pd.Series) else column
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
    return array


class _Writer:
    """Renders fields at one of the two levels of escaping."""

    def __init__(self, embedded: bool) -> None:
        self.embedded = embedded
        self.quote = '\\"' if embedded else '"'

    def object(self, fields: Sequence[Field], rows: Rows, *, keep_empty: bool) -> pa.StringArray:
        """Render ``{…}`` per row; a row whose fields are all absent is null, or ``{}`` if ``keep_empty``."""
        count = len(rows.frame)
        members: list[pa.StringArray | str] = []
        first_is_certain = False
        for item in fields:
            values = self.value(item, rows)
            if values.null_count == count and count:
                continue
            key = f",{self.quote}{item.name}{self.quote}:"
            if values.null_count:
                members.append(pc.binary_join_element_wise(key, values, ""))
            elif members:
                members += [key, values]
            else:
                members += ["{" + key[1:], values]
                first_is_certain = True
        if not members:
            return pa.array(["{}" if keep_empty else None] * count, pa.string())
        if first_is_certain:
            return _join([*members, "}"])
        body = _join(members)
        text = pc.binary_join_element_wise(pc.binary_replace_slice(body, 0, 1, "{"), "}", "")
        return text if keep_empty else pc.if_else(pc.equal(body, ""), pa.scalar(None, pa.string()), text)

    def value(self, item: Field, rows: Rows) -> pa.StringArray:
        """Render one field's values; null where the field is absent."""
        if isinstance(item, Object):
            return self.object(item.fields, rows, keep_empty=False)
        if isinstance(item, Children):
            child = rows.children[item.frame]
            return _bracket(self.object(item.fields, child.rows, keep_empty=True), child.offsets)
        return self.leaf(item, rows.frame)

    def leaf(self, item: Leaf, frame: pd.DataFrame) -> pa.StringArray:
        column = to_arrow(frame[item.column])
        match item:
            case Text():
                return self.quoted(_none_if_empty(column))
            case TextList():
                offsets = (
                    column.offsets.to_numpy() - column.offsets[0].as_py() if len(column) else np.zeros(1, np.int32)
                )
                return _bracket(self.quoted(column.flatten()), offsets)
            case Integer():
                return pc.cast(column, pa.string())
            case Money():
                return money_text(column, to_arrow(frame[item.digits]))
            case Boolean():
                return pc.if_else(column, "true", "false")
            case Time():
                utc = pc.floor_temporal(pc.cast(column, pa.timestamp("us")), unit="second")
                instant = pc.cast(utc, pa.timestamp("s"))
                text = pc.binary_replace_slice(pc.cast(instant, pa.string()), 10, 11, "T")
                return pc.binary_join_element_wise(self.quote, text, f"+00:00{self.quote}", "")

    def quoted(self, column: pa.StringArray) -> pa.StringArray:
        return pc.binary_join_element_wise(self.quote, self.escaped(column), self.quote, "")

    def escaped(self, column: pa.StringArray) -> pa.StringArray:
        """Escape text for JSON; the column's bytes are scanned once, and most columns need nothing."""
        _, data = _buffers(column)
        present = np.bincount(data, minlength=256)
        if present[_BACKSLASH]:
            column = pc.replace_substring(column, "\\", "\\\\" if not self.embedded else "\\\\\\\\")
        if present[_QUOTE]:
            column = pc.replace_substring(column, '"', '\\"' if not self.embedded else '\\\\\\"')
        for code in np.flatnonzero(present[:_FIRST_PRINTABLE]).tolist():
            escape = json.dumps(chr(code))[1:-1]
            column = pc.replace_substring(column, chr(code), escape.replace("\\", "\\\\") if self.embedded else escape)
        return column


def money_text(amounts: pa.Array, digits: pa.Array) -> pa.StringArray:
    """Write amounts as plain decimal numbers, rounded half away from zero to the currency's digits.

    :param amounts: decimal128, major units; null where absent.
    :param digits: integer per row, the decimals of its currency.
    :return: text such as ``12.50`` or ``1200``; null where the amount is.
    """
    used = pc.unique(digits).drop_null().to_pylist()
    if len(used) == 1:
        return _fixed(amounts, used[0])
    text = pa.nulls(len(amounts), pa.string())
    for count in used:
        text = pc.if_else(pc.equal(digits, count), _fixed(amounts, count), text)
    return text


def _fixed(amounts: pa.Array, digits: int) -> pa.StringArray:
    rounded = pc.round(amounts, digits, round_mode="half_towards_infinity")
    return pc.cast(pc.cast(rounded, pa.decimal128(38, digits)), pa.string())


def _none_if_empty(column: pa.StringArray) -> pa.StringArray:
    empty = pc.equal(pc.binary_length(column), 0)
    return pc.if_else(empty, pa.scalar(None, pa.string()), column) if pc.any(empty).as_py() else column


def _join(parts: Sequence[pa.StringArray | str]) -> pa.StringArray:
    return pc.binary_join_element_wise(*parts, "", null_handling="replace", null_replacement="")


def _bracket(texts: pa.StringArray, offsets: np.ndarray) -> pa.StringArray:
    """Join the child texts of each parent to ``[a,b]``; null where there is none."""
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), texts), ",")
    listed = pc.binary_join_element_wise("[", joined, "]", "")
    childless = np.diff(offsets) == 0
    return pc.if_else(pa.array(~childless), listed, pa.scalar(None, pa.string())) if childless.any() else listed


def _buffers(column: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets (``len + 1``, from 0) and the bytes of a string array."""
    _, raw_offsets, raw_data = column.buffers()
    if raw_offsets is None or len(column) == 0:
        return np.zeros(len(column) + 1, np.int32), np.empty(0, np.uint8)
    offsets = np.frombuffer(raw_offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    data = np.frombuffer(raw_data, np.uint8) if raw_data is not None else np.empty(0, np.uint8)
    return offsets - offsets[0], data[offsets[0] : offsets[-1]]
