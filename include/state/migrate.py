"""Creates and upgrades the state tables, safely when several processes try at once."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from include.state.database import DEFAULT_SCHEMA, StateDatabase, open_state, quoted

_MIGRATIONS = Path(__file__).parent / "migrations"
_UNDEFINED_TABLE, _INSUFFICIENT_PRIVILEGE = "42P01", "42501"


class StateNotWritable(RuntimeError):
    """The database user may not create or change the state tables."""


class StateOutdated(RuntimeError):
    """The state tables are those of another version of this project."""


def migrate(engine: Engine, schema: str = DEFAULT_SCHEMA) -> StateDatabase:
    """Bring the state tables in `schema` up to date; when they are, this is one cheap query.

    Args:
        engine: the database that holds the state.
        schema: created when missing; the migrations' version table lives in it as well.

    Returns:
        The state, ready for use.

    Raises:
        StateNotWritable: the database user lacks the right to create the schema or its tables.
    """
    if _version(engine, schema) != _head():
        try:
            with engine.begin() as connection:
                _upgrade(connection, schema)
        except ProgrammingError as error:
            if _sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
                raise
            raise StateNotWritable(
                f"The database user may not create the state tables in schema {schema!r}. "
                f"Create the schema for that user once: CREATE SCHEMA {quoted(schema)} AUTHORIZATION <user>."
            ) from error
    return open_state(engine, schema)


def is_migrated(engine: Engine, schema: str = DEFAULT_SCHEMA) -> bool:
    """Tell whether the state tables are there; nothing is changed.

    Raises:
        StateOutdated: they are, but the next run would upgrade them first.
    """
    version = _version(engine, schema)
    if version not in {None, _head()}:
        raise StateOutdated(
            f"The state tables in schema {schema!r} belong to another version of this project ({version}, this one has "
            f"{_head()}). The next run upgrades them; until then nothing can be told in advance."
        )
    return version is not None


def _upgrade(connection: Connection, schema: str) -> None:
    # Whoever comes second waits here, and then finds the tables current.
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"{schema}/migrate"})
    if connection.scalar(text("SELECT to_regnamespace(:schema)"), {"schema": quoted(schema)}) is None:
        connection.exec_driver_sql(f"CREATE SCHEMA {quoted(schema)}")
    config = _config()
    config.attributes.update(connection=connection, schema=schema)
    command.upgrade(config, "head")


def _version(engine: Engine, schema: str) -> str | None:
    with engine.connect() as connection:
        try:
            version: str | None = connection.exec_driver_sql(
                f"SELECT version_num FROM {quoted(schema)}.alembic_version"  # noqa: S608 - a quoted identifier
            ).scalar()
        except ProgrammingError as error:
            if _sqlstate(error) != _UNDEFINED_TABLE:
                raise
            return None
        return version


def _sqlstate(error: ProgrammingError) -> str | None:
    return getattr(error.orig, "pgcode", None)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


@cache
def _head() -> str:
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError(f"No migration found in {_MIGRATIONS}; the installation is incomplete.")
    return head
