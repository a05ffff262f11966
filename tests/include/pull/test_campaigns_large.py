"""A campaign to many: how much memory its activity takes to read, and how many calls."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from include.mailchimp.client import MailchimpClient
from include.pull.activity import pull_activity
from include.pull.campaigns import pull_campaigns
from include.state.stores import register_store
from tests.pipeline import Pipeline

ROOT = Path(__file__).resolve().parents[3]
CROWD = 100_000
KEY = "0123456789abcdef0123456789abcdef-us1"


@dataclass
class Elsewhere:
    """A sandbox in a process of its own, so that its memory isn't counted."""

    url: str

    def post(self, path: str) -> dict[str, int]:
        reply = requests.post(self.url.removesuffix("/3.0") + path, timeout=300)
        reply.raise_for_status()
        return dict(reply.json())

    def client(self) -> MailchimpClient:
        session = requests.Session()
        session.auth = ("any", KEY)
        return MailchimpClient(session, self.url)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    command = [sys.executable, "-m", "include.sandbox", "--port", "0", "--crowd", str(CROWD)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Elsewhere(process.stdout.readline().split()[1])
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recipients(pipeline: Pipeline, elsewhere: Elsewhere) -> None:
    client = elsewhere.client()
    account_id = str(client.account()["account_id"])
    with pipeline.state.begin() as connection:
        register_store(connection, pipeline.settings, account_id)
    sent = elsewhere.post("/sandbox/campaigns")
    assert sent["sent"] > CROWD / 2
    pull_campaigns(pipeline.state, client, pipeline.settings, account_id)
    before = client.metrics.calls
    tracemalloc.start()
    counts = pull_activity(pipeline.state, client, pipeline.settings, account_id)
    peak = tracemalloc.get_traced_memory()[1] / 1_000_000
    tracemalloc.stop()
    calls = client.metrics.calls - before
    print(f"{sent['sent']:,} recipients, {counts.events:,} events, {calls} calls, peak {peak:.1f} MB")
    assert counts.events > sent["sent"]
    assert calls <= 2 * (sent["sent"] / 950 + 1) + 4
    assert peak < 20
