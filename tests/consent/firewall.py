"""What a push may do to the status of a contact: the rules written down once more, independently of the pipeline.

* Nobody is raised, in the order unsubscribed, cleaned, archived < transactional < pending < subscribed. The
  exceptions: Mailchimp's own, that a customer with a stored opt-in lifts a transactional contact; and with two-way
  sync, that a contact who opted in at the shop after it unsubscribed is asked, which makes it pending.
* A new contact is transactional, unless an opt-in is stored (or nobody was asked and the store says
  ``always_opt_in``); then it gets the status that the store's rule of opt-in says, and no other.
* Nobody is lowered, but to unsubscribed by a stored opt-out. Nobody is archived or deleted.
* Who has a new address doesn't begin a new life there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from include.config.stores import StoreSettings
from include.sandbox.account import DELETED, StatusChange
from include.sandbox.audiences import subscriber_hash

RANK = {"unsubscribed": 0, "cleaned": 0, "archived": 0, "transactional": 1, "pending": 2, "subscribed": 3}
OURS = ("api", "ecommerce")


@dataclass(frozen=True)
class Account:
    """A row of the shop's customers, with its newest answer (None: never asked)."""

    customer_id: int
    email: str
    is_guest: bool
    is_deleted: bool
    changed_at: datetime
    opted_in: bool | None
    answered_at: datetime | None

    @property
    def member_id(self) -> str:
        return subscriber_hash(self.email)


class Word(Enum):
    """What the accounts of one address say together."""

    YES = auto()
    NO = auto()
    NEVER_ASKED = auto()
    NOBODY = auto()  # no live account


def word(accounts: Sequence[Account]) -> Word:
    """A no in any account is a no, unless the account changed last says a yes that is newer than all that say no."""
    live = [one for one in accounts if not one.is_deleted]
    refusals = [one for one in accounts if one.opted_in is False]
    if refusals:
        newest = max(live, key=lambda one: (one.changed_at, str(one.customer_id)), default=None)
        renewed = (
            newest is not None
            and newest.opted_in is True
            and newest.answered_at is not None
            and newest.answered_at > max(one.changed_at for one in refusals)
        )
        return Word.YES if renewed else Word.NO
    if any(one.opted_in for one in live):
        return Word.YES
    return Word.NEVER_ASKED if live else Word.NOBODY


def opted_out(accounts: Sequence[Account]) -> bool:
    """Whether Mailchimp has to know of a no. A deleted account's no is kept, but not told."""
    return word(accounts) is Word.NO and any(one.opted_in is False for one in accounts if not one.is_deleted)


@dataclass(frozen=True)
class Scene:
    """What was true when a push began.

    Attributes:
        accounts: all of the shop.
        statuses: of the audience's contacts, by id.
        former: where each customer was last sent to: customer → contact.
        ever: whoever had an address since the pipeline knows of it: contact → customers.
        settings: of the store.
        double_optin: of the audience.
        left_at: when contacts unsubscribed, by Mailchimp's clock.
    """

    accounts: Sequence[Account]
    statuses: Mapping[str, str]
    former: Mapping[int, str]
    ever: Mapping[str, Collection[int]]
    settings: StoreSettings
    double_optin: bool
    left_at: Mapping[str, datetime] = field(default_factory=dict)

    def having(self, member_id: str) -> list[Account]:
        return [one for one in self.accounts if one.member_id == member_id]

    @property
    def promised(self) -> str:
        """The status that the store's rule makes of an opt-in."""
        rule = self.settings.opt_in
        asks = self.double_optin if rule == "follow_audience" else rule == "double"
        return "pending" if asks else "subscribed"


def violations(changes: Sequence[StatusChange], scene: Scene) -> Iterator[str]:
    """Say what is wrong with the changes that a push made.

    Args:
        changes: what happened in the audience during the push, the work of others among it.
        scene: what the push found.

    Yields:
        A sentence each.
    """
    for change in changes:
        if change.by not in OURS:
            continue
        accounts = scene.having(change.member_id)
        says = word(accounts)
        judge: Callable[..., str | None] = _of_new if change.old is None else _of_known
        if problem := judge(change, accounts, says, scene):
            yield f"{problem}: {change.old} → {change.new} by {change.by}; the shop says {says.name} ({accounts})"


def _of_new(change: StatusChange, accounts: Sequence[Account], says: Word, scene: Scene) -> str | None:
    if change.new == "transactional":
        return None
    if change.new != scene.promised:
        return f"a new contact isn't {scene.promised}"
    unasked = scene.settings.always_opt_in and says is Word.NEVER_ASKED and change.by == "api"
    if says is not Word.YES and not unasked:
        return "subscribed without an opt-in"
    if len(accounts) == 1 and (before := _before_moving(accounts[0], scene)) and RANK[before] < RANK["transactional"]:
        return f"{before} under the former address, subscribed under the new one"
    return None


def _before_moving(account: Account, scene: Scene) -> str | None:
    """The status of a customer under the address that she was sent with last, whoever else had that address."""
    former = scene.former.get(account.customer_id)
    if former is None or former == account.member_id:
        return None
    return scene.statuses.get(former)


def homeless(after: Collection[str], changes: Sequence[StatusChange], scene: Scene) -> Iterator[str]:
    """Say which contacts were moved away from addresses where somebody had stayed.

    Args:
        after: the contacts after the push.
        changes: what happened in the audience during the push.
        scene: what the push found.

    Yields:
        A sentence each.
    """
    erased = {change.member_id for change in changes if change.new == DELETED}
    for member_id in scene.statuses.keys() - set(after) - erased:
        for one in scene.having(member_id):
            if scene.former.get(one.customer_id) == member_id and not one.is_deleted:
                yield f"the contact of {one} was given another address"


def _of_known(change: StatusChange, accounts: Sequence[Account], says: Word, scene: Scene) -> str | None:
    old, new = RANK[str(change.old)], RANK.get(change.new)
    if new is None or change.new == "archived":
        return "a contact disappears"
    if new > old:
        if _is_asked(change, accounts, says, scene):
            return None
        lifted = change.old == "transactional" and change.by == "ecommerce"
        if not lifted or says is not Word.YES:
            return "raised"
        return None if change.new == scene.promised else f"a lifted contact isn't {scene.promised}"
    if change.new != "unsubscribed" or change.by != "api":
        return "lowered, but not to unsubscribed"
    return None if opted_out(accounts) else "unsubscribed without an opt-out"


def _is_asked(change: StatusChange, accounts: Sequence[Account], says: Word, scene: Scene) -> bool:
    if (change.old, change.new, change.by, says) != ("unsubscribed", "pending", "api", Word.YES):
        return False
    left_at = scene.left_at.get(change.member_id)
    answers = [one.answered_at for one in accounts if one.opted_in and one.answered_at and not one.is_deleted]
    newest = max(answers).replace(microsecond=0) if answers else None
    return scene.settings.two_way_sync and None not in (left_at, newest) and newest > left_at  # type: ignore[operator]
