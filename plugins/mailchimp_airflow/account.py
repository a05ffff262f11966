"""Show which account a connection leads to: `python -m mailchimp_airflow.account [connection id]`.

Prints the account's name and id, its address, plan and subscribers, and the end of the key; never the whole key.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from airflow.sdk.exceptions import AirflowNotFoundException

from include.mailchimp.credentials import masked
from include.mailchimp.errors import ConnectionSettingsError, MailchimpError
from include.mailchimp.retry import RetryPolicy
from mailchimp_airflow.hooks.mailchimp import MailchimpHook

_POLICY = RetryPolicy(attempts=2, total_seconds=15)


class StoredHook(MailchimpHook):
    """The hook outside of a task: the metadata database is read directly, beside environment and secrets backends."""

    @classmethod
    def get_connection(cls, conn_id: str) -> Any:
        """Return a stored connection."""
        from airflow.models import Connection  # that of airflow.sdk doesn't see the metadata database from here

        return Connection.get_connection_from_secrets(conn_id)  # noqa: AIR311


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    :param arguments: those of the command line, by default of this process.
    :return: exit code: 0 if Mailchimp answered, otherwise 1.
    """
    parser = argparse.ArgumentParser(prog="python -m mailchimp_airflow.account", description=__doc__)
    parser.add_argument("conn_id", nargs="?", default=MailchimpHook.default_conn_name, help="default: %(default)s")
    hook = StoredHook(parser.parse_args(arguments).conn_id)
    try:
        account = hook.get_client(timeout=30, retry=_POLICY).account()
        key = masked(str(hook.get_connection(hook.mailchimp_conn_id).password))
    except (AirflowNotFoundException, ConnectionSettingsError, MailchimpError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    shown = {
        "account": f"{account.get('account_name', '?')} ({account.get('account_id', '?')})",
        "address": hook.settings.base_url,
        "key": key,
        "role": account.get("role", "?"),
        "plan": account.get("pricing_plan_type", "?"),
        "subscribers": f"{account.get('total_subscribers', 0):,}",
    }
    sys.stdout.write("".join(f"{name:<12}{value}\n" for name, value in shown.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
