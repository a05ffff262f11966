from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine

from include.shops.profile import CheckedProfile, check_profile, load_profile
from tests.include.extract.bazaar import PROFILES, create


@pytest.fixture
def shop(database: Engine) -> Engine:
    """The bazaar's tables, empty."""
    create(database)
    return database


@pytest.fixture
def bazaar(shop: Engine) -> CheckedProfile:
    """The bazaar's profile, checked."""
    with shop.connect() as connection:
        return check_profile(load_profile("bazaar", PROFILES), connection)


@pytest.fixture
def connection(shop: Engine) -> Iterator[Connection]:
    with shop.connect() as connection:
        yield connection
