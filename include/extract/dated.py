"""Children that are records of their own and have no time: their parent's `updated_at` dates them.

Promo codes: the shop stamps the rule when one of its codes changes, as it stamps an order for its lines. So a code is
read in the windows of its rule, and sliced by both ids, since a shop may number the codes of each rule anew.
"""

from __future__ import annotations

from typing import Final

from include.extract.contract import ExtractContract
from include.extract.pg_types import PgType, quoted
from include.shops.profile import CheckedProfile

_BOOLEAN: Final = PgType("boolean")


def date_by_parent(contract: ExtractContract, profile: CheckedProfile) -> tuple[str, dict[str, PgType]]:
    """Wrap the SELECT of an extract with `dated_by` so that it yields the derived columns as well.

    A row without parent stays, undated. The parent's time is a part of the row number's partition only so that
    PostgreSQL applies a window's bounds before it numbers rows: an incremental run then numbers those of changed
    parents alone.

    Args:
        contract: of the extract; its derived columns are those of `promo_codes`.
        profile: has the SQL of the extract and of its parent.

    Returns:
        The SELECT, and the types of all columns it yields.
    """
    if contract.dated_by is None:
        raise ValueError(f"{contract.name} has a time of its own")
    parent, link = contract.dated_by
    own, parents = profile.columns[contract.name], profile.columns[parent]
    same_type = own[link].name == parents[link].name
    cast = "" if same_type else "::text"
    flags = {
        f"rule_{name}": f"rules.{name}" if name in parents else "NULL::boolean"
        for name in ("is_deleted", "other_conditions")
    }
    derived = {
        "code_key": "codes.rule_id::text || '/' || codes.code_id::text",
        "updated_at": "rules.updated_at",
        "number": "row_number() OVER (PARTITION BY codes.rule_id, rules.updated_at ORDER BY codes.code_id)",
        **flags,
    }
    listed = [*(f"codes.{quoted(name)}" for name in own), *(f"{sql} AS {name}" for name, sql in derived.items())]
    # The files end where a line ends, so that a comment in their last line hides nothing.
    select = f"""
        SELECT {", ".join(listed)}
        FROM (\n{profile.profile.sql[contract.name]}\n) AS codes
        LEFT JOIN (\n{profile.profile.sql[parent]}\n) AS rules ON rules.{link}{cast} = codes.{link}{cast}
    """  # noqa: S608 (a profile's SQL is code)
    types = {
        **own,
        "code_key": PgType("text"),
        "updated_at": parents["updated_at"],
        "number": PgType("bigint"),
        **dict.fromkeys(flags, _BOOLEAN),
    }
    return select, {name: types[name] for name in (column.name for column in contract.columns) if name in types}
