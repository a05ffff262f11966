"""What of a webhook's call is believed, what is read from it, and that nothing else gets through."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.pull.webhook import Malformed, NotSigned, WebhookEvent, read_event, verify
from include.sandbox.deliveries import signature

SECRET = "0123456789abcdef0123456789abcdef"
LIST_ID = "a1b2c3d4e5"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MOMENT = int(NOW.timestamp())
FIRED = "2026-11-21 11:59:58"
FORM = {"type": "unsubscribe", "fired_at": FIRED, "data[list_id]": LIST_ID, "data[email]": "Ann@Mail.little.shop"}
BODY = urlencode(FORM).encode()


def hash_of(address: str) -> str:
    return hashlib.md5(address.encode()).hexdigest()


def body(**changes: str | None) -> bytes:
    """The form with other fields, `data_email` for ``data[email]``; None leaves one out."""
    changed = {name.replace("data_", "data[") + ("]" if "data_" in name else ""): one for name, one in changes.items()}
    return urlencode({name: value for name, value in (FORM | changed).items() if value is not None}).encode()


def test_what_mailchimp_signs_is_believed() -> None:
    header = signature(SECRET, MOMENT, BODY)
    assert verify(header, BODY, [SECRET], NOW) == header.partition("v1=")[2]


def test_while_one_secret_replaces_another_either_is_right() -> None:
    for secret in ("old", "new"):
        assert verify(signature(secret, MOMENT, BODY), BODY, ["old", "new"], NOW)


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_a_call_may_be_as_old_as_five_minutes_and_clocks_may_differ_by_as_much(seconds: int) -> None:
    assert verify(signature(SECRET, MOMENT + seconds, BODY), BODY, [SECRET], NOW)


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_an_old_call_is_refused_and_one_from_the_future(seconds: int) -> None:
    with pytest.raises(NotSigned, match="more than 300 seconds away"):
        verify(signature(SECRET, MOMENT + seconds, BODY), BODY, [SECRET], NOW)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "v1=abc",
        f"t={MOMENT}",
        f"t={MOMENT},v1=",
        f"t={MOMENT},v1={'0' * 63}",
        f"t={MOMENT},v1={'0' * 64}",
        f"t={MOMENT},v1={'é' * 64}",
        f"t=-{MOMENT},v1={'0' * 64}",
        f"t=٣,v1={'0' * 64}",
        f"t={'9' * 400},v1={'0' * 64}",
        signature("another secret", MOMENT, BODY),
        signature(SECRET, MOMENT, BODY + b"&x=1"),
        signature(SECRET, MOMENT - 100, BODY).replace(str(MOMENT - 100), str(MOMENT)),
        f"{signature(SECRET, MOMENT, BODY)},v1={'0' * 64}",
    ],
)
def test_a_call_without_the_right_signature_is_refused(header: str | None) -> None:
    with pytest.raises(NotSigned):
        verify(header, BODY, [SECRET], NOW)


def test_without_a_secret_nothing_is_believed() -> None:
    with pytest.raises(NotSigned):
        verify(signature("", MOMENT, BODY), BODY, [], NOW)


def test_an_event_is_read_without_the_address() -> None:
    event = read_event(BODY, LIST_ID)
    fired_at = datetime(2026, 11, 21, 11, 59, 58, tzinfo=UTC)
    assert event == WebhookEvent("unsubscribe", fired_at, (hash_of("ann@mail.little.shop"),))
    assert "ann" not in repr(event).lower()


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe", "profile", "cleaned"])
def test_each_type_about_a_contact_is_read(kind: str) -> None:
    event = read_event(body(type=kind), LIST_ID)
    assert event is not None
    assert event.type == kind


def test_a_changed_address_is_about_two_contacts() -> None:
    changed = body(type="upemail", data_email=None, data_old_email="old@x.shop", data_new_email="new@x.shop")
    event = read_event(changed, LIST_ID)
    assert event is not None
    assert event.member_hashes == (hash_of("old@x.shop"), hash_of("new@x.shop"))


@pytest.mark.parametrize("kind", ["campaign", "sms_subscribe", "something new", ""])
def test_what_is_about_no_contact_is_ignored(kind: str) -> None:
    assert read_event(body(type=kind, data_email=None), LIST_ID) is None


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (b"", "no field type"),
        (b"garbage", "no field type"),
        (b'{"type": "unsubscribe"}', "no field type"),
        (b"\xff\xfe", "not a form"),
        (b"type=%ff", "not a form"),
        (b"a=1&" * 1001, "not a form"),
        (BODY + b"&type=subscribe", "several fields type"),
        (BODY + b"&data%5Bemail%5D=other%40x.shop", "several fields data"),
        (body(data_list_id="another"), "another audience"),
        (body(data_list_id=None), "no field data"),
        (body(fired_at=None), "no field fired_at"),
        (body(fired_at="yesterday"), "fired_at is not a time"),
        (body(fired_at="2026-02-30 10:00:00"), "fired_at is not a time"),
        (body(data_email=None), "no field data"),
        (body(data_email=""), "no e-mail address"),
        (body(data_email="nobody"), "no e-mail address"),
        (body(data_email="a b@x.shop"), "no e-mail address"),
        (body(data_email="a@b@x.shop"), "no e-mail address"),
        (body(data_email=f"{'a' * 320}@x.shop"), "no e-mail address"),
        (body(type="upemail", data_old_email="old@x.shop"), "no field data"),
    ],
)
def test_what_is_no_event_of_the_audience_is_refused(wrong: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason) as refused:
        read_event(wrong, LIST_ID)
    assert "little.shop" not in str(refused.value)


@given(st.binary(max_size=200))
def test_whatever_comes_is_refused_or_ignored_and_never_breaks(rubbish: bytes) -> None:
    for one in (rubbish, BODY[:80] + rubbish, BODY + b"&" + rubbish):
        with suppress(Malformed):
            read_event(one, LIST_ID)


@given(st.text(max_size=100), st.integers(-400, 400))
def test_no_made_up_signature_is_believed(rubbish: str, seconds: int) -> None:
    now = NOW + timedelta(seconds=seconds)
    for header in (rubbish, f"t={MOMENT},v1={rubbish}", f"t={MOMENT},v1={rubbish:0<64.64}"):
        with pytest.raises(NotSigned):
            verify(header, BODY, [SECRET], now)
