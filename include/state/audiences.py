"""The account's audiences and their groups as Mailchimp has them, with two switches each that are the shop's.

`is_active` and `subscribe_by_default` are set by the shop, in these tables, and never changed by what is read from
Mailchimp; audiences and groups are known by id, so that a new name at Mailchimp changes nothing but the name.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class AudienceEntry:
    """An audience of the account."""

    list_id: str
    name: str
    double_optin: bool


@dataclass(frozen=True)
class GroupEntry:
    """A group ("interest") of an audience; the switches count only where it comes from the state tables."""

    group_id: str
    category_id: str
    category: str
    name: str
    is_active: bool = True
    subscribe_by_default: bool = False
    former_names: Sequence[str] = ()


@dataclass(frozen=True)
class MergeFieldEntry:
    """A merge field of an audience."""

    merge_id: int
    tag: str
    name: str
    type: str
    required: bool
    choices: Sequence[str] = ()


_SAVE_AUDIENCES = text("""
    INSERT INTO audience (account_id, list_id, name, double_optin)
    SELECT :account_id, r.*
    FROM unnest(CAST(:list_ids AS text[]), CAST(:names AS text[]), CAST(:double AS boolean[])) AS r(list_id, name, d)
    ORDER BY r.list_id
    ON CONFLICT (account_id, list_id) DO UPDATE
    SET name = excluded.name, double_optin = excluded.double_optin, removed_at = NULL, read_at = now()
""")


def save_audiences(connection: Connection, account_id: str, found: Sequence[AudienceEntry]) -> None:
    """Record all audiences that an account has now; those that vanished are marked as removed."""
    list_ids = [audience.list_id for audience in found]
    connection.execute(
        _SAVE_AUDIENCES,
        {
            "account_id": account_id,
            "list_ids": list_ids,
            "names": [audience.name for audience in found],
            "double": [audience.double_optin for audience in found],
        },
    )
    connection.execute(
        text("""
            UPDATE audience SET removed_at = now()
            WHERE account_id = :account_id AND removed_at IS NULL AND list_id <> ALL (CAST(:list_ids AS text[]))
        """),
        {"account_id": account_id, "list_ids": list_ids},
    )


_SAVE_GROUPS = text("""
    INSERT INTO audience_group AS g (account_id, list_id, group_id, category_id, category, name)
    SELECT :account_id, :list_id, r.*
    FROM unnest(CAST(:group_ids AS text[]), CAST(:category_ids AS text[]), CAST(:categories AS text[]),
                CAST(:names AS text[])) AS r(group_id, category_id, category, name)
    ORDER BY r.group_id
    ON CONFLICT (account_id, list_id, group_id) DO UPDATE
    SET category_id = excluded.category_id, category = excluded.category, name = excluded.name, removed_at = NULL,
        former_names = CASE WHEN g.name = excluded.name OR g.name = ANY (g.former_names) THEN g.former_names
                            ELSE g.former_names || g.name END
""")


def save_groups(connection: Connection, account_id: str, list_id: str, found: Sequence[GroupEntry]) -> None:
    """Record all groups that an audience has now; those that vanished are marked as removed."""
    group_ids = [group.group_id for group in found]
    connection.execute(
        _SAVE_GROUPS,
        {
            "account_id": account_id,
            "list_id": list_id,
            "group_ids": group_ids,
            "category_ids": [group.category_id for group in found],
            "categories": [group.category for group in found],
            "names": [group.name for group in found],
        },
    )
    connection.execute(
        text("""
            UPDATE audience_group SET removed_at = now()
            WHERE account_id = :account_id AND list_id = :list_id AND removed_at IS NULL
              AND group_id <> ALL (CAST(:group_ids AS text[]))
        """),
        {"account_id": account_id, "list_id": list_id, "group_ids": group_ids},
    )


def known_groups(connection: Connection, account_id: str, list_id: str) -> list[GroupEntry]:
    """Return the groups that an audience had when it was read last, with the shop's switches, in the order of ids."""
    rows = connection.execute(
        text("""
            SELECT group_id, category_id, category, name, is_active, subscribe_by_default, former_names
            FROM audience_group
            WHERE account_id = :account_id AND list_id = :list_id AND removed_at IS NULL
            ORDER BY group_id COLLATE "C"
        """),
        {"account_id": account_id, "list_id": list_id},
    )
    return [replace(GroupEntry(*row), former_names=tuple(row.former_names)) for row in rows]


def vanished_groups(connection: Connection, account_id: str, list_id: str) -> list[tuple[str, datetime]]:
    """Return the groups that are gone from an audience though the shop has them switched on: name, and since when."""
    rows = connection.execute(
        text("""
            SELECT name, removed_at FROM audience_group
            WHERE account_id = :account_id AND list_id = :list_id AND removed_at IS NOT NULL AND is_active
            ORDER BY name, group_id
        """),
        {"account_id": account_id, "list_id": list_id},
    )
    return [(row.name, row.removed_at) for row in rows]


_SAVE_MERGE_FIELDS = text("""
    INSERT INTO audience_merge_field (account_id, list_id, merge_id, tag, name, type, required, choices)
    SELECT :account_id, :list_id, r.merge_id, r.tag, r.name, r.type, r.required,
           ARRAY(SELECT jsonb_array_elements_text(CAST(r.choices AS jsonb)))
    FROM unnest(CAST(:merge_id AS integer[]), CAST(:tag AS text[]), CAST(:name AS text[]), CAST(:type AS text[]),
                CAST(:required AS boolean[]), CAST(:choices AS text[]))
         AS r(merge_id, tag, name, type, required, choices)
    ORDER BY r.merge_id
    ON CONFLICT (account_id, list_id, merge_id) DO UPDATE
    SET tag = excluded.tag, name = excluded.name, type = excluded.type, required = excluded.required,
        choices = excluded.choices, removed_at = NULL
""")


def save_merge_fields(connection: Connection, account_id: str, list_id: str, found: Sequence[MergeFieldEntry]) -> None:
    """Record all merge fields that an audience has now; those that vanished are marked as removed."""
    arguments: dict[str, Any] = {
        name: [getattr(field, name) for field in found] for name in MergeFieldEntry.__dataclass_fields__
    }
    arguments |= {"account_id": account_id, "list_id": list_id}
    arguments["choices"] = [json.dumps(list(field.choices)) for field in found]
    connection.execute(_SAVE_MERGE_FIELDS, arguments)
    connection.execute(
        text("""
            UPDATE audience_merge_field SET removed_at = now()
            WHERE account_id = :account_id AND list_id = :list_id AND removed_at IS NULL
              AND merge_id <> ALL (CAST(:merge_id AS integer[]))
        """),
        arguments,
    )


def finish_audience(connection: Connection, account_id: str, list_id: str, statistics: Mapping[str, Any]) -> None:
    """Record an audience's statistics, and that everything about it is read."""
    connection.execute(
        text("""
            UPDATE audience SET statistics = CAST(:statistics AS jsonb), pulled_at = now()
            WHERE account_id = :account_id AND list_id = :list_id
        """),
        {"account_id": account_id, "list_id": list_id, "statistics": json.dumps(dict(statistics))},
    )


def audiences_are_due(connection: Connection, account_id: str, after: timedelta) -> bool:
    """Tell whether some audience, or all of them, were last read completely longer ago than this, or never."""
    due: bool = connection.execute(
        text("""
            SELECT NOT coalesce(bool_and(pulled_at > now() - :after AND pulled_at IS NOT NULL), false) FROM audience
            WHERE account_id = :account_id AND removed_at IS NULL
        """),
        {"account_id": account_id, "after": after},
    ).scalar_one()
    return due
