"""Who has opted out stays opted out, wherever the address moves to and whoever else uses it."""

from __future__ import annotations

from include.sandbox.audiences import set_status
from tests.pipeline import Pipeline

ANN, BOB, NEW = (f"{name}@mail.little.shop" for name in ("ann", "bob", "new"))


def unsubscribe(pipeline: Pipeline, email: str) -> None:
    """The contact does it itself, at Mailchimp; the shop's stored opt-in stays."""
    set_status(pipeline.sandbox.state.account, pipeline.settings.list_id, email, "unsubscribed", by_contact=True)


def move(pipeline: Pipeline, customer_id: int, email: str) -> None:
    pipeline.sql("UPDATE customers SET email = :email WHERE customer_id = :id", email=email, id=customer_id)


def test_a_new_address_whose_former_one_a_guest_row_has_too_is_not_subscribed(pipeline: Pipeline) -> None:
    pipeline.add_customer(1, ANN, opted_in=True)
    pipeline.add_customer(2, ANN, is_guest=True)
    pipeline.push()
    unsubscribe(pipeline, ANN)
    move(pipeline, 1, NEW)
    pipeline.push()
    assert (pipeline.status(ANN), pipeline.status(NEW)) == ("unsubscribed", None)
    assert set(pipeline.rejected().values()) == {"Contact can't follow its new address"}


def test_a_new_address_whose_former_one_somebody_else_takes_over_is_not_subscribed(pipeline: Pipeline) -> None:
    pipeline.add_customer(1, ANN, opted_in=True)
    pipeline.add_customer(2, BOB, opted_in=True)
    pipeline.push()
    unsubscribe(pipeline, ANN)
    move(pipeline, 1, NEW)
    move(pipeline, 2, ANN)
    pipeline.push()
    assert pipeline.status(ANN) == "unsubscribed"
    assert pipeline.status(NEW) is None


def test_an_address_that_is_transactional_already_is_not_lifted(pipeline: Pipeline) -> None:
    pipeline.add_customer(1, ANN, opted_in=True)
    pipeline.add_customer(2, BOB, is_guest=True)
    pipeline.push()
    unsubscribe(pipeline, ANN)
    move(pipeline, 1, BOB)
    pipeline.push()
    assert (pipeline.status(ANN), pipeline.status(BOB)) == ("unsubscribed", "transactional")


def test_guests_who_are_left_out_and_were_never_asked_are_no_contacts(pipeline: Pipeline) -> None:
    pipeline.configure(guests="skip", always_opt_in=True)
    pipeline.add_customer(1, ANN, is_guest=True)
    pipeline.push()
    assert pipeline.member(ANN) is None


def test_an_opt_out_is_told_of_addresses_that_are_left_out_otherwise(pipeline: Pipeline) -> None:
    pipeline.configure(exclude_emails=["*@mail.little.shop"])
    set_status(pipeline.sandbox.state.account, pipeline.settings.list_id, ANN, "subscribed")
    pipeline.add_customer(1, ANN, opted_in=False)
    pipeline.push()
    assert pipeline.status(ANN) == "unsubscribed"
    assert pipeline.held("customers") == {}
