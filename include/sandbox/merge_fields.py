"""Merge fields of an audience: /lists/{id}/merge-fields, and what their types demand of a member's values.

Texts are recorded for numbers, addresses, required fields and values of no known form; the others are inferred.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from include.mailchimp.contract import MergeField, MergeFieldPatch
from include.sandbox.account import Audience
from include.sandbox.exchange import Call, Routes, existing, page
from include.sandbox.problems import FieldError, bad_request, invalid_fields, invalid_resource
from include.sandbox.records import Document, Records

_ADDRESS_PARTS = ("addr1", "city", "state", "zip")
_NO_FORM = "Data did not match any of the schemas described in anyOf."


def merged_values(audience: Audience, known: Document, sent: Document, *, complete: bool) -> Document:
    """Merge the values a member was sent into those it has, tag by tag; tags the audience doesn't have are ignored.

    Args:
        audience: whose merge fields hold.
        known: the member's values so far.
        sent: new values by tag; "" takes a value back.
        complete: whether required fields must have a value now.

    Raises:
        Problem: 400 that names the tags whose values don't fit.
    """
    fields = definitions(audience)
    values, errors = dict(known), []
    for tag, value in sent.items():
        definition = fields.get(tag)
        if definition is None:
            continue
        if isinstance(value, dict) != (definition["type"] == "address") and value != "":
            raise invalid_fields(FieldError(f"merge_fields.{tag}", _NO_FORM))
        try:
            values[tag] = value if value == "" else _READERS[definition["type"]](value, definition)
        except ValueError as error:
            errors.append(FieldError(tag, str(error)))
    wanted = [tag for tag, definition in fields.items() if complete and definition.get("required")]
    errors += [FieldError(tag, "Please enter a value") for tag in wanted if values.get(tag, "") == ""]
    if errors:
        raise invalid_resource("Your merge fields were invalid.", errors)
    return values


def definitions(audience: Audience) -> dict[str, Document]:
    """Return the audience's merge fields by tag."""
    fields = audience.records["merge_fields"]
    return {one["tag"]: one for one in (existing(fields, merge_id) for merge_id in fields)}


def _text(value: Any, _definition: Document) -> str:
    return str(value)


def _number(value: Any, _definition: Document) -> float:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", value):
        return float(value) if "." in value else int(value)
    if isinstance(value, (str, bool)):
        raise ValueError("Please enter a number")
    return float(value) if isinstance(value, float) else int(value)


def _date(value: Any, _definition: Document) -> str:
    for form in ("%Y-%m-%d", "%m/%d/%Y"):
        try:
            return datetime.strptime(str(value), form).date().isoformat()  # noqa: DTZ007 - a day has no zone
        except ValueError:
            continue
    raise ValueError("Please enter the date")


def _birthday(value: Any, _definition: Document) -> str:
    found = re.fullmatch(r"(\d{2})/(\d{2})", str(value))
    try:
        if found:
            date(2000, int(found[1]), int(found[2]))
            return str(value)
    except ValueError:
        pass
    raise ValueError("Please enter a month (01-12) and a day (01-31)")


def _address(value: Document, _definition: Document) -> Document | str:
    if not any(value.values()):
        return ""
    if not all(value.get(part, "").strip() for part in _ADDRESS_PARTS):
        raise ValueError("Please enter a complete address")
    return value


def _choice(value: Any, definition: Document) -> str:
    if str(value) not in definition.get("options", {}).get("choices", []):
        raise ValueError("Value must be one of the choices")
    return str(value)


def _url(value: Any, _definition: Document) -> str:
    if not re.fullmatch(r"https?://[^\s/]+\S*", str(value)):
        raise ValueError("Please enter a valid URL")
    return str(value)


def _zip(value: Any, _definition: Document) -> str:
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z -]{2,9}", str(value)):
        raise ValueError("Please enter a zip code")
    return str(value)


_READERS: Mapping[str, Callable[[Any, Document], Any]] = {
    "text": _text,
    "phone": _text,
    "number": _number,
    "date": _date,
    "birthday": _birthday,
    "address": _address,
    "radio": _choice,
    "dropdown": _choice,
    "url": _url,
    "imageurl": _url,
    "zip": _zip,
}


def _render(audience: Audience, merge_id: str) -> Document:
    stored = existing(audience.records["merge_fields"], merge_id)
    return {
        "merge_id": stored["merge_id"],
        "tag": stored["tag"],
        "name": stored["name"],
        "type": stored["type"],
        "required": stored.get("required", False),
        "default_value": stored.get("default_value", ""),
        "public": stored.get("public", False),
        "display_order": stored.get("display_order", stored["merge_id"] + 1),
        "options": stored.get("options", {}),
        "help_text": stored.get("help_text", ""),
        "list_id": audience.id,
    }


def _check_tag(audience: Audience, tag: str) -> None:
    if tag in definitions(audience):
        raise bad_request(f'A Merge Field with the tag "{tag}" already exists for this list.')


def _next_number(fields: Records) -> int:
    return max((existing(fields, merge_id)["merge_id"] for merge_id in fields), default=0) + 1


def list_fields(call: Call) -> Document:
    """GET /lists/{id}/merge-fields."""
    audience = call.audience
    ids = list(audience.records["merge_fields"])
    return page(call, "merge_fields", ids, lambda one: _render(audience, one), {"list_id": audience.id})


def create_field(call: Call) -> Document:
    """POST /lists/{id}/merge-fields (texts for a taken tag and missing choices inferred)."""
    audience, document = call.audience, call.sent(MergeField)
    number = _next_number(audience.records["merge_fields"])
    tag = document.get("tag") or f"MMERGE{number}"
    _check_tag(audience, tag)
    if document["type"] in {"radio", "dropdown"} and not document.get("options", {}).get("choices"):
        raise invalid_fields(FieldError("options.choices", "Please enter the choices"))
    audience.records["merge_fields"].put(str(number), {**document, "tag": tag, "merge_id": number})
    return _render(audience, str(number))


def get_field(call: Call) -> Document:
    """GET /lists/{id}/merge-fields/{merge_id}."""
    return _render(call.audience, call.ids["merge_id"])


def update_field(call: Call) -> Document:
    """PATCH /lists/{id}/merge-fields/{merge_id}; the type stays."""
    audience, merge_id = call.audience, call.ids["merge_id"]
    stored = existing(audience.records["merge_fields"], merge_id)
    changes = call.sent(MergeFieldPatch)
    if changes.get("tag", stored["tag"]) != stored["tag"]:
        _check_tag(audience, changes["tag"])
    audience.records["merge_fields"].put(merge_id, stored | changes)
    return _render(audience, merge_id)


def delete_field(call: Call) -> None:
    """DELETE /lists/{id}/merge-fields/{merge_id}."""
    audience, merge_id = call.audience, call.ids["merge_id"]
    existing(audience.records["merge_fields"], merge_id)
    audience.records["merge_fields"].remove(merge_id)


_FIELDS = "/lists/{list_id}/merge-fields"
ROUTES: Routes = {
    _FIELDS: {"GET": list_fields, "POST": create_field},
    _FIELDS + "/{merge_id}": {"GET": get_field, "PATCH": update_field, "DELETE": delete_field},
}
