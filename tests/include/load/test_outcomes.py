from __future__ import annotations

import json

import pytest

from include.load.outcomes import Outcome, classify, unless_put_works


def problem(title: str, detail: str = "", errors: list[dict[str, str]] | None = None) -> str:
    return json.dumps({"title": title, "detail": detail, "instance": "", "errors": errors or []})


@pytest.mark.parametrize(
    ("method", "entity", "status", "response", "outcome"),
    [
        ("PUT", "products", 200, "{}", Outcome.OK),
        ("DELETE", "products", 204, "", Outcome.OK),
        ("DELETE", "products", 404, problem("Resource Not Found"), Outcome.OK),
        (
            "POST",
            "orders",
            400,
            problem("Bad Request", "An order with the provided ID already exists in the account."),
            Outcome.EXISTS,
        ),
        ("PATCH", "orders", 404, problem("Resource Not Found"), Outcome.MISSING),
        ("PUT", "products", 404, problem("Resource Not Found"), Outcome.MISSING),
        ("POST", "orders", 404, problem("Resource Not Found"), Outcome.INVALID),
        ("PUT", "orders", 404, problem("Resource Not Found"), Outcome.UNSUPPORTED),
        ("PUT", "orders", 405, problem("Method Not Allowed"), Outcome.UNSUPPORTED),
        ("PATCH", "orders", 405, problem("Method Not Allowed"), Outcome.INVALID),
        (
            "PUT",
            "orders",
            400,
            problem("Bad Request", "A product with the provided ID does not exist in the account for this list."),
            Outcome.PARENT_MISSING,
        ),
        (
            "POST",
            "orders",
            400,
            problem(
                "Bad Request", "A product with the provided variant ID does not exist in the account for this list."
            ),
            Outcome.PARENT_MISSING,
        ),
        (
            "PUT",
            "orders",
            400,
            problem("Bad Request", "A campaign with the provided ID does not exist in the account for this list."),
            Outcome.CAMPAIGN,
        ),
        # An opt-out of somebody the audience doesn't know, and the removal of a contact that is archived already.
        ("PATCH", "members", 404, problem("Resource Not Found"), Outcome.OK),
        ("DELETE", "members", 405, problem("Method Not Allowed"), Outcome.OK),
        ("PATCH", "members", 400, problem("Member In Compliance State"), Outcome.COMPLIANCE),
        ("PATCH", "carts", 404, problem("Resource Not Found"), Outcome.MISSING),
        (
            "POST",
            "promo_rules",
            400,
            problem("Bad Request", "A promo rule for store with the id '7' already exists."),
            Outcome.EXISTS,
        ),
        # The last line of a record can't be deleted: no repetition helps.
        (
            "DELETE",
            "orders",
            400,
            problem("Bad Request", "In order to delete this line item, delete the parent resource."),
            Outcome.INVALID,
        ),
        # On a PUT this is about the e-mail address under another id, not about this record.
        (
            "PUT",
            "customers",
            400,
            problem("Bad Request", "A customer with this email already exists."),
            Outcome.INVALID,
        ),
        ("PUT", "customers", 400, problem("Member In Compliance State"), Outcome.COMPLIANCE),
        ("PUT", "customers", 400, problem("Forgotten Email Not Subscribed"), Outcome.COMPLIANCE),
        ("PUT", "customers", 503, problem("Compliance Related"), Outcome.COMPLIANCE),
        ("PUT", "customers", 429, problem("Too Many Requests"), Outcome.TRANSIENT),
        ("PUT", "customers", 500, "", Outcome.TRANSIENT),
        ("PUT", "customers", 403, "<HTML>Access Denied</HTML>", Outcome.TRANSIENT),
        ("PUT", "customers", 403, problem("User Disabled"), Outcome.TRANSIENT),
        # A page of a server in front of the API says nothing about the record.
        ("PUT", "products", 404, "<html>nginx</html>", Outcome.TRANSIENT),
        ("POST", "orders", 404, "not found", Outcome.TRANSIENT),
        ("PUT", "customers", 401, problem("API Key Invalid"), Outcome.TRANSIENT),
        ("PUT", "customers", 0, "", Outcome.UNKNOWN),
        ("PUT", "customers", 418, problem("Teapot", "never seen"), Outcome.INVALID),
        ("PUT", "customers", 302, "", Outcome.INVALID),
    ],
)
def test_answers_are_understood(method: str, entity: str, status: int, response: str, outcome: Outcome) -> None:
    assert classify(method, entity, status, response).outcome is outcome


def test_reasons_are_kept_without_addresses() -> None:
    errors = [{"field": "email_address", "message": "ann@shop.test looks fake or invalid"}]
    answer = classify("PUT", "customers", 400, problem("Invalid Resource", "for ann@shop.test see errors", errors))
    assert answer.reason is not None
    assert answer.reason.field == "email_address"
    assert "looks fake" in answer.reason.detail
    assert "ann" not in answer.reason.detail


def test_every_failure_has_a_reason_even_without_a_text() -> None:
    reason = classify("PUT", "customers", 400, problem("", "")).reason
    assert reason is not None
    assert reason.title
    assert reason.detail


def test_a_404_is_about_the_payload_where_puts_succeed() -> None:
    missing = classify("PUT", "orders", 404, problem("Resource Not Found"))
    assert unless_put_works(missing, 404).outcome is Outcome.INVALID
    refused = classify("PUT", "orders", 405, problem("Method Not Allowed"))
    assert unless_put_works(refused, 405).outcome is Outcome.UNSUPPORTED
