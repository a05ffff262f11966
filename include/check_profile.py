"""Check a shop profile against a database: `python -m include.check_profile <profile> --dsn <URL>`.

Prints the columns of every extract, or every problem (exit code 1). Reads nothing but the distinct order statuses.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from include.extract.connection import ShopUnreachable, check_reachable, open_engine
from include.extract.contract import CONTRACT
from include.shops.profile import CheckedProfile, ProfileError, check_profile, load_profile
from include.shops.write_back import check_write_back


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: those of the command line, by default of this process.

    Returns:
        Exit code: 0 if the profile fits the database, otherwise 1.
    """
    options = _parser().parse_args(arguments)
    try:
        profile = load_profile(options.profile, options.folder)
        engine = open_engine(options.dsn)
        check_reachable(engine)
        with engine.connect() as connection:
            checked = check_profile(profile, connection)
            check_write_back(profile, connection)
    except (ProfileError, ShopUnreachable, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    engine.dispose()
    sys.stdout.write(_report(checked))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.check_profile", description=__doc__)
    parser.add_argument("profile", help="name of the profile: its folder under include/shops")
    parser.add_argument("--dsn", required=True, help="the shop database: postgresql://user:password@host:5432/database")
    parser.add_argument("--folder", type=Path, default=None, help="where profiles are, instead of include/shops")
    return parser


def _report(checked: CheckedProfile) -> str:
    lines = [f"OK: profile {checked.profile.name!r} fits the database."]
    for extract in CONTRACT:
        if extract not in checked.columns:
            lines.append(f"{extract}: the shop has none")
            continue
        described = (f"{name} ({found})" for name, found in checked.columns[extract].items())
        lines.append(f"{extract}: {', '.join(described)}")
        if checked.ignored.get(extract):
            lines.append(f"  not part of the contract, ignored: {', '.join(checked.ignored[extract])}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
