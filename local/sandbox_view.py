"""What the sandbox Mailchimp of a state folder holds, and what people do there: the other end of a run."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import requests

from include.config.stores import StoreSettings
from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import NotFound
from include.sandbox.audiences import subscriber_hash
from local.environment import LocalEnvironment


class SandboxView:
    """One store and its audience, seen through the sandbox's API and its own pages.

    Args:
        environment: whose sandbox; it has to run.
        store: the store.
    """

    def __init__(self, environment: LocalEnvironment, store: StoreSettings) -> None:
        self._page = environment.sandbox_page
        self._store = store
        connection = environment.connections["mailchimp"]
        session = requests.Session()
        session.auth = ("anybody", connection["password"])
        self._client = MailchimpClient(session, connection["host"])

    def counts(self) -> dict[str, int]:
        """Return how many records of each entity the store holds; of members, all contacts of its audience."""
        overview = self._own_page("state")
        counts: dict[str, int] = overview["stores"].get(self._store.store_id, {}).get("counts", {})
        contacts = overview["lists"][self._store.list_id]["members"]
        return {**counts, "members": sum(contacts.values())} if counts else {}

    def record(self, collection: str, record_id: str) -> dict[str, Any] | None:
        """Return a record of the store, None when it isn't there.

        Args:
            collection: as the API calls it, such as `orders`.
            record_id: its id.
        """
        return self._find(f"/ecommerce/stores/{self._store.store_id}/{collection}/{record_id}")

    def status(self, email: str) -> str | None:
        """Return the status of a contact, None when the audience doesn't have it."""
        member = self._find(self._member(email))
        return None if member is None else str(member["status"])

    def opt_out(self, email: str) -> None:
        """Unsubscribe a contact, as somebody does in Mailchimp's own pages."""
        self._client.patch(self._member(email), json={"status": "unsubscribed"})

    def mails(self) -> list[tuple[str, str]]:
        """Return the mails that automations would have sent since the sandbox was started: kind and record."""
        return [(mail["kind"], mail["record_id"]) for mail in self._own_page("mails")["mails"]]

    def remind(self) -> None:
        """Let the time pass after which the automation for abandoned carts writes."""
        self._own_page("remind", "POST")

    def _member(self, email: str) -> str:
        return f"/lists/{self._store.list_id}/members/{subscriber_hash(email)}"

    def _find(self, path: str) -> dict[str, Any] | None:
        try:
            return self._client.get(path)
        except NotFound:
            return None

    def _own_page(self, name: str, method: str = "GET") -> Any:
        request = urllib.request.Request(f"{self._page}/sandbox/{name}", method=method)  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
            return json.load(reply)
