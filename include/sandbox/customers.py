"""Customers of a store: …/customers and …/customers/{id}.

A customer keeps its address for life: another address under a known id is refused, and so is a known address under
another id. Creating or changing a customer moves the audience by the opt-in rules (see ``audiences``).
"""

from include.mailchimp.contract import Customer, CustomerPatch
from include.sandbox.account import Account, Store
from include.sandbox.audiences import follow_customer
from include.sandbox.exchange import Call, Routes, existing, page
from include.sandbox.problems import email_missing, invalid_resource
from include.sandbox.records import NO_PLACE, Document


def render(store: Store, customer_id: str) -> Document:
    """Return a customer as the API shows it; ``orders_count`` and ``total_spent`` are computed."""
    stored = existing(store.customers, customer_id)
    record = store.customers.record(customer_id)
    orders, spent = store.spending.get(customer_id, (0, 0.0))
    return {
        "id": customer_id,
        "email_address": stored["email_address"],
        "opt_in_status": stored.get("opt_in_status", False),
        "company": stored.get("company", ""),
        "first_name": stored.get("first_name", ""),
        "last_name": stored.get("last_name", ""),
        "orders_count": orders,
        "total_spent": round(spent, 2),
        "address": NO_PLACE | stored.get("address", {}),
        "created_at": record.created_at if record else "",
        "updated_at": record.updated_at if record else "",
    }


def store_customer(account: Account, store: Store, customer_id: str, changes: Document) -> None:
    """Create a customer or merge changes into it, and let the audience follow.

    Raises:
        Problem: 400 for a new customer without an address, a changed address, or one that another customer has
            (the last two texts inferred).
    """
    stored = store.customers.get(customer_id)
    email = changes.get("email_address", "")
    if stored is None and not email:
        raise email_missing()
    if stored is not None and email and email.lower() != stored["email_address"].lower():
        raise invalid_resource("A customer's email address may not be changed.")
    if stored is None and email.lower() in store.customer_of_email:
        raise invalid_resource(f"A customer with the email address '{email}' already exists.")
    document: Document = {"opt_in_status": False, **(stored or {}), **changes, "id": customer_id}
    if stored is not None:
        document["email_address"] = stored["email_address"]
        if "address" in changes:
            document["address"] = stored.get("address", {}) | changes["address"]
    store.save("customers", customer_id, document)
    follow_customer(account, existing(account.store_settings, store.id)["list_id"], document)
    account.changed("updated" if stored else "created", store.id, "customer", customer_id)


def list_customers(call: Call) -> Document:
    """GET …/customers, filter ``email_address``."""
    store = call.store
    ids = list(store.customers)
    email = call.query.get("email_address", "")
    if email:
        known = store.customer_of_email.get(email.lower())
        ids = [] if known is None else [known]
    return page(call, "customers", ids, lambda one: render(store, one), {"store_id": store.id})


def create_customer(call: Call) -> Document:
    """POST …/customers."""
    store, document = call.store, call.sent(Customer)
    if document["id"] in store.customers:
        raise invalid_resource(f"A customer with the id '{document['id']}' already exists.")
    store_customer(call.account, store, document["id"], document)
    return render(store, document["id"])


def get_customer(call: Call) -> Document:
    """GET …/customers/{id}."""
    return render(call.store, call.ids["customer_id"])


def put_customer(call: Call) -> Document:
    """PUT …/customers/{id}: create or update."""
    store, document, customer_id = call.store, call.sent(Customer), call.ids["customer_id"]
    call.check_id(document, customer_id)
    store_customer(call.account, store, customer_id, document)
    return render(store, customer_id)


def update_customer(call: Call) -> Document:
    """PATCH …/customers/{id}."""
    store, customer_id = call.store, call.ids["customer_id"]
    existing(store.customers, customer_id)
    store_customer(call.account, store, customer_id, call.sent(CustomerPatch))
    return render(store, customer_id)


def delete_customer(call: Call) -> None:
    """DELETE …/customers/{id}; the orders stay."""
    store, customer_id = call.store, call.ids["customer_id"]
    existing(store.customers, customer_id)
    store.remove("customers", customer_id)
    call.account.changed("deleted", store.id, "customer", customer_id)


ROUTES: Routes = {
    "/ecommerce/stores/{store_id}/customers": {"GET": list_customers, "POST": create_customer},
    "/ecommerce/stores/{store_id}/customers/{customer_id}": {
        "GET": get_customer,
        "PUT": put_customer,
        "PATCH": update_customer,
        "DELETE": delete_customer,
    },
}
