"""Each shop hears of each opt-out that stands, whenever its customer comes and whoever reads it; of its own never."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from include.pull.consent import NEWER_OPT_IN
from include.pull.members import MemberPull, Pulled
from include.pull.write_back import WriteBack
from include.sandbox import people
from include.state.bookmarks import PullBusy, pull_lock
from include.state.database import lock_account
from include.state.members import Mirror
from include.state.stores import register_store
from tests.include.pull.pulling import LIST_ID, Puller
from tests.include.pull.test_consent import later, opted_in, subscribed
from tests.pipeline import email_hash


def record(puller: Puller, customer_id: int, yes: bool, at: datetime) -> None:
    puller.pipeline.sql(
        "INSERT INTO newsletter_consents (customer_id, opted_in, recorded_at, source) VALUES (:id, :yes, :at, 'shop')",
        id=customer_id, yes=yes, at=at,
    )  # fmt: skip


def opted_in_long_ago(puller: Puller) -> None:
    puller.pipeline.sql("UPDATE newsletter_consents SET recorded_at = now() - interval '1 day'")


def test_an_echo_does_not_undo_an_opt_in_that_came_while_the_opt_out_was_sent(puller: Puller) -> None:
    address = subscribed(puller, 1)
    opted_in_long_ago(puller)
    now = datetime.now(UTC)
    record(puller, 1, False, now - timedelta(seconds=60))
    puller.pipeline.push()
    record(puller, 1, True, now - timedelta(seconds=30))
    assert puller.pull().written_back == 0
    assert puller.pull(full=True).written_back == 0
    assert puller.events(address)[-1] == ("subscribed", "unsubscribed", "push", 0)
    assert opted_in(puller.pipeline, 1) is True


def test_an_echo_is_known_before_its_batch_is_settled(puller: Puller) -> None:
    address = subscribed(puller, 1)
    opted_in_long_ago(puller)
    puller.pipeline.consent(1, False, source="account page")
    puller.pipeline.push()
    puller.pipeline.sql(
        "WITH b AS (UPDATE mailchimp.batch SET settled_at = NULL, completed_at = NULL, state = 'posted' "
        "WHERE batch_ref = (SELECT max(batch_ref) FROM mailchimp.batch WHERE entity = 'members') RETURNING batch_ref) "
        "UPDATE mailchimp.ledger SET batch_ref = b.batch_ref, acknowledged_at = NULL FROM b WHERE entity = 'members'"
    )
    puller.pull()
    assert puller.events(address)[-1] == ("subscribed", "unsubscribed", "push", 0)


def test_who_becomes_a_customer_after_the_opt_out_is_opted_out_when_everything_is_read(puller: Puller) -> None:
    address = "c1@mail.little.shop"
    puller.import_contacts(address)
    puller.unsubscribe(address)
    assert puller.pull().written_back == 0
    puller.pipeline.add_customer(1, opted_in=True)
    puller.pipeline.sql("UPDATE newsletter_consents SET recorded_at = now() - interval '30 days'")
    assert puller.pull(full=True).written_back == 1
    assert opted_in(puller.pipeline, 1) is False
    assert puller.events(address) == [(None, "unsubscribed", "mailchimp", 1)]
    assert puller.pull(full=True).written_back == 0


def test_an_archived_contact_that_had_opted_out_before_stays_opted_out(puller: Puller) -> None:
    puller.configured(on_remote_archive="keep")
    address = subscribed(puller, 1)
    told = puller.pipeline.profile
    puller.pipeline.profile = replace(told, profile=replace(told.profile, consent_write_back=None))
    puller.unsubscribe(address, at=later(seconds=5))
    puller.pull()
    puller.do(people.archive, address, at=later(seconds=6))
    puller.pipeline.profile = told
    assert puller.pull().written_back == 1
    assert puller.consents(1)[-1] == (False, "mailchimp: unsubscribed")


def test_an_opt_out_that_only_our_own_write_made_look_newer_than_the_opt_in_does_not_count(puller: Puller) -> None:
    address = subscribed(puller, 1)
    opted_in_long_ago(puller)
    puller.pipeline.push()
    puller.pull()
    now = datetime.now(UTC)
    puller.unsubscribe(address, at=now - timedelta(minutes=10))
    record(puller, 1, True, now - timedelta(minutes=5))
    puller.pipeline.push()  # tells Mailchimp of the opt-in, which changes the contact but doesn't subscribe it
    assert puller.pipeline.status(address) == "unsubscribed"
    for full in (False, True):
        assert puller.pull(full=full).written_back == 0
    assert opted_in(puller.pipeline, 1) is True
    assert puller.events(address)[-1] == ("subscribed", "unsubscribed", "mailchimp", 0)
    [(rule, shop_at)] = puller.pipeline.sql("SELECT rule, shop_at FROM mailchimp.consent_conflict")
    assert (rule, shop_at) == (NEWER_OPT_IN, now - timedelta(minutes=5))


def test_an_opt_out_after_the_opt_in_counts_although_a_write_of_ours_came_after_both(puller: Puller) -> None:
    address = subscribed(puller, 1)
    opted_in_long_ago(puller)
    now = datetime.now(UTC)
    record(puller, 1, True, now - timedelta(minutes=10))
    puller.unsubscribe(address, at=now - timedelta(minutes=5))
    puller.pipeline.push()
    assert puller.pull().written_back == 1
    assert opted_in(puller.pipeline, 1) is False


def test_the_accounts_lock_comes_before_the_rows_of_contacts(puller: Puller) -> None:
    """As in an erasure; the other way round the two would wait for each other."""
    address = subscribed(puller, 1)
    puller.unsubscribe(address, at=later(seconds=5))
    pipeline = puller.pipeline
    with ThreadPoolExecutor(1) as pool:
        with pipeline.state.begin() as connection:
            lock_account(connection, puller.account_id)
            pulled = pool.submit(puller.pull)
            waits = (
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = "
                "(SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            deadline = time.monotonic() + 30
            while pipeline.sql(waits) == [(0,)] and time.monotonic() < deadline:
                time.sleep(0.05)
            connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
            connection.exec_driver_sql("SELECT FROM member FOR UPDATE")
        assert pulled.result(30).written_back == 1


@dataclass
class Shop:
    """A store of the audience with a table of its own, in which its profile notes whom it heard of."""

    puller: Puller
    key: str

    def pull(self, *, full: bool = False) -> Pulled:
        pipeline = self.puller.pipeline
        settings = pipeline.settings.model_copy(update={"key": self.key, "store_id": self.key})
        statement = f"INSERT INTO heard SELECT '{self.key}', customer_id, state FROM consent_changes"
        checked = pipeline.profile
        profile = replace(checked, profile=replace(checked.profile, consent_write_back=statement))
        with pipeline.state.begin() as connection:
            store = register_store(connection, settings, self.puller.account_id)
            connection.exec_driver_sql(
                "INSERT INTO mailchimp.ledger (store_ref, entity, record_id, source_key, state) "
                f"VALUES ({store.store_ref}, 'members', '{email_hash('c1@mail.little.shop')}', '1', 'pending') "
                "ON CONFLICT DO NOTHING"
            )
        return MemberPull(
            pipeline.state,
            pipeline.client,
            Mirror(self.puller.account_id, LIST_ID, self.key),
            WriteBack(pipeline.engine, profile, settings, store.store_ref),
            2,
            timedelta(),
        ).pull(full=full)

    def heard(self) -> list[tuple[str, str]]:
        return self.puller.pipeline.sql("SELECT customer_id, state FROM heard WHERE store = :key", key=self.key)  # type: ignore[return-value]


@pytest.mark.parametrize("busy", [False, True], ids=["one after the other", "while the first one reads"])
def test_all_stores_of_an_audience_hear_of_an_opt_out_once(puller: Puller, busy: bool) -> None:
    puller.pipeline.sql("CREATE TABLE heard (store text, customer_id text, state text)")
    first, second = Shop(puller, "first"), Shop(puller, "second")
    puller.pipeline.add_customer(1, opted_in=True)
    puller.import_contacts("c1@mail.little.shop")
    first.pull()
    second.pull()
    puller.unsubscribe("c1@mail.little.shop", at=later(seconds=5))
    first.pull()
    assert (first.heard(), second.heard()) == ([("1", "unsubscribed")], [])
    if busy:
        with pull_lock(puller.pipeline.state, puller.account_id, LIST_ID), pytest.raises(PullBusy):
            second.pull()
    else:
        assert second.pull().events == 0
    assert (first.heard(), second.heard()) == ([("1", "unsubscribed")], [("1", "unsubscribed")])
    assert puller.events("c1@mail.little.shop")[-1] == ("subscribed", "unsubscribed", "mailchimp", 2)
    first.pull()
    second.pull()
    assert len(first.heard()) + len(second.heard()) == 2
