"""Webhooks of an audience: /lists/{id}/webhooks[/{id}], and which changes of contacts are told to whom.

The URL is asked with a GET when a webhook is made or its URL changed; the answer must be 200. Payloads follow the
examples that consumers recorded; official documentation spells out the first two types only.
"""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode, urlsplit

from include.mailchimp.contract.body import RequestBody
from include.mailchimp.fields import Boolean, Title
from include.sandbox.account import Account, Audience, MemberEvent, Origin
from include.sandbox.audiences import subscriber_hash
from include.sandbox.deliveries import Deliveries, Delivery, Letter, status_of
from include.sandbox.exchange import Call, Routes, existing, page, self_locking
from include.sandbox.merge_fields import definitions
from include.sandbox.problems import FieldError, bad_request, invalid_fields
from include.sandbox.records import Document

EVENTS: Final = ("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign")
SOURCES: Final = ("user", "admin", "api")
_DEFAULT_SOURCES: Final = {"user": True, "admin": True, "api": False}

# Which of the sources somebody is; a bounce is told to whoever listens to contacts or marketers (inferred).
_SOURCES_OF: Final[dict[Origin, tuple[str, ...]]] = {
    "contact": ("user",),
    "marketer": ("admin",),
    "mailchimp": ("user", "admin"),
    "api": ("api",),
    "ecommerce": ("api",),
}
_PROFILE: Final = ("merge_fields", "interests", "email_type", "language")

Pairs = list[tuple[str, str]]


class WebhookEvents(RequestBody):
    """Which events a webhook is told."""

    subscribe: Boolean = False
    unsubscribe: Boolean = False
    profile: Boolean = False
    cleaned: Boolean = False
    upemail: Boolean = False
    campaign: Boolean = False


class WebhookSources(RequestBody):
    """By whose changes."""

    user: Boolean = False
    admin: Boolean = False
    api: Boolean = False


class WebhookPatch(RequestBody):
    """PATCH …/webhooks/{id}."""

    url: Title = ""
    events: WebhookEvents = WebhookEvents()
    sources: WebhookSources = WebhookSources()


class WebhookBody(WebhookPatch):
    """POST …/webhooks."""

    url: Title


def attach(account: Account, deliveries: Deliveries) -> None:
    """Have all changes of contacts told to the webhooks of their audience from now on."""

    def listen(event: MemberEvent) -> None:
        audience = account.audience_for(event.list_id)
        if len(audience.records["webhooks"]):
            for kind, pairs in _told(audience, event):
                _post(audience, deliveries, kind, pairs, _SOURCES_OF[event.by], event.member_id, event.at)

    account.listeners.append(listen)


def tell_campaign(account: Account, deliveries: Deliveries, list_id: str, campaign_id: str, subject: str) -> None:
    """Tell the webhooks of an audience that a campaign was sent; the account's lock is taken."""
    with account.lock:
        audience = account.audience_for(list_id)
        named = {"id": campaign_id, "subject": subject, "status": "sent", "reason": "", "list_id": list_id}
        pairs = [(f"data[{name}]", value) for name, value in named.items()]
        _post(audience, deliveries, "campaign", pairs, SOURCES, "", datetime.now(UTC).isoformat())


def _post(
    audience: Audience, deliveries: Deliveries, kind: str, pairs: Pairs, sources: tuple[str, ...], member: str, at: str
) -> None:
    webhooks = audience.records["webhooks"]
    fired_at = datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    for webhook_id in webhooks:
        webhook = existing(webhooks, webhook_id)
        if not webhook["events"].get(kind) or not any(webhook["sources"].get(one) for one in sources):
            continue
        delivery = Delivery(webhook_id, audience.id, kind, member, fired_at)
        if deliveries.is_full:
            deliveries.drop(delivery)
            continue
        body = urlencode([("type", kind), ("fired_at", fired_at), *pairs]).encode()
        wanted = webhook_id  # of this turn of the loop
        is_wanted = lambda wanted=wanted: wanted in webhooks  # noqa: E731 - one line says it
        deliveries.post(Letter(delivery, webhook["url"], webhook["signing_secret"], body, is_wanted))


def _told(audience: Audience, event: MemberEvent) -> Iterator[tuple[str, Pairs]]:
    """Yield the type and the data of what a change is called: usually one, sometimes none."""
    before, after = event.before, event.after
    if after is None or (after["status"] == "archived" and before is not None and before["status"] != "archived"):
        yield "unsubscribe", _left(audience, event, after or before or {}, "delete")
        return
    if before is not None and subscriber_hash(before["email_address"]) != event.member_id:
        named = {
            "list_id": audience.id,
            "new_id": event.member_id[:10],
            "new_email": after["email_address"],
            "old_email": before["email_address"],
        }
        yield "upemail", [(f"data[{name}]", value) for name, value in named.items()]
        return
    if before is not None and before["status"] == after["status"]:
        if any(before.get(name) != after.get(name) for name in _PROFILE):
            yield "profile", _described(audience, event.member_id, after)
    elif after["status"] == "subscribed":
        yield "subscribe", _described(audience, event.member_id, after)
    elif after["status"] == "unsubscribed" and before is not None:
        yield "unsubscribe", _left(audience, event, after, "unsub")
    elif after["status"] == "cleaned":
        named = {"list_id": audience.id, "campaign_id": "", "reason": "hard", "email": after["email_address"]}
        yield "cleaned", [(f"data[{name}]", value) for name, value in named.items()]


def _left(audience: Audience, event: MemberEvent, member: Document, action: str) -> Pairs:
    reason = "abuse" if member.get("complained") else "manual"
    first = [("data[action]", action), ("data[reason]", reason)]
    return [*first, *_described(audience, event.member_id, member), ("data[campaign_id]", "")]


def _described(audience: Audience, member_id: str, member: Document) -> Pairs:
    """Return the data of a contact."""
    email = member["email_address"]
    pairs = [
        ("data[id]", member_id[:10]),
        ("data[list_id]", audience.id),
        ("data[email]", email),
        ("data[email_type]", member.get("email_type", "html")),
        ("data[ip_opt]", member.get("ip_opt", "")),
        ("data[ip_signup]", member.get("ip_signup", "")),
        ("data[merges][EMAIL]", email),
    ]
    for tag in definitions(audience):
        value = member["merge_fields"].get(tag, "")
        parts = value.items() if isinstance(value, dict) else [("", value)]
        pairs += [(f"data[merges][{tag}]" + (f"[{part}]" if part else ""), str(one)) for part, one in parts]
    return [*pairs, *_groupings(audience, member)]


def _groupings(audience: Audience, member: Document) -> Pairs:
    interests, categories = audience.records["interests"], audience.records["categories"]
    chosen: dict[str, list[str]] = {category_id: [] for category_id in categories}
    for interest_id, is_chosen in member.get("interests", {}).items():
        interest = interests.get(interest_id)
        if is_chosen and interest is not None:
            chosen[interest["category_id"]].append(interest["name"])
    pairs = [("data[merges][INTERESTS]", ", ".join(name for names in chosen.values() for name in names))]
    for number, (category_id, names) in enumerate(chosen.items()):
        grouping = {
            "id": str(number + 1),
            "unique_id": category_id,
            "name": existing(categories, category_id)["title"],
            "groups": ", ".join(names),
        }
        pairs += [(f"data[merges][GROUPINGS][{number}][{name}]", value) for name, value in grouping.items()]
    return pairs


def _render(audience: Audience, webhook_id: str) -> Document:
    stored = existing(audience.records["webhooks"], webhook_id)
    return {
        "id": webhook_id,
        "url": stored["url"],
        "events": {name: stored["events"].get(name, False) for name in EVENTS},
        "sources": {name: stored["sources"].get(name, False) for name in SOURCES},
        "list_id": audience.id,
    }


def _check_free(audience: Audience, url: str, but: str = "") -> None:
    """Refuse a URL that another webhook has; another query string doesn't make it another URL (text inferred)."""
    webhooks = audience.records["webhooks"]
    others = (existing(webhooks, one)["url"] for one in webhooks if one != but)
    if any(urlsplit(one)[:3] == urlsplit(url)[:3] for one in others):
        raise bad_request("Sorry, you can't set up multiple WebHooks for one URL.")


def _verify(url: str) -> None:
    """Refuse a URL that doesn't answer the validator with 200 (recorded text)."""
    status = status_of(url)
    if status != 200:
        text = f"We couldn't verify the URL is working. Please double check and try again. HTTP Code: {status}"
        raise invalid_fields(FieldError("url", text))


def list_webhooks(call: Call) -> Document:
    """GET /lists/{id}/webhooks."""
    audience = call.audience
    ids = list(audience.records["webhooks"])
    return page(call, "webhooks", ids, lambda one: _render(audience, one), {"list_id": audience.id})


@self_locking
def create_webhook(call: Call) -> Document:
    """POST /lists/{id}/webhooks; which events and sources are meant when none are sent is inferred."""
    document = call.sent(WebhookBody)
    with call.account.lock:
        _check_free(call.audience, document["url"])
    _verify(document["url"])  # without the lock: the receiver may be calling us meanwhile
    with call.account.lock:
        audience = call.audience
        _check_free(audience, document["url"])
        webhook_id, secret = secrets.token_hex(5), secrets.token_hex(16)
        defaults = {"events": dict.fromkeys(EVENTS, True), "sources": _DEFAULT_SOURCES}
        audience.records["webhooks"].put(webhook_id, {**defaults, **document, "signing_secret": secret})
        return {**_render(audience, webhook_id), "signing_secret": secret}


def get_webhook(call: Call) -> Document:
    """GET /lists/{id}/webhooks/{webhook_id}; the secret is shown at the creation only."""
    return _render(call.audience, call.ids["webhook_id"])


@self_locking
def update_webhook(call: Call) -> Document:
    """PATCH /lists/{id}/webhooks/{webhook_id}: events and sources one by one; another URL is verified (inferred)."""
    document, webhook_id = call.sent(WebhookPatch), call.ids["webhook_id"]
    with call.account.lock:
        stored = existing(call.audience.records["webhooks"], webhook_id)
        if "url" in document:
            _check_free(call.audience, document["url"], but=webhook_id)
    if document.get("url", stored["url"]) != stored["url"]:
        _verify(document["url"])
    with call.account.lock:
        audience = call.audience
        webhooks = audience.records["webhooks"]
        stored = existing(webhooks, webhook_id)
        parts = {name: stored[name] | document.get(name, {}) for name in ("events", "sources")}
        webhooks.put(webhook_id, {**stored, **document, **parts})
        return _render(audience, webhook_id)


def delete_webhook(call: Call) -> None:
    """DELETE /lists/{id}/webhooks/{webhook_id}; what is still waiting is not delivered."""
    webhooks = call.audience.records["webhooks"]
    existing(webhooks, call.ids["webhook_id"])
    webhooks.remove(call.ids["webhook_id"])


_WEBHOOKS = "/lists/{list_id}/webhooks"
ROUTES: Routes = {
    _WEBHOOKS: {"GET": list_webhooks, "POST": create_webhook},
    _WEBHOOKS + "/{webhook_id}": {"GET": get_webhook, "PATCH": update_webhook, "DELETE": delete_webhook},
}
