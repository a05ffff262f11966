"""Airflow's connections to databases, read from the environment without Airflow."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from sqlalchemy import URL, Engine

from include.extract.connection import open_engine


class ConnectionMissing(ValueError):
    """There is no such connection in the environment; the text says what to do."""


def variable_of(conn_id: str) -> str:
    """Name the environment variable of an Airflow connection."""
    return f"AIRFLOW_CONN_{conn_id.upper()}"


def engine_for(conn_id: str, environment: Mapping[str, str] = os.environ) -> Engine:
    """Make an engine for a connection; nothing is connected yet.

    Args:
        conn_id: the connection.
        environment: where its variable is, in Airflow's forms: a URI or JSON.

    Raises:
        ConnectionMissing: there is none.
        ValueError: it can't be read; its contents are not repeated.
    """
    stored = environment.get(variable_of(conn_id), "").strip()
    if not stored:
        raise ConnectionMissing(
            f"There is no connection {conn_id!r} in the environment: set {variable_of(conn_id)}. This command doesn't "
            "see connections that are kept in Airflow's own database."
        )
    return open_engine(_from_json(stored) if stored.startswith("{") else stored)


def _from_json(stored: str) -> URL:
    try:
        fields = json.loads(stored)
        extra = fields.get("extra") or {}
        extra = json.loads(extra) if isinstance(extra, str) else extra
        query = {str(name): str(value) for name, value in extra.items() if value not in (None, "")}
        host = fields.get("host") or None
        if host and host.startswith("/"):  # a socket's folder
            query["host"], host = host, None
        port = int(fields.get("port") or 0)
        if port and host is None:
            query["port"], port = str(port), 0
        return URL.create(
            "postgresql+psycopg2",
            username=fields.get("login") or None,
            password=fields.get("password") or None,
            host=host,
            port=port or None,
            database=fields.get("schema") or None,
            query=query,
        )
    except (ValueError, AttributeError, TypeError):
        raise ValueError("The connection's JSON can't be read; write it as Airflow's documentation has it.") from None
