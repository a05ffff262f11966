from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from include.state.batches import Chunk, claim, mark_posted, new_token
from include.state.database import SliceKey, StateDatabase
from include.state.ledger import Candidates
from include.state.settlement import Reason, Results, settle
from include.state.slices import Progress
from include.state.stores import StoreRef

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MAX_OPEN = 4


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def micros(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def payload_hash(version: int) -> bytes:
    return bytes([version] * 16)


def records(
    *ids: str,
    version: int | None = 1,
    read: float = 0,
    updated: float | None = 0,
    keys: Sequence[str] | None = None,
) -> Candidates:
    """Records read at noon plus `read` minutes, all with the payload of a version (None: not to be sent)."""
    return Candidates(
        record_ids=ids,
        keys=keys or ids,
        hashes=[None if version is None else payload_hash(version)] * len(ids),
        updated_at=[None if updated is None else micros(at(updated))] * len(ids),
        read_at=at(read),
    )


def chunk(send: Candidates, **more: Any) -> Chunk:
    fields: dict[str, Any] = {"methods": ["PUT"] * len(send.record_ids), "body_bytes": 100, "touched": records()}
    return Chunk(token=new_token(), send=send, **(fields | more))


def claim_in(state: StateDatabase, store: StoreRef, key: SliceKey, part: Chunk, max_open: int = MAX_OPEN) -> int:
    with state.begin() as connection:
        batch_ref = claim(connection, store, key, part, max_open=max_open, dag_run_id="run-1")
    assert batch_ref is not None
    return batch_ref


def post(state: StateDatabase, batch_ref: int) -> None:
    with state.begin() as connection:
        assert mark_posted(connection, batch_ref, f"batch-{batch_ref}")


def answer(state: StateDatabase, batch_ref: int, *outcomes: str) -> bool:
    """Settle a posted batch with one outcome per operation, in order; '' leaves the operation out of the archive."""
    answered = [(seq, outcome) for seq, outcome in enumerate(outcomes) if outcome]
    results = Results(
        sequence=[seq for seq, _ in answered],
        outcomes=[outcome for _, outcome in answered],
        status_codes=[200 if outcome == "ok" else 400 for _, outcome in answered],
        reasons={seq: Reason(f"Title {outcome}", "said so", "f") for seq, outcome in answered if outcome != "ok"},
    )
    with state.begin() as connection:
        return settle(connection, batch_ref, results)


def send(
    state: StateDatabase, store: StoreRef, key: SliceKey, what: Candidates, outcome: str = "ok", **more: Any
) -> None:
    """Claim, post and settle in one go, all with the same outcome."""
    batch_ref = claim_in(state, store, key, chunk(what, **more))
    post(state, batch_ref)
    assert answer(state, batch_ref, *[outcome] * len(what.record_ids))


def ledger(state: StateDatabase, record_id: str, entity: str = "products") -> dict[str, Any]:
    with state.begin() as connection:
        row = connection.execute(
            text("SELECT * FROM ledger WHERE record_id = :record_id AND entity = :entity"),
            {"record_id": record_id, "entity": entity},
        )
        found = dict(row.mappings().one())
    return found | {"payload_hash": found["payload_hash"] and bytes(found["payload_hash"])}


def rejections(state: StateDatabase) -> dict[str, dict[str, Any]]:
    with state.begin() as connection:
        rows = connection.execute(text("SELECT * FROM rejected_records")).mappings()
        return {row["record_id"]: dict(row) for row in rows}


def moved(old: str | None, new: str, extracted: int = 0, unchanged: int = 0, rejected: int = 0) -> Progress:
    return Progress(old, new, extracted, unchanged, rejected)
