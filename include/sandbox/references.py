"""What orders and carts refer to: products, variants, campaigns and customers. Refusals word for word as recorded."""

from include.sandbox import customers
from include.sandbox.account import Account, Store
from include.sandbox.exchange import Call
from include.sandbox.problems import bad_request
from include.sandbox.records import Document


def check_lines(store: Store, lines: list[Document]) -> None:
    """Refuse a line whose product or variant the store does not have."""
    for line in lines:
        variants = store.variant_titles.get(line["product_id"])
        if variants is None:
            raise bad_request("A product with the provided ID does not exist in the account for this list.")
        if line["product_variant_id"] not in variants:
            raise bad_request("A product with the provided variant ID does not exist in the account for this list.")


def check_campaign(account: Account, document: Document) -> None:
    """Refuse a campaign that the account does not have."""
    campaign_id = document.get("campaign_id", "")
    known = campaign_id in account.campaigns or campaign_id in account.campaign_records
    if campaign_id and not known:
        raise bad_request("A campaign with the provided ID does not exist in the account for this list.")


def settle_customer(call: Call, store: Store, customer: Document) -> Document:
    """Create the customer that the store does not know; of a known one only the address is compared.

    Returns:
        What the order or cart keeps of it: the id.
    """
    known = store.customers.get(customer["id"])
    sent = customer.get("email_address", "")
    if known is None or (sent and sent.lower() != known["email_address"].lower()):
        customers.store_customer(call.account, store, customer["id"], customer)
    return {"id": customer["id"]}


def render_customer(store: Store, customer_id: str) -> Document:
    """Return the customer of an order or cart: whole, or the id alone once it is deleted."""
    return customers.render(store, customer_id) if customer_id in store.customers else {"id": customer_id}
