"""Provider metadata: tells Airflow of the connection type `mailchimp` and draws its form."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Describe this distribution; found by Airflow through the entry point `apache_airflow_provider`.

    Returns:
        The dictionary that Airflow's provider schema asks for. `package-name` must equal the distribution's name.
    """
    return {
        "package-name": "mailchimp-airflow",
        "name": "Mailchimp",
        "description": "Keeps a shop database and Mailchimp in step (Marketing API 3.0).",
        "integrations": [
            {
                "integration-name": "Mailchimp",
                "external-doc-url": "https://mailchimp.com/developer/marketing/api/",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": "Mailchimp", "python-modules": ["mailchimp_airflow.hooks.mailchimp"]}],
        "triggers": [
            {
                "integration-name": "Mailchimp",
                "python-modules": ["mailchimp_airflow.triggers.batches", "mailchimp_airflow.triggers.webhooks"],
            }
        ],
        "connection-types": [
            {
                "connection-type": "mailchimp",
                "hook-name": "Mailchimp",
                "hook-class-name": "mailchimp_airflow.hooks.mailchimp.MailchimpHook",
                "ui-field-behaviour": {
                    # The port stays: Airflow 3.3's Test button refuses a stored connection that has none.
                    "hidden-fields": ["schema", "login"],
                    "relabeling": {
                        "password": "API key or OAuth token",
                        "host": "Base URL (optional)",
                        "port": "Port (enter 443 if you want to use the Test button)",
                    },
                    "placeholders": {
                        "password": "0123456789abcdef0123456789abcdef-us6",
                        "host": "empty: from the key's suffix; sandbox: http://127.0.0.1:8099/3.0",
                        "port": "443",
                    },
                },
                "conn-fields": {
                    "dc": {
                        "label": "Datacentre of an OAuth token",
                        "description": (
                            "Such as us6. Only for an OAuth token, where every task asks Mailchimp for it otherwise; "
                            "an API key carries it as its suffix. (On the port: Airflow's Test button needs one "
                            "stored; 443 changes nothing.)"
                        ),
                        "schema": {"type": ["string", "null"], "pattern": "^[a-z]{1,8}[0-9]{1,4}$"},
                    },
                    "webhook_secret": {
                        "label": "Signing secret of the webhook",
                        "description": (
                            "Only where a store takes webhooks: Mailchimp shows it once, as the webhook is made. "
                            "Several with commas between."
                        ),
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                },
            }
        ],
    }
