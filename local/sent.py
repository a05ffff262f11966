"""What a run sent, operation by operation, as the state tables have it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from include.state.database import StateDatabase


@dataclass(frozen=True)
class Sent:
    """One operation of a batch.

    Attributes:
        entity: of the record.
        key: the shop's id of the record; a lost line or variant follows it, as "/lines/7".
        method: the HTTP method.
        status_code: Mailchimp's answer to the operation.
    """

    entity: str
    key: str
    method: str
    status_code: int | None

    @property
    def record(self) -> tuple[str, str]:
        """The record by entity and key."""
        return self.entity, self.key

    @property
    def name(self) -> str:
        """The record for people."""
        return f"{self.entity} {self.key}"

    @property
    def answer(self) -> str:
        """The method, and what became of it."""
        return f"{self.method} → {self.status_code or 'no answer'}"


def sent_by(state: StateDatabase, dag_id: str, dag_run_id: str) -> list[Sent]:
    """Return the operations of a DAG run, in the order of their batches.

    Args:
        state: the state tables.
        dag_id: the DAG.
        dag_run_id: its run.
    """
    with state.begin() as connection:
        rows = connection.execute(
            text("""
                SELECT b.entity, coalesce(l.source_key, o.record_id) || coalesce('/' || o.child, ''), o.method,
                       o.status_code
                FROM run r JOIN batch b USING (run_ref) JOIN operation o USING (batch_ref)
                LEFT JOIN ledger l ON (l.store_ref, l.entity, l.record_id) = (b.store_ref, b.entity, o.record_id)
                WHERE r.dag_id = :dag_id AND r.dag_run_id = :dag_run_id
                ORDER BY b.batch_ref, o.seq
            """),
            {"dag_id": dag_id, "dag_run_id": dag_run_id},
        )
        return [Sent(*row) for row in rows]
