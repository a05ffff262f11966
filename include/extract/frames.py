"""Reads result sets: `COPY … TO STDOUT (FORMAT csv)` → Arrow → pandas, with one fixed type per kind of column.

About three times cheaper than fetching rows through the driver, because no Python object is made per value.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Final

import pandas as pd
import psycopg2
import pyarrow as pa
import pyarrow.compute as pc
from psycopg2.extensions import cursor as Cursor
from pyarrow import csv

from include.extract.contract import ExtractContract, Kind
from include.extract.pg_types import LIST_SEPARATOR

_LARGEST_BLOCK: Final = 2**31 - 1


class ExtractFailed(RuntimeError):
    """Reading an extract failed while it ran.

    The message names the `.sql` file and PostgreSQL's class of error, but not its text, which may quote a
    customer's data.
    """


def copy_csv(cursor: Cursor, select: str, extract: str) -> BytesIO:
    """Run a SELECT and return its rows as CSV: NULL is nothing, an empty string is `""`.

    Args:
        cursor: on the shop database.
        select: complete SQL, without parameters.
        extract: name of the extract, for the error.

    Raises:
        ExtractFailed: PostgreSQL refused.
    """
    buffer = BytesIO()
    try:
        cursor.copy_expert(f"COPY (\n{select}\n) TO STDOUT (FORMAT csv, ENCODING 'UTF8')", buffer)
    except psycopg2.Error as error:
        raise sql_failure(error, extract) from None
    return buffer


def sql_failure(error: psycopg2.Error, extract: str) -> ExtractFailed:
    """Translate a database error into one that carries no data."""
    return ExtractFailed(
        f"{extract}.sql failed in the shop database: {type(error).__name__} (SQLSTATE {error.pgcode or 'none'}). "
        f"Run `python -m include.check_profile` against it; if that is fine, look into the server's log."
    )


def empty_frame(contract: ExtractContract) -> pd.DataFrame:
    """A frame without rows that has all columns of the extract, of the right types."""
    return _to_pandas(contract.arrow_schema().empty_table())


def parse_csv(buffer: BytesIO, contract: ExtractContract, columns: Sequence[str]) -> pd.DataFrame:
    """Turn CSV from :func:`copy_csv` into a frame.

    Args:
        buffer: the CSV.
        contract: the extract.
        columns: the columns in the CSV, in order; the contract's other columns come out as all-null ones.

    Returns:
        One Arrow-backed column per column of the contract, in its order, with the types of `ARROW_TYPES`.

    Raises:
        pyarrow.ArrowInvalid: a value can't be held by its column's type (infinity, NaN, a year beyond 9999).
    """
    data = pa.py_buffer(buffer.getbuffer())
    if data.size == 0:
        return empty_frame(contract)
    schema = contract.arrow_schema()
    lists = [column.name for column in contract.columns if column.kind is Kind.ID_LIST]
    types = {field.name: pa.string() if field.name in lists else field.type for field in schema}
    table = csv.read_csv(
        pa.BufferReader(data),
        # One block: rows may be longer than any fixed block, and one chunk per column is what the encoder works on.
        read_options=csv.ReadOptions(
            column_names=list(columns), use_threads=False, block_size=min(data.size, _LARGEST_BLOCK)
        ),
        parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            column_types=types,
            include_columns=schema.names,
            include_missing_columns=True,
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    for name in lists:
        position = table.schema.get_field_index(name)
        split = pc.split_pattern(table.column(position), LIST_SEPARATOR)
        table = table.set_column(position, schema.field(name), split)
    return _to_pandas(table)


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(types_mapper=pd.ArrowDtype)
