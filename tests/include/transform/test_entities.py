"""Every payload of the sample shop keeps Mailchimp's contract, whichever texts its people and products have."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel
from sqlalchemy import Engine

from include.config.stores import StoreSettings
from include.demo.planted import planted_rejects
from include.documents.encoder import encode
from include.embedded_postgres import EmbeddedPostgres
from include.extract.slices import Extractor, Window
from include.mailchimp.contract import Customer, Order, ProductPut
from include.shops.profile import check_profile, load_profile
from include.transform.entities import ENTITIES
from include.transform.records import BuildContext, Frames
from tests.include.demo.sample import sample_shop

MODELS: dict[str, type[BaseModel]] = {"products": ProductPut, "customers": Customer, "orders": Order}
EVERYTHING = Window(None, datetime(9999, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def shop(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    with sample_shop(postgres) as engine:
        yield engine


@pytest.mark.parametrize("name", ENTITIES)
def test_every_payload_keeps_the_contract(shop: Engine, name: str) -> None:
    entity = ENTITIES[name]
    settings = StoreSettings(key="demo", store_id="demo-shop", list_id="a1b2c3d4e5", profile="reference", guests="full")
    with shop.connect() as connection:
        profile = check_profile(load_profile("reference"), connection)
        extractor = Extractor(connection, profile)
        context = BuildContext(settings, profile.profile, "USD")
        [bounds] = extractor.plan(entity.extract, EVERYTHING, 100_000)
        frame = extractor.read_range(entity.extract, None, bounds.last_key, bounds.records, EVERYTHING)
        prepared = entity.prepare(Frames(frame, entity.read_related(extractor, frame)), context)
    texts = encode(entity.document, prepared.rows).to_pylist()
    assert len(texts) > 100
    for text in texts:
        MODELS[name].model_validate_json(text)
    planted = {record.record_id for record in planted_rejects() if record.entity == name}
    assert {record.key for record in prepared.rejected} == planted
