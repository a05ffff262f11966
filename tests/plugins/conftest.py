"""A scripted Mailchimp for the tests of hook and trigger."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.airflow_home import isolate_airflow

isolate_airflow()

from tests.include.mailchimp.scripted_server import ScriptedServer  # noqa: E402


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.stop()
