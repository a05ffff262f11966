"""What passes between the stages of a transform: prepared rows, parent links, and built payloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.config.stores import StoreSettings
from include.documents.encoder import ChildRows, Rows, hash_texts, to_arrow
from include.shops.profile import Profile
from include.transform.rules import RejectedRecord

TEXT = pd.ArrowDtype(pa.string())


@dataclass(frozen=True)
class BuildContext:
    """What a transform needs to know besides the rows: the store's settings, its shop profile, its currency."""

    settings: StoreSettings
    profile: Profile
    store_currency: str


@dataclass(frozen=True)
class ParentLinks:
    """Which records refer to which parents: record ``positions[i]`` needs ``parent_ids[i]`` of ``entity``.

    ``field`` is the field of the document that holds the reference. ``parent_keys`` are the parents' keys in the shop,
    where those are not the ids: a parent whose id changes before it is acknowledged is found by them.
    """

    entity: str
    field: str
    positions: np.ndarray
    parent_ids: pa.StringArray
    parent_keys: pa.StringArray | None = None


@dataclass(frozen=True)
class Prepared:
    """The rows of one entity, ready to be encoded: rules applied, columns derived, children attached.

    ``rows.frame`` has the columns ``key`` (the shop's id), ``record_id`` (the id at Mailchimp) and ``updated_at``.
    """

    rows: Rows
    rejected: Sequence[RejectedRecord]
    parents: Sequence[ParentLinks] = ()


@dataclass(frozen=True)
class Built:
    """The payloads of one chunk; all arrays are parallel.

    ``bodies`` are JSON texts escaped once more, to be embedded in a batch operation.
    ``rows`` counts the rows that were read, ``last_key`` is the last of them (None when nothing was read), and
    ``read_at`` is the time of the snapshot they were read in.
    """

    keys: pa.StringArray
    record_ids: pa.StringArray
    bodies: pa.StringArray
    updated_at: pa.TimestampArray
    parents: Sequence[ParentLinks]
    rejected: Sequence[RejectedRecord]
    rows: int
    last_key: str | None
    read_at: datetime

    @cached_property
    def hashes(self) -> list[bytes]:
        """What the ledger compares: 16 bytes per payload."""
        return hash_texts(self.bodies)


def find(values: pd.Series, wanted: pd.Series) -> np.ndarray:
    """Return the position in ``values`` of each id that is wanted, -1 where the id is null or not among them."""
    found = pc.index_in(to_arrow(wanted), to_arrow(values), skip_nulls=True)
    return found.fill_null(-1).to_numpy(zero_copy_only=False)


def children_of(parents: pd.Series, child: pd.DataFrame, key: str, order: Sequence[str]) -> ChildRows:
    """Sort child rows under their parents.

    Args:
        parents: the parents' ids, in the order of the parent frame.
        child: child rows with the parent's id in column ``key``; rows of unknown parents are left out.
        order: columns that fix the order below one parent, so that equal data gives equal bytes.

    Returns:
        The sorted rows, with offsets per parent.
    """
    position = find(parents, child[key])
    keys = {"parent": pa.array(position), **{name: to_arrow(child[name]) for name in order}}
    sequence = pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in keys]).to_numpy()
    sequence = sequence[position[sequence] >= 0]
    offsets = np.searchsorted(position[sequence], np.arange(len(parents) + 1)).astype(np.int32)
    return ChildRows(Rows(child.take(sequence).reset_index(drop=True)), offsets)


def positions(children: ChildRows) -> np.ndarray:
    """Return, for each child row, the position of its parent."""
    return np.repeat(np.arange(len(children.offsets) - 1), np.diff(children.offsets))


def look_up(values: pd.DataFrame, key: str, ids: pd.Series, columns: Mapping[str, str]) -> dict[str, pd.Series]:
    """Fetch columns of another frame by id, row by row; null where the id is null or unknown.

    Args:
        values: the frame to look in, one row per id.
        key: its id column.
        ids: the ids to look up.
        columns: new column name → column of ``values``.
    """
    position = find(values[key], ids)
    taken = pa.array(position, mask=position < 0)
    return {
        name: pd.Series(pd.arrays.ArrowExtensionArray(to_arrow(values[column]).take(taken)), index=ids.index)
        for name, column in columns.items()
    }


def keep_rows(rows: Rows, kept: pd.Series) -> Rows:
    """Leave out the rows that are not kept, and their children."""
    if kept.all():
        return rows
    mask = kept.to_numpy(dtype=bool)
    children = {}
    for name, child in rows.children.items():
        counts = np.diff(child.offsets)
        frame = child.rows.frame.loc[np.repeat(mask, counts)].reset_index(drop=True)
        children[name] = ChildRows(Rows(frame), np.concatenate([[0], np.cumsum(counts[mask])]).astype(np.int32))
    return Rows(rows.frame.loc[mask].reset_index(drop=True), children)


@dataclass(frozen=True)
class Frames:
    """The result sets that one chunk is made of: the entity's own rows and, by extract, what they refer to."""

    main: pd.DataFrame
    related: Mapping[str, pd.DataFrame] = field(default_factory=dict)
