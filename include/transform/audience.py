"""What the transforms need to know of a store's audience: its opt-in rule, its merge fields, its groups.

Read once per run (`include.load.audience`) and kept with the run, so that every task of a run follows the same rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class MergeField:
    """A field of the audience's contacts: its tag, Mailchimp's type (text, number, date, address …), its choices."""

    tag: str
    type: str
    required: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """One group ("interest") of an audience.

    `former_names` is what it was called before: the shop may still call it so.
    `is_active` and `subscribe_by_default` belong to the shop: an inactive group is never offered, one that is
    subscribed by default is chosen by everybody who opts in.
    """

    group_id: str
    name: str
    category: str
    is_active: bool = True
    subscribe_by_default: bool = False
    former_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audience:
    """The rules of one audience, as they were when the run began."""

    list_id: str
    double_optin: bool
    merge_fields: tuple[MergeField, ...] = ()
    groups: tuple[Group, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the rules as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Audience:
        """Read what `to_json` made."""
        fields = (MergeField(**{**one, "choices": tuple(one["choices"])}) for one in values["merge_fields"])
        groups = (Group(**{**one, "former_names": tuple(one.get("former_names", ()))}) for one in values["groups"])
        return cls(values["list_id"], values["double_optin"], tuple(fields), tuple(groups))
