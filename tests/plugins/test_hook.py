from __future__ import annotations

import json
import logging

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from include.mailchimp import errors
from include.mailchimp.errors import ConnectionSettingsError
from mailchimp_airflow.get_provider_info import get_provider_info
from mailchimp_airflow.hooks.mailchimp import MailchimpHook
from tests.include.mailchimp.scripted_server import ScriptedServer, html_reply, json_reply, problem_reply

KEY = "0123456789abcdef0123456789abcdef-us6"
CHIMPY = {"health_status": "Everything's Chimpy!"}


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> object:
    """Set AIRFLOW_CONN_MAILCHIMP from a URI or from fields."""

    def set_connection(uri: str | None = None, **fields: object) -> MailchimpHook:
        monkeypatch.setenv("AIRFLOW_CONN_MAILCHIMP", uri or json.dumps({"conn_type": "mailchimp", **fields}))
        return MailchimpHook()

    return set_connection


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"password": KEY}, "https://us6.api.mailchimp.com/3.0"),
        ({"password": KEY, "port": 443}, "https://us6.api.mailchimp.com/3.0"),
        ({"password": KEY, "host": "us7.api.mailchimp.com"}, "https://us7.api.mailchimp.com/3.0"),
        ({"password": KEY, "host": "http://127.0.0.1:8099/3.0"}, "http://127.0.0.1:8099/3.0"),
        ({"password": KEY, "host": "http://127.0.0.1:8099/3.0/", "port": 443}, "http://127.0.0.1:8099/3.0"),
        ({"password": KEY, "host": "http://127.0.0.1", "port": 8099}, "http://127.0.0.1:8099/3.0"),
        ({"password": KEY, "host": "127.0.0.1", "port": 8099}, "http://127.0.0.1:8099/3.0"),
        ({"password": KEY, "host": "sandbox:8099", "schema": "http"}, "http://sandbox:8099/3.0"),
        ({"password": "0a1b2c", "extra": {"dc": "us6"}}, "https://us6.api.mailchimp.com/3.0"),
        (f"mailchimp://:{KEY}@", "https://us6.api.mailchimp.com/3.0"),
        (f"mailchimp://:{KEY}@us7.api.mailchimp.com", "https://us7.api.mailchimp.com/3.0"),
        (f"mailchimp://anystring:{KEY}@127.0.0.1:8099/http", "http://127.0.0.1:8099/3.0"),
        (f"mailchimp://:{KEY}@127.0.0.1:8099/3.0", "http://127.0.0.1:8099/3.0"),
        (f"mailchimp://:{KEY}@sandbox:8099/https", "https://sandbox:8099/3.0"),
        (f"mailchimp://http://:{KEY}@127.0.0.1:8099/3.0", "http://127.0.0.1:8099/3.0"),
        (f"mailchimp://:{KEY}@http%3A%2F%2F127.0.0.1%3A8099%2F3.0", "http://127.0.0.1:8099/3.0"),
        ("mailchimp://:0a1b2c@/?dc=us6", "https://us6.api.mailchimp.com/3.0"),
    ],
)
def test_every_form_of_connection_gives_the_base_url(connect, stored: dict | str, expected: str) -> None:
    hook = connect(stored) if isinstance(stored, str) else connect(**stored)
    assert hook.settings.base_url == expected
    assert hook.get_client().base_url == expected


@pytest.mark.parametrize("host", ["http://127.0.0.1:8099/3.0", "us7.api.mailchimp.com", ""])
def test_a_connection_survives_airflows_own_round_trip_by_uri(connect, host: str) -> None:
    stored = Connection(conn_id="mailchimp", conn_type="mailchimp", host=host, password=KEY, port=443)
    assert connect(stored.get_uri()).settings.base_url == (
        host if "://" in host else f"https://{host or 'us6.api.mailchimp.com'}/3.0"
    )


def test_the_client_shares_one_authenticated_session_without_extras_as_headers(connect, server: ScriptedServer) -> None:
    hook = connect(password=KEY, host=server.base_url, extra={"store_id": "s1", "X-Evil": "1", "verify": False})
    server.say(json_reply(CHIMPY))
    assert hook.get_client().ping() == hook.get_client(max_connections=1, timeout=5).ping() == CHIMPY["health_status"]
    assert hook.get_conn() is hook.get_conn(headers={"a": "b"})
    assert hook.get_conn().verify is False
    headers = server.received[0].headers
    assert headers["Authorization"].startswith("Basic ")
    assert not {"store_id", "X-Evil", "verify"} & set(headers)
    assert KEY not in repr(hook.settings)


def test_a_token_goes_by_bearer(connect, server: ScriptedServer) -> None:
    server.say(json_reply(CHIMPY))
    connect(password="0a1b2c", host=server.base_url).get_client().ping()
    assert server.received[0].headers["Authorization"] == "Bearer 0a1b2c"


def test_connection_test_is_chimpy(connect, server: ScriptedServer) -> None:
    server.say(json_reply(CHIMPY))
    assert connect(password=KEY, host=server.base_url).test_connection() == (True, "Everything's Chimpy!")


def test_airflows_own_connection_test_finds_the_hook(server: ScriptedServer) -> None:
    server.say(json_reply(CHIMPY))
    connection = Connection(conn_id="any", conn_type="mailchimp", host=server.base_url, password=KEY, port=443)
    assert connection.test_connection() == (True, "Everything's Chimpy!")


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        (problem_reply(401, "API Key Invalid", "Your API key may be invalid"), "create a key"),
        (problem_reply(403, "Wrong Datacenter"), "check the account and the host"),
        (html_reply(404), "does not answer as Mailchimp does"),
        (html_reply(200), "does not answer as Mailchimp does"),
        (json_reply({"hello": "world"}), "does not answer as Mailchimp does"),
    ],
)
def test_connection_test_says_what_to_do(connect, server: ScriptedServer, reply, advice: str) -> None:
    server.say(reply)
    ok, message = connect(password=KEY, host=server.base_url).test_connection()
    assert not ok
    assert advice in message
    assert KEY not in message


def test_connection_test_without_network_or_settings(connect, monkeypatch: pytest.MonkeyPatch) -> None:
    ok, message = connect(password=KEY, host="http://127.0.0.1:1/3.0").test_connection()
    assert (ok, "check the host" in message) == (False, True)
    ok, message = connect(password="0123456789abcdef0123456789abcdef").test_connection()
    assert (ok, "no suffix such as -us6" in message, "'mailchimp'" in message) == (False, True, True)
    ok, message = connect(host="us6.api.mailchimp.com").test_connection()
    assert (ok, "no usable API key" in message) == (False, True)
    monkeypatch.delenv("AIRFLOW_CONN_MAILCHIMP")
    ok, message = MailchimpHook("other_account").test_connection()
    assert (ok, "AIRFLOW_CONN_OTHER_ACCOUNT" in message) == (False, True)


def test_a_missing_or_unusable_connection_stops_before_any_call(connect) -> None:
    with pytest.raises(AirflowNotFoundException, match="AIRFLOW_CONN_OTHER"):
        MailchimpHook("other").get_client()
    with pytest.raises(ConnectionSettingsError, match="mailchimp"):
        connect(password=KEY, host="ftp://x").get_client()
    with pytest.raises(ConnectionSettingsError, match="dc"):
        connect(password="0a1b2c", extra={"dc": "evil.com/"}).get_client()


def test_run_for_http_operators_gives_typed_errors_and_no_bodies_in_logs(
    connect, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    hook = connect(password=KEY, host=server.base_url)
    server.say(json_reply(CHIMPY), problem_reply(400, "Member Exists", "ada@shop.de is already a list member."))
    with caplog.at_level(logging.DEBUG):
        assert hook.run("/ping").json() == CHIMPY
        with pytest.raises(errors.Invalid):
            hook.run("/lists/x/members")
        assert hook.run("/x", extra_options={"check_response": False, "timeout": 5}).status_code == 400
    assert "ada" not in caplog.text


def test_provider_metadata_is_registered_and_valid() -> None:
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    hook = ProvidersManagerTaskRuntime().hooks["mailchimp"]
    assert hook is not None
    assert (hook.package_name, hook.hook_class_name) == (
        "mailchimp-airflow",
        "mailchimp_airflow.hooks.mailchimp.MailchimpHook",
    )
    assert hook.connection_id_attribute_name == "mailchimp_conn_id"
    form = get_provider_info()["connection-types"][0]
    assert "port" not in form["ui-field-behaviour"]["hidden-fields"]
