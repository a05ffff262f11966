"""A million contacts are pulled in memory that doesn't grow with them."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
import requests
from sqlalchemy import Engine

from include.mailchimp.client import MailchimpClient
from include.pull.members import MemberPull
from include.pull.write_back import WriteBack
from include.shops.profile import check_profile, load_profile
from include.state.database import open_state
from include.state.members import Mirror
from include.state.stores import register_store
from tests.conftest import fresh_database
from tests.include.pull.pulling import LIST_ID
from tests.pipeline import QUICK, SETTINGS, StoreSettings

MILLION = 1_000_000
MOST_MEGABYTES = 150  # beyond what a pull of nothing takes


@pytest.fixture
def crowd() -> Iterator[str]:
    """The sandbox with its million, in a process of its own; its base URL."""
    command = [sys.executable, "-m", "include.sandbox", "--port", "0", "--crowd", str(MILLION)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("READY ").strip()
        try:
            yield url
        finally:
            process.terminate()


@pytest.fixture
def shop(postgres: object, reference_shop: str) -> Iterator[Engine]:
    with fresh_database(postgres, reference_shop) as engine:  # type: ignore[arg-type]
        yield engine


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_contacts_in_bounded_memory(shop: Engine, crowd: str) -> None:
    session = requests.Session()
    session.auth = ("any", "0123456789abcdef0123456789abcdef-us1")
    client = MailchimpClient(session, crowd, retry=QUICK)
    settings, account_id = StoreSettings(**SETTINGS), str(client.account()["account_id"])
    state = open_state(shop)
    with state.begin() as connection:
        store_ref = register_store(connection, settings, account_id).store_ref
    with shop.connect() as connection:
        profile = check_profile(load_profile("reference"), connection)
    pull = MemberPull(
        state,
        client,
        Mirror(account_id, LIST_ID, "first"),
        WriteBack(shop, profile, settings, store_ref),
        connections=4,
        overlap=timedelta(),
    )
    before, began = peak_megabytes(), time.monotonic()
    pulled = pull.pull()
    seconds, grown = time.monotonic() - began, peak_megabytes() - before
    print(
        f"\n{pulled.read:,} contacts, {pulled.events:,} events, {client.metrics.calls} calls in {seconds:.0f} s; "
        f"peak {peak_megabytes():.0f} MB, {grown:.0f} MB more than before"
    )
    with shop.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM mailchimp.member").scalar() == MILLION
        told = connection.exec_driver_sql("SELECT count(*) FROM mailchimp.consent_event").scalar()
    assert told == pulled.events
    assert grown < MOST_MEGABYTES
