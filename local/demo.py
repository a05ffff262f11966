"""`make demo`: a shop's products, customers and orders go to a Mailchimp on this machine, and what happened is shown.

Three acts, each a real run of the DAG `mailchimp_push__demo`: everything is sent; nothing changed, so nothing is sent;
a few records change, and exactly these are sent. Every figure is checked against what the sandbox holds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import text

from include.config.stores import StoreSettings, load_stores
from include.demo.changes import Change, apply_changes
from include.state.database import StateDatabase
from include.state.runs import EntitySummary, run_summary
from include.transform.entities import ENTITIES
from local.dag_runs import DagRunner
from local.environment import DEFAULT_STATE_DIR, LocalEnvironment, LocalSetupError, Ports
from local.processes import Processes, StopRequested
from local.services import load_shop, local_run, require_free_ports, start_metadata, start_sandbox

DAG_ID = "mailchimp_push__demo"
COLUMNS = ("extracted", "skipped", "operations", "acknowledged", "rejected", "unchanged")


class DemoFailed(LocalSetupError):
    """What the demo saw isn't what it promises."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command line without the program's name; the process's own by default.

    Returns:
        The exit code: 0 when every act did what it says, else 1.
    """
    options = _parse(arguments)
    try:
        ports = Ports(sandbox=options.sandbox_port)
        with local_run(options.state_dir, ports) as (environment, processes):
            Demo(environment, processes, options.scale).play()
    except StopRequested:
        sys.stderr.write("stopped\n")
        return 1
    except LocalSetupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


class Demo:
    """The three acts, in one state folder."""

    def __init__(self, environment: LocalEnvironment, processes: Processes, scale: str) -> None:
        self._environment = environment
        self._processes = processes
        self._scale = scale
        self._begun = time.monotonic()
        stores = load_stores()
        self._store: StoreSettings = stores.store("demo")
        self._state = StateDatabase(environment.postgres.engine("shop"), stores.state_schema)

    def play(self) -> None:
        """Set the stage and play the acts.

        Raises:
            DemoFailed: a figure isn't what it should be.
        """
        require_free_ports(self._environment.ports.sandbox)
        self._say("PostgreSQL runs; preparing Airflow's database, the sample shop and the sandbox Mailchimp …")
        metadata = start_metadata(self._environment, self._processes)
        load_shop(self._environment, self._processes, self._scale)
        start_sandbox(self._environment, self._processes)
        self._processes.finish(metadata)
        log = self._environment.logs / "demo-dag-runs.log"
        with DagRunner(self._environment.variables(), log) as runner:
            self._play_acts(runner)
        self._say("done; `make up` shows these runs in Airflow's UI, and the sandbox's page")

    def _play_acts(self, runner: DagRunner) -> None:
        held = self._sandbox_counts()
        self._title("Act 1: what changed since the last time" if held else "Act 1: the shop goes to Mailchimp")
        self._report(runner.run(DAG_ID))
        self._show_rejected()

        self._title("Act 2: nothing has changed, everything is compared again")
        second = self._report(runner.run(DAG_ID, {"mode": "full"}))
        _expect(sum(summary.operations for summary in second) == 0, "an unchanged shop must cost no operation")

        self._title("Act 3: a few records change in the shop")
        changes = apply_changes(self._state.engine)
        dag_run_id = runner.run(DAG_ID)
        self._report(dag_run_id)
        self._show_changes(changes, dag_run_id)

    def _report(self, dag_run_id: str) -> list[EntitySummary]:
        """Print a run's table and compare it with what the sandbox holds."""
        with self._state.begin() as connection:
            run_ref = connection.execute(
                text("SELECT run_ref FROM run WHERE dag_run_id = :id AND dag_id = :dag"),
                {"id": dag_run_id, "dag": DAG_ID},
            ).scalar_one()
            done = {summary.entity: summary for summary in run_summary(connection, run_ref)}
            known: dict[str, int] = dict(
                connection.execute(
                    text("SELECT entity, count(*) FROM ledger WHERE on_mailchimp GROUP BY entity")
                ).fetchall()
            )
        held = self._sandbox_counts()
        none = dict.fromkeys((*COLUMNS, "unknown"), 0)
        summaries = [done.get(entity, EntitySummary(entity=entity, **none)) for entity in ENTITIES]
        _print_table(
            ["entity", *COLUMNS, "Mailchimp holds"],
            [
                [summary.entity, *(getattr(summary, name) for name in COLUMNS), held[summary.entity]]
                for summary in summaries
            ],
        )
        for summary in summaries:
            _expect(
                summary.extracted == summary.skipped + summary.acknowledged + summary.rejected + summary.unchanged,
                f"the figures of {summary.entity} must add up",
            )
            _expect(
                held[summary.entity] == known.get(summary.entity, 0),
                f"the ledger and the sandbox must agree on {summary.entity}",
            )
        return summaries

    def _show_rejected(self) -> None:
        with self._state.begin() as connection:
            rows = connection.execute(
                text("SELECT entity, record_id, field, title FROM rejected_records ORDER BY entity, record_id LIMIT 20")
            ).fetchall()
        if rows:
            sys.stdout.write("\nRejected, and why (view mailchimp.rejected_records); all others went on:\n")
            _print_table(["entity", "record", "field", "reason"], [list(row) for row in rows])

    def _show_changes(self, changes: Sequence[Change], dag_run_id: str) -> None:
        """Print each change with the operation that carried it, and make sure that there is no other operation."""
        with self._state.begin() as connection:
            sent = {
                (row.entity, row.key): row
                for row in connection.execute(
                    text("""
                        SELECT b.entity, coalesce(l.source_key, l.record_id) AS key, o.method, o.outcome, o.status_code
                        FROM run r JOIN batch b USING (run_ref) JOIN operation o USING (batch_ref)
                        JOIN ledger l ON (l.store_ref, l.entity, l.record_id) = (b.store_ref, b.entity, o.record_id)
                        WHERE r.dag_run_id = :id
                    """),
                    {"id": dag_run_id},
                )
            }
        rows = []
        for change in changes:
            row = sent.get((change.entity, change.record_id))
            answer = f"{row.method} → {row.status_code}" if row else "not sent"
            rows.append([change.entity, change.record_id, change.what, answer])
        sys.stdout.write("\nWhat was changed, and what was sent for it:\n")
        _print_table(["entity", "record", "change", "operation"], rows)
        wanted = {(change.entity, change.record_id) for change in changes}
        _expect(set(sent) == wanted, "exactly the changed records must be sent")

    def _sandbox_counts(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self._environment.sandbox_page}/sandbox/state", timeout=30) as reply:  # noqa: S310
            overview: dict[str, Any] = json.load(reply)
        counts: dict[str, int] = overview["stores"].get(self._store.store_id, {}).get("counts", {})
        return counts

    def _title(self, title: str) -> None:
        sys.stdout.write(f"\n── {title} ──  ({time.monotonic() - self._begun:.0f} s)\n\n")
        sys.stdout.flush()

    def _say(self, message: str) -> None:
        sys.stdout.write(f"{time.monotonic() - self._begun:5.0f} s  {message}\n")
        sys.stdout.flush()


def _expect(holds: bool, promise: str) -> None:
    if not holds:
        raise DemoFailed(f"The demo failed: {promise}.")


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    cells = [[f"{value:,}" if isinstance(value, int) else str(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(heads), *cells]) for i in range(len(heads))]
    numeric = [all(isinstance(row[i], int) for row in rows) for i in range(len(heads))]
    for line in [list(heads), *cells]:
        aligned = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        sys.stdout.write("  " + "   ".join(aligned).rstrip() + "\n")
    sys.stdout.flush()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIR, help="folder for everything written")
    parser.add_argument("--scale", choices=["small", "medium", "large"], default="medium", help="size of the sample")
    parser.add_argument("--sandbox-port", type=int, default=Ports().sandbox, help="the sandbox Mailchimp")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
