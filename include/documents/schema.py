"""What a document's declaration says besides its bytes: its JSON Schema and the mapping table of the docs."""

from __future__ import annotations

from typing import Any

from include.documents.spec import Boolean, Children, Document, Field, Integer, Money, Object, Text, TextList, Time

_LEAF_SCHEMAS: dict[type, dict[str, Any]] = {
    Text: {"type": "string", "minLength": 1},
    Integer: {"type": "integer"},
    Money: {"type": "number"},
    Boolean: {"type": "boolean"},
    Time: {"type": "string", "format": "date-time"},
    TextList: {"type": "array", "items": {"type": "string"}, "minItems": 1},
}


def json_schema(document: Document) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of what the encoder can render from a document."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": document.name,
        **_object_schema(document.fields),
    }


def mapping_table(document: Document) -> list[tuple[str, str, str]]:
    """Return (field in the API, kind, source column) for every leaf, in document order."""
    return [
        (path, type(leaf).__name__.lower(), f"{frame}.{leaf.column}" if frame else leaf.column)
        for path, frame, leaf in document.leaves()
    ]


def _object_schema(fields: tuple[Field, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field.name: _field_schema(field) for field in fields},
        "additionalProperties": False,
    }


def _field_schema(field: Field) -> dict[str, Any]:
    if isinstance(field, Object):
        return _object_schema(field.fields)
    if isinstance(field, Children):
        return {"type": "array", "items": _object_schema(field.fields), "minItems": 1}
    return dict(_LEAF_SCHEMAS[type(field)])
