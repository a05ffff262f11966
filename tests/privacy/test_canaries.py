"""Canaries in every column of the shop, everything at DEBUG: whatever happens, none is heard of."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import text

from include.extract.frames import ExtractFailed
from include.load.errors import RunStopped
from include.load.preflight import check_account
from include.load.runs import summary_table
from include.load.segments import push_segments
from include.load.teardown import inventory, inventory_table
from include.mailchimp.errors import MailchimpError
from include.sandbox.api import Reply
from include.sandbox.audiences import set_status
from include.sandbox.faults import CALL_FAULTS, Fault, heal, inject
from include.sandbox.people import unsubscribe
from include.sandbox.records import pack
from include.shops.profile import ProfileError
from tests.include.load.shop import die_at
from tests.include.pull.pulling import Puller
from tests.pipeline import AUDIENCE, Died, Pipeline, email_hash
from tests.privacy.canaries import CANARY, PHONE, Recorder, add_person, add_purchases, address, leaks, state_rows

MERGE_FIELDS = {"FNAME": "first_name", "LNAME": "last_name", "PHONE": "phone", "ADDRESS": "address"}


@pytest.fixture
def people(pipeline: Pipeline) -> Pipeline:
    """Ten people with purchases, in an audience that takes their names."""
    pipeline.configure(
        merge_fields=MERGE_FIELDS,
        guests="full",
        tags={"all": "SELECT customer_id FROM customers"},
        max_rejected_percent=100,
    )
    pipeline.add_product(1)
    for number in range(1, 11):
        add_person(pipeline, number, opted_in=(True, None, False)[number % 3], is_guest=number == 10)
        add_purchases(pipeline, number)
    return pipeline


def run(pipeline: Pipeline, recorder: Recorder, **options: object) -> None:
    """A run, and what its tasks would tell."""
    ran = pipeline.push(**options)  # type: ignore[arg-type]
    recorder.say(summary_table(ran.conclusion.summaries))
    recorder.say(ran.failure)


def assert_silence(pipeline: Pipeline, recorder: Recorder) -> None:
    assert leaks(recorder.lines()) == []
    assert leaks(recorder.urls) == []
    assert leaks([f"{table}: {row}" for table, row in state_rows(pipeline.engine)]) == []
    said = recorder.stream.getvalue()
    assert pipeline.sandbox.api_key not in said


def test_the_recorder_hears_what_is_said(people: Pipeline, recorder: Recorder) -> None:
    """Whoever logs a person is found out, in whatever form, and so are addresses that are asked for."""
    run(people, recorder)
    said = recorder.stream.getvalue()
    for name in ("urllib3.connectionpool", "sqlalchemy.engine", "include.load"):
        assert f" {name}" in said
    assert len(people.held("customers")) == 10
    assert CANARY in str(people.held("customers")).lower()
    assert leaks(recorder.lines()) == []
    logging.getLogger("include.any").debug("%s", {"phone": PHONE})
    logging.getLogger("include.any").warning("to %s", address(1).replace("@", "%40"))
    assert len(leaks(recorder.lines())) == 2


def test_a_shops_life(people: Pipeline, recorder: Recorder) -> None:
    run(people, recorder)
    people.sql("UPDATE customers SET first_name = 'Neu-Kanarienvogel', phone = phone || '1' WHERE customer_id < 5")
    people.sql("UPDATE orders SET status = 'shipped', tracking_number = 'Kanarienvogel-7'")
    people.sql("UPDATE customers SET email = 'neu-' || email WHERE customer_id IN (1, 2)")  # a new address
    people.consent(3, False)
    run(people, recorder)
    set_status(people.sandbox.state.account, "a1b2c3d4e5", address(4), "unsubscribed", by_contact=True)
    people.sql("DELETE FROM cart_lines; DELETE FROM carts WHERE customer_id = 5")
    people.sql("UPDATE orders SET deleted_at = now() WHERE customer_id = 5")
    people.sql("UPDATE customers SET deleted_at = now(), email = 'gone-' || email WHERE customer_id IN (5, 6)")
    run(people, recorder)
    people.configure(merge_fields=MERGE_FIELDS, guests="full", tags={}, segments={"few": "SELECT 7 AS customer_id"})
    run(people, recorder, mode="full")
    people.sql("INSERT INTO erasure_requests (customer_id) VALUES (7)")
    people.sql("INSERT INTO erasure_requests (email) VALUES (:email)", email=address(8))
    run(people, recorder)
    assert people.erased.erased == 2
    assert_silence(people, recorder)


def test_what_people_write_when_they_leave(people: Pipeline, recorder: Recorder) -> None:
    """In their own words: Mailchimp keeps it, nothing here does."""
    run(people, recorder)
    account, list_id = people.sandbox.state.account, AUDIENCE.removeprefix("/lists/")
    for number in (3, 6):
        reason = f"Kanarienvogel {number}, call {PHONE}"
        unsubscribe(account, list_id, address(number), reason=reason)
    puller = Puller(people)
    recorder.say(puller.pull())
    recorder.say(puller.pull(full=True))
    told = people.sql("SELECT DISTINCT reason FROM mailchimp.consent_event WHERE reason IS NOT NULL")
    assert ("other",) in told
    assert_silence(people, recorder)


def test_records_that_are_rejected(people: Pipeline, recorder: Recorder) -> None:
    """By ourselves, and by Mailchimp, which quotes what it doesn't like."""
    account = people.sandbox.state.account
    account.audience_for("a1b2c3d4e5").forgotten.put(email_hash(address(3)), {"id": email_hash(address(3))})
    set_status(account, "a1b2c3d4e5", address(6), "unsubscribed", by_contact=True)
    add_person(people, 21, f"{CANARY} ohne at")
    add_person(people, 22, f"{CANARY}@example.com")
    add_person(people, 23)
    people.sql("UPDATE customers SET email = '' WHERE customer_id = 23")
    add_person(people, 24, first_name="\x07Kanarienvogel" * 40)
    for number in (21, 22, 23):
        add_purchases(people, number)
    people.sql("UPDATE orders SET order_total = 77 WHERE order_id = 103")
    people.sql("UPDATE orders SET currency_code = 'XXQ' WHERE order_id = 106")
    people.sql("UPDATE orders SET campaign_id = 'abcdef0123' WHERE order_id = 107")

    def refuse(method: str, path: str) -> Reply | None:
        if not path.endswith((email_hash(address(7)), email_hash(address(10)))):
            return None
        detail = f"{address(7)} looks fake or invalid, please enter a real email address."
        errors = [{"field": "email_address", "message": f"'{address(7)}' or <{address(10)}> is already taken"}]
        return Reply(
            400, pack({"title": "Invalid Resource", "status": 400, "detail": detail, "errors": errors}), "fake"
        )

    people.sandbox.state.operation_fault = refuse
    run(people, recorder)
    people.sandbox.state.operation_fault = None
    assert set(people.rejected().values()) >= {
        "E-mail address refused",
        "E-mail address missing",
        "Customer can't be sent",
        "Totals don't add up",
        "Currency unknown",
        "Invalid Resource",
        "Forgotten Email Not Subscribed",
    }
    people.sql("UPDATE customers SET first_name = first_name || '!'")
    run(people, recorder)
    assert_silence(people, recorder)


@pytest.mark.parametrize("fault", [*CALL_FAULTS, Fault.REPLY_LOST, Fault.OPERATIONS_FAIL, Fault.ARCHIVE_TRUNCATED])
def test_faults_on_the_way(people: Pipeline, recorder: Recorder, fault: Fault) -> None:
    sandbox = people.sandbox.state
    inject(sandbox, fault, at=2, times=2)
    try:
        run(people, recorder)
    except MailchimpError as error:
        recorder.say(repr(error))
    heal(sandbox)
    run(people, recorder)
    assert_silence(people, recorder)


def test_replies_that_repeat_what_was_sent(people: Pipeline, recorder: Recorder) -> None:
    """Single calls whose paths, queries or refusals name a person."""
    run(people, recorder)
    people.sandbox.state.fault = lambda method, path: Reply(
        400, pack({"title": f"No {address(1)}", "status": 400, "detail": f"{address(2)}, {address(3)}"}), "fake"
    )
    with recorder.catching(MailchimpError):
        people.client.get(f"{AUDIENCE}/members/{address(1)}")
    with recorder.catching(MailchimpError):
        people.client.get("/search-members", params={"query": address(1)})
    people.sandbox.state.fault = None
    people.sandbox.stop()
    with recorder.catching(MailchimpError):
        people.client.get(f"{AUDIENCE}/members/{address(1)}", params={"email": address(1)})
    recorder.urls.clear()  # these calls are the test's own
    assert leaks(recorder.lines()) == []


def test_a_worker_that_dies(people: Pipeline, recorder: Recorder) -> None:
    for nth in (3, 2, 1):
        with recorder.catching(Died):
            people.push(dies=die_at(nth))
    run(people, recorder)
    assert_silence(people, recorder)


#: A column of every customer's that can't be read: PostgreSQL quotes the value.
UNREADABLE = {
    "a name": "first_name::integer::text",
    "an address": "email::integer::text",
    "a phone number": "phone::date::text",
}


@pytest.mark.parametrize("expression", UNREADABLE.values(), ids=UNREADABLE)
def test_broken_sql_of_the_profile(people: Pipeline, recorder: Recorder, expression: str) -> None:
    run(people, recorder)
    columns = [
        name
        for (name,) in people.sql(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'customers'::regclass AND attnum > 0"
        )
    ]
    listed = ", ".join(f"{expression} AS language" if name == "language" else name for name in columns)
    people.sql("ALTER TABLE customers RENAME TO people")
    people.sql(f"CREATE VIEW customers AS SELECT {listed} FROM people")
    people.sql("UPDATE people SET updated_at = clock_timestamp()")
    with recorder.catching(ExtractFailed):
        people.push()
    assert_silence(people, recorder)


def test_broken_sql_where_statuses_are_read(people: Pipeline, recorder: Recorder) -> None:
    people.sql("ALTER TABLE orders RENAME TO purchases")
    people.sql(
        "CREATE VIEW orders AS SELECT order_id, number, customer_id, (landing_site::integer)::text AS status, "
        "placed_at, currency_code, order_total, discount_total, tax_total, shipping_total, shipping_address_id, "
        "billing_address_id, cart_id, landing_site, campaign_id, tracking_code, tracking_number, tracking_carrier, "
        "cancelled_at, updated_at, deleted_at FROM purchases"
    )
    with recorder.catching(ProfileError):
        people.check()
    assert leaks(recorder.lines()) == []


@pytest.mark.parametrize("column", ["first_name", "email"])
def test_broken_sql_of_a_segment(people: Pipeline, recorder: Recorder, column: str) -> None:
    people.configure(tags={"all": f"SELECT {column}::integer AS customer_id FROM customers"})
    _, store = people.begin()
    with recorder.catching(RunStopped):
        push_segments(people.state, people.engine, people.profile, people.client, store, people.settings)
    assert_silence(people, recorder)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT cast(:name AS integer)",
        "SELECT nothing FROM nowhere WHERE name = :name",
        "INSERT INTO mailchimp.watermark (store_ref, entity) VALUES (77, :name)",
    ],
)
def test_statements_that_the_database_refuses(people: Pipeline, recorder: Recorder, statement: str) -> None:
    with recorder.catching(), people.engine.begin() as connection:
        connection.execute(text(statement), {"name": address(1) + PHONE + CANARY})
    assert leaks(recorder.lines()) == []


def test_teardown(people: Pipeline, recorder: Recorder) -> None:
    run(people, recorder)
    account_id = check_account(people.client, people.settings)
    recorder.say(inventory_table(inventory(people.state, people.client, people.settings, account_id)))
    assert_silence(people, recorder)
