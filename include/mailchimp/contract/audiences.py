"""Bodies of what belongs to an audience: merge fields, interest categories with interests, segments."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from include.mailchimp.contract.body import RequestBody
from include.mailchimp.fields import Boolean, Email, Integer, Text, Title

MAX_SEGMENT_CHANGES = 500
"""Most addresses that one call adds to a static segment, and most that it removes."""


class MergeFieldOptions(RequestBody):
    """What depends on a merge field's type: choices of radio and dropdown, formats of date and phone."""

    choices: list[Text] = Field(default_factory=list)
    date_format: Text = ""
    phone_format: Text = ""
    default_country: Integer = 0
    size: Integer = 0


class MergeFieldPatch(RequestBody):
    """PATCH /lists/{id}/merge-fields/{merge_id}; the type stays."""

    name: Title
    tag: Annotated[Text, StringConstraints(pattern=r"^[A-Z0-9_]{1,10}$")] = ""
    required: Boolean = False
    default_value: Text = ""
    public: Boolean = False
    display_order: Integer = 0
    options: MergeFieldOptions = MergeFieldOptions()
    help_text: Text = ""


class MergeField(MergeFieldPatch):
    """POST /lists/{id}/merge-fields; without ``tag`` Mailchimp makes one up."""

    type: Literal[
        "text", "number", "address", "phone", "date", "url", "imageurl", "radio", "dropdown", "birthday", "zip"
    ]


class InterestCategory(RequestBody):
    """POST and PATCH /lists/{id}/interest-categories: a heading over groups."""

    title: Title
    type: Literal["checkboxes", "dropdown", "radio", "hidden"]
    display_order: Integer = 0


class Interest(RequestBody):
    """POST and PATCH …/interests: one group."""

    name: Title
    display_order: Integer = 0


class SegmentOptions(RequestBody):
    """The conditions of a saved segment."""

    match: Literal["any", "all"] = "any"
    conditions: list[dict[str, object]] = Field(default_factory=list)


class SegmentBody(RequestBody):
    """POST and PATCH /lists/{id}/segments: static with ``static_segment``, saved with ``options``."""

    name: Title
    static_segment: list[Text] = Field(default_factory=list)
    options: SegmentOptions = SegmentOptions()


class SegmentChanges(RequestBody):
    """POST /lists/{id}/segments/{segment_id}: addresses that come and go."""

    members_to_add: Annotated[list[Text], Field(max_length=MAX_SEGMENT_CHANGES)] = Field(default_factory=list)
    members_to_remove: Annotated[list[Text], Field(max_length=MAX_SEGMENT_CHANGES)] = Field(default_factory=list)


class SegmentMember(RequestBody):
    """POST …/segments/{segment_id}/members."""

    email_address: Email
