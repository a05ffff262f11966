"""Bodies of /lists/{id}/members and what hangs on a member."""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from include.mailchimp.contract.body import RequestBody
from include.mailchimp.fields import Boolean, Email, Number, Text, TimeOrEmpty, Title

Status = Literal["subscribed", "unsubscribed", "cleaned", "pending", "transactional"]


def _merge_value(value: Any) -> Any:
    """Accept what a merge field can hold at all; whether it fits the field, only the audience knows."""
    scalar = isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))
    address = isinstance(value, dict) and all(isinstance(part, str) for part in value.values())
    if not scalar and not address:
        raise PydanticCustomError("any_of", "Data did not match any of the schemas described in anyOf.")
    return value


MergeValue = Annotated[Any, AfterValidator(_merge_value)]


class Location(RequestBody):
    """Where a contact is, in degrees."""

    latitude: Number = 0.0
    longitude: Number = 0.0


class MarketingPermission(RequestBody):
    """A contact's answer to one of the audience's GDPR questions."""

    marketing_permission_id: Title
    enabled: Boolean


class MemberFields(RequestBody):
    """What every write of a member may carry; merge fields and interests are merged key by key."""

    email_type: Literal["html", "text"] = "html"
    merge_fields: dict[str, MergeValue] = Field(default_factory=dict)
    interests: dict[str, Boolean] = Field(default_factory=dict)
    language: Text = ""
    vip: Boolean = False
    location: Location = Location()
    marketing_permissions: list[MarketingPermission] = Field(default_factory=list)
    ip_signup: Text = ""
    timestamp_signup: TimeOrEmpty = ""
    ip_opt: Text = ""
    timestamp_opt: TimeOrEmpty = ""


class MemberPatch(MemberFields):
    """PATCH …/members/{hash}: nothing is required; another address moves the member to that address's hash."""

    email_address: Email = ""
    status: Literal["subscribed", "unsubscribed", "cleaned", "pending"] = "subscribed"


class MemberPut(MemberFields):
    """PUT …/members/{hash}: address and ``status_if_new`` (or ``status``) are required of a new member only."""

    email_address: Email = ""
    status_if_new: Status = "transactional"
    status: Status = "transactional"


class Member(MemberFields):
    """POST …/members."""

    email_address: Email
    status: Status
    tags: list[Title] = Field(default_factory=list)


class Tag(RequestBody):
    """A tag that a member gets (active) or loses (inactive)."""

    name: Title
    status: Literal["active", "inactive"]


class Tags(RequestBody):
    """POST …/members/{hash}/tags; ``is_syncing`` keeps automations from starting."""

    tags: list[Tag]
    is_syncing: Boolean = False
