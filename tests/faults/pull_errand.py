"""One pull in a process of its own, which kills itself at a chosen point (see `errand`)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection as Pipe

import requests
from sqlalchemy import create_engine

from include.config.stores import StoreSettings
from include.mailchimp.client import MailchimpClient
from include.pull.members import MemberPull, Pulled
from include.pull.write_back import WriteBack
from include.shops.profile import check_profile, load_profile
from include.state.bookmarks import PullBusy
from include.state.database import open_state
from include.state.members import Mirror
from include.state.stores import register_store
from tests.faults.errand import WORKER, _Points, _Wire
from tests.pipeline import QUICK

_PATIENCE_SECONDS = 30  # until the server has noticed that the worker before is gone


@dataclass(frozen=True)
class PullErrand:
    """What a worker is told; `dies_at` None: it lives."""

    dag_run_id: str
    uri: str
    url: str
    api_key: str
    account_id: str
    settings: StoreSettings
    full: bool
    per_page: int
    dies_at: int | None = None


def work(errand: PullErrand, report: Pipe) -> None:
    """Pull and report what was done, or die: the target of the process."""
    points = _Points(errand.dies_at)
    engine = create_engine(
        errand.uri.replace("postgresql://", "postgresql+psycopg2://", 1), connect_args={"application_name": WORKER}
    )
    with engine.connect() as connection:
        profile = check_profile(load_profile("reference"), connection, statuses=False)
    state = open_state(engine)
    with state.begin() as connection:
        store_ref = register_store(connection, errand.settings, errand.account_id).store_ref
    points.watch(engine)
    session = requests.Session()
    session.auth = ("any", errand.api_key)
    session.mount(errand.url, _Wire(points))
    session.trust_env = False
    pull = MemberPull(
        state,
        MailchimpClient(session, errand.url, retry=QUICK),
        Mirror(errand.account_id, errand.settings.list_id, errand.dag_run_id),
        WriteBack(engine, profile, errand.settings, store_ref),
        connections=2,
        overlap=timedelta(),
        per_page=errand.per_page,
    )
    report.send((_patiently(pull, errand.full), points.passed))
    report.close()
    engine.dispose()


def _patiently(pull: MemberPull, full: bool) -> Pulled:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return pull.pull(full=full)
        except PullBusy:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
