"""E-commerce stores: /ecommerce/stores and /ecommerce/stores/{id}."""

from include.mailchimp.contract import StoreCreate, StoreUpdate
from include.sandbox.account import Account
from include.sandbox.exchange import Call, Routes, existing, page
from include.sandbox.problems import UNABLE, bad_request, exists, invalid_resource
from include.sandbox.records import NO_PLACE, Document

_ADDRESS: Document = {**NO_PLACE, "longitude": 0, "latitude": 0}
_DEFAULTS: Document = {
    "id": "",
    "list_id": "",
    "name": "",
    "platform": "",
    "domain": "",
    "is_syncing": False,
    "email_address": "",
    "currency_code": "",
    "money_format": "",
    "primary_locale": "",
    "timezone": "",
    "phone": "",
}


def render(account: Account, store_id: str) -> Document:
    """Return a store as the API shows it."""
    stored = existing(account.store_settings, store_id)
    record = account.store_settings.record(store_id)
    return {
        **_DEFAULTS,
        **stored,
        "address": _ADDRESS | stored.get("address", {}),
        "automations": {"abandoned_cart": {"is_supported": False}, "abandoned_browse": {"is_supported": False}},
        "list_is_active": True,
        "created_at": record.created_at if record else "",
        "updated_at": record.updated_at if record else "",
    }


def _host(domain: str) -> str:
    """Return what makes a domain unique: no scheme and no sub-directory."""
    return domain.lower().rpartition("://")[2].partition("/")[0]


def _check_domain(account: Account, domain: str, own_id: str) -> None:
    for store_id in account.store_settings:
        other = existing(account.store_settings, store_id).get("domain", "")
        if domain and store_id != own_id and _host(other) == _host(domain):
            raise bad_request(f"{UNABLE}A store with the domain {domain} already exists in the account.")


def list_stores(call: Call) -> Document:
    """GET /ecommerce/stores."""
    return page(call, "stores", list(call.account.store_settings), lambda one: render(call.account, one))


def create_store(call: Call) -> Document:
    """POST /ecommerce/stores (texts for a taken id and an unknown audience inferred)."""
    account, document = call.account, call.sent(StoreCreate)
    store_id = document["id"]
    if store_id in account.store_settings:
        raise exists("A store")
    if document["list_id"] not in account.lists:
        raise invalid_resource("The specified list does not exist in the account.")
    _check_domain(account, document.get("domain", ""), store_id)
    account.store_settings.put(store_id, document)
    account.store_for(store_id)
    account.changed("created", store_id, "store", store_id)
    return render(account, store_id)


def get_store(call: Call) -> Document:
    """GET /ecommerce/stores/{id}."""
    return render(call.account, call.ids["store_id"])


def update_store(call: Call) -> Document:
    """PATCH /ecommerce/stores/{id}: everything but the id and the audience."""
    account, store_id = call.account, call.ids["store_id"]
    stored = existing(account.store_settings, store_id)
    changes = call.sent(StoreUpdate)
    if changes.get("list_id", stored["list_id"]) != stored["list_id"]:
        raise bad_request("The list may not be changed.")
    _check_domain(account, changes.get("domain", ""), store_id)
    if "address" in changes:
        changes["address"] = stored.get("address", {}) | changes["address"]
    account.store_settings.put(store_id, stored | changes)
    account.changed("updated", store_id, "store", store_id)
    return render(account, store_id)


def delete_store(call: Call) -> None:
    """DELETE /ecommerce/stores/{id}: its records go too, the audience's members stay."""
    store_id = call.store.id
    call.account.forget_store(store_id)
    call.account.changed("deleted", store_id, "store", store_id)


ROUTES: Routes = {
    "/ecommerce/stores": {"GET": list_stores, "POST": create_store},
    "/ecommerce/stores/{store_id}": {"GET": get_store, "PATCH": update_store, "DELETE": delete_store},
}
