"""What passes between the stages of a transform: prepared rows, parent links, and built payloads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.config.stores import StoreSettings
from include.documents.encoder import ChildRows, Rows, encode, hash_texts, to_arrow
from include.documents.spec import Document
from include.shops.profile import Profile
from include.transform.audience import Audience
from include.transform.rules import RejectedRecord

TEXT = pd.ArrowDtype(pa.string())


#: A time before all others, for a context whose build knows better.
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Erased:
    """People of whom nothing is sent, because they asked to be erased (:mod:`include.transform.erasures`).

    Attributes:
        customer_ids: the shop's ids of those who are named by one.
        record_ids: their ids at Mailchimp, as far as the shop still knows an address.
        nobodys_address: of the customer to whom their orders belong; None: their orders can't be kept.
    """

    customer_ids: frozenset[str] = frozenset()
    record_ids: frozenset[str] = frozenset()
    nobodys_address: str | None = None


def _none_of_them(_: Sequence[str]) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True)
class BuildContext:
    """What a transform needs to know besides the rows.

    Attributes:
        settings: the store's settings.
        profile: its shop profile.
        store_currency: its currency.
        audience: the rules of its audience, as the run found them; None: assume the simplest (no double opt-in, no
            groups, nothing known of merge fields).
        refused_campaigns: ids that Mailchimp refused as campaigns of orders; they are left out.
        archived_among: tells which contacts, given by the hash of their address, are archived at Mailchimp as far as is
            known; unless said otherwise, none.
        archived: those of the rows who are; `Entity.build` sets it.
        now: the time of the snapshot that the rows were read in, aware UTC; `Entity.build` sets it.
        erased: people of whom nothing is sent; `Entity.build` sets it.
    """

    settings: StoreSettings
    profile: Profile
    store_currency: str
    audience: Audience | None = None
    refused_campaigns: frozenset[str] = frozenset()
    archived_among: Callable[[Sequence[str]], frozenset[str]] = _none_of_them
    archived: frozenset[str] = frozenset()
    now: datetime = _NEVER
    erased: Erased = Erased()


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
    Rows of the extract that are neither in ``rows`` nor rejected are left out; what Mailchimp holds of them is deleted.
    ``aliases`` names rows that are part of another row's record: (the shop's id, the record's id).
    Two more columns are optional: ``method``, the HTTP method of a record (null, or no such column: by the ledger), and
    ``if_held``, true for a record that is sent only where Mailchimp holds it already.
    """

    rows: Rows
    rejected: Sequence[RejectedRecord]
    parents: Sequence[ParentLinks] = ()
    aliases: Sequence[tuple[str, str]] = ()


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
    source: Rows
    document: Document
    aliases: Sequence[tuple[str, str]] = ()

    @cached_property
    def hashes(self) -> list[bytes]:
        """What the ledger compares: 16 bytes per payload."""
        return hash_texts(self.bodies)

    def methods(self) -> list[str | None]:
        """Return the HTTP method that each record asks for; None: the ledger decides."""
        return self._column("method", None)

    def if_held(self) -> list[bool]:
        """Tell which records are sent only where Mailchimp holds them already."""
        return [bool(value) for value in self._column("if_held", False)]

    def clearing_bodies(self, indices: np.ndarray) -> pa.StringArray:
        """Return the bodies that change records Mailchimp holds: an update keeps what it doesn't name.

        Args:
            indices: of the records.

        Returns:
            Their payloads with emptied values spelled out (see `include.documents.encoder.encode`).
        """
        return encode(self.document, take_rows(self.source, indices), embedded=True, clear=True)

    def child_ids(self, frame: str, column: str, indices: np.ndarray) -> list[list[str]]:
        """Return the ids of records' children, for example those of an order's lines."""
        chosen = take_rows(self.source, indices).children[frame]
        ids, ends = chosen.rows.frame[column].tolist(), chosen.offsets.tolist()
        return [ids[start:end] for start, end in itertools.pairwise(ends)]

    def _column(self, name: str, default: Any) -> list[Any]:
        if name not in self.source.frame:
            return [default] * len(self.source.frame)
        return to_arrow(self.source.frame[name]).to_pylist()


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


def take_rows(rows: Rows, indices: np.ndarray) -> Rows:
    """Pick rows by position, and their children."""
    children = {}
    for name, child in rows.children.items():
        counts = np.diff(child.offsets)[indices]
        ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        within = np.arange(ends[-1]) - np.repeat(ends[:-1], counts)
        taken = np.repeat(child.offsets[:-1][indices], counts) + within
        children[name] = ChildRows(Rows(child.rows.frame.take(taken).reset_index(drop=True)), ends)
    return Rows(rows.frame.take(indices).reset_index(drop=True), children)


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
