"""Reads an Airflow connection of type `mailchimp`, however it is stored, for the hook and the trigger alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from include.mailchimp.credentials import authorization_header, base_url_for, names_datacentre
from include.mailchimp.errors import ConnectionSettingsError
from mailchimp_airflow.hooks.oauth import api_endpoint

_TRANSPORT_EXTRAS = ("proxies", "verify", "cert", "trust_env")
_FALSE = {"false", "0", "no", "off"}
_LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}


class StoredConnection(Protocol):
    """The fields of Airflow's Connection (there are two such classes) that are read here."""

    conn_id: Any
    host: Any
    port: Any
    schema: Any

    @property
    def password(self) -> Any:
        """API key or OAuth token."""


@dataclass(frozen=True)
class MailchimpConnection:
    """What it takes to call Mailchimp.

    Attributes:
        base_url: ends in ``/3.0``.
        authorization: value of the Authorization header; a secret, not part of the repr.
        transport: the extras `proxies`, `verify`, `cert` and `trust_env`, where given; no others are used.
    """

    base_url: str
    authorization: str = field(repr=False)
    transport: dict[str, Any] = field(repr=False)


def missing_connection_text(conn_id: str, kind: str, example: str) -> str:
    """Say how to add a connection.

    Args:
        conn_id: the id that was asked for.
        kind: what it is for, e.g. ``Mailchimp``.
        example: a URI as an example.

    Returns:
        One sentence for an exception.
    """
    return (
        f"there is no Airflow connection {conn_id!r} for {kind}: add it in Admin → Connections, or set the environment "
        f"variable AIRFLOW_CONN_{conn_id.upper()}, for example to {example}"
    )


def read_connection(connection: StoredConnection, extra: dict[str, Any]) -> MailchimpConnection:
    """Understand a stored connection; for an OAuth token without a datacentre, Mailchimp's login service is asked.

    Args:
        connection: as Airflow gives it, from JSON, URI or database.
        extra: its decoded extra field.

    Returns:
        Where to call, as whom and how.

    Raises:
        ConnectionSettingsError: the connection cannot work; the text names it and says what to change.
    """
    secret = str(connection.password or "")
    try:
        authorization = authorization_header(secret)
        host = _host_of(connection, extra)
        if host is None and not names_datacentre(secret):
            host = api_endpoint(secret.strip(), _transport(extra))
        base_url = base_url_for(secret, host)
    except ConnectionSettingsError as error:
        raise ConnectionSettingsError(f"Airflow connection {connection.conn_id!r}: {error}") from None
    return MailchimpConnection(base_url, authorization, _transport(extra))


def webhook_secrets(extra: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the secrets that webhooks of the account's audiences are signed with.

    Args:
        extra: the decoded extra field of a connection: `webhook_secret` is one, several with commas between, or a list.
    """
    given = extra.get("webhook_secret") or ()
    several = given.split(",") if isinstance(given, str) else given
    return tuple(secret for one in several if (secret := str(one).strip()))


def _host_of(connection: StoredConnection, extra: dict[str, Any]) -> str | None:
    """Put the address together again that Airflow's URI form takes apart into host, port and schema.

    ``mailchimp://:KEY@127.0.0.1:8099/http`` has schema ``http``; ``mailchimp://http://:KEY@127.0.0.1:8099/3.0`` has
    host ``http://127.0.0.1`` and schema ``3.0``; JSON and the form have all in the host.
    """
    host = str(connection.host or "").strip().rstrip("/")
    if not host:
        datacentre = str(extra.get("dc") or "").strip().lower()
        if datacentre and not datacentre.isalnum():
            raise ConnectionSettingsError("the extra `dc` is not a datacentre such as us6")
        return f"{datacentre}.api.mailchimp.com" if datacentre else None
    schema = str(connection.schema or "").strip("/ ")
    if "://" not in host:
        default = "http" if host.partition(":")[0] in _LOCAL_HOSTS else "https"
        host = f"{schema if schema in {'http', 'https'} else default}://{host}"
    path = "" if schema in {"http", "https"} else schema
    try:
        parts = urlsplit(host)
        has_port = parts.port is not None
    except ValueError:
        return host  # refused, with an explanation, by base_url_for
    # 443 is stored for the sake of Airflow's Test button, whatever the address.
    port = f":{connection.port}" if connection.port and connection.port != 443 and not has_port else ""
    return f"{parts.scheme}://{parts.netloc}{port}{parts.path}" + (f"/{path}" if path and not parts.path else "")


def _transport(extra: dict[str, Any]) -> dict[str, Any]:
    given = {name: extra[name] for name in _TRANSPORT_EXTRAS if extra.get(name) not in (None, "")}
    if isinstance(given.get("proxies"), str):
        given["proxies"] = dict.fromkeys(("http", "https"), given["proxies"])
    for name in ("verify", "trust_env"):
        if str(given.get(name)).lower() in _FALSE:
            given[name] = False
        elif str(given.get(name)).lower() in {"true", "1", "yes", "on"}:
            given[name] = True
    return given
