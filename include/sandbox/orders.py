"""Orders of a store with their lines and promos: …/orders, …/orders/{id}, …/lines, and the account's /ecommerce/orders.

* Product, variant, campaign and customer must exist; an unknown customer is created when its address comes along.
* PUT and PATCH of a known order merge: lines by id (stale ones stay until deleted), promos replaced as a whole.
* A change to certain statuses makes Mailchimp write to the buyer, unless the store is syncing: noted as mails.
"""

from include.mailchimp.contract import Order, OrderLine, OrderLinePatch, OrderPatch
from include.sandbox.account import Account, Store
from include.sandbox.exchange import Call, Routes, existing, page
from include.sandbox.problems import exists, method_not_allowed
from include.sandbox.products import LAST_CHILD, child_of, merged, without_child
from include.sandbox.records import NO_PLACE, Document
from include.sandbox.references import check_campaign, check_lines, render_customer, settle_customer

NO_ORDER_PUT = "no-order-put"
"""Option: answer 405 to PUT, as an account would where this young verb isn't there."""

_FINANCIAL_MAILS = {
    "pending": "order confirmation",
    "paid": "order invoice",
    "refunded": "refund confirmation",
    "cancelled": "cancellation confirmation",
}
_FULFILLMENT_MAILS = {"shipped": "shipping confirmation"}
_TEXTS_BEFORE = ("campaign_id", "landing_site", "financial_status", "fulfillment_status", "currency_code")
_TEXTS_AFTER = ("tracking_code", "processed_at_foreign", "cancelled_at_foreign", "updated_at_foreign")
_ADDRESS: Document = {"name": "", **NO_PLACE, "longitude": 0, "latitude": 0, "phone": "", "company": ""}


def _line(store: Store, line: Document) -> Document:
    product_id, variant_id = line["product_id"], line["product_variant_id"]
    return {
        "id": line["id"],
        "product_id": product_id,
        "product_variant_id": variant_id,
        "product_variant_title": store.variant_titles.get(product_id, {}).get(variant_id, ""),
        "image_url": "",
        "quantity": line["quantity"],
        "price": line["price"],
        "discount": line.get("discount", 0),
    }


def render(store: Store, order_id: str) -> Document:
    """Return an order as the API shows it: the whole customer, "" and 0 for what was never sent."""
    stored = existing(store.orders, order_id)
    return {
        "id": order_id,
        "customer": render_customer(store, stored["customer"]["id"]),
        "store_id": store.id,
        **{name: stored.get(name, "") for name in _TEXTS_BEFORE},
        "order_total": stored["order_total"],
        "order_url": stored.get("order_url", ""),
        "discount_total": stored.get("discount_total", 0),
        "tax_total": stored.get("tax_total", 0),
        "shipping_total": stored.get("shipping_total", 0),
        **{name: stored.get(name, "") for name in _TEXTS_AFTER},
        "shipping_address": _ADDRESS | stored.get("shipping_address", {}),
        "billing_address": _ADDRESS | stored.get("billing_address", {}),
        "promos": stored.get("promos", []),
        "lines": [_line(store, line) for line in stored["lines"]],
        "outreach": {"id": "", "name": "", "type": "", "published_time": ""} | stored.get("outreach", {}),
        "tracking_number": stored.get("tracking_number", ""),
        "tracking_carrier": stored.get("tracking_carrier", ""),
        "tracking_url": stored.get("tracking_url", ""),
        "cart_id": stored.get("cart_id", ""),
    }


def _notify(account: Account, store: Store, order_id: str, before: Document, after: Document) -> None:
    if existing(account.store_settings, store.id).get("is_syncing", False):
        return
    for name, mails in (("financial_status", _FINANCIAL_MAILS), ("fulfillment_status", _FULFILLMENT_MAILS)):
        status = after.get(name, "")
        if status in mails and status != before.get(name, ""):
            account.mail(mails[status], store.id, order_id)
    cancelled = "cancelled_at_foreign" in after and "cancelled_at_foreign" not in before
    if cancelled and after.get("financial_status") != "cancelled":
        account.mail(_FINANCIAL_MAILS["cancelled"], store.id, order_id)


def _save(call: Call, store: Store, order_id: str, before: Document, after: Document) -> Document:
    store.save("orders", order_id, after)
    _notify(call.account, store, order_id, before, after)
    call.account.changed("updated" if before else "created", store.id, "order", order_id)
    return render(store, order_id)


def _merge(call: Call, store: Store, order_id: str, before: Document, changes: Document) -> Document:
    check_lines(store, changes.get("lines", []))
    check_campaign(call.account, changes)
    customer = changes.pop("customer", {})
    if customer.get("id"):
        changes["customer"] = settle_customer(call, store, customer)
    after = {**before, **changes, "lines": merged(before["lines"], changes.get("lines", []))}
    for name in ("shipping_address", "billing_address"):
        if name in changes:
            after[name] = before.get(name, {}) | changes[name]
    return _save(call, store, order_id, before, after)


def _create(call: Call, store: Store, document: Document) -> Document:
    check_lines(store, document["lines"])
    check_campaign(call.account, document)
    customer = settle_customer(call, store, document["customer"])
    return _save(call, store, document["id"], {}, {**document, "customer": customer})


def _listed(store: Store, call: Call) -> list[str]:
    wanted = {name: call.query[name] for name in ("customer_id", "campaign_id") if call.query.get(name)}
    if not wanted:
        return list(store.orders)

    def matches(order: Document) -> bool:
        values = {"customer_id": order["customer"]["id"], "campaign_id": order.get("campaign_id", "")}
        return all(values[name] == value for name, value in wanted.items())

    return [order_id for order_id in store.orders if matches(existing(store.orders, order_id))]


def list_orders(call: Call) -> Document:
    """GET …/orders, filters ``customer_id`` and ``campaign_id``."""
    store = call.store
    return page(call, "orders", _listed(store, call), lambda one: render(store, one), {"store_id": store.id})


def list_all_orders(call: Call) -> Document:
    """GET /ecommerce/orders: the orders of all stores."""
    rows = [(store, one) for store in call.account.stores.values() for one in _listed(store, call)]
    keys = [str(position) for position in range(len(rows))]
    return page(call, "orders", keys, lambda key: render(*rows[int(key)]))


def create_order(call: Call) -> Document:
    """POST …/orders."""
    store, document = call.store, call.sent(Order)
    if document["id"] in store.orders:
        raise exists("An order")
    return _create(call, store, document)


def get_order(call: Call) -> Document:
    """GET …/orders/{id}."""
    return render(call.store, call.ids["order_id"])


def put_order(call: Call) -> Document:
    """PUT …/orders/{id}: create or update, unless the sandbox plays an account without it."""
    if NO_ORDER_PUT in call.options:
        raise method_not_allowed(("GET", "PATCH", "DELETE"))
    store, document, order_id = call.store, call.sent(Order), call.ids["order_id"]
    call.check_id(document, order_id)
    before = store.orders.get(order_id)
    if before is None:
        return _create(call, store, document)
    return _merge(call, store, order_id, before, document)


def update_order(call: Call) -> Document:
    """PATCH …/orders/{id}; with a ``customer.id`` it becomes an order of that customer."""
    store, order_id = call.store, call.ids["order_id"]
    return _merge(call, store, order_id, existing(store.orders, order_id), call.sent(OrderPatch))


def delete_order(call: Call) -> None:
    """DELETE …/orders/{id}."""
    store, order_id = call.store, call.ids["order_id"]
    existing(store.orders, order_id)
    store.remove("orders", order_id)
    call.account.changed("deleted", store.id, "order", order_id)


def list_lines(call: Call) -> Document:
    """GET …/orders/{id}/lines."""
    lines = {line["id"]: line for line in get_order(call)["lines"]}
    extra = {"store_id": call.store.id, "order_id": call.ids["order_id"]}
    return page(call, "lines", list(lines), lines.__getitem__, extra)


def create_line(call: Call) -> Document:
    """POST …/orders/{id}/lines (text for a taken id inferred)."""
    store, order_id = call.store, call.ids["order_id"]
    before, line = existing(store.orders, order_id), call.sent(OrderLine)
    if any(one["id"] == line["id"] for one in before["lines"]):
        raise exists("A line item")
    return child_of(_merge(call, store, order_id, before, {"lines": [line]})["lines"], line["id"])


def get_line(call: Call) -> Document:
    """GET …/orders/{id}/lines/{line_id}."""
    return child_of(get_order(call)["lines"], call.ids["line_id"])


def update_line(call: Call) -> Document:
    """PATCH …/orders/{id}/lines/{line_id}."""
    store, order_id, line_id = call.store, call.ids["order_id"], call.ids["line_id"]
    before = existing(store.orders, order_id)
    line = child_of(before["lines"], line_id) | call.sent(OrderLinePatch)
    return child_of(_merge(call, store, order_id, before, {"lines": [line]})["lines"], line_id)


def delete_line(call: Call) -> None:
    """DELETE …/orders/{id}/lines/{line_id}; not the last one (recorded text)."""
    store, order_id = call.store, call.ids["order_id"]
    before = existing(store.orders, order_id)
    kept = without_child(before["lines"], call.ids["line_id"], LAST_CHILD)
    _save(call, store, order_id, before, {**before, "lines": kept})


_ORDERS = "/ecommerce/stores/{store_id}/orders"
ROUTES: Routes = {
    "/ecommerce/orders": {"GET": list_all_orders},
    _ORDERS: {"GET": list_orders, "POST": create_order},
    _ORDERS + "/{order_id}": {"GET": get_order, "PUT": put_order, "PATCH": update_order, "DELETE": delete_order},
    _ORDERS + "/{order_id}/lines": {"GET": list_lines, "POST": create_line},
    _ORDERS + "/{order_id}/lines/{line_id}": {
        "GET": get_line,
        "PATCH": update_line,
        "DELETE": delete_line,
    },
}
