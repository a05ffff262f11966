"""Reads the audience's own rules at the beginning of a run: opt-in, merge fields, groups (API reference: "Lists").

Nothing of an audience is ever changed from here: audiences, groups and merge fields are made in Mailchimp.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from include.config.stores import StoreSettings
from include.load.errors import PreflightFailed
from include.mailchimp.client import MailchimpClient
from include.state.audiences import (
    AudienceEntry,
    GroupEntry,
    known_groups,
    save_audiences,
    save_groups,
    vanished_groups,
)
from include.state.database import StateDatabase
from include.transform import groups, merge_fields
from include.transform.audience import Audience, Group, MergeField

log = logging.getLogger(__name__)


def read_audiences(state: StateDatabase, client: MailchimpClient, account_id: str) -> list[AudienceEntry]:
    """Read all audiences of the account, and record them in the state tables.

    Args:
        state: the state tables.
        client: of the account.
        account_id: the Mailchimp account.

    Returns:
        The audiences, in Mailchimp's order.
    """
    found = [
        AudienceEntry(audience["id"], audience["name"], bool(audience["double_optin"]))
        for audience in client.list_all("/lists", "lists", fields=["id", "name", "double_optin"])
    ]
    with state.begin() as connection:
        save_audiences(connection, account_id, found)
    return found


def read_audience(state: StateDatabase, client: MailchimpClient, settings: StoreSettings, account_id: str) -> Audience:
    """Read the rules of a store's audience, record its groups, and warn of settings that don't fit it.

    Args:
        state: the state tables; the groups' switches there are the shop's and stay as they are.
        client: of the account.
        settings: names the audience.
        account_id: the Mailchimp account.

    Returns:
        The rules, to be kept with the run.

    Raises:
        PreflightFailed: the account has no such audience.
        UnexpectedReply: something changed while it was read; another try reads it completely.
    """
    by_id = {entry.list_id: entry for entry in read_audiences(state, client, account_id)}
    if settings.list_id not in by_id:
        raise PreflightFailed(f"Audience {settings.list_id!r} of store {settings.key!r} is gone; correct list_id.")
    groups = list(_groups(client, settings.list_id))
    with state.begin() as connection:
        save_groups(connection, account_id, settings.list_id, groups)
        known = known_groups(connection, account_id, settings.list_id)
        gone = vanished_groups(connection, account_id, settings.list_id)
    audience = Audience(
        settings.list_id,
        by_id[settings.list_id].double_optin,
        tuple(_merge_fields(client, settings.list_id)),
        tuple(
            Group(g.group_id, g.name, g.category, g.is_active, g.subscribe_by_default, tuple(g.former_names))
            for g in known
        ),
    )
    for warning in [*warnings(settings, audience), *(_vanished(*group) for group in gone)]:
        log.warning(warning)
    return audience


def _vanished(name: str, since: datetime) -> str:
    return (
        f"group {name!r} is gone from the audience since {since:%Y-%m-%d %H:%M} UTC, so nobody joins it; make it again "
        "at Mailchimp, or set is_active to false in mailchimp.audience_group and this isn't told any more"
    )


def warnings(settings: StoreSettings, audience: Audience) -> list[str]:
    """Say what of a store's settings doesn't fit its audience, though it can be pushed.

    Args:
        settings: of the store.
        audience: the rules of its audience.

    Returns:
        A sentence each.
    """
    found = [*merge_fields.problems(settings, audience), *groups.problems(settings, audience)]
    if settings.opt_in == "single" and audience.double_optin:
        found = [
            *found,
            f"Store {settings.key!r} subscribes at once (opt_in: single), although audience {audience.list_id!r} asks "
            "for confirmation. People who never confirmed complain about abuse more often, and Mailchimp suspends "
            "accounts for it: prefer opt_in: follow_audience.",
        ]
    return found


def _merge_fields(client: MailchimpClient, list_id: str) -> Iterator[MergeField]:
    fields = ["tag", "type", "required", "options"]
    for found in client.list_all(f"/lists/{list_id}/merge-fields", "merge_fields", fields=fields):
        choices = (found.get("options") or {}).get("choices") or ()
        yield MergeField(found["tag"], found["type"], bool(found.get("required")), tuple(choices))


def _groups(client: MailchimpClient, list_id: str) -> Iterator[GroupEntry]:
    categories = f"/lists/{list_id}/interest-categories"
    for category in _items(client, categories, "categories", ["id", "title"]):
        for group in _items(client, f"{categories}/{category['id']}/interests", "interests", ["id", "name"]):
            yield GroupEntry(group["id"], category["id"], category["title"], group["name"])


def _items(client: MailchimpClient, path: str, collection: str, fields: list[str]) -> list[dict[str, Any]]:
    return list(client.list_all(path, collection, fields=fields))
