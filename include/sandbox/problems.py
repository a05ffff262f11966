"""Mailchimp's error documents (problem+json), word for word where a recording of the live API exists.

Texts marked *inferred* were not recorded: a substring of them was (official plugins match it), or only the fact.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

PROBLEM_TYPE = "https://mailchimp.com/developer/marketing/docs/errors/"
MEMBER_EXISTS = "Member Exists"
"""The one title whose recorded document has no ``type``."""

SEE_ERRORS = "The resource submitted could not be validated. For field-specific details, see the 'errors' array."
UNABLE = "We were unable to process the request. "

# Which JSON type a pydantic error of this type was looking for.
_DESCRIBED = {
    "string_type": "string",
    "float_type": "number",
    "finite_number": "number",
    "int_type": "integer",
    "int_from_float": "integer",
    "bool_type": "boolean",
    "list_type": "array",
    "model_type": "object",
    "dict_type": "object",
}


class FieldError(NamedTuple):
    """One entry of ``errors``: a path such as ``lines.item:0.price`` and what is wrong there."""

    field: str
    message: str


class Problem(Exception):
    """A refusal: what Mailchimp answers instead of the resource."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        allow: Sequence[str] = (),
    ) -> None:
        super().__init__(f"{status} {title}")
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.allow = tuple(allow)

    def document(self, instance: str) -> dict[str, Any]:
        """Return the body; ``instance`` is the request id, or "" inside a batch's archive."""
        body: dict[str, Any] = {
            **({} if self.title == MEMBER_EXISTS else {"type": PROBLEM_TYPE}),
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
        }
        if self.errors:
            body["errors"] = [error._asdict() for error in self.errors]
        return body


def bad_request(detail: str) -> Problem:
    """400 Bad Request."""
    return Problem(400, "Bad Request", detail)


def invalid_resource(detail: str, errors: Sequence[FieldError] = ()) -> Problem:
    """400 Invalid Resource."""
    return Problem(400, "Invalid Resource", detail, errors)


def invalid_fields(*errors: FieldError) -> Problem:
    """400 Invalid Resource that names the fields."""
    return invalid_resource(SEE_ERRORS, errors)


def not_found() -> Problem:
    """404 Resource Not Found."""
    return Problem(404, "Resource Not Found", "The requested resource could not be found.")


def method_not_allowed(allow: Sequence[str]) -> Problem:
    """405 Method Not Allowed; ``allow`` lists the methods of the resource."""
    detail = (
        "The requested method and resource are not compatible. "
        "See the Allow header for this resource's available methods."
    )
    return Problem(405, "Method Not Allowed", detail, allow=allow)


def key_missing() -> Problem:
    """401: no credentials."""
    return Problem(401, "API Key Missing", "Your request did not include an API key.")


def key_invalid() -> Problem:
    """401: a key that isn't one of this account."""
    detail = "Your API key may be invalid, or you've attempted to access the wrong datacenter."
    return Problem(401, "API Key Invalid", detail)


def too_many_connections() -> Problem:
    """429: the eleventh simultaneous request."""
    return Problem(429, "Too Many Requests", "You have exceeded the limit of 10 simultaneous connections.")


def server_error() -> Problem:
    """500 (detail unverified)."""
    detail = "An unexpected internal error has occurred. Please contact Support for more information."
    return Problem(500, "Internal Server Error", detail)


def unreadable_json() -> Problem:
    """400: the body is no JSON (detail unverified)."""
    return Problem(400, "JSON Parse Error", "We encountered an unspecified JSON parsing error.")


def email_missing() -> Problem:
    """400: a new customer without an address."""
    return invalid_resource("email_address: An email address is required to create a customer.")


def exists(kind: str) -> Problem:
    """400: POST of an id that is taken; ``kind`` with its article, such as "An order"."""
    return bad_request(f"{UNABLE}{kind} with the provided ID already exists in the account.")


def from_validation(error: ValidationError) -> Problem:
    """Translate a contract violation into the answer Mailchimp gives.

    Most are field errors; an order with too long a customer id or without lines is answered 404 instead
    (mailchimp-client-lib-codegen#127, #128), and some rules have a detail of their own.
    """
    found = error.errors(include_url=False, include_context=False)
    for one in found:
        special = _special(one["type"], one["loc"], one["input"], error.title)
        if special is not None:
            return special
    missing: dict[str, list[str]] = {}
    errors: list[FieldError] = []
    for one in found:
        if one["type"] == "missing":
            missing.setdefault(_path(one["loc"][:-1]), []).append(str(one["loc"][-1]))
        else:
            errors.append(FieldError(_path(one["loc"]), _message(one["type"], one["input"], one["msg"])))
    required = [
        FieldError(path, f"Required fields were not provided: {', '.join(names)}") for path, names in missing.items()
    ]
    return invalid_fields(*required, *errors)


def _special(kind: str, location: tuple[int | str, ...], value: object, model: str) -> Problem | None:
    if kind == "json_invalid":
        return unreadable_json()
    if kind == "repeated_line":
        return bad_request("An order may not contain the same line item id more than once.")
    if kind == "repeated_cart_line":
        return bad_request("A cart may not contain the same line item id more than once.")
    if kind == "fake_email":
        return invalid_resource(f"{value} looks fake or invalid, please enter a real email address.")
    if kind == "invalid_email":
        return invalid_resource("Please provide a valid email address.")
    if kind == "missing" and model == "Customer" and location == ("email_address",):
        return email_missing()
    if kind == "too_short" and location == ("lines",):
        return not_found()
    if kind in {"too_long", "string_too_long"} and location == ("customer", "id"):
        return not_found()
    return None


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(f"item:{part}" if isinstance(part, int) else part for part in location)


def _message(kind: str, value: object, text: str) -> str:
    described = _DESCRIBED.get(kind)
    if described is not None:
        return f"Schema describes {described}, {_json_type(value)} found instead"
    if kind in {"string_too_short", "string_pattern_mismatch"}:
        return "cannot be empty" if not str(value).strip() else text
    return text


def _json_type(value: object) -> str:
    if value is None:
        return "NULL"
    names = ((bool, "boolean"), (int, "integer"), (float, "double"), (str, "string"), (list, "array"))
    return next((name for kind, name in names if isinstance(value, kind)), "object")
