from __future__ import annotations

import json

import pytest

from include.mailchimp import errors
from include.mailchimp.errors import problem_from, redact

PROBLEM = "application/problem+json; charset=utf-8"


def problem(title: str, status: int, detail: str = "", **more: object) -> str:
    return json.dumps({"title": title, "status": status, "detail": detail, "instance": "i-1", **more})


@pytest.mark.parametrize(
    ("status", "title", "kind"),
    [
        (400, "Invalid Resource", errors.Invalid),
        (400, "Member Exists", errors.Invalid),
        (401, "API Key Invalid", errors.AuthenticationFailed),
        (403, "Wrong Datacenter", errors.Forbidden),
        (404, "Resource Not Found", errors.NotFound),
        (405, "Method Not Allowed", errors.MethodNotAllowed),
        (414, "Resource Nesting Too Deep", errors.Invalid),
        (422, "Requested Fields Invalid", errors.Invalid),
        (429, "Too Many Requests", errors.Throttled),
        (500, "Internal Server Error", errors.ServerError),
        (503, "Compliance Related", errors.Forbidden),
        (503, "Service Unavailable", errors.ServerError),
    ],
)
@pytest.mark.parametrize("content_type", [PROBLEM, None], ids=["reply", "archive"])
def test_problem_documents_by_status(
    status: int, title: str, kind: type[errors.MailchimpError], content_type: str | None
) -> None:
    error = problem_from(status, content_type, problem(title, status, "why"))
    assert type(error) is kind
    assert (error.status, error.title, error.detail, error.instance) == (status, title, "why", "i-1")


@pytest.mark.parametrize("status", [400, 403, 503])
@pytest.mark.parametrize("content_type", ["text/html", None])
def test_html_in_place_of_a_problem_is_throttling(status: int, content_type: str | None) -> None:
    error = problem_from(status, content_type, b"<H1>Bad Request</H1>")
    assert type(error) is errors.RefusedAtEdge
    assert isinstance(error, errors.Throttled)
    assert error.transient


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, "", errors.Throttled),
        (403, "", errors.RefusedAtEdge),
        (502, "<html>Bad gateway</html>", errors.ServerError),
        (404, "<html>nginx</html>", errors.UnexpectedReply),
        (404, "", errors.NotFound),
        (400, "", errors.Invalid),
        (302, "", errors.UnexpectedReply),
        (500, "not { json", errors.ServerError),
        (500, "[" * 100_000, errors.ServerError),
        (400, '"just text"', errors.RefusedAtEdge),
    ],
)
def test_replies_without_a_problem(status: int, body: str, kind: type[errors.MailchimpError]) -> None:
    assert type(problem_from(status, None, body)) is kind


def test_doubly_encoded_problem_is_understood() -> None:
    error = problem_from(400, None, json.dumps(problem("Bad Request", 400, "exists")))
    assert (type(error), error.detail) == (errors.Invalid, "exists")


def test_field_errors_are_kept_and_shown() -> None:
    found = [{"field": "lines.item:0", "message": "Required"}, {"message": "no field"}, "nonsense", {"field": 3}]
    error = problem_from(400, PROBLEM, problem("Invalid Resource", 400, "See errors.", errors=found))
    assert error.field_errors == (("lines.item:0", "Required"), ("", "no field"), ("", ""))
    assert "lines.item:0: Required" in str(error)


@pytest.mark.parametrize("found", [None, {}, "x", 3])
def test_errors_of_another_shape_are_no_obstacle(found: object) -> None:
    assert problem_from(400, PROBLEM, problem("Invalid Resource", 400, errors=found)).field_errors == ()


def test_too_many_pending_batches_is_transient() -> None:
    error = problem_from(400, PROBLEM, problem("Bad Request", 400, "You have more than 500 pending batches."))
    assert type(error) is errors.TooManyPendingBatches
    assert error.transient


def test_no_address_in_any_text() -> None:
    detail = "ada.muster+x@shop-berlin.de is already a list member. Use PUT. (ada%40shop.de)"
    found = [{"field": "email_address", "message": "<ada@shop.de> looks fake"}]
    error = problem_from(400, PROBLEM, problem("Member Exists", 400, detail, errors=found))
    everything = f"{error!s} {error!r} {error.args} {error.detail} {error.field_errors}"
    assert "ada" not in everything
    assert error.detail == "<e-mail> is already a list member. Use PUT. (<e-mail>)"


def test_unstorable_characters_and_length_are_bounded() -> None:
    assert redact("a\x00b\ud800c") == "a\ufffdb\ufffdc"
    assert len(redact("@" * 1_000_000)) <= 2_000
    assert redact("no address here: a @ b") == "no address here: a @ b"
