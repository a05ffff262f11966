"""What a tutorial would write: `read_sql`, one wide `merge`, `groupby.apply`, `iterrows`, dicts and `json.dumps`.

Amounts become floats on the way, as they do there; with two decimals that does no harm.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

import pandas as pd
from sqlalchemy import Connection, Engine, text

from benchmarks.batches import COLLECTION, OPERATION_PREFIX, OPERATIONS_PER_BATCH, Batch, Batches
from include.extract.connection import begin_snapshot
from include.transform.addresses import PLACE
from include.transform.products import PLACEHOLDER_ID

_FIRST_ORDERS: Final = "WITH bought AS (SELECT * FROM orders ORDER BY order_id LIMIT :orders)"
_QUERIES: Final = {
    "orders": "SELECT bought.*, 'https://' || shop.domain AS site FROM bought, shop",
    "lines": "SELECT order_lines.* FROM bought JOIN order_lines USING (order_id)",
    "existing": "SELECT variant_id FROM variants JOIN products USING (product_id) "
    "WHERE variants.deleted_at IS NULL AND products.deleted_at IS NULL",
    "promos": "SELECT order_promotions.* FROM bought JOIN order_promotions USING (order_id)",
    "customers": "SELECT customer_id, email, is_guest FROM customers",
    "addresses": "SELECT * FROM addresses",
}
_STATUSES: Final[dict[str, tuple[str, str | None]]] = {
    "paid": ("paid", None),
    "shipped": ("paid", "shipped"),
    "completed": ("paid", "delivered"),
    "cancelled": ("cancelled", None),
    "refunded": ("refunded", None),
}


def prepare(engine: Engine) -> Batches:
    """Nothing to make ready."""
    return _batches


def _batches(connection: Connection, orders: int) -> Iterator[Batch]:
    begin_snapshot(connection)
    frames = {
        name: pd.read_sql(text(f"{_FIRST_ORDERS} {query}"), connection, params={"orders": orders})
        for name, query in _QUERIES.items()
    }
    frame = frames["orders"].merge(frames["customers"], on="customer_id")
    for kind in ("shipping", "billing"):
        frame = frame.merge(frames["addresses"].add_prefix(f"{kind}_"), on=f"{kind}_address_id", how="left")
    frame = frame[frame["status"].isin(list(_STATUSES)) & frame["deleted_at"].isna()]
    lines = frames["lines"].merge(frames["existing"], on="variant_id", how="left", indicator="existing")
    frame = frame.merge(lines, on="order_id")
    promos = frames["promos"].groupby("order_id").apply(_promos).to_dict()
    groups: Any = frame.groupby("order_id")
    documents = groups.apply(lambda bought: _document(bought, promos.get(bought.name)))
    operations: list[dict[str, Any]] = []
    for order_id, document in documents.items():
        operations.append(
            {
                "method": "PUT",
                "path": f"{COLLECTION}/{order_id}",
                "operation_id": f"{OPERATION_PREFIX}-{len(operations)}",
                "body": json.dumps(document),
            }
        )
        if len(operations) == OPERATIONS_PER_BATCH:
            yield Batch(json.dumps(operations).encode(), len(operations))
            operations = []
    if operations:
        yield Batch(json.dumps(operations).encode(), len(operations))


def _document(bought: pd.DataFrame, promos: list[Any] | None) -> dict[str, Any]:
    order = bought.iloc[0]
    financial, fulfillment = _STATUSES[order["status"]]
    tracked = pd.notna(order["tracking_number"])
    return _present(
        {
            "id": str(bought.name),
            "customer": {"id": hashlib.md5(order["email"].strip().lower().encode(), usedforsecurity=False).hexdigest()},
            "campaign_id": order["campaign_id"],
            "cart_id": None if pd.isna(order["cart_id"]) else str(int(order["cart_id"])),
            "landing_site": order["landing_site"],
            "financial_status": financial,
            "fulfillment_status": fulfillment,
            "currency_code": order["currency_code"],
            "order_total": order["order_total"],
            "order_url": f"{order['site']}/account/orders/{order['number']}",
            "discount_total": order["discount_total"],
            "tax_total": order["tax_total"],
            "shipping_total": order["shipping_total"],
            "tracking_code": order["tracking_code"],
            "processed_at_foreign": _time(order["placed_at"]),
            "cancelled_at_foreign": _time(order["cancelled_at"]),
            "updated_at_foreign": _time(order["updated_at"]),
            "shipping_address": None if order["is_guest"] else _address(order, "shipping"),
            "billing_address": None if order["is_guest"] else _address(order, "billing"),
            "promos": promos,
            "lines": _lines(bought),
            "tracking_number": order["tracking_number"],
            "tracking_carrier": order["tracking_carrier"],
            "tracking_url": f"{order['site']}/track/{order['tracking_number']}" if tracked else None,
        }
    )


def _address(order: pd.Series, kind: str) -> dict[str, Any] | None:
    return _present({name: order[f"{kind}_{name}"] for name in ("name", *PLACE, "phone", "company")}) or None


def _lines(lines: pd.DataFrame) -> list[dict[str, Any]]:
    documents = []
    for _, line in lines.iterrows():  # which makes floats of a row that has one
        gone = line["existing"] == "left_only"
        documents.append(
            {
                "id": str(int(line["line_id"])),
                "product_id": PLACEHOLDER_ID if gone else str(int(line["product_id"])),
                "product_variant_id": PLACEHOLDER_ID if gone else str(int(line["variant_id"])),
                "quantity": int(line["quantity"]),
                "price": line["price"],
                "discount": line["discount"],
            }
        )
    return sorted(documents, key=lambda document: str(document["id"]))


def _promos(promos: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"code": promo["code"], "type": promo["type"], "amount_discounted": promo["amount_discounted"]}
        for _, promo in promos.sort_values("code").iterrows()
    ]


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is absent."""
    return {
        name: value
        for name, value in fields.items()
        if isinstance(value, list | dict) or (pd.notna(value) and value != "")
    }


def _time(value: pd.Timestamp) -> str | None:
    return None if pd.isna(value) else value.tz_convert("UTC").isoformat(timespec="seconds")
