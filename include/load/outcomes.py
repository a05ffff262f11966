"""What became of one operation: Mailchimp's answer, classified.

Source of the rules: the API's recorded error documents and the issues of the official plugins. An answer is judged by
status, title and a part of the detail, never by the problem's `type`. What is not understood is invalid and keeps its
text, so that somebody sees it.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from include.mailchimp.errors import (
    AuthenticationFailed,
    Forbidden,
    MailchimpError,
    MethodNotAllowed,
    NotFound,
    UnexpectedReply,
    problem_from,
    redact,
)
from include.state.settlement import Reason


class Outcome(StrEnum):
    """Classes of answers; the state tables store these values."""

    OK = "ok"
    EXISTS = "exists"  # POST of a record Mailchimp holds: PATCH it
    MISSING = "missing"  # PATCH of a record Mailchimp does not hold: POST it
    PARENT_MISSING = "parent_missing"  # refers to a product Mailchimp does not hold
    INVALID = "invalid"  # the payload itself is refused
    COMPLIANCE = "compliance"  # the contact must not be written, now or ever
    TRANSIENT = "transient"  # worth repeating as it is
    UNKNOWN = "unknown"  # no answer
    CAMPAIGN = "campaign"  # names a campaign that Mailchimp doesn't have: worth repeating without it
    UNSUPPORTED = "unsupported"  # the account has no such method for this resource


@dataclass(frozen=True)
class Answer:
    """An outcome, and for all but ok what Mailchimp said."""

    outcome: Outcome
    reason: Reason | None = None


_PARENT = re.compile(r"product with the provided (variant )?id does not exist", re.IGNORECASE)
_WAY_OUT = (
    "Mailchimp won't take this contact back from anybody but the contact itself: send it the audience's sign-up form."
)
_CAMPAIGN = re.compile(r"campaign with the provided id does not exist", re.IGNORECASE)
_COMPLIANCE_TITLES = ("compliance", "forgotten email")


def classify(method: str, entity: str, status_code: int, response: str) -> Answer:
    """Judge the answer to one operation.

    Args:
        method: HTTP method of the operation, upper case.
        entity: name of the entity.
        status_code: HTTP status; 0 when the archive does not say it.
        response: text of the response; may be empty or no JSON.

    Returns:
        The outcome; texts are free of e-mail addresses.
    """
    if 200 <= status_code < 300:
        return Answer(Outcome.OK)
    if status_code < 100:
        return Answer(Outcome.UNKNOWN, Reason("Unreadable answer", "The batch's results do not say how this ended."))
    error = problem_from(status_code, None, response)
    outcome = _outcome(method, entity, error)
    reason = reason_for(error)
    if outcome is Outcome.COMPLIANCE:
        reason = replace(reason, detail=f"{reason.detail} {_WAY_OUT}")
    return Answer(outcome, reason)


def _outcome(method: str, entity: str, error: MailchimpError) -> Outcome:
    text = f"{error.title} {error.detail}".lower()
    if isinstance(error, Forbidden | AuthenticationFailed):
        # About the account, not about the record (unless it is the contact that may not be written).
        return Outcome.COMPLIANCE if "compliance" in error.title.lower() else Outcome.TRANSIENT
    if error.transient or (isinstance(error, UnexpectedReply) and error.status == 404):
        # A page in place of Mailchimp's own 404 comes from a server in front of it and says nothing about the record.
        return Outcome.TRANSIENT
    if any(title in error.title.lower() for title in _COMPLIANCE_TITLES):
        return Outcome.COMPLIANCE
    if isinstance(error, NotFound):
        return _not_found(method, entity)
    if isinstance(error, MethodNotAllowed) and method == "DELETE":
        return Outcome.OK  # a contact that is archived already
    if isinstance(error, MethodNotAllowed):
        return Outcome.UNSUPPORTED if method == "PUT" else Outcome.INVALID
    if method == "POST" and "already exists" in text:
        return Outcome.EXISTS
    if _PARENT.search(text):
        return Outcome.PARENT_MISSING
    if _CAMPAIGN.search(text):
        return Outcome.CAMPAIGN
    return Outcome.INVALID


def _not_found(method: str, entity: str) -> Outcome:
    if method == "DELETE" or (entity == "members" and method == "PATCH"):
        return Outcome.OK  # gone already; or an opt-out of somebody the audience doesn't know
    if entity == "members":
        return Outcome.INVALID  # there is no such audience
    if method == "PUT" and entity == "orders":
        return Outcome.UNSUPPORTED  # older accounts know no PUT for orders; see `unless_put_works`
    if method == "POST":
        return Outcome.INVALID  # empty lines and too long customer ids are answered by 404
    return Outcome.MISSING


def unless_put_works(answer: Answer, status_code: int) -> Answer:
    """Judge a refused PUT again, knowing that other PUTs of the same kind succeed: a 404 is about the payload then."""
    if answer.outcome is Outcome.UNSUPPORTED and status_code == 404:
        return Answer(Outcome.INVALID, answer.reason)
    return answer


def reason_for(error: MailchimpError) -> Reason:
    """Say what Mailchimp said, free of e-mail addresses."""
    fields = "; ".join(f"{field}: {message}" if field else message for field, message in error.field_errors)
    detail = " ".join(part for part in (error.detail, f"[{fields}]" if fields else "") if part)
    field = next((field for field, _ in error.field_errors if field), None)
    return Reason(error.title, redact(detail) or f"HTTP status {error.status} without an explanation.", field)
