"""Promo rules of a store and their codes: …/promo-rules[/{id}] and …/promo-rules/{id}/promo-codes[/{id}].

There is no PUT. A changed rule has to be a valid rule as a whole, and takes its codes along when it is deleted.
"""

from pydantic import ValidationError

from include.mailchimp.contract import PromoCode, PromoCodePatch, PromoRule, PromoRulePatch
from include.sandbox.account import Store, code_key
from include.sandbox.exchange import Call, Routes, existing, page
from include.sandbox.problems import from_validation, invalid_resource
from include.sandbox.records import Document, Record, pack

_RULE = ("title", "description", "starts_at", "ends_at")


def _times(stored: Document, record: Record | None) -> Document:
    """Return the shop's own times, or for want of them those of the arrival."""
    return {
        "created_at_foreign": stored.get("created_at_foreign") or (record.created_at if record else ""),
        "updated_at_foreign": stored.get("updated_at_foreign") or (record.updated_at if record else ""),
    }


def render_rule(store: Store, rule_id: str) -> Document:
    """Return a promo rule as the API shows it."""
    stored = existing(store.promo_rules, rule_id)
    return {
        "id": rule_id,
        **{name: stored.get(name, "") for name in _RULE},
        "amount": stored["amount"],
        "type": stored["type"],
        "target": stored["target"],
        "enabled": stored.get("enabled", True),
        **_times(stored, store.promo_rules.record(rule_id)),
    }


def render_code(store: Store, key: str) -> Document:
    """Return a promo code as the API shows it."""
    stored = existing(store.promo_codes, key)
    return {
        "id": stored["id"],
        "code": stored["code"],
        "redemption_url": stored["redemption_url"],
        "usage_count": stored.get("usage_count", 0),
        "enabled": stored.get("enabled", True),
        **_times(stored, store.promo_codes.record(key)),
    }


def list_rules(call: Call) -> Document:
    """GET …/promo-rules."""
    store = call.store
    extra = {"store_id": store.id}
    return page(call, "promo_rules", list(store.promo_rules), lambda one: render_rule(store, one), extra)


def create_rule(call: Call) -> Document:
    """POST …/promo-rules (recorded text for a taken id)."""
    store, document = call.store, call.sent(PromoRule)
    rule_id = document["id"]
    if rule_id in store.promo_rules:
        raise invalid_resource(f"A promo rule for store with the id '{rule_id}' already exists.")
    store.save("promo_rules", rule_id, document)
    call.account.changed("created", store.id, "promo rule", rule_id)
    return render_rule(store, rule_id)


def get_rule(call: Call) -> Document:
    """GET …/promo-rules/{id}."""
    return render_rule(call.store, call.ids["rule_id"])


def update_rule(call: Call) -> Document:
    """PATCH …/promo-rules/{id}."""
    store, rule_id = call.store, call.ids["rule_id"]
    document = existing(store.promo_rules, rule_id) | call.sent(PromoRulePatch)
    try:
        PromoRule.model_validate_json(pack(document))
    except ValidationError as error:
        raise from_validation(error) from None
    store.save("promo_rules", rule_id, document)
    call.account.changed("updated", store.id, "promo rule", rule_id)
    return render_rule(store, rule_id)


def delete_rule(call: Call) -> None:
    """DELETE …/promo-rules/{id}: its codes go too (mc-magento#967)."""
    store, rule_id = call.store, call.ids["rule_id"]
    existing(store.promo_rules, rule_id)
    store.remove("promo_rules", rule_id)
    call.account.changed("deleted", store.id, "promo rule", rule_id)


def _rule_of(call: Call, store: Store) -> str:
    """Return the id of the path's rule; 404 when there is none."""
    existing(store.promo_rules, call.ids["rule_id"])
    return call.ids["rule_id"]


def list_codes(call: Call) -> Document:
    """GET …/promo-codes of a rule."""
    store = call.store
    rule_id = _rule_of(call, store)
    keys = list(store.codes_of_rule.get(rule_id, {}))
    extra = {"store_id": store.id, "promo_rule_id": rule_id}
    return page(call, "promo_codes", keys, lambda key: render_code(store, key), extra)


def create_code(call: Call) -> Document:
    """POST …/promo-codes (text for a taken id inferred from that for rules)."""
    store = call.store
    rule_id, document = _rule_of(call, store), call.sent(PromoCode)
    key = code_key(rule_id, document["id"])
    if key in store.promo_codes:
        raise invalid_resource(f"A promo code for store with the id '{document['id']}' already exists.")
    store.save("promo_codes", key, {**document, "rule_id": rule_id})
    call.account.changed("created", store.id, "promo code", document["id"])
    return render_code(store, key)


def get_code(call: Call) -> Document:
    """GET …/promo-codes/{id}."""
    return render_code(call.store, code_key(call.ids["rule_id"], call.ids["code_id"]))


def update_code(call: Call) -> Document:
    """PATCH …/promo-codes/{id}."""
    store, key = call.store, code_key(call.ids["rule_id"], call.ids["code_id"])
    store.save("promo_codes", key, existing(store.promo_codes, key) | call.sent(PromoCodePatch))
    call.account.changed("updated", store.id, "promo code", call.ids["code_id"])
    return render_code(store, key)


def delete_code(call: Call) -> None:
    """DELETE …/promo-codes/{id}."""
    store, key = call.store, code_key(call.ids["rule_id"], call.ids["code_id"])
    existing(store.promo_codes, key)
    store.remove("promo_codes", key)
    call.account.changed("deleted", store.id, "promo code", call.ids["code_id"])


_RULES = "/ecommerce/stores/{store_id}/promo-rules"
_CODES = _RULES + "/{rule_id}/promo-codes"
ROUTES: Routes = {
    _RULES: {"GET": list_rules, "POST": create_rule},
    _RULES + "/{rule_id}": {"GET": get_rule, "PATCH": update_rule, "DELETE": delete_rule},
    _CODES: {"GET": list_codes, "POST": create_code},
    _CODES + "/{code_id}": {"GET": get_code, "PATCH": update_code, "DELETE": delete_code},
}
