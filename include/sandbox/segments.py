"""Segments of an audience: /lists/{id}/segments[/{id}[/members[/{hash}]]].

Static ones hold contacts by name (a tag is one of them); saved ones have conditions, which nobody evaluates here.
"""

from collections.abc import Iterable

from include.mailchimp.contract import SegmentBody, SegmentChanges, SegmentMember
from include.sandbox.account import Audience
from include.sandbox.audiences import member_of, subscriber_hash
from include.sandbox.exchange import Call, Routes, existing, page
from include.sandbox.members import Renderer
from include.sandbox.members import render as render_member
from include.sandbox.problems import bad_request, invalid_resource, not_found
from include.sandbox.records import Document
from include.sandbox.tags import STATIC, new_segment, static_segments, untagged

_UNKNOWN = "Email addresses do not exist in the list"


def _render(audience: Audience, segment_id: int) -> Document:
    segments = audience.records["segments"]
    stored, record = existing(segments, str(segment_id)), segments.record(str(segment_id))
    return {
        "id": segment_id,
        "name": stored["name"],
        "member_count": len(audience.segment_members.get(segment_id, {})),
        "type": stored["type"],
        "created_at": record.created_at if record else "",
        "updated_at": record.updated_at if record else "",
        "options": {"match": "any", "conditions": []} | stored.get("options", {}),
        "list_id": audience.id,
    }


def _segment_of(call: Call, *, static: bool = False) -> int:
    """Return the id of the path's segment; 404 when there is none, 400 when a static one is needed (inferred)."""
    segment = existing(call.audience.records["segments"], call.ids["segment_id"])
    if static and segment["type"] != STATIC:
        raise bad_request("Members of a saved segment may not be changed.")
    return int(segment["id"])


def _found(audience: Audience, emails: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return which addresses are contacts (as hashes) and which are not; who is archived is none."""
    found: dict[str, None] = {}
    unknown: list[str] = []
    for email in emails:
        member = audience.members.get(subscriber_hash(email))
        if member is None or member["status"] == "archived":
            unknown.append(email)
        else:
            found[subscriber_hash(email)] = None
    return list(found), unknown


def _add(audience: Audience, segment_id: int, member_ids: Iterable[str]) -> list[str]:
    """Put members into a segment and return those that were not in it."""
    inside = audience.segment_members.get(segment_id, {})
    added = [one for one in member_ids if one not in inside]
    for member_id in added:
        member = existing(audience.members, member_id)
        changed = {**member, "segments": [*member.get("segments", []), segment_id]}
        audience.save_member(member_id, changed, "api")
    return added


def _remove(audience: Audience, segment_id: int, member_ids: Iterable[str]) -> list[str]:
    """Take members out of a segment and return those that were in it."""
    inside = audience.segment_members.get(segment_id, {})
    removed = [one for one in member_ids if one in inside]
    for member_id in removed:
        member = existing(audience.members, member_id)
        audience.save_member(member_id, untagged(member, [segment_id]), "api")
    return removed


def list_segments(call: Call) -> Document:
    """GET /lists/{id}/segments, filter ``type`` (static or saved)."""
    audience, wanted = call.audience, call.query.get("type", "")
    segments = audience.records["segments"]
    ids = [one for one in segments if not wanted or existing(segments, one)["type"] == wanted]
    return page(call, "segments", ids, lambda one: _render(audience, int(one)), {"list_id": audience.id})


def create_segment(call: Call) -> Document:
    """POST /lists/{id}/segments: static with ``static_segment``, else saved (text for a taken name inferred)."""
    audience, document = call.audience, call.sent(SegmentBody)
    emails = document.pop("static_segment", None)
    if (emails is None) == ("options" not in document):
        raise invalid_resource("Either static_segment or options must be provided.")
    if emails is None:
        return _render(audience, new_segment(audience, {**document, "type": "saved"}))
    if document["name"] in static_segments(audience):
        raise bad_request("Sorry, that tag already exists.")
    segment_id = new_segment(audience, {**document, "type": STATIC})
    _add(audience, segment_id, _found(audience, emails)[0])
    return _render(audience, segment_id)


def get_segment(call: Call) -> Document:
    """GET /lists/{id}/segments/{segment_id}."""
    return _render(call.audience, _segment_of(call))


def update_segment(call: Call) -> Document:
    """PATCH /lists/{id}/segments/{segment_id}: ``static_segment`` replaces all members."""
    audience, segment_id, changes = call.audience, _segment_of(call), call.sent(SegmentBody)
    emails = changes.pop("static_segment", None)
    segments = audience.records["segments"]
    segments.put(str(segment_id), existing(segments, str(segment_id)) | changes)
    if emails is not None:
        wanted = dict.fromkeys(_found(audience, emails)[0])
        inside = list(audience.segment_members.get(segment_id, {}))
        _remove(audience, segment_id, [one for one in inside if one not in wanted])
        _add(audience, segment_id, wanted)
    return _render(audience, segment_id)


def change_segment(call: Call) -> Document:
    """POST /lists/{id}/segments/{segment_id}: at most 500 addresses come, at most 500 go; unknown ones are told."""
    audience, segment_id = call.audience, _segment_of(call, static=True)
    changes = call.parse(SegmentChanges)
    coming, unknown = _found(audience, changes.members_to_add)
    going, strangers = _found(audience, changes.members_to_remove)
    added, removed = _add(audience, segment_id, coming), _remove(audience, segment_id, going)
    lost = [*unknown, *strangers]
    errors = [{"email_addresses": lost, "error": _UNKNOWN}] if lost else []
    return {
        "members_added": [render_member(audience, one) for one in added],
        "members_removed": [render_member(audience, one) for one in removed],
        "errors": errors,
        "total_added": len(added),
        "total_removed": len(removed),
        "error_count": len(errors),
    }


def delete_segment(call: Call) -> None:
    """DELETE /lists/{id}/segments/{segment_id}; its members stay in the audience."""
    audience, segment_id = call.audience, _segment_of(call)
    _remove(audience, segment_id, list(audience.segment_members.get(segment_id, {})))
    audience.records["segments"].remove(str(segment_id))


def list_segment_members(call: Call) -> Document:
    """GET …/segments/{segment_id}/members."""
    audience = call.audience
    ids = list(audience.segment_members.get(_segment_of(call), {}))
    return page(call, "members", ids, Renderer(audience))


def add_segment_member(call: Call) -> Document:
    """POST …/segments/{segment_id}/members (text for an unknown address inferred)."""
    audience, segment_id = call.audience, _segment_of(call, static=True)
    found, _ = _found(audience, [call.parse(SegmentMember).email_address])
    if not found:
        raise bad_request(_UNKNOWN)
    _add(audience, segment_id, found)
    return render_member(audience, found[0])


def remove_segment_member(call: Call) -> None:
    """DELETE …/segments/{segment_id}/members/{hash}; 404 when it isn't in the segment."""
    audience, segment_id = call.audience, _segment_of(call, static=True)
    if not _remove(audience, segment_id, [member_of(call)]):
        raise not_found()


_SEGMENTS = "/lists/{list_id}/segments"
_SEGMENT = _SEGMENTS + "/{segment_id}"
ROUTES: Routes = {
    _SEGMENTS: {"GET": list_segments, "POST": create_segment},
    _SEGMENT: {"GET": get_segment, "PATCH": update_segment, "POST": change_segment, "DELETE": delete_segment},
    _SEGMENT + "/members": {"GET": list_segment_members, "POST": add_segment_member},
    _SEGMENT + "/members/{subscriber_hash}": {"DELETE": remove_segment_member},
}
