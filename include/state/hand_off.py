"""Batches whose hand-over to Mailchimp didn't go as it should: found again, divided, refused, put off."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from include.state.batches import count_open
from include.state.database import SliceKey, lock_account
from include.state.settlement import Reason, Results, settle


def known_batches(connection: Connection, batch_ids: Sequence[str]) -> set[str]:
    """Return those of Mailchimp's ids that belong to batches of ours, whatever became of these."""
    rows = connection.execute(
        text("SELECT batch_id FROM batch WHERE batch_id = ANY (CAST(:ids AS text[]))"), {"ids": list(batch_ids)}
    )
    return set(rows.scalars())


def adopt(connection: Connection, batch_ref: int, batch_id: str, posted_at: datetime) -> bool:
    """Note the id of a batch that was found at Mailchimp; False when its fate was decided meanwhile."""
    adopted = connection.execute(
        text("""
            UPDATE batch SET batch_id = :batch_id, state = 'posted', posted_at = :posted_at
            WHERE batch_ref = :batch_ref AND state = 'intended'
        """),
        {"batch_ref": batch_ref, "batch_id": batch_id, "posted_at": posted_at},
    )
    return adopted.rowcount == 1


_DIVIDE = text("""
    INSERT INTO batch (store_ref, run_ref, entity, slice_number, purpose, token, operations, body_bytes)
    SELECT store_ref, run_ref, entity, slice_number, purpose, :second, operations - :at, :second_bytes
    FROM batch WHERE batch_ref = :batch_ref AND state = 'intended'
    RETURNING batch_ref
""")

# A record whose operations fall into both halves (several of its lines are deleted) stays in flight with the first.
_MOVE = (
    """
    UPDATE batch SET token = :first, operations = :at, body_bytes = :first_bytes WHERE batch_ref = :batch_ref
    """,
    """
    UPDATE operation SET batch_ref = :other_ref, seq = seq - :at WHERE batch_ref = :batch_ref AND seq >= :at
    """,
    """
    UPDATE ledger l SET batch_ref = :other_ref
    FROM (
        SELECT b.store_ref, b.entity, o.record_id FROM batch b JOIN operation o USING (batch_ref)
        WHERE b.batch_ref = :other_ref
          AND NOT EXISTS (SELECT FROM operation f WHERE f.batch_ref = :batch_ref AND f.record_id = o.record_id) OFFSET 0
    ) AS o
    WHERE (l.store_ref, l.entity, l.record_id) = (o.store_ref, o.entity, o.record_id) AND l.batch_ref = :batch_ref
    """,
)


def divide(
    connection: Connection, batch_ref: int, at: int, tokens: tuple[str, str], sizes: tuple[int, int]
) -> int | None:
    """Make two intended batches of one that Mailchimp refused; its records stay in flight.

    Args:
        connection: a transaction on the state tables.
        batch_ref: the refused batch; it keeps the operations before `at`.
        at: sequence number of the first operation of the other batch, 0 there.
        tokens: of both.
        sizes: bytes of both requests.

    Returns:
        The other batch; None when the refused one was given up meanwhile, then nothing is done.
    """
    values = {
        "batch_ref": batch_ref,
        "at": at,
        "first": tokens[0],
        "second": tokens[1],
        "first_bytes": sizes[0],
        "second_bytes": sizes[1],
    }
    other_ref: int | None = connection.execute(_DIVIDE, values).scalar_one_or_none()
    if other_ref is not None:
        for statement in _MOVE:
            connection.execute(text(statement), values | {"other_ref": other_ref})
    return other_ref


def has_place(connection: Connection, account_id: str, batch_ref: int, most: int, besides: int) -> bool:
    """Tell whether an intended batch may be posted now, so that the account has no more open ones than it may.

    Args:
        connection: a transaction on the state tables.
        account_id: the account.
        batch_ref: the batch; dividing takes time, so it counts as intended from now on.
        most: open batches that it may have.
        besides: intended batches that aren't going to be posted now.
    """
    lock_account(connection, account_id)
    connection.execute(
        text("UPDATE batch SET created_at = clock_timestamp() WHERE batch_ref = :batch_ref AND state = 'intended'"),
        {"batch_ref": batch_ref},
    )
    return count_open(connection, account_id) - besides <= most


def refuse(connection: Connection, batch_ref: int, reason: Reason, status_code: int | None) -> bool:
    """Reject the only record of a batch that Mailchimp refused; False when its fate was decided meanwhile."""
    results = Results(sequence=[0], outcomes=["invalid"], status_codes=[status_code], reasons={0: reason})
    if not settle(connection, batch_ref, results, expected="intended"):
        return False
    # Runs count what their posted batches did; of one that never was, the slice does.
    connection.execute(
        text("""
            UPDATE slice s SET rejected = s.rejected + 1 FROM batch b
            WHERE b.batch_ref = :batch_ref AND b.purpose = 'write'
              AND (s.run_ref, s.entity, s.number) = (b.run_ref, b.entity, b.slice_number)
        """),
        {"batch_ref": batch_ref},
    )
    return True


def put_off_since(connection: Connection, key: SliceKey) -> datetime | None:
    """Return since when a slice has tried in vain to post a batch; None when the last one could be posted."""
    since: datetime | None = connection.execute(
        text("""
            SELECT min(created_at) FROM batch
            WHERE run_ref = :run_ref AND entity = :entity AND slice_number = :number
              AND state = 'lost' AND batch_id IS NULL
              AND created_at > coalesce((
                  SELECT max(posted_at) FROM batch
                  WHERE run_ref = :run_ref AND entity = :entity AND slice_number = :number
              ), '-infinity')
        """),
        {"run_ref": key.run_ref, "entity": key.entity, "number": key.number},
    ).scalar_one()
    return since
