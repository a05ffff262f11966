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

_UTC = "+00:00"
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


def encode(document: Document, rows: Rows, *, embedded: bool = False, clear: bool = False) -> pa.StringArray:
    """Render one JSON text per row.

    Args:
        document: what to render.
        rows: Arrow-backed columns named in the document, with child frames.
        embedded: escape the text once more, ready to stand between the quotes of a JSON string.
        clear: write absent texts as ``""``, absent amounts as 0 and absent lists as ``[]``, so that a reader who keeps
            what a document leaves out empties them. Whole numbers, booleans and most times have no empty form and stay
            out.

    Returns:
        As many strings as the frame has rows, none null; absent values are left out, never null or empty.

    Raises:
        KeyError: a column or child frame that the document names is missing.
    """
    writer = _Writer(embedded, clear)
    return writer.object(document.fields, rows, keep_empty=True)


def hash_texts(texts: pa.StringArray) -> list[bytes]:
    """Hash each text: 16 bytes of BLAKE2b, keyed with the encoder's version.

    Args:
        texts: non-null strings.

    Returns:
        One digest per text, in order.
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


@dataclass(frozen=True)
class _Piece:
    """Text per row between two constants: null rows are absent, constants included.

    Constants stay apart so that an object joins them with its keys, instead of copying every value once more.
    """

    before: str
    texts: pa.StringArray
    after: str

    def whole(self) -> pa.StringArray:
        """Put the constants around the text; null where it is."""
        return pc.binary_join_element_wise(self.before, self.texts, self.after, "")


class _Writer:
    """Renders fields at one of the two levels of escaping."""

    def __init__(self, embedded: bool, clear: bool = False) -> None:
        self.embedded = embedded
        self.clear = clear
        self.quote = '\\"' if embedded else '"'

    def object(self, fields: Sequence[Field], rows: Rows, *, keep_empty: bool) -> pa.StringArray:
        """Render ``{…}`` per row; a row whose fields are all absent is null, or ``{}`` if ``keep_empty``."""
        count = len(rows.frame)
        parts: list[pa.StringArray] = []
        constants = [""]  # what stands before, between and after the parts
        first_is_certain = False
        for item in fields:
            piece = self.value(item, rows)
            if self.clear:
                piece = self.cleared(item, piece)
            absent = piece.texts.null_count
            if absent == count and count:
                continue
            before = f",{self.quote}{item.name}{self.quote}:{piece.before}"
            if absent:
                parts.append(pc.binary_join_element_wise(before, piece.texts, piece.after, ""))
                constants.append("")
                continue
            if not parts:
                before, first_is_certain = "{" + before[1:], True
            constants[-1] += before
            parts.append(piece.texts)
            constants.append(piece.after)
        if not parts:
            return pa.array(["{}" if keep_empty else None] * count, pa.string())
        if first_is_certain:
            constants[-1] += "}"
            return _join(constants, parts)
        body = _join(constants, parts)
        text = pc.binary_join_element_wise(pc.binary_replace_slice(body, 0, 1, "{"), "}", "")
        return text if keep_empty else pc.if_else(pc.equal(body, ""), pa.scalar(None, pa.string()), text)

    def cleared(self, item: Field, piece: _Piece) -> _Piece:
        """Give absent values their empty form, where the kind of field has one."""
        match item:
            case Text(clears=True) | TextList() | Children():
                empty = ""
            case Money():
                empty = "0"
            case Time(clears=True):
                whole = pc.binary_join_element_wise(piece.texts, _UTC, "")
                return _Piece(self.quote, pc.fill_null(whole, ""), self.quote)
            case _:
                return piece
        return _Piece(piece.before, pc.fill_null(piece.texts, empty), piece.after)

    def value(self, item: Field, rows: Rows) -> _Piece:
        """Render one field's values; null where the field is absent."""
        if isinstance(item, Object):
            return _Piece("", self.object(item.fields, rows, keep_empty=False), "")
        if isinstance(item, Children):
            child = rows.children[item.frame]
            return _list(self.object(item.fields, child.rows, keep_empty=True), child.offsets)
        return self.leaf(item, rows.frame)

    def leaf(self, item: Leaf, frame: pd.DataFrame) -> _Piece:
        column = to_arrow(frame[item.column])
        match item:
            case Text():
                return self.quoted(_none_if_empty(column))
            case TextList():
                offsets = (
                    column.offsets.to_numpy() - column.offsets[0].as_py() if len(column) else np.zeros(1, np.int32)
                )
                return _list(self.quoted(column.flatten()).whole(), offsets)
            case Integer():
                return _Piece("", pc.cast(column, pa.string()), "")
            case Money():
                return _Piece("", money_text(column, to_arrow(frame[item.digits])), "")
            case Boolean():
                return _Piece("", pc.if_else(column, "true", "false"), "")
            case Time():
                utc = pc.floor_temporal(pc.cast(column, pa.timestamp("us")), unit="second")
                instant = pc.cast(utc, pa.timestamp("s"))
                text = pc.binary_replace_slice(pc.cast(instant, pa.string()), 10, 11, "T")
                return _Piece(self.quote, text, f"{_UTC}{self.quote}")

    def quoted(self, column: pa.StringArray) -> _Piece:
        return _Piece(self.quote, self.escaped(column), self.quote)

    def escaped(self, column: pa.StringArray) -> pa.StringArray:
        """Escape text for JSON; the column's bytes are scanned first, and most columns need nothing."""
        _, data = _buffers(column)
        if (data == _BACKSLASH).any():
            column = pc.replace_substring(column, "\\", "\\\\" if not self.embedded else "\\\\\\\\")
        if (data == _QUOTE).any():
            column = pc.replace_substring(column, '"', '\\"' if not self.embedded else '\\\\\\"')
        if data.size and data.min() < _FIRST_PRINTABLE:
            for code in np.unique(data[data < _FIRST_PRINTABLE]).tolist():
                escape = json.dumps(chr(code))[1:-1]
                embedded = escape.replace("\\", "\\\\")
                column = pc.replace_substring(column, chr(code), embedded if self.embedded else escape)
        return column


def money_text(amounts: pa.Array, digits: pa.Array) -> pa.StringArray:
    """Write amounts as plain decimal numbers, rounded half away from zero to the currency's digits.

    Args:
        amounts: decimal128, major units; null where absent.
        digits: integer per row, the decimals of its currency.

    Returns:
        Text such as ``12.50`` or ``1200``; null where the amount is.
    """
    used = pc.unique(digits).drop_null().to_pylist()
    if len(used) == 1:
        return _fixed(amounts, used[0])
    text = pa.nulls(len(amounts), pa.string())
    for count in used:
        text = pc.if_else(pc.equal(digits, count), _fixed(amounts, count), text)
    return text


def _fixed(amounts: pa.Array, digits: int) -> pa.StringArray:
    encoded = amounts.dictionary_encode()  # the same prices come back again and again
    rounded = pc.round(encoded.dictionary, digits, round_mode="half_towards_infinity")
    return pc.cast(pc.cast(rounded, pa.decimal128(38, digits)), pa.string()).take(encoded.indices)


def _none_if_empty(column: pa.StringArray) -> pa.StringArray:
    empty = pc.equal(pc.binary_length(column), 0)
    return pc.if_else(empty, pa.scalar(None, pa.string()), column) if pc.any(empty).as_py() else column


def _join(constants: Sequence[str], texts: Sequence[pa.StringArray]) -> pa.StringArray:
    """Join constants and texts row by row, in turn, beginning and ending with a constant; null counts as empty."""
    parts = [part for pair in itertools.zip_longest(constants, texts) for part in pair if part is not None]
    present = [part for part in parts if not isinstance(part, str) or part]
    return pc.binary_join_element_wise(*present, "", null_handling="replace", null_replacement="")


def _list(texts: pa.StringArray, offsets: np.ndarray) -> _Piece:
    """Join the child texts of each parent to ``[a,b]``; null where there is none."""
    childless = np.diff(offsets) == 0
    listed = pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), texts, mask=pa.array(childless) if childless.any() else None
    )
    return _Piece("[", pc.binary_join(listed, ","), "]")


def _buffers(column: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets (``len + 1``, from 0) and the bytes of a string array."""
    _, raw_offsets, raw_data = column.buffers()
    if raw_offsets is None or len(column) == 0:
        return np.zeros(len(column) + 1, np.int32), np.empty(0, np.uint8)
    offsets = np.frombuffer(raw_offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    data = np.frombuffer(raw_data, np.uint8) if raw_data is not None else np.empty(0, np.uint8)
    return offsets - offsets[0], data[offsets[0] : offsets[-1]]
