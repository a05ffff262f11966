"""`make demo`: a shop goes to a Mailchimp on this machine, a day in the shop follows, and what was sent is shown.

Real runs of the DAG `mailchimp_push__demo`: everything is sent; nothing changed, so nothing is sent; then the second
act (`local.second_act`), in two runs. Every figure is checked against what the sandbox holds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import text

from include.config.stores import StoreSettings, load_stores
from include.state.database import StateDatabase
from include.state.runs import EntitySummary, run_summary
from include.transform.entities import ENTITIES
from local.dag_runs import DagRunner
from local.environment import DEFAULT_STATE_DIR, LocalEnvironment, LocalSetupError, Ports
from local.processes import Processes, StopRequested
from local.sandbox_view import SandboxView
from local.second_act import SecondAct, expect
from local.sent import Sent, sent_by
from local.services import load_shop, local_run, require_free_ports, start_metadata, start_sandbox

DAG_ID = "mailchimp_push__demo"
COLUMNS = ("extracted", "skipped", "operations", "acknowledged", "deleted", "rejected", "unchanged")

LEGEND = """
  skipped: left out by the settings (unpaid orders, people who never decided about the newsletter, old carts), or
  deleted in the shop. members: the audience's contacts; customers who never decided become contacts too.
"""


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
    """The acts, in one state folder."""

    def __init__(self, environment: LocalEnvironment, processes: Processes, scale: str) -> None:
        self._environment = environment
        self._processes = processes
        self._scale = scale
        self._begun = time.monotonic()
        stores = load_stores()
        self._store: StoreSettings = stores.store("demo")
        self._state = StateDatabase(environment.postgres.engine("shop"), stores.state_schema)
        self._sandbox = SandboxView(environment, self._store)

    def play(self) -> None:
        """Set the stage and play the acts.

        Raises:
            DemoFailed: a figure isn't what it should be.
        """
        require_free_ports(self._environment.ports.sandbox)
        self._say("PostgreSQL runs; preparing Airflow's database, the sample shop and the sandbox Mailchimp …")
        metadata = start_metadata(self._environment, self._processes)
        load_shop(self._environment, self._processes, self._scale)
        start_sandbox(self._environment, self._processes, hurried=True)
        self._processes.finish(metadata)
        log = self._environment.logs / "demo-dag-runs.log"
        with DagRunner(self._environment.variables(), log) as runner:
            self._play_acts(runner)
        self._say("done; `make up` shows these runs in Airflow's UI, and the sandbox's page")

    def _play_acts(self, runner: DagRunner) -> None:
        # In a folder that was played in before, the first act is about what the last performance left to do.
        again = bool(self._sandbox.counts())
        self._title("Act 1: everything is compared with last time" if again else "Act 1: the shop goes to Mailchimp")
        mails = len(self._sandbox.mails())
        first = runner.run(DAG_ID, {"mode": "full"} if again else None)
        self._report(first)
        sys.stdout.write(LEGEND)
        if again:
            self._show_late(first)
        self._show_rejected()

        self._title("Act 2: nothing has changed, everything is compared again")
        second = self._report(runner.run(DAG_ID, {"mode": "full"}))
        expect(sum(summary.operations for summary in second) == 0, "an unchanged shop must cost no operation")
        expect(len(self._sandbox.mails()) == mails, "no mail may be sent while a store is filled")

        self._title("Act 3: a day in the shop")
        act = SecondAct(self._state.engine, self._sandbox, self._store.cart_idle_minutes)
        act.play_first_part()
        sent = self._push(runner)
        sys.stdout.write("\nWhat happened, what was sent for it (in this order), and why:\n\n")
        act.tell(sent)
        sys.stdout.write("  Besides, ten records were changed\n")
        _print_table(["entity", "record", "change", "sent"], act.told_changes(sent), indent=4)
        sys.stdout.write("\n")
        _print_checks(act.check_first_part())

        self._title("Act 3, second part: the cart is ordered")
        act.play_second_part()
        sent = self._push(runner)
        sys.stdout.write("\n")
        act.tell(sent)
        _print_checks(act.check_second_part(sent))

    def _push(self, runner: DagRunner) -> list[Sent]:
        dag_run_id = runner.run(DAG_ID)
        self._report(dag_run_id)
        return sent_by(self._state, DAG_ID, dag_run_id)

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
                    # Every customer is a contact of the audience, whether they decided about the newsletter or not.
                    text("""
                        SELECT entity, count(*) FROM ledger WHERE on_mailchimp AND entity <> 'members' GROUP BY entity
                        UNION ALL
                        SELECT 'members', count(DISTINCT record_id) FROM ledger
                        WHERE on_mailchimp AND entity IN ('members', 'customers')
                    """)
                ).fetchall()
            )
        held = self._sandbox.counts()
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
            expect(
                summary.extracted == summary.skipped + summary.acknowledged + summary.rejected + summary.unchanged,
                f"the figures of {summary.entity} must add up",
            )
            expect(
                held[summary.entity] == known.get(summary.entity, 0),
                f"the ledger and the sandbox must agree on {summary.entity}",
            )
        return summaries

    def _show_late(self, dag_run_id: str) -> None:
        """Show what only a full comparison finds: more old orders with the product deleted last time."""
        sent = sent_by(self._state, DAG_ID, dag_run_id)
        if sent:
            sys.stdout.write(
                "\nSent now: further orders with the product deleted last time, or what a stop left undone:\n"
            )
            _print_table(["entity", "record", "sent"], [[*one.record, one.answer] for one in sent])

    def _show_rejected(self) -> None:
        with self._state.begin() as connection:
            rows = connection.execute(
                text("SELECT entity, record_id, field, title FROM rejected_records ORDER BY entity, record_id LIMIT 20")
            ).fetchall()
        if rows:
            sys.stdout.write("\nRejected, and why (view mailchimp.rejected_records); all others went on:\n")
            _print_table(["entity", "record", "field", "reason"], [list(row) for row in rows])

    def _title(self, title: str) -> None:
        sys.stdout.write(f"\n── {title} ──  ({time.monotonic() - self._begun:.0f} s)\n\n")
        sys.stdout.flush()

    def _say(self, message: str) -> None:
        sys.stdout.write(f"{time.monotonic() - self._begun:5.0f} s  {message}\n")
        sys.stdout.flush()


def _print_checks(holds: Sequence[str]) -> None:
    sys.stdout.write("  Looked up at Mailchimp\n" + "".join(f"    ✓ {one}\n" for one in holds))
    sys.stdout.flush()


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[Any]], indent: int = 2) -> None:
    cells = [[f"{value:,}" if isinstance(value, int) else str(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(heads), *cells]) for i in range(len(heads))]
    numeric = [all(isinstance(row[i], int) for row in rows) for i in range(len(heads))]
    for line in [list(heads), *cells]:
        aligned = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        sys.stdout.write(" " * indent + "   ".join(aligned).rstrip() + "\n")
    sys.stdout.flush()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIR, help="folder for everything written")
    parser.add_argument("--scale", choices=["small", "medium", "large"], default="medium", help="size of the sample")
    parser.add_argument("--sandbox-port", type=int, default=Ports().sandbox, help="the sandbox Mailchimp")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
