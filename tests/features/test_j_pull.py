"""Group J of the feature map, and what B and C say of the way back: what is decided at Mailchimp comes to the shop."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from include.config.stores import INTERVALS, StoreSettings
from include.load.runs import Mode
from include.sandbox import people
from tests.airflow_home import isolate_airflow
from tests.include.pull.pulling import LIST_ID, Puller
from tests.pipeline import SETTINGS, Pipeline, email_hash
from tests.replaying import run_replay

isolate_airflow()


@pytest.fixture
def puller(pipeline: Pipeline) -> Puller:
    return Puller(pipeline)


def subscriber(puller: Puller, customer_id: int) -> str:
    """A customer who opted in, and is a subscriber; returns the address."""
    address = puller.pipeline.add_customer(customer_id, opted_in=True)
    puller.pipeline.push(entities=("members", "customers"))
    puller.pull()
    return address


def soon() -> datetime:
    """A whole second after all that was done so far."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)


def shop_says(puller: Puller, customer_id: int) -> tuple[bool, str]:
    """The shop's newest answer, and where it is from."""
    [(opted_in, source)] = puller.pipeline.sql(
        "SELECT opted_in, source FROM newsletter_consents WHERE customer_id = :id "
        "ORDER BY recorded_at DESC, consent_id DESC LIMIT 1", id=customer_id,
    )  # fmt: skip
    return opted_in, source


def audience_groups(puller: Puller) -> dict[str, set[str]]:
    """The groups that are there, by audience."""
    found: dict[str, set[str]] = {}
    for list_id, name in puller.pipeline.sql(
        "SELECT list_id, name FROM mailchimp.audience_group WHERE removed_at IS NULL"
    ):
        found.setdefault(list_id, set()).add(name)
    return found


def test_b1_the_pull_reads_every_audience_with_its_statistics(puller: Puller) -> None:
    for number in range(12):
        puller.account.add_audience(f"list-{number}", f"List {number}", double_optin=False)
    puller.import_contacts("a@mail.little.shop", "b@mail.little.shop")
    assert puller.audiences() == 13
    rows = puller.pipeline.sql("SELECT list_id, statistics ->> 'member_count' FROM mailchimp.audience")
    assert len(rows) == 13
    assert dict(rows)[LIST_ID] == "2"  # type: ignore[arg-type]


def test_b2_the_pull_reads_all_groups_and_merge_fields_of_every_audience(puller: Puller) -> None:
    puller.account.add_audience("club", "Club", double_optin=True)
    many = {f"Category {number}": [f"{number}.{group}" for group in range(12)] for number in range(11)}
    people.add_groups(puller.account, LIST_ID, many)
    people.add_groups(puller.account, "club", {"Topics": ["Music"]})
    for number in range(12):
        puller.pipeline.client.post(
            f"/lists/{LIST_ID}/merge-fields", json={"tag": f"F{number}", "name": f"Field {number}", "type": "text"}
        )
    puller.audiences()
    assert audience_groups(puller) == {LIST_ID: {name for names in many.values() for name in names}, "club": {"Music"}}
    fields = (
        "SELECT list_id, count(*) FROM mailchimp.audience_merge_field WHERE removed_at IS NULL GROUP BY 1 ORDER BY 1"
    )
    assert puller.pipeline.sql(fields) == [(LIST_ID, 17), ("club", 5)]


def test_b3_what_is_gone_at_mailchimp_is_marked_and_comes_back(puller: Puller) -> None:
    people.add_groups(puller.account, LIST_ID, {"Topics": ["Music", "Books"]})
    puller.audiences()
    audience = puller.account.audience_for(LIST_ID)
    fields = audience.records["merge_fields"]
    [field] = [one for one in fields if (fields.get(one) or {})["tag"] == "PHONE"]
    document = fields.get(field) or {}
    fields.remove(field)
    puller.account.add_audience("club", "Club", double_optin=True)
    puller.audiences()
    removed = "SELECT tag FROM mailchimp.audience_merge_field WHERE removed_at IS NOT NULL AND list_id = :list"
    assert puller.pipeline.sql(removed, list=LIST_ID) == [("PHONE",)]
    fields.put(field, document)
    puller.account.lists.remove("club")
    puller.audiences()
    assert puller.pipeline.sql(removed, list=LIST_ID) == []
    assert puller.pipeline.sql("SELECT list_id FROM mailchimp.audience WHERE removed_at IS NOT NULL") == [("club",)]


def test_b4_b5_the_pull_leaves_the_shops_switches_as_they_are(puller: Puller) -> None:
    people.add_groups(puller.account, LIST_ID, {"Topics": ["Music"]})
    puller.audiences()
    for table in ("audience", "audience_group"):
        puller.pipeline.sql(f"UPDATE mailchimp.{table} SET is_active = false, subscribe_by_default = true")
    puller.account.add_audience(LIST_ID, "Renamed", double_optin=True)
    puller.audiences()
    for table in ("audience", "audience_group"):
        assert puller.pipeline.sql(f"SELECT is_active, subscribe_by_default FROM mailchimp.{table}") == [(False, True)]


def test_b6_a_pull_reads_what_is_new_at_mailchimp(puller: Puller) -> None:
    puller.audiences()
    people.add_groups(puller.account, LIST_ID, {"Topics": ["Music"]})
    puller.import_contacts("new@mail.little.shop")
    puller.audiences()
    puller.pull()
    assert audience_groups(puller) == {LIST_ID: {"Music"}}
    assert puller.mirror() == {email_hash("new@mail.little.shop"): "subscribed"}


@pytest.mark.parametrize("name", ["never", *INTERVALS])
def test_b7_the_pulls_interval_is_chosen_by_name(name: str) -> None:
    assert StoreSettings(**SETTINGS, schedule_pull=name).schedule_pull == (None if name == "never" else name)


def test_b9_contacts_imported_at_mailchimp_show_up_for_known_customers(puller: Puller) -> None:
    address = puller.pipeline.add_customer(1)
    puller.pipeline.add_product(1)
    puller.pipeline.add_order(5, 1, 1)
    puller.pipeline.push()
    puller.pull()
    puller.do(people.subscribe, address, at=soon())
    puller.import_contacts("stranger@else.shop", at=soon())
    puller.account.add_audience(LIST_ID, "Renamed", double_optin=False)
    puller.audiences()
    puller.pull()
    found = puller.pipeline.sql("SELECT member_hash, customer_ids, status FROM mailchimp.members")
    assert sorted(found) == sorted(
        [(email_hash(address), ["1"], "subscribed"), (email_hash("stranger@else.shop"), [], "subscribed")]
    )
    assert puller.pipeline.sql("SELECT list_id, name FROM mailchimp.audience") == [(LIST_ID, "Renamed")]


def test_b10_the_pull_only_reads(puller: Puller) -> None:
    puller.import_contacts("a@mail.little.shop")
    puller.audiences()
    puller.pull(full=True)
    assert {route.split()[0] for route in puller.pipeline.requests()} == {"GET"}


def test_c8_a_subscription_is_in_the_mirror_and_in_the_trail(puller: Puller) -> None:
    address = subscriber(puller, 1)
    assert puller.mirror() == {email_hash(address): "subscribed"}
    assert puller.events(address) == [(None, "subscribed", "push", 0)]


def test_c9_an_opt_out_in_the_shop_comes_back_without_an_echo(puller: Puller) -> None:
    address = subscriber(puller, 1)
    puller.pipeline.consent(1, False, source="account page")
    puller.pipeline.push()
    puller.pull()
    assert puller.events(address)[1:] == [("subscribed", "unsubscribed", "push", 0)]
    assert shop_says(puller, 1) == (False, "account page")
    assert puller.pipeline.push().operations == 0


def test_j1_an_unsubscribe_is_in_the_shop_after_one_pull_and_nothing_changes_it_back(puller: Puller) -> None:
    address = subscriber(puller, 1)
    puller.unsubscribe(address, at=soon())
    puller.pull()
    assert shop_says(puller, 1) == (False, "mailchimp: unsubscribed")
    pipeline, since = puller.pipeline, datetime.now(UTC) - timedelta(days=1)
    pipeline.add_product(1)
    pipeline.add_order(5, 1, 1, currency_code="???")
    pipeline.push()
    pipeline.sql("UPDATE orders SET currency_code = 'EUR'")
    for run in (
        lambda: run_replay(pipeline, entities=("orders",)),
        pipeline.push,
        pipeline.full_sync,
        lambda: pipeline.push(mode=Mode.IDS, entities=("members",), ids=("1",)),
        lambda: pipeline.push(kind="backfill", since=since, until=datetime.now(UTC)),
    ):
        run()  # type: ignore[operator]
        pipeline.sql("UPDATE customers SET last_name = last_name || 'x'")
        assert pipeline.status(address) == "unsubscribed"
        puller.pull()
        assert shop_says(puller, 1) == (False, "mailchimp: unsubscribed")
    assert len(puller.consents(1)) == 2
    assert set(pipeline.held("orders")) == {"5"}


def two_way(puller: Puller, priority: str, **changes: str) -> tuple[str, bool]:
    """Somebody changes their mind at both sides, before these have heard of each other: first one, then the other.

    Returns the contact's status, and what the shop says, after a pull, a push and a pull.
    """
    puller.pipeline.configure(two_way_sync=True, sync_priority=priority)
    address = puller.pipeline.add_customer(1)
    puller.answer(1, True, datetime.now(UTC) - timedelta(days=1))
    puller.import_contacts(address, at=datetime.now(UTC) - timedelta(days=1))
    puller.pull()
    for place, answer in changes.items():
        moment = datetime.now(UTC) - timedelta(minutes=20 if place == next(iter(changes)) else 10)
        if place == "shop":
            puller.answer(1, answer == "yes", moment)
            puller.pipeline.sql("UPDATE customers SET updated_at = :at", at=moment)
        else:
            puller.do(people.subscribe if answer == "yes" else people.unsubscribe, address, at=moment)
    for _ in range(2):
        puller.pull()
        puller.pipeline.push()
    return puller.pipeline.status(address), shop_says(puller, 1)[0]


@pytest.mark.parametrize(("switched_on", "status"), [(False, "unsubscribed"), (True, "pending")])
def test_j2_a_new_opt_in_in_the_shop_lets_mailchimp_ask_if_two_way_sync_is_switched_on(
    puller: Puller, switched_on: bool, status: str
) -> None:
    assert not StoreSettings(**SETTINGS).two_way_sync
    address = subscriber(puller, 1)
    puller.unsubscribe(address, at=soon())
    puller.pull()
    assert shop_says(puller, 1)[0] is False
    puller.pipeline.configure(two_way_sync=switched_on)
    puller.answer(1, True, soon() + timedelta(seconds=2))
    puller.pipeline.push()
    puller.pipeline.full_sync()
    assert puller.pipeline.status(address) == status


def test_j2_a_new_opt_in_at_mailchimp_is_told_to_the_shop_if_two_way_sync_is_switched_on(puller: Puller) -> None:
    for number, switched_on in ((1, False), (2, True)):
        address = subscriber(puller, number)
        puller.pipeline.consent(number, False)
        puller.pipeline.push()
        puller.pull()
        assert puller.pipeline.status(address) == "unsubscribed"
        puller.pipeline.configure(two_way_sync=switched_on)
        puller.do(people.subscribe, address, at=soon())
        puller.pull()
        assert shop_says(puller, number)[0] is switched_on
        assert puller.pipeline.status(address) == "subscribed"


@pytest.mark.parametrize(
    ("priority", "status", "opted_in"), [("remote_wins", "unsubscribed", False), ("local_wins", "pending", True)]
)
def test_j3_an_opt_in_in_the_shop_after_an_unknown_opt_out_is_decided_by_priority(
    puller: Puller, priority: str, status: str, opted_in: bool
) -> None:
    assert two_way(puller, priority, mailchimp="no", shop="yes") == (status, opted_in)
    conflict = "SELECT shop_opted_in, remote_status, shop_at > remote_at, rule <> '' FROM mailchimp.consent_conflict"
    assert puller.pipeline.sql(conflict) == [(True, "unsubscribed", True, True)]


@pytest.mark.parametrize("priority", ["remote_wins", "local_wins"])
def test_j3_an_opt_out_beats_an_older_opt_in_whatever_the_priority(puller: Puller, priority: str) -> None:
    assert two_way(puller, priority, shop="yes", mailchimp="no") == ("unsubscribed", False)


def test_j4_what_changed_is_read_and_nothing_else_in_few_calls(puller: Puller) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=2)
    puller.import_contacts(*(f"c{number}@mail.little.shop" for number in range(2500)), at=long_ago)
    puller.pull()
    puller.import_contacts(*(f"n{number}@mail.little.shop" for number in range(1000)))
    read = 0

    def pull() -> None:
        nonlocal read
        read = puller.pull().read

    assert puller.calls(pull) + 2 <= 6  # the task's own checks are two calls more
    assert read == 1000
    assert len(puller.mirror()) == 3500


def test_j5_what_contacts_do_is_in_the_shop_as_soon_as_mailchimp_calls(
    puller: Puller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mailchimp_airflow import pull
    from tests.plugins.endpoint import open_endpoint

    leaving, bouncing, moving = [subscriber(puller, number) for number in (1, 2, 3)]
    before = len(puller.events(moving))
    with open_endpoint(puller.pipeline, monkeypatch, tmp_path) as endpoint:
        endpoint.register()
        puller.unsubscribe(leaving, at=soon())
        puller.do(people.bounce, bouncing, at=soon())
        people.change_address(puller.account, LIST_ID, moving, "moved@mail.little.shop", at=soon())
        puller.do(people.subscribe, "new@mail.little.shop", at=soon())
        puller.do(people.change_profile, "new@mail.little.shop", merge_fields={"FNAME": "Ann"}, at=soon())
        assert puller.pipeline.sandbox.state.deliveries.settle(30)
        assert endpoint.call(header="").status_code == 401
        dag_run = SimpleNamespace(run_id="asset-triggered", run_type="asset_triggered")
        assert pull.of_webhooks("demo", {"dag_run": dag_run})["worked_off"] == 6
    assert shop_says(puller, 1) == (False, "mailchimp: unsubscribed")
    assert shop_says(puller, 2) == (False, "mailchimp: cleaned")
    assert puller.events(leaving)[-1] == ("subscribed", "unsubscribed", "webhook", 1)
    assert len(puller.events(moving)) == before + 1
    assert puller.mirror() == puller.at_mailchimp()
    assert puller.pull(full=True).events == 0  # the pull remains the truth, and has nothing to add


@pytest.mark.parametrize(("setting", "opted_in"), [("unsubscribe", False), ("keep", True)])
def test_j6_what_an_archived_subscriber_is_in_the_shop_is_a_setting(
    puller: Puller, setting: str, opted_in: bool
) -> None:
    puller.configured(on_remote_archive=setting)
    address = subscriber(puller, 1)
    puller.do(people.archive, address, at=soon())
    puller.pull()
    assert shop_says(puller, 1)[0] is opted_in
    assert puller.mirror()[email_hash(address)] == "archived"


def test_j7_a_bounced_address_is_cleaned_not_unsubscribed(puller: Puller) -> None:
    address = subscriber(puller, 1)
    puller.do(people.bounce, address, at=soon())
    puller.pull()
    assert shop_says(puller, 1) == (False, "mailchimp: cleaned")
    assert puller.events(address)[-1] == ("subscribed", "cleaned", "mailchimp", 1)
    puller.pipeline.push()
    assert puller.pipeline.status(address) == "cleaned"


def test_j8_a_full_compare_finds_whatever_was_missed(puller: Puller) -> None:
    addresses = [subscriber(puller, number) for number in (1, 2, 3)]
    puller.unsubscribe(addresses[0], at=soon())
    puller.pipeline.sql("UPDATE mailchimp.pull_bookmark SET reached_at = now() + interval '1 hour'")
    puller.do(people.delete, addresses[1])
    puller.pipeline.sql("DELETE FROM mailchimp.member WHERE member_hash = :hash", hash=email_hash(addresses[2]))
    assert puller.pull().events == 0
    pulled = puller.pull(full=True)
    assert (pulled.vanished, puller.mirror()) == (1, puller.at_mailchimp())
