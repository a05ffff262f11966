"""`python -m include.demo --dsn <libpq URL> --scale small|medium|large`: create the sample shop in a database."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from time import monotonic

import psycopg2

from include.demo.loading import DEFAULT_UNTIL, DatabaseNotEmpty, TooFewOrders, load_shop
from include.demo.purchases import SampleDataMissing
from include.demo.scale import FEWEST_ORDERS, SCALES


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the sample shop and say what was loaded.

    Args:
        arguments: the command line without the program; default: the process's own.

    Returns:
        The exit code: 0, or 1 with the reason on standard error.
    """
    options = _parser().parse_args(arguments)
    started = monotonic()
    try:
        loaded = load_shop(
            options.dsn, SCALES[options.scale], orders=options.orders, until=options.until, reset=options.reset
        )
    except psycopg2.OperationalError as error:
        return _fail(f"the database can't be reached: {str(error).strip()}\nCheck --dsn and that the server runs.")
    except psycopg2.ProgrammingError as error:
        return _fail(f"PostgreSQL refused: {str(error).strip()}\nCheck --dsn and the user's rights in that database.")
    except (DatabaseNotEmpty, SampleDataMissing, TooFewOrders) as error:
        return _fail(str(error))
    print(f"Sample shop ({options.scale}) loaded in {monotonic() - started:.1f} s")
    for table, rows in loaded.rows.items():
        print(f"  {table:<20} {rows:>9,}")
    print("Purchases: The Complete Journey, simulated from real shopping; people, addresses and consents are invented.")
    return 0


def _parser() -> argparse.ArgumentParser:
    # A load from the future would not be due yet: nothing changes after "now" for an incremental run.
    until = min(DEFAULT_UNTIL, datetime.now(UTC).date())
    parser = argparse.ArgumentParser(prog="python -m include.demo", description=__doc__)
    parser.add_argument("--dsn", required=True, help="libpq URL of the database that gets the shop's tables")
    parser.add_argument("--scale", choices=SCALES, default="medium", help="how much is loaded (default: medium)")
    parser.add_argument("--orders", type=int, help=f"number of orders instead of the scale's own, ≥ {FEWEST_ORDERS}")
    parser.add_argument(
        "--until", type=date.fromisoformat, default=until, help=f"day on which the data ends (default: {until})"
    )
    parser.add_argument("--reset", action="store_true", help="replace a sample shop that is already there")
    return parser


def _fail(reason: str) -> int:
    print(reason, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
