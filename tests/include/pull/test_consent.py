"""What contacts decide at Mailchimp reaches the shop's own table, once, and goes no further."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.load import erase
from include.load.erase import ErasureCounts
from include.pull.rows import columns_of
from include.sandbox import people
from include.shops.profile import ProfileError
from include.shops.write_back import WriteBackFailed, check_write_back
from tests.include.pull.pulling import Puller
from tests.pipeline import Pipeline, email_hash


def later(**passed: float) -> datetime:
    """A whole second after now: Mailchimp's times are whole seconds."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(**passed)


def subscribed(puller: Puller, customer_id: int, email: str | None = None) -> str:
    """A customer who opted in, was pushed and pulled."""
    address = puller.pipeline.add_customer(customer_id, email, opted_in=True)
    puller.pipeline.push()
    puller.pull()
    return address


def opted_in(pipeline: Pipeline, customer_id: int) -> bool | None:
    [(answer,)] = pipeline.sql(
        "SELECT (SELECT opted_in FROM newsletter_consents WHERE customer_id = :id "
        "ORDER BY recorded_at DESC, consent_id DESC LIMIT 1)", id=customer_id,
    )  # fmt: skip
    return answer


@pytest.mark.parametrize(
    ("deed", "state"),
    [
        (people.unsubscribe, "unsubscribed"),
        (people.complain, "unsubscribed"),
        (people.unsubscribe_by_marketer, "unsubscribed"),
        (people.bounce, "cleaned"),
        (people.archive, "archived"),
    ],
)
def test_an_opt_out_is_in_the_shops_table_after_one_pull_and_nothing_is_sent_because_of_it(
    puller: Puller, deed: Any, state: str
) -> None:
    address = subscribed(puller, 1)
    puller.do(deed, address, at=later(seconds=5))
    assert puller.pull().written_back == 1
    assert puller.consents(1) == [(True, "check-out"), (False, f"mailchimp: {state}")]
    assert puller.events(address)[-1] == ("subscribed", state, "mailchimp", 1)
    assert puller.pull(full=True).written_back == 0
    assert puller.pipeline.push()["members"].operations == 0
    assert puller.pipeline.full_sync()["members"].operations == 0
    assert puller.pipeline.status(address) == state
    assert puller.pull().events == 0


def test_the_shops_own_changes_come_back_as_an_echo_that_changes_nothing(puller: Puller) -> None:
    address = subscribed(puller, 1)
    assert puller.events(address) == [(None, "subscribed", "push", 0)]
    puller.pipeline.consent(1, False, source="account page")
    puller.pipeline.push()
    pulled = puller.pull()
    assert (pulled.events, pulled.written_back) == (1, 0)
    assert puller.events(address)[-1] == ("subscribed", "unsubscribed", "push", 0)
    assert puller.consents(1) == [(True, "check-out"), (False, "account page")]
    ran = puller.pipeline.push()
    assert ran.operations == 0


def test_what_a_contact_does_itself_is_not_taken_for_an_echo(puller: Puller) -> None:
    address = subscribed(puller, 1)
    puller.unsubscribe(address, at=later(minutes=5))
    puller.pull()
    puller.do(people.subscribe, address, at=later(minutes=6))
    puller.pull()
    puller.unsubscribe(address, at=later(minutes=7))
    puller.pull()
    assert [event[:3] for event in puller.events(address)][1:] == [
        ("subscribed", "unsubscribed", "mailchimp"),
        ("unsubscribed", "subscribed", "mailchimp"),
        ("subscribed", "unsubscribed", "mailchimp"),
    ]
    assert opted_in(puller.pipeline, 1) is False


def test_an_opt_in_that_is_newer_than_the_opt_out_stays_and_the_conflict_is_told(puller: Puller) -> None:
    address = subscribed(puller, 1)
    said_no, said_yes = later(minutes=5), later(minutes=6)
    puller.unsubscribe(address, at=said_no)
    puller.pipeline.sql(
        "INSERT INTO newsletter_consents (customer_id, opted_in, recorded_at, source) VALUES (1, true, :at, 'form')",
        at=said_yes,
    )
    assert puller.pull().written_back == 0
    assert opted_in(puller.pipeline, 1) is True
    conflicts = puller.pipeline.sql(
        "SELECT member_hash, customer_id, shop_opted_in, shop_at, remote_status, remote_at "
        "FROM mailchimp.consent_conflict"
    )
    assert conflicts == [(email_hash(address), "1", True, said_yes, "unsubscribed", said_no)]
    puller.pull(full=True)
    assert puller.pipeline.sql("SELECT count(*) FROM mailchimp.consent_conflict") == [(1,)]


def test_an_opt_out_of_the_same_second_as_the_opt_in_counts(puller: Puller) -> None:
    address = subscribed(puller, 1)
    second = later(minutes=5)
    puller.pipeline.sql("UPDATE newsletter_consents SET recorded_at = :at", at=second + timedelta(seconds=0.7))
    puller.unsubscribe(address, at=second)
    puller.pull()
    assert opted_in(puller.pipeline, 1) is False


@pytest.mark.parametrize("setting", ["unsubscribe", "keep"])
def test_what_an_archived_contact_means_is_a_setting(puller: Puller, setting: str) -> None:
    puller.configured(on_remote_archive=setting)
    address = subscribed(puller, 1)
    puller.do(people.archive, address, at=later(seconds=5))
    puller.pull()
    assert opted_in(puller.pipeline, 1) is (setting == "keep")
    assert puller.mirror()[email_hash(address)] == "archived"


def test_who_was_never_asked_says_no_at_mailchimp_but_not_by_being_archived(puller: Puller) -> None:
    for number in (1, 2):
        address = puller.pipeline.add_customer(number)
        puller.import_contacts(address)
    puller.do(people.unsubscribe, "c1@mail.little.shop")
    puller.do(people.archive, "c2@mail.little.shop")
    puller.pull()
    assert (opted_in(puller.pipeline, 1), opted_in(puller.pipeline, 2)) == (False, None)


def test_customers_whom_no_push_has_met_are_found_by_their_address_in_any_spelling(puller: Puller) -> None:
    puller.pipeline.add_customer(1, "Ann@Mail.Little.Shop", opted_in=True)
    puller.pipeline.add_customer(2, "ann@mail.little.shop", opted_in=True, is_guest=True)
    puller.import_contacts("Ann@Mail.Little.Shop")
    puller.unsubscribe("ann@mail.little.shop", at=later(seconds=5))
    assert puller.pull().written_back == 2
    assert puller.events("ann@mail.little.shop") == [(None, "unsubscribed", "mailchimp", 2)]
    assert puller.pipeline.push()["members"].operations == 0


def test_accounts_that_a_push_has_met_are_found_whatever_their_spelling(puller: Puller) -> None:
    puller.pipeline.add_customer(1, "ANN@mail.little.shop", opted_in=True)
    puller.pipeline.add_customer(2, " ann@mail.little.shop", opted_in=True)
    puller.pipeline.push()
    puller.unsubscribe("ann@mail.little.shop", at=later(seconds=5))
    assert puller.pull().written_back == 2


def test_who_has_another_address_by_now_is_not_opted_out_for_the_former_one(puller: Puller) -> None:
    address = subscribed(puller, 1)
    puller.pipeline.sql("UPDATE customers SET email = 'new@mail.little.shop'")
    puller.unsubscribe(address, at=later(seconds=5))
    assert puller.pull().written_back == 0
    assert opted_in(puller.pipeline, 1) is True


def test_nobody_is_opted_in_from_mailchimp(puller: Puller) -> None:
    address = puller.pipeline.add_customer(1)
    puller.do(people.subscribe, address)
    refusing = puller.pipeline.add_customer(2, opted_in=False)
    puller.do(people.subscribe, refusing)
    pulled = puller.pull()
    assert (pulled.events, pulled.written_back) == (2, 0)
    assert (opted_in(puller.pipeline, 1), opted_in(puller.pipeline, 2)) == (None, False)


def test_a_statement_that_fails_takes_the_whole_page_back(puller: Puller) -> None:
    address = subscribed(puller, 1)
    puller.unsubscribe(address, at=later(seconds=5))
    puller.pipeline.sql("ALTER TABLE newsletter_consents ADD CONSTRAINT closed CHECK (source = 'check-out')")
    with pytest.raises(WriteBackFailed, match="consent_write_back") as failed:
        puller.pull()
    assert address not in str(failed.value)
    assert [event[1] for event in puller.events(address)] == ["subscribed"]
    puller.pipeline.sql("ALTER TABLE newsletter_consents DROP CONSTRAINT closed")
    assert puller.pull().written_back == 1


def test_the_statement_is_checked_and_leaves_nothing_behind(puller: Puller) -> None:
    profile = puller.pipeline.profile.profile
    with puller.pipeline.engine.connect() as connection:
        check_write_back(profile, connection)
        check_write_back(profile, connection)
        assert connection.exec_driver_sql("SELECT to_regclass('consent_changes')").scalar() is None
    assert puller.pipeline.sql("SELECT count(*) FROM newsletter_consents") == [(0,)]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "INSERT INTO nowhere\nSELECT customer_id FROM consent_changes",
            'line 1: .* relation "nowhere" does not exist',
        ),
        ("UPDATE customers SET email = ''\nWHERE nobody = 1", 'line 2: .* column "nobody" does not exist'),
    ],
)
def test_a_wrong_statement_is_told_before_anything_is_read(puller: Puller, statement: str, told: str) -> None:
    profile = replace(puller.pipeline.profile.profile, consent_write_back=statement)
    with puller.pipeline.engine.connect() as connection, pytest.raises(ProfileError, match=told):
        check_write_back(profile, connection)


def test_what_people_write_themselves_is_not_kept(puller: Puller) -> None:
    addresses = [puller.pipeline.add_customer(number, opted_in=True) for number in (1, 2)]
    puller.import_contacts(*addresses)
    puller.unsubscribe(addresses[0], reason="I am Anna Muster, Long Street 5, 0171 555")
    puller.unsubscribe(addresses[1], reason="No longer interested")
    puller.pull()
    for table, column in (("member", "unsubscribe_reason"), ("consent_event", "reason")):
        kept = puller.pipeline.sql(f"SELECT {column} FROM mailchimp.{table} ORDER BY 1")
        assert kept == [("No longer interested",), ("other",)]


def test_no_address_is_logged_or_kept(puller: Puller, caplog: pytest.LogCaptureFixture) -> None:
    address = subscribed(puller, 1)
    puller.unsubscribe(address, reason=f"I am {address}", at=later(seconds=5))
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        assert puller.pull(full=True).written_back == 1
    assert "/members" in caplog.text
    assert address.partition("@")[0] + "@" not in caplog.text
    for table in ("member", "consent_event", "consent_conflict", "pull_bookmark", "members", "consent_events"):
        assert address not in str(puller.pipeline.sql(f"SELECT * FROM mailchimp.{table}"))


def test_without_a_statement_opt_outs_stay_in_the_trail(puller: Puller) -> None:
    address = subscribed(puller, 1)
    checked = puller.pipeline.profile
    puller.pipeline.profile = replace(checked, profile=replace(checked.profile, consent_write_back=None))
    puller.unsubscribe(address, at=later(seconds=5))
    pulled = puller.pull()
    assert (pulled.events, pulled.written_back) == (1, 0)
    assert puller.events(address)[-1] == ("subscribed", "unsubscribed", "mailchimp", 0)


def test_views_name_the_customers_behind_contacts(puller: Puller) -> None:
    address = subscribed(puller, 1)
    puller.pipeline.add_customer(2, address, is_guest=True)
    puller.pipeline.push()
    puller.import_contacts("somebody@else.shop")
    puller.unsubscribe(address, at=later(seconds=5))
    puller.pull()
    found = puller.pipeline.sql("SELECT member_hash, customer_ids, status FROM mailchimp.members")
    assert sorted(found) == sorted(
        [(email_hash(address), ["1", "2"], "unsubscribed"), (email_hash("somebody@else.shop"), [], "subscribed")]
    )
    events = puller.pipeline.sql(
        "SELECT customer_ids, from_status, to_status FROM mailchimp.consent_events WHERE member_hash = :hash "
        "ORDER BY event_id",
        hash=email_hash(address),
    )
    assert events == [(["1", "2"], None, "subscribed"), (["1", "2"], "subscribed", "unsubscribed")]


def test_an_erased_person_leaves_neither_mirror_nor_trail(puller: Puller) -> None:
    address = subscribed(puller, 1)
    puller.pipeline.sql("INSERT INTO erasure_requests (customer_id) VALUES (1)")
    puller.pipeline.push(allow_deletes=True)
    for table in ("member", "consent_event"):
        assert puller.pipeline.sql(f"SELECT count(*) FROM mailchimp.{table}") == [(0,)]
    puller.pull(full=True)
    assert puller.events(address) == []


def test_who_is_erased_while_a_pull_has_them_in_memory_waits_for_the_next_run(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erase, "_PATIENCE", timedelta(seconds=0.1))
    address = subscribed(puller, 1)
    puller.do(people.mark_vip, address, vip=True)
    puller.pipeline.sql("INSERT INTO erasure_requests (customer_id) VALUES (1)")
    erased: list[ErasureCounts] = []

    def late(members: Any) -> Any:
        if members and not erased:
            puller.pipeline.push(allow_deletes=True)
            erased.append(puller.pipeline.erased)
        return columns_of(members)

    monkeypatch.setattr("include.pull.members.columns_of", late)
    puller.pull()
    assert erased == [ErasureCounts(erased=0, waiting=1)]
    puller.pipeline.push(allow_deletes=True)
    assert puller.pipeline.erased == ErasureCounts(erased=1, waiting=0)
    assert puller.mirror() == {}


@pytest.mark.parametrize("table", ["member", "consent_event"])
def test_what_comes_back_of_an_erased_person_is_scrubbed_by_the_next_run(puller: Puller, table: str) -> None:
    address = subscribed(puller, 1)
    puller.pipeline.sql(f"CREATE TABLE before AS SELECT * FROM mailchimp.{table}")
    puller.pipeline.sql("INSERT INTO erasure_requests (customer_id, email) VALUES (1, :email)", email=address)
    puller.pipeline.push(allow_deletes=True)
    puller.pipeline.sql(f"INSERT INTO mailchimp.{table} OVERRIDING SYSTEM VALUE SELECT * FROM before")
    puller.pipeline.push(allow_deletes=True)
    assert puller.pipeline.sql(f"SELECT count(*) FROM mailchimp.{table}") == [(0,)]
    assert puller.pipeline.sql("SELECT erased_at IS NOT NULL FROM mailchimp.erasure") == [(True,)]
    puller.pipeline.push(allow_deletes=True)
    assert puller.pipeline.erased == ErasureCounts()
