"""Reads all about an account's audiences but their members (API reference: "Lists", "Interests", "Merge fields").

Audiences, groups and merge fields are known by id; what Mailchimp doesn't have any more is marked as removed, not
forgotten. The switches `is_active` and `subscribe_by_default` are the shop's and stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Final

from include.mailchimp.client import Json, MailchimpClient
from include.mailchimp.errors import NotFound
from include.state.audiences import (
    AudienceEntry,
    GroupEntry,
    MergeFieldEntry,
    audiences_are_due,
    finish_audience,
    save_audiences,
    save_groups,
    save_merge_fields,
)
from include.state.database import StateDatabase

#: A scheduled pull reads the audiences when they were last read longer ago than this.
AGE: Final = timedelta(hours=1)


def audiences_due(state: StateDatabase, account_id: str) -> bool:
    """Tell whether a scheduled pull reads the audiences."""
    with state.begin() as connection:
        return audiences_are_due(connection, account_id, AGE)


def pull_audiences(state: StateDatabase, client: MailchimpClient, account_id: str, connections: int) -> int:
    """Read all audiences with their groups, merge fields and statistics, each completely.

    Args:
        state: the state tables.
        client: of the account.
        account_id: the Mailchimp account.
        connections: how many audiences are read at a time.

    Returns:
        How many audiences there are.

    Raises:
        UnexpectedReply: something changed while it was read; another try reads it completely.
    """
    found = list(client.list_all("/lists", "lists", fields=["id", "name", "double_optin", "stats"]))
    with state.begin() as connection:
        entries = [AudienceEntry(one["id"], one["name"], bool(one["double_optin"])) for one in found]
        save_audiences(connection, account_id, entries)
    with ThreadPoolExecutor(connections, thread_name_prefix="audiences") as pool:
        for _ in pool.map(lambda one: _pull_one(state, client, account_id, one), found):
            pass
    return len(found)


def _pull_one(state: StateDatabase, client: MailchimpClient, account_id: str, audience: Json) -> None:
    list_id = audience["id"]
    try:
        groups = list(_groups(client, list_id))
        fields = list(_merge_fields(client, list_id))
    except NotFound:
        return  # deleted meanwhile: the next pull marks it as removed
    with state.begin() as connection:
        save_groups(connection, account_id, list_id, groups)
        save_merge_fields(connection, account_id, list_id, fields)
        finish_audience(connection, account_id, list_id, audience.get("stats") or {})


def _groups(client: MailchimpClient, list_id: str) -> Iterator[GroupEntry]:
    categories = f"/lists/{list_id}/interest-categories"
    for category in _all(client, categories, "categories", "id", "title"):
        path = f"{categories}/{category['id']}/interests"
        for group in _all(client, path, "interests", "id", "name"):
            yield GroupEntry(group["id"], category["id"], category["title"], group["name"])


def _merge_fields(client: MailchimpClient, list_id: str) -> Iterator[MergeFieldEntry]:
    path, names = f"/lists/{list_id}/merge-fields", ("merge_id", "tag", "name", "type", "required", "options")
    for one in _all(client, path, "merge_fields", *names):
        choices = (one.get("options") or {}).get("choices") or ()
        yield MergeFieldEntry(
            one["merge_id"], one["tag"], one["name"], one["type"], bool(one.get("required")), tuple(choices)
        )


def _all(client: MailchimpClient, path: str, collection: str, *fields: str) -> list[dict[str, Any]]:
    return list(client.list_all(path, collection, fields=list(fields)))
