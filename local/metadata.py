"""`python -m local.metadata`: prepare Airflow's metadata database (schema, pool, connections) in one process.

The same as `airflow db migrate`, `airflow pools set` and `airflow connections add`, without starting Airflow three
times. Runs in the environment of a state folder and stores the connections that it finds there (`AIRFLOW_CONN_…`), so
that the UI shows them and its form can change and test them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from airflow.models.connection import Connection
from airflow.models.pool import Pool
from airflow.utils import db
from airflow.utils.session import create_session
from sqlalchemy import select

CONNECTION_PREFIX = "AIRFLOW_CONN_"
MAILCHIMP_POOL = "mailchimp"
MAILCHIMP_POOL_SLOTS = 4
OURS = "Written by `make up` at each start. Change this text to keep your own settings."


def prepare(connections: Mapping[str, str]) -> None:
    """Bring the metadata database to the current schema and fill in what the DAGs need.

    Args:
        connections: Airflow's JSON form by connection id. A stored connection is overwritten only while
            its description says that we wrote it.
    """
    db.upgradedb()
    Pool.create_or_update_pool(
        MAILCHIMP_POOL,
        slots=MAILCHIMP_POOL_SLOTS,
        description="Requests in flight per Mailchimp account; Mailchimp allows 10.",
        include_deferred=False,
    )
    with create_session() as session:
        for conn_id, as_json in connections.items():
            stored = session.scalar(select(Connection).where(Connection.conn_id == conn_id))
            if stored is not None and stored.description != OURS:
                continue
            connection = Connection.from_json(as_json, conn_id)
            if stored is not None:
                # What somebody has added, a webhook's secret for example, is shown only once.
                connection.set_extra(json.dumps(stored.extra_dejson | connection.extra_dejson))
                session.delete(stored)
                session.flush()
            connection.description = OURS
            session.add(connection)


if __name__ == "__main__":
    prepare(
        {
            name.removeprefix(CONNECTION_PREFIX).lower(): value
            for name, value in os.environ.items()
            if name.startswith(CONNECTION_PREFIX)
        }
    )
