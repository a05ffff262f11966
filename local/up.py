"""`make up`: Airflow with its UI and the sandbox Mailchimp on this machine, until Ctrl-C.

Everything listens on loopback only, keeps its files in the state folder and is a child of this process.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from local.environment import DEFAULT_STATE_DIR, LOGIN, PASSWORD, LocalEnvironment, LocalSetupError, Ports
from local.processes import Processes, StopRequested
from local.services import (
    load_shop,
    local_run,
    require_free_ports,
    start_airflow,
    start_metadata,
    start_sandbox,
    watch,
)

WELCOME = """
  Airflow   {ui}   login {login} / {password}
  Sandbox   {sandbox}   what "Mailchimp" holds, refreshed by itself
  Shop      psql "{shop}"
  Logs      {logs}

  Try this: Dags → mailchimp_push__demo → switch it on. Its first run starts at once: watch its graph and the
            sandbox's page. A run that you trigger meanwhile waits: a store has one push at a time.
            Admin → Connections → mailchimp → Edit → Test answers "Everything's Chimpy!".

  Ctrl-C stops everything.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command line without the program's name; the process's own by default.

    Returns:
        The exit code: 0 after a requested stop, 1 when something failed.
    """
    options = _parse(arguments)
    try:
        with local_run(options.state_dir, Ports(options.api_port, options.sandbox_port)) as (environment, processes):
            try:
                _start(environment, processes, options.scale)
                watch(processes)
            finally:
                _say("stopping …")
    except StopRequested:
        _say("stopped")
    except LocalSetupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _start(environment: LocalEnvironment, processes: Processes, scale: str) -> None:
    require_free_ports(environment.ports.api, environment.ports.sandbox)
    started = time.monotonic()
    _say("PostgreSQL runs; preparing Airflow's database and the sample shop …")
    metadata = start_metadata(environment, processes)
    present = load_shop(environment, processes, scale)
    if present not in (None, scale):
        _say(f"the shop holds the {present} sample; to load the {scale} one, stop and `make clean` first")
    processes.finish(metadata)
    start_sandbox(environment, processes)
    _say("the sandbox runs; starting Airflow (about half a minute) …")
    start_airflow(environment, processes)
    _say(f"ready after {time.monotonic() - started:.0f} s")
    sys.stdout.write(
        WELCOME.format(
            ui=environment.ui_url,
            login=LOGIN,
            password=PASSWORD,
            sandbox=environment.sandbox_page,
            shop=environment.shop_url,
            logs=environment.logs,
        )
    )
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stdout.flush()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.up", description=__doc__.splitlines()[0])
    defaults = Ports()
    parser.add_argument("--state-dir", type=Path, default=DEFAULT_STATE_DIR, help="folder for everything written")
    parser.add_argument("--scale", choices=["small", "medium", "large"], default="medium", help="size of the sample")
    parser.add_argument("--api-port", type=int, default=defaults.api, help="Airflow's UI and API")
    parser.add_argument("--sandbox-port", type=int, default=defaults.sandbox, help="the sandbox Mailchimp")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
