"""How a JSON document is declared: field by field, in the order of the API's reference.

A document names, for every field, the API's name, the kind of value and the column it comes from. The encoder renders
documents by columns; the JSON Schema of a document and the mapping table in the docs are read off the same declaration
(:mod:`include.documents.schema`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Text:
    """A string; absent (left out of the document) where the column is null or empty.

    ``clears`` tells whether a document that changes a record may say ``""`` for an absent value.
    """

    name: str
    column: str
    clears: bool = True


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number; absent where the column is null."""

    name: str
    column: str


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in major units, rendered exactly with as many decimals as the row's currency has.

    ``digits`` names the integer column with the currency's number of decimals (0 for JPY, 2 for EUR, 3 for KWD).
    """

    name: str
    column: str
    digits: str = "currency_digits"


@dataclass(frozen=True, slots=True)
class Boolean:
    """``true`` or ``false``; absent where the column is null."""

    name: str
    column: str


@dataclass(frozen=True, slots=True)
class Time:
    """An instant, rendered in UTC as ``2026-11-21T10:00:00+00:00``; absent where the column is null.

    ``clears`` tells whether a document that changes a record may say ``""`` for an absent value. Few times may: the
    value of an order's cancellation cancels it, whatever it is.
    """

    name: str
    column: str
    clears: bool = False


@dataclass(frozen=True, slots=True)
class TextList:
    """A list of strings from a list column; absent where the list is null or empty."""

    name: str
    column: str


@dataclass(frozen=True, slots=True)
class Object:
    """A nested object; absent where all of its fields are."""

    name: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Children:
    """A list of objects, one per row of a child frame; absent where a record has no child rows."""

    name: str
    frame: str
    fields: tuple[Field, ...]


Leaf: TypeAlias = Text | Integer | Money | Boolean | Time | TextList
Field: TypeAlias = Leaf | Object | Children


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON document: what it is called and its fields."""

    name: str
    fields: tuple[Field, ...]

    def leaves(self) -> Iterator[tuple[str, str, Leaf]]:
        """Yield every leaf as (dotted path in the document, frame it comes from, field); the main frame is ``""``."""
        yield from _leaves(self.fields, prefix="", frame="")


def _leaves(fields: tuple[Field, ...], prefix: str, frame: str) -> Iterator[tuple[str, str, Leaf]]:
    for field in fields:
        path = f"{prefix}{field.name}"
        if isinstance(field, Object):
            yield from _leaves(field.fields, f"{path}.", frame)
        elif isinstance(field, Children):
            yield from _leaves(field.fields, f"{path}[].", field.frame)
        else:
            yield path, frame, field
