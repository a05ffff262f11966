"""``python -m include.sandbox``: a Mailchimp Marketing API on this machine.

Prints ``READY http://127.0.0.1:8099/3.0`` once it accepts connections; Ctrl-C or SIGTERM stops it. Its page is at
the same address without /3.0.
"""

import argparse
import logging
import signal
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from include.sandbox.account import DEFAULT_LIST
from include.sandbox.server import SandboxServer
from include.sandbox.state import SandboxOptions


def audience(text: str) -> tuple[str, str, bool]:
    """Read ``ID[:name[:double]]``.

    Raises:
        argparse.ArgumentTypeError: the third part is something else than ``double`` or ``single``.
    """
    list_id, _, rest = text.partition(":")
    name, _, opt_in = rest.partition(":")
    if not list_id or opt_in not in {"", "single", "double"}:
        raise argparse.ArgumentTypeError(f"{text!r} is not ID[:name[:double]]")
    return list_id, name or list_id, opt_in == "double"


def _parser() -> argparse.ArgumentParser:
    default = SandboxOptions()
    parser = argparse.ArgumentParser("python -m include.sandbox", description="A Mailchimp API on this machine.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=8099, help="port, 0 takes a free one (default %(default)s)")
    parser.add_argument("--file", type=Path, help="SQLite file to keep the state in (default: memory)")
    parser.add_argument("--log-requests", action="store_true", help="print a line for each request and batch")
    parser.add_argument(
        "--list",
        action="append",
        type=audience,
        metavar="ID[:name[:double]]",
        help=f"an audience, with double opt-in when asked; repeatable (default {DEFAULT_LIST})",
    )
    parser.add_argument("--api-key", help="the only key to accept (default: whatever looks like one)")
    parser.add_argument(
        "--batch-seconds",
        type=float,
        default=default.batch_seconds,
        help="least duration of a batch (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, help="seed of the shuffling inside batches")
    parser.add_argument("--link-seconds", type=float, default=default.link_seconds, help="validity of result links")
    parser.add_argument("--latency", type=float, default=0, help="seconds added to each request")
    parser.add_argument("--no-order-put", action="store_true", help="answer 405 to PUT of orders")
    parser.add_argument("--campaign", action="append", default=[], help="id of a campaign that orders may name")
    parser.add_argument("--crowd", type=int, default=0, help="synthetic contacts in the first audience")
    parser.add_argument(
        "--crowd-address",
        default=default.crowd_address,
        help="their addresses; {number} stands for a number (default %(default)s)",
    )
    parser.add_argument(
        "--webhook-retry-seconds",
        type=float,
        default=default.webhook_retry_seconds,
        help="pause after a failed delivery of a webhook, doubled each time (default %(default)s)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal arrives; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    level = logging.INFO if chosen.log_requests else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = SandboxServer.start(
            chosen.port,
            chosen.host,
            audiences=tuple(chosen.list) if chosen.list else SandboxOptions().audiences,
            api_key=chosen.api_key,
            file=chosen.file,
            batch_seconds=chosen.batch_seconds,
            seed=chosen.seed,
            log_requests=chosen.log_requests,
            link_seconds=chosen.link_seconds,
            latency_seconds=chosen.latency,
            no_order_put=chosen.no_order_put,
            campaigns=tuple(chosen.campaign),
            crowd=chosen.crowd,
            crowd_address=chosen.crowd_address,
            webhook_retry_seconds=chosen.webhook_retry_seconds,
        )
    except OSError as error:
        address = f"{chosen.host}:{chosen.port}"
        sys.stderr.write(f"The sandbox can't listen on {address}: {error}. Choose another --port (0: a free one).\n")
        return 1
    except sqlite3.Error as error:
        sys.stderr.write(f"The sandbox can't use the file {chosen.file}: {error}. Choose another --file.\n")
        return 1
    with server:
        sys.stdout.write(f"READY {server.url}\n")
        sys.stdout.flush()
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
