"""What can go wrong when talking to Mailchimp, as types.

Mailchimp answers errors as ``application/problem+json`` (title, status, detail, instance, errors[]). An HTML page in
its place comes from the servers in front of the API, which refuse a request before it is processed.

Source of the rules: the API's error glossary and recorded replies; classification never looks at the problem's
``type``, which is missing in some replies.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

_EMAIL = re.compile(r"[^\s\"'<>,;:()\[\]{}=/?&]+(?:@|%40)[^\s\"'<>,;:()\[\]{}=/?&]+", re.IGNORECASE)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LONGEST_TEXT = 2_000


def redact(text: str) -> str:
    """Make text from outside fit for logs, exceptions and tables.

    Args:
        text: any text, for example a problem's detail or a request path.

    Returns:
        The text with whatever looks like an e-mail address replaced by ``<e-mail>``, characters that a database or a
        log cannot store replaced by U+FFFD, cut after 2,000 characters.
    """
    text = text[: 2 * _LONGEST_TEXT]
    if "@" in text or "%40" in text:  # the search is slow on long words, and most texts have no address
        text = _EMAIL.sub("<e-mail>", text)
    return _UNSTORABLE.sub("\ufffd", text)[:_LONGEST_TEXT]


class ConnectionSettingsError(ValueError):
    """The Mailchimp connection cannot work as it is set; the text says what to change."""


class MailchimpError(Exception):
    """A request to Mailchimp did not succeed.

    Attributes:
        status: HTTP status code; None when there was no reply.
        title: the problem's title, e.g. ``Invalid Resource``.
        detail: the problem's detail, without e-mail addresses.
        instance: Mailchimp's request id, to quote to its support.
        field_errors: (field, message) pairs of a refused document.
        transient: True when the same request may succeed later.
    """

    transient: ClassVar[bool] = False

    def __init__(
        self,
        title: str,
        detail: str = "",
        *,
        status: int | None = None,
        instance: str = "",
        field_errors: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.status = status
        self.title = redact(title)
        self.detail = redact(detail)
        self.instance = redact(instance)
        self.field_errors = tuple((redact(field), redact(message)) for field, message in field_errors)
        super().__init__(self.title)

    def __str__(self) -> str:
        status = f"{self.status} " if self.status else ""
        detail = f": {self.detail}" if self.detail else ""
        fields = "; ".join(f"{field}: {message}" if field else message for field, message in self.field_errors)
        return f"{status}{self.title}{detail}" + (f" [{fields}]" if fields else "")


class AuthenticationFailed(MailchimpError):
    """401: the API key or token is missing, wrong or revoked."""


class Forbidden(MailchimpError):
    """403 (or 503 `Compliance Related`) with a problem document: the account or user may not do this. Do not retry."""


class NotFound(MailchimpError):
    """404: no such resource. On a POST it can also mean invalid data (empty lines, customer id over 50 characters)."""


class MethodNotAllowed(MailchimpError):
    """405: the resource does not take this method (now), e.g. archiving an archived member."""


class Invalid(MailchimpError):
    """400, 414, 422 and other 4xx: the request itself is refused; the same request will be refused again."""


class Throttled(MailchimpError):
    """429: too many requests at a time. Refused before processing, so a repeat is always safe."""

    transient = True


class RefusedAtEdge(Throttled):
    """An HTML page (400, 403, 503) in place of a problem document: refused by the servers in front of the API."""


class TooManyPendingBatches(Throttled):
    """The account has 500 unfinished batches; it accepts new ones when some have finished."""


class ServerError(MailchimpError):
    """5xx: Mailchimp failed; whether the request took effect is not known."""

    transient = True


class ConnectionFailed(MailchimpError):
    """No reply: network failure or time-out.

    Attributes:
        request_sent: False when the request certainly did not reach Mailchimp, so that even a POST may be repeated.
    """

    transient = True

    def __init__(self, title: str, detail: str = "", *, request_sent: bool = True) -> None:
        super().__init__(title, detail)
        self.request_sent = request_sent


class CertificateRefused(ConnectionFailed):
    """The TLS certificate of the other side is not trusted: a matter of settings, not of waiting."""

    transient = False


class BatchReplyLost(ConnectionFailed):
    """POST /batches got no readable reply: the batch may exist and run. Post again only what may be done twice."""

    transient = False


class UnexpectedReply(MailchimpError):
    """A reply that Mailchimp's API does not give: wrong host, a proxy's page, an incomplete listing."""


class ResultLinkExpired(MailchimpError):
    """The signed link to a batch's results is not valid any more (about 10 minutes): get the batch for a new link."""


class ArchiveTruncated(MailchimpError):
    """A batch's result archive is incomplete or damaged: get the batch for a new link and download it again."""

    transient = True


_BY_STATUS: dict[int, type[MailchimpError]] = {
    401: AuthenticationFailed,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    429: Throttled,
}


def decode_json(text: str) -> Any:
    """Parse JSON text that may be encoded twice, as the responses in batch archives can be.

    Args:
        text: JSON text, or a JSON string holding JSON text.

    Returns:
        The parsed value.

    Raises:
        ValueError: the text is not JSON.
    """
    value = json.loads(text)
    return json.loads(value) if isinstance(value, str) and value[:1] in {"{", "[", '"'} else value


def problem_from(status: int, content_type: str | None, body: str | bytes) -> MailchimpError:
    """Turn an error reply into the exception that stands for it (returned, not raised).

    Args:
        status: HTTP status code (≥ 300), of a reply or of an operation in a batch archive.
        content_type: the reply's Content-Type; None for an operation in an archive, which has none.
        body: the reply's body.

    Returns:
        The error. A 403, 503 or 400 that carries no problem document counts as throttling.
    """
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    problem = _problem_document(content_type, text)
    if problem is None or status < 400:
        return _without_problem(status, text)
    title, detail = _text(problem, "title") or f"HTTP {status}", _text(problem, "detail")
    kind = _BY_STATUS.get(status) or (ServerError if status >= 500 else Invalid)
    if "pending batches" in detail:
        kind = TooManyPendingBatches
    elif status == 503 and "compliance" in title.lower():
        kind = Forbidden
    return kind(title, detail, status=status, instance=_text(problem, "instance"), field_errors=_field_errors(problem))


def _without_problem(status: int, text: str) -> MailchimpError:
    if status == 429:
        return Throttled("Too Many Requests", status=status)
    if status in {400, 403, 503} and text.strip():
        return RefusedAtEdge("Refused before processing", "a page instead of a problem document", status=status)
    if status == 403 or status == 503:
        return RefusedAtEdge("Refused before processing", "an empty reply", status=status)
    if status >= 500:
        return ServerError("Server error", "no problem document", status=status)
    if status < 400 or (status == 404 and text.strip()):
        what = "a redirect" if status < 400 else "a page that is not Mailchimp's"
        return UnexpectedReply("Unexpected reply", f"{what}; check the host of the connection", status=status)
    return _BY_STATUS.get(status, Invalid)(f"HTTP {status}", "no problem document", status=status)


def _problem_document(content_type: str | None, text: str) -> dict[str, Any] | None:
    if content_type is not None and "json" not in content_type.lower():
        return None
    try:
        value = decode_json(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _text(problem: dict[str, Any], key: str) -> str:
    value = problem.get(key)
    return value if isinstance(value, str) else ""


def _field_errors(problem: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    errors = problem.get("errors")
    if not isinstance(errors, list):
        return ()
    return tuple((_text(error, "field"), _text(error, "message")) for error in errors if isinstance(error, dict))
