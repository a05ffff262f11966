"""A document's declaration gives its JSON Schema and the mapping table."""

from __future__ import annotations

from include.documents.schema import json_schema, mapping_table
from include.documents.spec import Children, Document, Integer, Money, Object, Text, Time

DOCUMENT = Document(
    "order",
    (
        Text("id", "record_id"),
        Object("customer", (Text("id", "customer_record_id"),)),
        Time("processed_at_foreign", "placed_at"),
        Children("lines", "order_lines", (Integer("quantity", "quantity"), Money("price", "price"))),
    ),
)


def test_schema_follows_the_declaration() -> None:
    schema = json_schema(DOCUMENT)
    assert schema["title"] == "order"
    assert schema["properties"]["customer"]["properties"]["id"] == {"type": "string", "minLength": 1}
    assert schema["properties"]["lines"]["items"]["properties"]["price"] == {"type": "number"}
    assert schema["additionalProperties"] is False


def test_mapping_table_names_field_kind_and_source() -> None:
    assert mapping_table(DOCUMENT) == [
        ("id", "text", "record_id"),
        ("customer.id", "text", "customer_record_id"),
        ("processed_at_foreign", "time", "placed_at"),
        ("lines[].quantity", "integer", "order_lines.quantity"),
        ("lines[].price", "money", "order_lines.price"),
    ]
