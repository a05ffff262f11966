"""What Airflow's API server gets from this project: the address that Mailchimp's webhooks call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin

_Message = MutableMapping[str, Any]


class WebhookApp:
    """The FastAPI app of `mailchimp_airflow.webhooks`, imported by the first call.

    Every component of Airflow loads its plugins; only the API server needs what the app imports.
    """

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Hand a call on to the app."""
        from mailchimp_airflow.webhooks import app

        await app(scope, receive, send)


class MailchimpPlugin(AirflowPlugin):
    """Adds `/mailchimp/webhooks/<key of a store>` to the API server."""

    name = "mailchimp"
    fastapi_apps = [  # noqa: RUF012 - as Airflow declares it
        {"app": WebhookApp(), "url_prefix": "/mailchimp", "name": "Mailchimp webhooks"}
    ]
