"""Explanations of people: who is meant, on what ground they are subscribed, and what is hidden of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from include.explain.explanation import Verdict
from include.sandbox import people
from tests.include.explain.asking import ask, told, values
from tests.include.pull.pulling import Puller
from tests.pipeline import Pipeline, email_hash


class TestPeople:
    def test_they_are_found_by_key_id_and_address(self, shop: Pipeline) -> None:
        for name in ("1", email_hash("c1@mail.little.shop"), "c1@mail.little.shop", " C1@Mail.Little.Shop "):
            answer = ask(shop, "customers", name)
            assert (answer.id, answer.verdict) == ("1", Verdict.ACKNOWLEDGED)
        nobody = ask(shop, "customers", "ada@nowhere.shop")
        assert (nobody.verdict, nobody.id) == (Verdict.NOT_IN_SHOP, email_hash("ada@nowhere.shop"))

    def test_the_basis_of_a_subscription_is_told(self, pipeline: Pipeline) -> None:
        pipeline.add_customer(1, opted_in=True)
        pipeline.push()
        for entity in ("members", "customers"):
            answer = ask(pipeline, entity, 1)
            basis = values(answer, "consent")
            assert (basis["opted_in"], basis["source"], basis["accounts"]) == (True, "check-out", 1)
            assert str(basis["opted_in_at"]).startswith(str(datetime.now(UTC).year))
            assert "a stored opt-in: somebody who is new to the audience becomes subscribed" in told(answer, "consent")

    def test_double_opt_in_is_told(self, pipeline: Pipeline) -> None:
        pipeline.configure(opt_in="double")
        pipeline.add_customer(1, opted_in=True)
        assert "becomes pending" in told(ask(pipeline, "members", 1), "consent")

    def test_an_opt_out_is_told(self, pipeline: Pipeline) -> None:
        pipeline.add_customer(1, opted_in=False)
        pipeline.push()
        assert "an opt-out is on record" in told(ask(pipeline, "members", 1), "consent")

    def test_a_no_of_another_account_decides(self, pipeline: Pipeline) -> None:
        ada = pipeline.add_customer(1, opted_in=True)
        pipeline.add_customer(2, ada, opted_in=False)
        basis = ask(pipeline, "members", 1)
        assert values(basis, "consent")["accounts"] == 2
        assert "an opt-out is on record" in told(basis, "consent")

    def test_who_was_never_asked_is_no_member(self, shop: Pipeline) -> None:
        answer = ask(shop, "members", 1)
        assert answer.verdict is Verdict.LEFT_OUT
        assert "neither an opt-in nor an opt-out" in answer.sentence
        assert "never asked" in told(answer, "consent")
        shop.configure(always_opt_in=True)
        assert "always_opt_in is on" in told(ask(shop, "members", 1), "consent")

    def test_what_a_contact_told_mailchimp_and_what_became_of_it_is_told(self, pipeline: Pipeline) -> None:
        puller = Puller(pipeline)
        address = pipeline.add_customer(1, opted_in=True)
        pipeline.push()
        assert told(ask(pipeline, "members", 1), "contact") == "no pull has met this contact at Mailchimp"
        puller.pull()
        puller.unsubscribe(address, at=datetime.now(UTC) + timedelta(seconds=2))
        puller.pull()
        pipeline.configure(two_way_sync=True)
        puller.answer(1, True, datetime.now(UTC) + timedelta(seconds=4))
        pipeline.push()
        answer = ask(pipeline, "members", 1)
        assert told(answer, "contact").startswith("unsubscribed at Mailchimp when it was pulled last (20")
        known = values(answer, "contact")
        assert "subscribed → unsubscribed (mailchimp; 1 customers opted out or in by it)" in known["events"][0]
        assert "Mailchimp asks the contact to confirm" in known["conflicts"][0]
        assert known["asked again"][0].endswith(": asked")
        assert address not in str(known)

    def test_an_archived_contact_is_not_subscribed_and_that_is_told(self, pipeline: Pipeline) -> None:
        pipeline.configure(on_remote_archive="keep")
        puller = Puller(pipeline)
        address = pipeline.add_customer(1, opted_in=True)
        puller.import_contacts(address)
        puller.do(people.archive, address)
        puller.pull()
        pipeline.push()
        answer = ask(pipeline, "members", 1)
        assert (answer.verdict, pipeline.status(address)) == (Verdict.LEFT_OUT, "archived")
        assert "archived at Mailchimp" in answer.sentence

    def test_a_contact_who_left_the_shop_stays(self, pipeline: Pipeline) -> None:
        pipeline.add_customer(1, opted_in=True)
        pipeline.push()
        pipeline.sql("DELETE FROM newsletter_consents; DELETE FROM customers")
        answer = ask(pipeline, "members", 1)
        assert "contacts are never deleted" in answer.sentence
        assert answer.at_mailchimp


class TestPrivacy:
    CANARIES = ("canary", "0171", "Musterweg")

    @pytest.fixture
    def canary(self, pipeline: Pipeline) -> Pipeline:
        pipeline.configure(merge_fields={"FNAME": "first_name", "PHONE": "phone"}, guests="full")
        pipeline.add_product(1)
        pipeline.add_customer(
            1, "canary@mail.little.shop", opted_in=True, first_name="Canary", last_name="Canary", phone="0171 555"
        )
        pipeline.sql(
            "INSERT INTO addresses (address_id, customer_id, name, address1, city, country_code) "
            "VALUES (1, 1, 'Canary', 'Musterweg 1', 'Canaryville', 'DE')"
        )
        pipeline.sql("UPDATE customers SET default_address_id = 1")
        pipeline.add_order(1001, 1, 1, shipping_address_id=1, billing_address_id=1)
        pipeline.add_cart(5, 1, 1)
        return pipeline

    @pytest.mark.parametrize("sent", [False, True])
    def test_nothing_personal_is_shown_unless_it_is_asked_for(self, canary: Pipeline, sent: bool) -> None:
        if sent:
            canary.push()
        shown_to_owner = ""
        for entity, record in (("customers", "1"), ("members", "1"), ("orders", "1001"), ("carts", "5")):
            for name in (record, "canary@mail.little.shop") if entity in {"customers", "members"} else (record,):
                answer = ask(canary, entity, name)
                text = answer.to_text().lower() + json.dumps(answer.to_json(private=False)).lower()
                assert not [one for one in self.CANARIES if one.lower() in text], text
                shown_to_owner += answer.to_text(private=True)
        assert all(one in shown_to_owner for one in self.CANARIES)

    def test_what_is_hidden_is_named(self, canary: Pipeline) -> None:
        assert "first_name: (not shown)" in ask(canary, "customers", 1).to_text()


class TestErasure:
    def test_an_erased_person_is_explained_as_one(self, shop: Pipeline) -> None:
        shop.add_cart(5, 1, 1)
        shop.sql("INSERT INTO erasure_requests (customer_id) VALUES (1)")
        for entity, record in (("customers", 1), ("members", 1), ("carts", 5)):
            answer = ask(shop, entity, record)
            assert "asked to be erased" in answer.sentence
            assert answer.verdict in {Verdict.LEFT_OUT, Verdict.TO_BE_DELETED}
        assert "asked to be erased" in told(ask(shop, "customers", 1), "consent")
