"""Carts of a store with their lines: …/carts, …/carts/{id} and …/lines; and the mail to whoever abandoned one.

* Product, variant, campaign and customer must exist; an unknown customer is created when its address comes along.
* There is no PUT. PATCH merges lines by id (stale ones stay until deleted) and keeps the customer.
* A cart that came while the store was syncing never sets off a mail; one without ``checkout_url`` can't.
"""

from datetime import datetime, timedelta

from include.mailchimp.contract import Cart, CartLine, CartLinePatch, CartPatch
from include.sandbox.account import Account, Store
from include.sandbox.exchange import Call, Routes, existing, page
from include.sandbox.problems import exists
from include.sandbox.products import LAST_CHILD, child_of, merged, without_child
from include.sandbox.records import Document, now
from include.sandbox.references import check_campaign, check_lines, render_customer, settle_customer

REMINDER = "abandoned cart"


def _line(store: Store, line: Document) -> Document:
    product_id, variant_id = line["product_id"], line["product_variant_id"]
    return {
        "id": line["id"],
        "product_id": product_id,
        "product_title": (store.products.get(product_id) or {}).get("title", ""),
        "product_variant_id": variant_id,
        "product_variant_title": store.variant_titles.get(product_id, {}).get(variant_id, ""),
        "quantity": line["quantity"],
        "price": line["price"],
    }


def render(store: Store, cart_id: str) -> Document:
    """Return a cart as the API shows it."""
    stored = existing(store.carts, cart_id)
    record = store.carts.record(cart_id)
    return {
        "id": cart_id,
        "customer": render_customer(store, stored["customer"]["id"]),
        "campaign_id": stored.get("campaign_id", ""),
        "checkout_url": stored.get("checkout_url", ""),
        "currency_code": stored["currency_code"],
        "order_total": stored["order_total"],
        "tax_total": stored.get("tax_total", 0),
        "lines": [_line(store, line) for line in stored["lines"]],
        "created_at": record.created_at if record else "",
        "updated_at": record.updated_at if record else "",
    }


def _save(call: Call, store: Store, cart_id: str, document: Document) -> Document:
    verb = "updated" if cart_id in store.carts else "created"
    store.save("carts", cart_id, document)
    if verb == "created" and not existing(call.account.store_settings, store.id).get("is_syncing", False):
        store.awaiting_reminder.add(cart_id)
    call.account.changed(verb, store.id, "cart", cart_id)
    return render(store, cart_id)


def _merge(call: Call, store: Store, cart_id: str, changes: Document) -> Document:
    before = existing(store.carts, cart_id)
    check_lines(store, changes.get("lines", []))
    check_campaign(call.account, changes)
    changes.pop("customer", None)
    lines = merged(before["lines"], changes.get("lines", []))
    return _save(call, store, cart_id, {**before, **changes, "lines": lines})


def remind(account: Account, after_seconds: float = 0) -> int:
    """Note the mails that are due for abandoned carts: one per cart, unless its store is syncing (for tests and demos).

    Args:
        account: whose stores to look at.
        after_seconds: how long a cart must have been left alone (whole seconds count).

    Returns:
        The number of mails.
    """
    latest = (datetime.fromisoformat(now()) - timedelta(seconds=after_seconds)).isoformat(timespec="seconds")
    due = 0
    for store in account.stores.values():
        if (account.store_settings.get(store.id) or {}).get("is_syncing", False):
            continue
        for cart_id in sorted(store.awaiting_reminder):
            cart = render(store, cart_id)
            if cart["updated_at"] <= latest and cart["checkout_url"]:
                store.awaiting_reminder.remove(cart_id)
                account.mail(REMINDER, store.id, cart_id)
                due += 1
    return due


def list_carts(call: Call) -> Document:
    """GET …/carts; here created_at and updated_at come back empty (mailchimp-client-lib-codegen#130)."""
    store = call.store
    timeless = {"created_at": "", "updated_at": ""}
    return page(call, "carts", list(store.carts), lambda one: render(store, one) | timeless, {"store_id": store.id})


def create_cart(call: Call) -> Document:
    """POST …/carts (text for a taken id inferred)."""
    store, document = call.store, call.sent(Cart)
    if document["id"] in store.carts:
        raise exists("A cart")
    check_lines(store, document["lines"])
    check_campaign(call.account, document)
    customer = settle_customer(call, store, document["customer"])
    return _save(call, store, document["id"], {**document, "customer": customer})


def get_cart(call: Call) -> Document:
    """GET …/carts/{id}."""
    return render(call.store, call.ids["cart_id"])


def update_cart(call: Call) -> Document:
    """PATCH …/carts/{id}."""
    store, cart_id = call.store, call.ids["cart_id"]
    existing(store.carts, cart_id)
    return _merge(call, store, cart_id, call.sent(CartPatch))


def delete_cart(call: Call) -> None:
    """DELETE …/carts/{id}."""
    store, cart_id = call.store, call.ids["cart_id"]
    existing(store.carts, cart_id)
    store.remove("carts", cart_id)
    call.account.changed("deleted", store.id, "cart", cart_id)


def list_lines(call: Call) -> Document:
    """GET …/carts/{id}/lines."""
    lines = {line["id"]: line for line in get_cart(call)["lines"]}
    extra = {"store_id": call.store.id, "cart_id": call.ids["cart_id"]}
    return page(call, "lines", list(lines), lines.__getitem__, extra)


def create_line(call: Call) -> Document:
    """POST …/carts/{id}/lines (text for a taken id inferred)."""
    store, cart_id = call.store, call.ids["cart_id"]
    before, line = existing(store.carts, cart_id), call.sent(CartLine)
    if any(one["id"] == line["id"] for one in before["lines"]):
        raise exists("A line item")
    return child_of(_merge(call, store, cart_id, {"lines": [line]})["lines"], line["id"])


def get_line(call: Call) -> Document:
    """GET …/carts/{id}/lines/{line_id}."""
    return child_of(get_cart(call)["lines"], call.ids["line_id"])


def update_line(call: Call) -> Document:
    """PATCH …/carts/{id}/lines/{line_id}."""
    store, cart_id, line_id = call.store, call.ids["cart_id"], call.ids["line_id"]
    line = child_of(existing(store.carts, cart_id)["lines"], line_id) | call.sent(CartLinePatch)
    return child_of(_merge(call, store, cart_id, {"lines": [line]})["lines"], line_id)


def delete_line(call: Call) -> None:
    """DELETE …/carts/{id}/lines/{line_id}; not the last one (recorded text)."""
    store, cart_id = call.store, call.ids["cart_id"]
    before = existing(store.carts, cart_id)
    kept = without_child(before["lines"], call.ids["line_id"], LAST_CHILD)
    _save(call, store, cart_id, {**before, "lines": kept})


_CARTS = "/ecommerce/stores/{store_id}/carts"
ROUTES: Routes = {
    _CARTS: {"GET": list_carts, "POST": create_cart},
    _CARTS + "/{cart_id}": {"GET": get_cart, "PATCH": update_cart, "DELETE": delete_cart},
    _CARTS + "/{cart_id}/lines": {"GET": list_lines, "POST": create_line},
    _CARTS + "/{cart_id}/lines/{line_id}": {"GET": get_line, "PATCH": update_line, "DELETE": delete_line},
}
