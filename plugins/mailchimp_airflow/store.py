"""Everything a task needs for one store, opened from its settings and connections and closed again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property

from airflow.sdk.exceptions import AirflowNotFoundException
from sqlalchemy import Engine

from include.config.stores import StoreSettings, load_stores
from include.extract.connection import check_reachable
from include.extract.slices import Extractor
from include.load.preflight import check_currency
from include.mailchimp.client import MailchimpClient
from include.mailchimp.retry import RetryPolicy
from include.shops.profile import CheckedProfile, check_profile, load_profile
from include.state.database import StateDatabase
from include.transform.entities import extra_columns
from mailchimp_airflow.hooks.mailchimp import MailchimpHook
from mailchimp_airflow.hooks.shop import shop_engine


@dataclass
class OpenStore:
    """A store's settings, the state of its shop, and lazily its Mailchimp client and its checked profile."""

    settings: StoreSettings
    state_schema: str
    engine: Engine
    read_engine: Engine
    retry: RetryPolicy | None = None

    @cached_property
    def state(self) -> StateDatabase:
        """The state tables, in the shop's database."""
        return StateDatabase(self.engine, self.state_schema)

    @cached_property
    def client(self) -> MailchimpClient:
        """The Mailchimp client of the store's connection."""
        return MailchimpHook(self.settings.mailchimp_conn_id).get_client(
            self.settings.max_connections, self.settings.request_timeout_seconds, self.retry
        )

    @cached_property
    def profile(self) -> CheckedProfile:
        """The shop profile with the columns that the database has; order statuses are checked once, as a run begins."""
        with self.read_engine.connect() as connection:
            return check_profile(load_profile(self.settings.profile), connection, statuses=False)

    def check_profile(self) -> None:
        """Check the profile completely.

        :raises ProfileError: lists every problem.
        """
        with self.read_engine.connect() as connection:
            check_profile(load_profile(self.settings.profile), connection)

    @contextmanager
    def extractor(self) -> Iterator[Extractor]:
        """Open a snapshot of the shop."""
        with self.read_engine.connect() as connection:
            yield Extractor(connection, self.profile, extra=extra_columns(self.settings))

    def currency(self) -> str:
        """Return the currency that the shop's prices are in.

        :raises PreflightFailed: it isn't one of ISO 4217.
        """
        with self.extractor() as extractor:
            return check_currency(self.settings, extractor.read_store())


@contextmanager
def open_store(key: str, retry: RetryPolicy | None = None) -> Iterator[OpenStore]:
    """Open a store by its key in the settings file.

    The shop is read from a replica where there is a connection to one: the shop's connection id + ``_replica``.

    :param key: the store's key.
    :param retry: how often calls to Mailchimp are repeated, other than by default.
    :raises SettingsError: the settings file can't be used.
    :raises ShopUnreachable: the shop's database doesn't answer.
    """
    stores = load_stores()
    settings = stores.store(key)
    with ExitStack() as opened:
        engine = opened.enter_context(_engine(settings.shop_conn_id))
        try:
            read_engine = opened.enter_context(_engine(f"{settings.shop_conn_id}_replica"))
        except AirflowNotFoundException:
            read_engine = engine
        yield OpenStore(settings, stores.state_schema, engine, read_engine, retry)


@contextmanager
def _engine(conn_id: str) -> Iterator[Engine]:
    engine = shop_engine(conn_id)
    try:
        check_reachable(engine, conn_id)
        yield engine
    finally:
        engine.dispose()
