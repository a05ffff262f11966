"""Tags of a member: /lists/{id}/members/{hash}/tags. A tag is a static segment; here is what both have in common.

Which segments a member is in is kept with the member, so that it survives a change of address.
"""

import secrets
from collections.abc import Iterable, Sequence

from include.mailchimp.contract import Tags
from include.sandbox.account import Audience
from include.sandbox.audiences import member_of
from include.sandbox.exchange import Call, Routes, existing, page
from include.sandbox.records import Document

STATIC = "static"


def new_segment(audience: Audience, document: Document) -> int:
    """Create a segment and return its id, a number that no segment of the audience had before."""
    segments = audience.records["segments"]
    segment_id = secrets.randbelow(9_000_000) + 1_000_000
    while str(segment_id) in segments:
        segment_id += 1
    segments.put(str(segment_id), {**document, "id": segment_id})
    return segment_id


def static_segments(audience: Audience) -> dict[str, int]:
    """Return the ids of the static segments (tags) by name."""
    segments = audience.records["segments"]
    listed = (existing(segments, one) for one in segments)
    return {one["name"]: one["id"] for one in listed if one["type"] == STATIC}


def tags_of(audience: Audience, member: Document) -> list[Document]:
    """Return the tags of a member: id and name."""
    segments = audience.records["segments"]
    ids = member.get("segments", ())
    return [{"id": one, "name": existing(segments, str(one))["name"]} for one in ids]


def tagged(audience: Audience, member: Document, names: Sequence[str]) -> Document:
    """Return a member with more tags; those that the audience doesn't have are made."""
    known = static_segments(audience) if names else {}
    ids = dict.fromkeys(member.get("segments", []))
    for name in names:
        if name not in known:
            known[name] = new_segment(audience, {"name": name, "type": STATIC})
        ids[known[name]] = None
    return {**member, "segments": list(ids)}


def untagged(member: Document, segment_ids: Iterable[int]) -> Document:
    """Return a member without some of its tags."""
    gone = set(segment_ids)
    return {**member, "segments": [one for one in member.get("segments", []) if one not in gone]}


def list_tags(call: Call) -> Document:
    """GET …/members/{hash}/tags."""
    audience = call.audience
    tags = {str(one["id"]): one for one in tags_of(audience, existing(audience.members, member_of(call)))}
    segments = audience.records["segments"]

    def render(tag_id: str) -> Document:
        return {**tags[tag_id], "date_added": getattr(segments.record(tag_id), "created_at", "")}

    return page(call, "tags", list(tags), render)


def change_tags(call: Call) -> None:
    """POST …/members/{hash}/tags: give and take tags; an unknown one is made when it is given."""
    audience, member_id = call.audience, member_of(call)
    member = existing(audience.members, member_id)
    changes = call.parse(Tags).tags
    member = tagged(audience, member, [one.name for one in changes if one.status == "active"])
    known = static_segments(audience)
    gone = [known[one.name] for one in changes if one.status == "inactive" and one.name in known]
    audience.save_member(member_id, untagged(member, gone), "api")


_TAGS = "/lists/{list_id}/members/{subscriber_hash}/tags"
ROUTES: Routes = {_TAGS: {"GET": list_tags, "POST": change_tags}}
