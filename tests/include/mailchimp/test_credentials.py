from __future__ import annotations

import pytest

from include.mailchimp.client import base_url_for
from include.mailchimp.credentials import authorization_header
from include.mailchimp.errors import ConnectionSettingsError

KEY = "0123456789abcdef0123456789abcdef-us19"


@pytest.mark.parametrize(
    ("key", "host", "expected"),
    [
        (KEY, None, "https://us19.api.mailchimp.com/3.0"),
        (KEY, "  ", "https://us19.api.mailchimp.com/3.0"),
        (f"{KEY}\n", "", "https://us19.api.mailchimp.com/3.0"),
        (KEY, "us6.api.mailchimp.com", "https://us6.api.mailchimp.com/3.0"),
        (KEY, "https://us6.api.mailchimp.com/3.0/", "https://us6.api.mailchimp.com/3.0"),
        ("token", "http://127.0.0.1:8099/3.0", "http://127.0.0.1:8099/3.0"),
        ("token", "http://sandbox:8099", "http://sandbox:8099/3.0"),
        ("token", "http://[::1]:8099/proxy/", "http://[::1]:8099/proxy/3.0"),
    ],
)
def test_base_url(key: str, host: str | None, expected: str) -> None:
    assert base_url_for(key, host) == expected


@pytest.mark.parametrize("key", ["", "0123456789abcdef0123456789abcdef", "0a1b2c3d", "key-us6.evil.com/", "a-6"])
def test_a_key_without_datacentre_needs_a_host(key: str) -> None:
    with pytest.raises(ConnectionSettingsError, match="-us6") as caught:
        base_url_for(key, None)
    assert isinstance(caught.value, ValueError)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["ftp://x", "http://", "http://x:port", "http://u:p@x", "http://x?y=1", "https://a:99999"]
)
def test_a_host_that_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(ConnectionSettingsError, match="base URL"):
        base_url_for(KEY, host)


def test_a_key_goes_by_basic_and_a_token_by_bearer() -> None:
    assert authorization_header(KEY) == "Basic YW55c3RyaW5nOjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVmLXVzMTk="
    assert authorization_header("0a1b2c") == "Bearer 0a1b2c"


@pytest.mark.parametrize("secret", ["", "  ", "two words", "line\r\nX-Injected: 1", "schlüssel"])
def test_an_unusable_key_is_refused(secret: str) -> None:
    with pytest.raises(ConnectionSettingsError, match="password"):
        authorization_header(secret)
