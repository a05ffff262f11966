"""Takes a contact along when its customer gets a new e-mail address.

At Mailchimp a customer's address is for life, so a new address makes a new customer, and a new contact: one whose
opt-out nobody would remember. So the contact's own address is changed first (API reference: "Add or update list
member", PATCH under the old hash); its status, its fields and its history stay with it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from include.config.stores import StoreSettings
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import Invalid, MailchimpError, MethodNotAllowed, NotFound
from include.state.aliases import Former, formers, note_carried, shared_formers
from include.state.database import StateDatabase
from include.state.members import ArchivedContacts
from include.state.stores import StoreRef
from include.transform.records import Built

log = logging.getLogger(__name__)

_TAKEN = "member exists"
_OPTED_OUT = ("unsubscribed", "cleaned", "archived")


def carry_contacts(
    state: StateDatabase, client: MailchimpClient, store: StoreRef, settings: StoreSettings, built: Built
) -> Collection[str]:
    """Change the address of every contact whose customer has a new one.

    Args:
        state: the state tables.
        client: of the account.
        store: the store.
        settings: names the audience.
        built: customers or members, with a column ``email``.

    Returns:
        The ids of records that must not be sent now: what Mailchimp knows of them under their former address could not
        be taken along, so that nobody may subscribe them under the new one.

    Raises:
        MailchimpError: Mailchimp can't be reached.
    """
    keys, ids = built.keys.to_pylist(), built.record_ids.to_pylist()
    with state.begin() as connection:
        moved = formers(connection, store.store_ref, keys, ids)
        left = shared_formers(connection, store.store_ref, keys, ids)
    refusing = [one.new_id for one in left if _status(client, settings, one.record_id) in _OPTED_OUT]
    if not moved:
        return refusing
    archived = ArchivedContacts(state, store.account_id, settings.list_id)([one.record_id for one in moved])
    emails = dict(zip(ids, built.source.frame["email"].tolist(), strict=True))
    stuck = [
        former.new_id
        for former in moved
        if former.record_id in archived or not _carry(client, settings, former, emails[former.new_id])
    ]
    with state.begin() as connection:
        for former in moved:
            if former.new_id not in stuck:
                note_carried(connection, store.store_ref, former)
    log.info("%d contacts have a new address, %d of them stay where they are", len(moved), len(stuck))
    return [*stuck, *refusing]


def _carry(client: MailchimpClient, settings: StoreSettings, former: Former, email: str) -> bool:
    """Change one contact's address; False when it is there, but can't be changed."""
    path = f"/lists/{settings.list_id}/members/{former.record_id}"
    try:
        client.patch(path, json={"email_address": email})
    except NotFound:
        return True  # the audience never had it, or it moved before
    except (Invalid, MethodNotAllowed) as error:
        # The new address is a contact already, with a status of its own.
        if _TAKEN not in f"{error.title} {error.detail}".lower():
            return False
        # A transactional one would be lifted by the customer's opt-in, which the contact has withdrawn.
        lifted = _status(client, settings, former.new_id) == "transactional"
        return not (lifted and _status(client, settings, former.record_id) in _OPTED_OUT)
    except MailchimpError as error:
        if error.transient:
            raise
        return False
    return True


def _status(client: MailchimpClient, settings: StoreSettings, member_id: str) -> str | None:
    try:
        found = client.get(f"/lists/{settings.list_id}/members/{member_id}", params={"fields": "status"})
    except NotFound:
        return None
    return (found or {}).get("status")
