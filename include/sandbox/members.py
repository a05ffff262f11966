"""Members of an audience: /lists/{id}/members[/{hash}], and their end (archive, delete-permanent).

* ``status_if_new`` speaks for a new member only; ``status`` overrides; neither sent leaves the status as it is.
* Who unsubscribed itself, complained or bounced can't be subscribed by the API, only asked (``pending``). Whom the API
  unsubscribed it can subscribe again: Mailchimp doesn't protect from a wrong opt-in of our own.
* Member calls ask for no double opt-in: the status given is the status.
"""

import hashlib

from include.mailchimp.contract import Member, MemberPatch, MemberPut
from include.sandbox.account import Account, Audience
from include.sandbox.audiences import CONFIRMATION, member_of, new_member, subscriber_hash
from include.sandbox.exchange import Call, Routes, bounds, existing
from include.sandbox.groups import merged_interests
from include.sandbox.listing import Listing, select
from include.sandbox.merge_fields import definitions, merged_values
from include.sandbox.problems import MEMBER_EXISTS, FieldError, Problem, invalid_fields, not_found
from include.sandbox.records import Document, now
from include.sandbox.tags import tagged, tags_of

_UNARCHIVABLE = frozenset({"archived", "pending", "cleaned"})
_PLAIN = ("email_type", "language", "vip", "location", "ip_signup", "timestamp_signup", "ip_opt", "timestamp_opt")


class Renderer:
    """Shows members of an audience as the API does; what all of them have in common is looked up once."""

    def __init__(self, audience: Audience) -> None:
        self._audience = audience
        self._tags = definitions(audience)
        self._interests = tuple(audience.records["interests"])

    def __call__(self, member_id: str) -> Document:
        """Return a member; 404 when there is none."""
        audience = self._audience
        stored = existing(audience.members, member_id)
        written = stored["merge_fields"]
        values = {tag: written.get(tag, "") for tag in self._tags}
        tags = tags_of(audience, stored)
        chosen = stored.get("interests", {})
        is_out = stored["status"] == "unsubscribed"
        return {
            "id": member_id,
            "email_address": stored["email_address"],
            "unique_email_id": member_id[:10],
            "contact_id": hashlib.md5(f"{audience.id} {member_id}".encode(), usedforsecurity=False).hexdigest(),
            "full_name": f"{values.get('FNAME', '')} {values.get('LNAME', '')}".strip(),
            "web_id": int(member_id[:7], 16),
            "email_type": stored.get("email_type", "html"),
            "status": stored["status"],
            **({"unsubscribe_reason": stored.get("unsubscribe_reason") or _usual_reason(stored)} if is_out else {}),
            "consents_to_one_to_one_messaging": True,
            "merge_fields": values,
            **({"interests": {one: chosen.get(one, False) for one in self._interests}} if self._interests else {}),
            "stats": {"avg_open_rate": 0, "avg_click_rate": 0},
            "ip_signup": stored.get("ip_signup", ""),
            "timestamp_signup": stored.get("timestamp_signup", ""),
            "ip_opt": stored.get("ip_opt", ""),
            "timestamp_opt": stored.get("timestamp_opt", ""),
            "member_rating": stored.get("member_rating", 2),
            "last_changed": audience.members.changed_at(member_id),
            "language": stored.get("language", ""),
            "vip": stored.get("vip", False),
            "email_client": "",
            "location": {"latitude": 0, "longitude": 0, **stored.get("location", {})},
            "marketing_permissions": [
                {"marketing_permission_id": name, "text": "", "enabled": enabled}
                for name, enabled in stored.get("marketing_permissions", {}).items()
            ],
            "source": stored.get("source", "API - Generic"),
            "tags_count": len(tags),
            "tags": tags,
            "list_id": audience.id,
        }


def render(audience: Audience, member_id: str) -> Document:
    """Return a member as the API shows it."""
    return Renderer(audience)(member_id)


def _usual_reason(member: Document) -> str:
    """Return the reason of an opt-out for which none was given (the second from memory)."""
    return "None given" if member.get("in_compliance") else "N/A (Unsubscribed by admin)"


def _check_address(audience: Audience, email: str) -> None:
    """Refuse an address that is a member, or was and is gone for good (recorded texts)."""
    member_id = subscriber_hash(email)
    if member_id in audience.members:
        detail = f"{email} is already a list member. Use PUT to insert or update list members."
        raise Problem(400, MEMBER_EXISTS, detail)
    if member_id in audience.forgotten:
        detail = (
            f"{email} was permanently deleted and cannot be re-imported. "
            "The contact must re-subscribe to get back on the list."
        )
        raise Problem(400, "Forgotten Email Not Subscribed", detail)


def _check_compliance(member: Document, sent: Document) -> None:
    if sent.get("status") == "subscribed" and member.get("in_compliance"):
        detail = (
            f"{member['email_address']} is in a compliance state due to unsubscribe, bounce, or compliance review "
            "and cannot be subscribed."
        )
        raise Problem(400, "Member In Compliance State", detail)


def _written(call: Call, before: Document, sent: Document, status: str, *, is_new: bool) -> Document:
    """Return a member as a call leaves it."""
    _check_compliance(before, sent)
    audience = call.audience
    lenient = call.query.get("skip_merge_validation", "").lower() == "true"
    complete = (is_new or "merge_fields" in sent) and not lenient
    permissions = {one["marketing_permission_id"]: one["enabled"] for one in sent.get("marketing_permissions", [])}
    after = {
        **before,
        **{name: sent[name] for name in _PLAIN if name in sent},
        "status": status,
        "merge_fields": merged_values(
            audience, before["merge_fields"], sent.get("merge_fields", {}), complete=complete
        ),
        "interests": merged_interests(audience, before.get("interests", {}), sent.get("interests", {})),
        "marketing_permissions": before.get("marketing_permissions", {}) | permissions,
    }
    if status == "cleaned":
        after["in_compliance"] = True
    if status == "subscribed" and before.get("status") != status and "timestamp_opt" not in sent:
        after["timestamp_opt"] = now()
    return after


def _note(account: Account, audience: Audience, member_id: str, before: str | None, after: str) -> None:
    if after == "pending" and before != after:
        account.mail(CONFIRMATION, audience.id, member_id)
    account.changed("updated" if before else "created", audience.id, "member", member_id)


def _create(call: Call, sent: Document, status: str) -> Document:
    audience, email = call.audience, sent["email_address"]
    _check_address(audience, email)
    member_id = subscriber_hash(email)
    member = _written(call, new_member(email, "API - Generic"), sent, status, is_new=True)
    audience.save_member(member_id, tagged(audience, member, sent.get("tags", [])), "api")
    _note(call.account, audience, member_id, None, status)
    return render(audience, member_id)


def _update(call: Call, member_id: str, sent: Document) -> Document:
    """Change a member; with another, free address it moves to that address's hash."""
    audience = call.audience
    before = existing(audience.members, member_id)
    wanted = before | sent
    email, status = wanted["email_address"], wanted["status"]
    new_id = subscriber_hash(email)
    if new_id != member_id:
        _check_address(audience, email)
    member = _written(call, before, sent, status, is_new=False) | {"email_address": email}
    if new_id != member_id:
        audience.rename_member(member_id, new_id, {**member, "status": before["status"]})
    audience.save_member(new_id, member, "api")
    _note(call.account, audience, new_id, before["status"], status)
    return render(audience, new_id)


def list_members(call: Call) -> Document:
    """GET /lists/{list_id}/members, with the filters and orders of ``listing`` (archived ones only by their status)."""
    audience = call.audience
    listing = Listing.of(audience, call.query)
    start, end = bounds(call)
    ids, total = select(audience, listing, start, end)
    shown = Renderer(audience)
    return {"members": [shown(one) for one in ids], "list_id": audience.id, "total_items": total}


def create_member(call: Call) -> Document:
    """POST /lists/{list_id}/members: of a new address only."""
    sent = call.sent(Member)
    return _create(call, sent, sent["status"])


def get_member(call: Call) -> Document:
    """GET /lists/{list_id}/members/{hash}, of archived members too."""
    return render(call.audience, member_of(call))


def put_member(call: Call) -> Document:
    """PUT /lists/{list_id}/members/{hash}: update the member of that hash, or create the one of the body's address."""
    audience, path_id, sent = call.audience, member_of(call), call.sent(MemberPut)
    if path_id in audience.members:
        archived = existing(audience.members, path_id)["status"] == "archived"
        if archived and call.account.revives_archived and "status_if_new" in sent:
            sent.setdefault("status", sent["status_if_new"])
        return _update(call, path_id, sent)
    if "@" in call.ids["subscriber_hash"]:
        sent.setdefault("email_address", call.ids["subscriber_hash"])
    status = sent.get("status", sent.get("status_if_new"))
    missing = [] if "email_address" in sent else ["email_address"]
    missing += [] if status else ["status_if_new"]
    if missing or not status:
        raise invalid_fields(FieldError("", f"Required fields were not provided: {', '.join(missing)}"))
    return _create(call, sent, status)


def update_member(call: Call) -> Document:
    """PATCH /lists/{list_id}/members/{hash}."""
    if (member_id := member_of(call)) not in call.audience.members:
        raise not_found()
    return _update(call, member_id, call.sent(MemberPatch))


def archive_member(call: Call) -> None:
    """DELETE /lists/{list_id}/members/{hash}: archives; who is archived, pending or cleaned can't be (recorded)."""
    audience, member_id = call.audience, member_of(call)
    member = existing(audience.members, member_id)
    if member["status"] in _UNARCHIVABLE:
        detail = "This list member cannot be removed. Can not archive a contact that is bounced, pending or archived"
        raise Problem(405, "Method Not Allowed", detail, allow=("GET", "PUT"))
    audience.save_member(member_id, {**member, "status": "archived"}, "api")
    call.account.changed("archived", audience.id, "member", member_id)


def forget_member(call: Call) -> None:
    """POST …/actions/delete-permanent: the address can never be imported again."""
    audience, member_id = call.audience, member_of(call)
    existing(audience.members, member_id)
    audience.forget_member(member_id)
    call.account.changed("forgotten", audience.id, "member", member_id)


_MEMBERS = "/lists/{list_id}/members"
_MEMBER = _MEMBERS + "/{subscriber_hash}"
ROUTES: Routes = {
    _MEMBERS: {"GET": list_members, "POST": create_member},
    _MEMBER: {"GET": get_member, "PUT": put_member, "PATCH": update_member, "DELETE": archive_member},
    _MEMBER + "/actions/delete-permanent": {"POST": forget_member},
}
