"""A scripted Mailchimp for the tests of hook and trigger."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.airflow_home import isolate_airflow

isolate_airflow()

from tests.include.mailchimp.scripted_server import ScriptedServer  # noqa: E402


@pytest.fixture(autouse=True)
def no_login_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked for the datacentre of a token unless a test says whom."""
    monkeypatch.setattr("mailchimp_airflow.hooks.oauth.METADATA_URL", "http://127.0.0.1:1/oauth2/metadata")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.stop()
