"""Who is in the static segments (tags are such) that a store keeps at Mailchimp, as it acknowledged them.

Only what was put in from here is known: people whom others added to a segment are not touched.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class SegmentMember:
    """A customer of the shop in a segment, and the contact (hash of the e-mail address) that stands for them there."""

    customer_id: str
    member_hash: str


def segment_ids(connection: Connection, store_ref: int) -> dict[str, int]:
    """Return Mailchimp's ids of a store's segments, by name."""
    rows = connection.execute(
        text("SELECT name, segment_id FROM segment WHERE store_ref = :store_ref"), {"store_ref": store_ref}
    )
    return {row.name: row.segment_id for row in rows}


def save_segment(connection: Connection, store_ref: int, name: str, segment_id: int) -> None:
    """Note a segment's id; of one with another id than before, nobody is known to be in it."""
    segment = {"store_ref": store_ref, "name": name, "segment_id": segment_id}
    connection.execute(
        text("DELETE FROM segment WHERE store_ref = :store_ref AND name = :name AND segment_id <> :segment_id"), segment
    )
    connection.execute(
        text("INSERT INTO segment VALUES (:store_ref, :name, :segment_id) ON CONFLICT (store_ref, name) DO NOTHING"),
        segment,
    )


def members_between(
    connection: Connection, store_ref: int, name: str, after: str | None, until: str | None, limit: int
) -> list[SegmentMember]:
    """Return the next members of a segment in the order of their customer ids (byte order).

    Args:
        connection: a transaction on the state tables.
        store_ref: the store.
        name: the segment.
        after: the last customer id already seen; None to begin.
        until: the last customer id wanted; None for the end.
        limit: how many at most; fewer mean that there are no more.
    """
    rows = connection.execute(
        text("""
            SELECT customer_id, member_hash FROM segment_member
            WHERE store_ref = :store_ref AND name = :name
              AND (CAST(:after AS text) IS NULL OR customer_id > :after)
              AND (CAST(:until AS text) IS NULL OR customer_id <= :until)
            ORDER BY customer_id LIMIT :limit
        """),
        {"store_ref": store_ref, "name": name, "after": after, "until": until, "limit": limit},
    )
    return [SegmentMember(*row) for row in rows]


def held_by_others(connection: Connection, store_ref: int, name: str, leaving: Collection[SegmentMember]) -> set[str]:
    """Return the contacts of leaving members that stand for somebody else in the segment too: they stay."""
    rows = connection.execute(
        text("""
            SELECT customer_id, member_hash FROM segment_member
            WHERE store_ref = :store_ref AND name = :name AND member_hash = ANY (CAST(:hashes AS text[]))
        """),
        {"store_ref": store_ref, "name": name, "hashes": [member.member_hash for member in leaving]},
    )
    gone = set(leaving)
    return {member.member_hash for row in rows if (member := SegmentMember(*row)) not in gone}


def record_members(
    connection: Connection,
    store_ref: int,
    name: str,
    added: Sequence[SegmentMember],
    removed: Sequence[SegmentMember],
) -> None:
    """Note what Mailchimp acknowledged: who left the segment, then who joined it."""
    for members, statement in (
        (
            removed,
            """
            DELETE FROM segment_member m
            USING (
                SELECT CAST(:store_ref AS smallint) AS store_ref, CAST(:name AS text) AS name, t.*
                FROM unnest(CAST(:customer_ids AS text[]), CAST(:hashes AS text[])) AS t(customer_id, hash) OFFSET 0
            ) AS r
            WHERE (m.store_ref, m.name, m.customer_id) = (r.store_ref, r.name, r.customer_id) AND m.member_hash = r.hash
            """,
        ),
        (
            added,
            """
            INSERT INTO segment_member (store_ref, name, customer_id, member_hash)
            SELECT :store_ref, :name, r.* FROM unnest(CAST(:customer_ids AS text[]), CAST(:hashes AS text[])) AS r
            ON CONFLICT (store_ref, name, customer_id) DO UPDATE SET member_hash = excluded.member_hash
            """,
        ),
    ):
        if members:
            connection.execute(
                text(statement),
                {
                    "store_ref": store_ref,
                    "name": name,
                    "customer_ids": [member.customer_id for member in members],
                    "hashes": [member.member_hash for member in members],
                },
            )
