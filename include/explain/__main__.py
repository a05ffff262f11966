"""Say why a record is, or isn't, at Mailchimp: `python -m include.explain <store> <entity> <id>`.

The shop's connection comes from the environment variable that Airflow uses (AIRFLOW_CONN_SHOP_DB). Nothing is changed,
and Mailchimp isn't asked. Personal data is hidden unless --private is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from include.config.stores import SettingsError, load_stores
from include.explain.answer import explain
from include.explain.connections import ConnectionMissing, engine_for
from include.explain.explanation import Explanation
from include.extract.connection import ShopUnreachable, check_reachable
from include.extract.frames import ExtractFailed
from include.shops.profile import ProfileError, check_profile, load_profile
from include.state.database import StateDatabase
from include.state.migrate import StateOutdated


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: those of the command line, by default of this process.

    Returns:
        Exit code: 0 if the record could be explained, otherwise 1.
    """
    options = _parser().parse_args(arguments)
    try:
        explanation = _explain(options.store, options.entity, options.id)
    except KeyError as error:
        sys.stderr.write(f"{error.args[0]}\n")
        return 1
    except (SettingsError, ShopUnreachable, ProfileError, ExtractFailed, StateOutdated, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if options.json:
        text = json.dumps(explanation.to_json(private=options.private), indent=2, ensure_ascii=False)
    else:
        text = explanation.to_text(private=options.private)
    sys.stdout.write(f"{text}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.explain", description=__doc__)
    parser.add_argument("store", help="key of the store in the settings file")
    parser.add_argument("entity", help="products, members, customers, promo_rules, promo_codes, orders or carts")
    parser.add_argument("id", help="the shop's key, the id at Mailchimp, or a person's e-mail address")
    parser.add_argument("--private", action="store_true", help="show personal data")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _explain(store_key: str, entity: str, record: str) -> Explanation:
    stores = load_stores()
    settings = stores.store(store_key)
    engine = engine_for(settings.shop_conn_id)
    try:
        reading = engine_for(f"{settings.shop_conn_id}_replica")
    except ConnectionMissing:
        reading = engine
    try:
        for one in {engine, reading}:
            check_reachable(one, settings.shop_conn_id)
        with reading.connect() as connection:
            profile = check_profile(load_profile(settings.profile), connection, statuses=False)
        state = StateDatabase(engine, stores.state_schema)
        return explain(state, reading, profile, settings, entity, record)
    finally:
        engine.dispose()
        reading.dispose()


if __name__ == "__main__":
    sys.exit(main())
