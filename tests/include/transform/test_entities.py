"""Every payload of the sample shop keeps Mailchimp's contract, whichever texts its people and products have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel
from sqlalchemy import Engine

from include.config.stores import StoreSettings
from include.demo.planted import planted_rejects
from include.documents.encoder import encode
from include.documents.spec import Document
from include.embedded_postgres import EmbeddedPostgres
from include.extract.slices import Extractor, Window
from include.mailchimp.contract import Cart, Customer, MemberPut, Order, ProductPut, PromoCode, PromoRule
from include.shops.profile import check_profile, load_profile
from include.transform.entities import ENTITIES
from include.transform.records import BuildContext, Frames
from tests.include.demo.sample import sample_shop

MODELS: dict[str, type[BaseModel]] = {
    "products": ProductPut,
    "members": MemberPut,
    "customers": Customer,
    "promo_rules": PromoRule,
    "promo_codes": PromoCode,
    "orders": Order,
    "carts": Cart,
}
#: How many of them the small sample shop has at least.
FEWEST = {"promo_rules": 40, "carts": 10}
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
        context = replace(context, now=extractor.read_at)
        prepared = entity.prepare(Frames(frame, entity.read_related(extractor, frame)), context)
    document = entity.document if isinstance(entity.document, Document) else entity.document(context)
    texts = encode(document, prepared.rows).to_pylist()
    assert len(texts) >= FEWEST.get(name, 100)
    for text in texts:
        MODELS[name].model_validate_json(text)
    planted = {record.record_id for record in planted_rejects() if record.entity == name}
    if name == "members":
        planted = {"90003"}  # of the customers with a broken address, the one who opted in
    assert {record.key for record in prepared.rejected} == planted
