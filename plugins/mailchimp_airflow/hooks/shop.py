"""Opens the shop's PostgreSQL database from its Airflow connection.

Not by `PostgresHook`: it writes every statement with its parameters to the task log, takes psycopg 3 (which lacks the
COPY calls of the extraction) as soon as that is installed, and loses the socket folder of a URI connection.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

import psycopg2
import psycopg2.errors
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext

from include.mailchimp.errors import redact
from mailchimp_airflow.hooks.connection import missing_connection_text

log = logging.getLogger(__name__)

EXAMPLE_URI = "'postgresql://reader:secret@db.internal:5432/shop?sslmode=require'"

# Parameters that libpq takes from an extra; Airflow's own extras (cursor, iam, …) would make it refuse to connect.
_LIBPQ_PARAMETERS = frozenset(
    (
        "host hostaddr port passfile connect_timeout client_encoding options application_name keepalives "
        "keepalives_idle keepalives_interval keepalives_count tcp_user_timeout sslmode sslcert sslkey sslpassword "
        "sslrootcert sslcrl sslsni ssl_min_protocol_version gssencmode krbsrvname channel_binding "
        "target_session_attrs service"
    ).split()
)
#: Parameters for whoever can't wait: a host that is gone is given up after seconds, not minutes.
HURRIED: Final = {"connect_timeout": "2", "tcp_user_timeout": "2000"}

#: Where a message of PostgreSQL's goes on with what it is about: rows, parameters, the statement with both in it.
_QUOTING = re.compile(r"^(?:DETAIL|CONTEXT|QUERY|LINE \d+):", re.MULTILINE)
#: Errors whose very message quotes a value.
_ABOUT_VALUES = (psycopg2.DataError, psycopg2.errors.RaiseException)
_DEFAULTS = {"connect_timeout": "10", "application_name": "mailchimp-airflow"}


def shop_engine(conn_id: str = "shop_db", libpq: Mapping[str, str] | None = None) -> Engine:
    """Make an engine (nothing is connected yet); the caller disposes of it.

    :param conn_id: Airflow connection of type `postgres`, in any form: fields, JSON, or a URI, where ``?host=`` may be
        the folder of a socket and other libpq parameters (``sslmode`` …) may follow.
    :param libpq: parameters that win over the connection's.
    :return: an engine on psycopg2 with at most three connections. Its errors do not show parameters of statements.
    :raises AirflowNotFoundException: there is no such connection; the text says how to add it.
    :raises ValueError: the connection is of another type, or names no database.
    """
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise missing_shop(conn_id) from None
    return engine_of(connection, connection.extra_dejson, libpq)


def missing_shop(conn_id: str) -> AirflowNotFoundException:
    """Return the error that says how to add the connection.

    :param conn_id: the id that was asked for.
    """
    return AirflowNotFoundException(missing_connection_text(conn_id, "the shop database", EXAMPLE_URI))


def engine_of(connection: Any, extra: Mapping[str, Any], libpq: Mapping[str, str] | None = None) -> Engine:
    """Make the engine of a connection that was read already, as `shop_engine` does.

    :param connection: as Airflow gives it.
    :param extra: its decoded extra field.
    :param libpq: parameters that win over the connection's.
    :raises ValueError: the connection is of another type, or names no database.
    """
    conn_id = connection.conn_id
    if connection.conn_type not in {"postgres", "postgresql"}:
        raise ValueError(
            f"Airflow connection {conn_id!r} is of type {connection.conn_type!r}, but the shop database must be "
            f"PostgreSQL: use type postgres, for example {EXAMPLE_URI}"
        )
    engine = create_engine(
        _shop_url(connection, conn_id, extra).update_query_dict(libpq or {}),
        pool_size=1,
        max_overflow=2,
        pool_pre_ping=True,
        hide_parameters=True,
    )
    event.listen(engine, "handle_error", _hide_values)
    return engine


def _hide_values(context: ExceptionContext) -> None:
    """Take customers' data out of PostgreSQL's own messages, which quote rows, values and, by psycopg2, parameters."""
    original = context.original_exception
    refused = isinstance(original, _ABOUT_VALUES)
    for error in (original, context.sqlalchemy_exception):
        if error is not None and error.args:
            # A value may have several lines: what follows the message goes as a whole.
            message = _QUOTING.split(str(error.args[0]), maxsplit=1)[0].rstrip()
            if refused:
                message = f"{type(original).__name__} (SQLSTATE {getattr(original, 'pgcode', None) or 'none'})"
            error.args = (redact(message), *error.args[1:])


def _shop_url(connection: Any, conn_id: str, given: Mapping[str, Any]) -> URL:
    if not connection.schema:
        raise ValueError(
            f"Airflow connection {conn_id!r} names no database: put it into the schema field (the path of a URI)"
        )
    extra = {str(name): value for name, value in given.items() if value not in (None, "")}
    unused = sorted(set(extra) - _LIBPQ_PARAMETERS)
    if unused:
        log.info("connection %s: extras not for PostgreSQL are left out: %s", conn_id, ", ".join(unused))
    query = {**_DEFAULTS, **{name: str(value) for name, value in extra.items() if name in _LIBPQ_PARAMETERS}}
    host = connection.host or None
    if host and host.startswith("/"):
        # A socket folder survives as a parameter, but not as the host part of a URL.
        query["host"], host = host, None
    port = query.pop("port", None) or connection.port
    if port and "host" in query and host is None:
        query["port"], port = str(port), None
    return URL.create(
        "postgresql+psycopg2",
        username=connection.login or None,
        password=connection.password or None,
        host=host,
        port=int(port) if port else None,
        database=connection.schema,
        query=query,
    )
