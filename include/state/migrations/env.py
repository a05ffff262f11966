"""Alembic environment: runs the migrations on the connection and schema that `include.state.migrate` passes."""

from alembic import context

from include.state.database import quoted
from include.state.tables import metadata

_connection = context.config.attributes["connection"]
_schema: str = context.config.attributes["schema"]

_connection.exec_driver_sql(f"SET LOCAL search_path TO {quoted(_schema)}")
context.configure(connection=_connection, target_metadata=metadata, version_table_schema=_schema)
with context.begin_transaction():
    context.run_migrations()
