"""What has to be right before anything is sent: credentials, audience, currency.

Every check stops the run with one error that says what is wrong and what to do.
"""

from __future__ import annotations

import logging
from typing import Any

from include.config.stores import StoreSettings
from include.load.errors import MailchimpUnreachable, PreflightFailed
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import AuthenticationFailed, ConnectionFailed, Forbidden, NotFound
from include.state.stores import StoreRef
from include.transform.money import CURRENCY_DIGITS

log = logging.getLogger(__name__)


def check_same_account(client: MailchimpClient, store: StoreRef) -> None:
    """Check that the connection still leads to the account that a run began with.

    Args:
        client: of the connection.
        store: the run's store.

    Raises:
        PreflightFailed: it leads to another one, which has none of what this ledger knows.
    """
    found = str(client.account().get("account_id", ""))
    if found != store.account_id:
        raise PreflightFailed(
            f"The connection of store {store.store_key!r} leads to Mailchimp account {found!r} by now, but the run "
            f"began in {store.account_id!r}. Nothing was sent. Trigger a new run, which keeps a ledger of its own for "
            "the other account; or put the former key back and clear this task."
        )


def check_account(client: MailchimpClient, settings: StoreSettings) -> str:
    """Check the credentials and that the store's audience exists.

    Returns:
        The id of the Mailchimp account that the connection leads to.

    Raises:
        PreflightFailed: the key is refused, or the audience isn't there.
        MailchimpUnreachable: no reply.
    """
    where = f"store {settings.key!r}, connection {settings.mailchimp_conn_id!r}"
    try:
        account = client.account()
    except AuthenticationFailed as error:
        raise PreflightFailed(
            f"Mailchimp refuses the API key ({where}): {error}. Create a key in Mailchimp (Profile → Extras → API "
            f"keys) and put it, with its suffix such as -us6, into the connection's password."
        ) from None
    except Forbidden as error:
        raise PreflightFailed(f"Mailchimp refuses access ({where}): {error}. Check the account's state.") from None
    except ConnectionFailed as error:
        raise MailchimpUnreachable(
            f"Mailchimp can't be reached at {client.base_url} ({where}): {error}. Check the connection's host and the "
            f"network, then clear this task."
        ) from None
    try:
        client.get(f"/lists/{settings.list_id}", params={"fields": "id"})
    except NotFound:
        known = [audience["id"] for audience in client.list_all("/lists", "lists", fields=["id"])]
        raise PreflightFailed(
            f"Audience {settings.list_id!r} does not exist in this Mailchimp account ({where}). It has "
            f"{', '.join(known) or 'none'}; correct list_id in the settings file, or create the audience in Mailchimp."
        ) from None
    log.info(
        "Mailchimp account %s (%s), role %s, %s subscribers in all",
        account.get("account_name", "?"),
        client.base_url,
        account.get("role", "?"),
        account.get("total_subscribers", "?"),
    )
    return str(account.get("account_id", ""))


def check_currency(settings: StoreSettings, shop: dict[str, Any]) -> str:
    """Return the shop's currency.

    Raises:
        PreflightFailed: it isn't one of ISO 4217.
    """
    code = str(shop["currency_code"] or "")
    if code not in CURRENCY_DIGITS:
        raise PreflightFailed(
            f"The currency_code {code!r} of store {settings.key!r} is not an ISO 4217 code; correct it in the shop or "
            f"in store.sql of the profile {settings.profile!r}."
        )
    return code
