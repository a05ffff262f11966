"""People who can't be overlooked, and a recorder of everything that is said while they pass through."""

from __future__ import annotations

import io
import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, unquote_plus

import pytest
import requests
from sqlalchemy import Engine, text
from sqlalchemy.dialects.postgresql.psycopg2 import dialect

from tests.pipeline import Pipeline

#: Part of everything personal: of no module's, test's or table's name.
CANARY = "kanarienvogel"
PHONE = "+49 30 90182 55501"
POSTCODE = "KV-99817"
IP = "203.0.113.217"
PERSONAL = (CANARY, PHONE, PHONE.replace(" ", ""), "9018255501", POSTCODE.lower(), IP)


def address(number: int) -> str:
    return f"{CANARY}.{number}@Mail.Little.shop"


def add_person(pipeline: Pipeline, number: int, email: str | None = None, **columns: Any) -> None:
    """A customer all of whose columns are canaries, at home in a street that is one."""
    opted_in = columns.pop("opted_in", True)
    known = {
        "first_name": f"Kanarienvogel{number}",
        "last_name": "von Kanarienvogel-Öhr",
        "company": "Kanarienvogel & Söhne",
        "phone": PHONE,
    }
    pipeline.add_customer(number, email or address(number), **known | columns)
    if opted_in is not None:
        pipeline.sql(
            "INSERT INTO newsletter_consents (customer_id, opted_in, source, ip) "
            "VALUES (:id, :yes, 'Kanarienvogel', :ip)",
            id=number, yes=opted_in, ip=IP,
        )  # fmt: skip
    pipeline.sql(
        "INSERT INTO addresses (address_id, customer_id, name, company, address1, address2, city, postal_code, phone, "
        "country_code) VALUES (:id, :id, 'K. Kanarienvogel', 'Kanarienvogel KG', 'Kanarienvogelgasse 1', "
        "'bei Kanarienvogel', 'Kanarienvogelburg', :postcode, :phone, 'DE')",
        id=number, postcode=POSTCODE, phone=PHONE,
    )  # fmt: skip
    pipeline.sql("UPDATE customers SET default_address_id = :id WHERE customer_id = :id", id=number)


def add_purchases(pipeline: Pipeline, number: int, **columns: Any) -> None:
    """An order and a cart of somebody's."""
    at_home = {"shipping_address_id": number, "billing_address_id": number}
    landing = f"https://little.shop/?email={address(number)}"
    pipeline.add_order(100 + number, number, 1, landing_site=landing, **at_home | columns)
    pipeline.add_cart(200 + number, number, 1)


def quietly(engine: Engine, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    """Read or change the shop behind SQLAlchemy's back: what is heard of it is what the pipeline itself says."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(str(text(statement).compile(dialect=dialect())), values)
        found = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        connection.commit()
        return found
    finally:
        connection.close()


class QuietPipeline(Pipeline):
    """Changes the shop quietly."""

    def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        return quietly(self.engine, statement, **values)


@dataclass
class Recorder:
    """What was logged, raised and asked for."""

    stream: io.StringIO = field(default_factory=io.StringIO)
    urls: list[str] = field(default_factory=list)

    @classmethod
    @contextmanager
    def listening(cls, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
        recorder = cls()
        handler = logging.StreamHandler(recorder.stream)
        # The sandbox plays Mailchimp, which knows everybody.
        handler.addFilter(lambda record: not record.name.startswith(("include.sandbox", "uvicorn")))
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
        loggers += [logging.getLogger(name) for name in ("sqlalchemy.engine", "sqlalchemy.pool", "urllib3", "alembic")]
        before = [(logger, logger.level, logger.disabled, logger.propagate) for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.DEBUG)
            logger.disabled, logger.propagate = False, True
        logging.getLogger().addHandler(handler)
        send = requests.Session.send

        def noted(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
            recorder.urls.append(str(request.url))
            return send(session, request, **options)

        monkeypatch.setattr(requests.Session, "send", noted)
        try:
            yield recorder
        finally:
            logging.getLogger().removeHandler(handler)
            for logger, level, disabled, propagate in before:
                logger.level, logger.disabled, logger.propagate = level, disabled, propagate

    @contextmanager
    def catching(self, kind: type[BaseException] = Exception) -> Iterator[None]:
        """Expect an error, and record all that a traceback shows of it."""
        with pytest.raises(kind) as caught:
            yield
        self.stream.write("".join(traceback.format_exception(caught.value)) + repr(caught.value) + "\n")

    def say(self, something: object) -> None:
        """Record what a task would log or return."""
        self.stream.write(f"{something}\n")

    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def leaks(lines: list[str]) -> list[str]:
    """The lines that tell something about a person, each shortened to what surrounds it."""
    told = []
    for line in lines:
        folded = f"{unquote(line)} {unquote_plus(line)}".lower()
        for personal in PERSONAL:
            if found := re.search(f".{{0,100}}{re.escape(personal)}.{{0,60}}", folded):
                told.append(found.group())
                break
    return told


def state_rows(engine: Engine, schema: str = "mailchimp") -> Iterator[tuple[str, str]]:
    """Everything that the tables of a schema hold, row by row, with the table's name."""
    with engine.connect() as connection:
        tables = connection.execute(
            text(
                "SELECT table_name FROM information_schema.tables "
                "WHERE table_schema = :schema AND table_type = 'BASE TABLE'"
            ),
            {"schema": schema},
        )
        for (table,) in tables.all():
            for (row,) in connection.execute(text(f'SELECT t::text FROM "{schema}"."{table}" AS t')):
                yield table, row
