"""The demo's second act: what happens in the shop and at Mailchimp, and what has to become of it.

Each step is told with what was sent for it and why; what must hold afterwards is looked up at the sandbox, not in the
pipeline's own tables.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Engine, text

from include.demo import story
from include.demo.changes import Change, apply_changes
from include.demo.story import Step
from include.sandbox.carts import REMINDER
from include.transform.products import PLACEHOLDER_ID
from local.environment import LocalSetupError
from local.sandbox_view import SandboxView
from local.sent import Sent

_WIDTH = 110  # of the lines that are printed


class DemoFailed(LocalSetupError):
    """What the demo saw isn't what it promises."""


def expect(holds: bool, promise: str) -> None:
    """Check a promise.

    Raises:
        DemoFailed: it doesn't hold.
    """
    if not holds:
        raise DemoFailed(f"The demo failed: {promise}.")


@dataclass(frozen=True)
class Scene:
    """A step with its title, and why what is sent for it is sent."""

    title: str
    step: Step
    why: str

    @property
    def records(self) -> list[tuple[str, str]]:
        """All records that have to be sent, the step's own first."""
        return [(self.step.entity, self.step.record_id), *self.step.besides]


@dataclass
class SecondAct:
    """The story, in two parts with a run of the DAG after each.

    Args:
        shop: the sample shop.
        sandbox: the Mailchimp it is sent to.
        idle_minutes: the store's `cart_idle_minutes`; the cart was left longer ago, so that nobody has to wait for it.
    """

    shop: Engine
    sandbox: SandboxView
    idle_minutes: int
    scenes: list[Scene] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    _mails_before: int = 0

    def __post_init__(self) -> None:
        self._subscriber = story.find_subscriber(self.shop)

    def play_first_part(self) -> None:
        """A cart is left, a coupon changes, a product goes, a contact opts out and orders, a guest orders."""
        self._mails_before = len(self.sandbox.mails())
        self._cart = story.abandon_cart(self.shop, self.idle_minutes + 5)
        self._gone = story.delete_product(self.shop)
        self.sandbox.opt_out(self._subscriber.email)
        customer_id = self._subscriber.customer_id
        self._guest = story.guest_order(self.shop)
        self.scenes = [
            Scene(
                "A cart is abandoned",
                self._cart,
                f"Nobody has touched it for {self.idle_minutes} minutes (cart_idle_minutes), so Mailchimp may remind "
                "its owner.",
            ),
            Scene(
                "A coupon is changed",
                story.change_coupon(self.shop),
                "Only the rule differs. Its code was compared too, is the same, and costs nothing.",
            ),
            Scene(
                "A product is deleted that old orders refer to",
                self._gone,
                "Mailchimp refuses lines of products that it doesn't have, so the order's line now points to the "
                f"product '{PLACEHOLDER_ID}', and the order stays revenue. The product itself goes last of all.",
            ),
            Scene(
                "A customer who opted out at Mailchimp orders again",
                story.order_of_opted_out(self.shop, customer_id),
                "The order counts. Right before people were pushed, the task pull_consent read the opt-out and wrote "
                "it into the shop, where an opt-in stood. By that the customer changed during the run, and follows "
                "with the next one.",
            ),
            Scene(
                "A guest orders",
                self._guest,
                "A guest is sent with e-mail and first name (guests: first_name_only), and becomes a contact who gets "
                "no newsletter: never asked is not a yes.",
            ),
        ]
        self.changes = apply_changes(self.shop)

    def check_first_part(self) -> list[str]:
        """Return what holds after the run.

        Raises:
            DemoFailed: something doesn't.
        """
        holds = [self._still_opted_out(), self._opted_out_in_the_shop()]
        holds += [self._product_gone(), self._guest_is_no_subscriber()]
        cart = self.sandbox.record("carts", self._cart.record_id)
        expect(cart is not None and bool(cart["checkout_url"]), "the cart must be at Mailchimp with its address")
        holds.append(f"cart {self._cart.record_id} is at Mailchimp, with the address that restores it")
        return [*holds, self._only_news_was_mailed()]

    def play_second_part(self) -> None:
        """The one who left the cart comes back and orders."""
        self._mails_before = len(self.sandbox.mails())
        self._ordered = story.order_cart(self.shop, self._cart.record_id)
        self.changes = []
        self.scenes = [
            Scene(
                "The cart is ordered",
                self._ordered,
                "The cart is deleted before its order is written: no reminder can go out for something bought.",
            ),
            Scene(
                "The customer who opted out follows",
                Step("customers", self._subscriber.customer_id, "opted out by pull_consent"),
                "The e-commerce customer says no by now. Nothing is sent about the contact: Mailchimp knows what it "
                "has told itself.",
            ),
        ]

    def check_second_part(self, sent: Sequence[Sent]) -> list[str]:
        """Return what holds after the run.

        Args:
            sent: the run's operations, in their order.

        Raises:
            DemoFailed: something doesn't.
        """
        cart_id, order_id = self._cart.record_id, self._ordered.record_id
        moves = [one.method for one in sent if one.entity in {"carts", "orders"}]
        expect(moves == ["DELETE", "PUT"], "the cart's deletion must precede the order")
        expect(self.sandbox.record("carts", cart_id) is None, "the ordered cart must be gone")
        order = self.sandbox.record("orders", order_id)
        expect(order is not None and order.get("cart_id") == cart_id, "the order must name the cart it was")
        holds = [f"cart {cart_id} is gone, order {order_id} is there and names it", self._still_opted_out()]
        mailed = self._only_news_was_mailed()
        self.sandbox.remind()
        reminded = [record for kind, record in self.sandbox.mails()[self._mails_before :] if kind == REMINDER]
        expect(cart_id not in reminded, "nobody may be reminded of a cart that was ordered")
        others = f", unlike {len(reminded)} others" if reminded else ""
        return [*holds, mailed, f"hours later nobody is reminded of cart {cart_id}{others}"]

    def tell(self, sent: Sequence[Sent]) -> None:
        """Print each step with the operations that carried it and the reason; make sure that there is no other one.

        Args:
            sent: the run's operations.

        Raises:
            DemoFailed: a record was not sent, or one that nobody changed was.
        """
        for scene in self.scenes:
            _print_scene(scene, [one for one in sent if one.record in scene.records])
        done = {one.record for one in sent}
        wanted = {record for scene in self.scenes for record in scene.records}
        wanted |= {(change.entity, change.record_id) for change in self.changes}
        # A changed customer who has decided about the newsletter is sent as a contact of the audience too.
        possible = wanted | {("members", key) for entity, key in wanted if entity == "customers"}
        expect(wanted <= done, "whatever changed must be sent")
        expect(done <= possible, "exactly the changed records must be sent")

    def told_changes(self, sent: Sequence[Sent]) -> list[list[str]]:
        """Return the other changed records with their operations, as rows of a table."""
        return [
            [
                change.entity,
                change.record_id,
                change.what,
                ", ".join(one.answer for one in sent if one.record == (change.entity, change.record_id)),
            ]
            for change in self.changes
        ]

    def _still_opted_out(self) -> str:
        status = self.sandbox.status(self._subscriber.email)
        expect(status == "unsubscribed", "whoever opted out at Mailchimp must stay opted out")
        return f"customer {self._subscriber.customer_id}, who opted out at Mailchimp, is still unsubscribed"

    def _opted_out_in_the_shop(self) -> str:
        with self.shop.connect() as connection:
            newest = connection.execute(
                text("""
                    SELECT opted_in, source FROM newsletter_consents WHERE customer_id = :id
                    ORDER BY recorded_at DESC, consent_id DESC LIMIT 1
                """),
                {"id": self._subscriber.customer_id},
            ).one()
        expect(tuple(newest) == (False, "mailchimp: unsubscribed"), "the shop must know of the opt-out")
        return f"the shop has customer {self._subscriber.customer_id} as opted out (mailchimp: unsubscribed)"

    def _product_gone(self) -> str:
        product_id, [(_, order_id)] = self._gone.record_id, self._gone.besides
        expect(self.sandbox.record("products", product_id) is None, "the deleted product must be gone")
        order = self.sandbox.record("orders", order_id)
        products = {line["product_id"] for line in order["lines"]} if order else set()
        expect(product_id not in products and PLACEHOLDER_ID in products, "the old order must use the placeholder")
        return f"product {product_id} is gone; order {order_id} is there, and its line points to '{PLACEHOLDER_ID}'"

    def _guest_is_no_subscriber(self) -> str:
        order = self.sandbox.record("orders", self._guest.record_id)
        expect(order is not None, "the guest's order must be there")
        email = order["customer"]["email_address"] if order else ""
        expect(self.sandbox.status(email) == "transactional", "a guest must not become a subscriber")
        return f"the guest of order {self._guest.record_id} is a transactional contact, not a subscriber"

    def _only_news_was_mailed(self) -> str:
        """Check that automations wrote about the orders that were just placed or changed, and about nothing else."""
        mails = self.sandbox.mails()[self._mails_before :]
        orders = {key for scene in self.scenes for entity, key in scene.records if entity == "orders"}
        orders |= {change.record_id for change in self.changes if change.entity == "orders"}
        expect({record for _, record in mails} <= orders, "no mail may be sent about old orders")
        return f"{len(mails)} order notifications went out, all for orders placed or changed just now"


def _print_scene(scene: Scene, sent: Sequence[Sent]) -> None:
    step = scene.step
    widest = max((len(one.name) for one in sent), default=0)
    told = [f"{one.name:<{widest}}   {one.answer}" for one in sent]
    rows = [("shop", f"{step.entity} {step.record_id}: {step.what}")]
    rows += [("sent" if number == 0 else "", line) for number, line in enumerate(told)]
    rows += [("why" if number == 0 else "", line) for number, line in enumerate(textwrap.wrap(scene.why, _WIDTH - 11))]
    sys.stdout.write(f"  {scene.title}\n" + "".join(f"    {head:<4}   {line}\n" for head, line in rows) + "\n")
    sys.stdout.flush()
