"""Brings people to the audience whom only the shop knows: those whose opt-in it has on record, with its time.

There is no second engine. It is a run that names customers (`Mode.IDS`), whose keys are in the state tables like those
of a replay, and that has the phase ``members`` only. It may ask somebody before it goes on, so each row is judged once
more when it is read to be sent: who has no proven opt-in by then is left to the next push, with all that is owed to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import pandas as pd

from include.config.stores import StoreSettings
from include.extract.slices import Extractor, Window
from include.load.errors import PreflightFailed
from include.load.runs import Mode, RunRequest
from include.state.database import StateDatabase
from include.state.newcomers import forget_given, give, mirrored_at, standings
from include.state.runs import SUBSCRIBERS, Run
from include.state.stores import StoreRef
from include.transform import people
from include.transform.entities import ENTITIES
from include.transform.erasures import read_erased
from include.transform.evidence import Finding, judge
from include.transform.records import BuildContext, Frames

_MEMBERS: Final = ENTITIES["members"]
_ROWS: Final = 5_000  # customers that are looked at together
_EVERYTHING: Final = Window(None, datetime(9999, 1, 1, tzinfo=UTC))

_MEANINGS: Final = {
    Finding.WITH_EVIDENCE: "opted in, the time is on record: would be subscribed",
    Finding.WITHOUT_EVIDENCE: "never asked, or nobody knows when they opted in",
    Finding.OPTED_OUT: "said no",
    Finding.ALREADY_CONTACT: "contacts of the audience, or were: the ledger or a pull knows them",
    Finding.EXCLUDED: "opted in, but exclude_emails leaves them out",
    Finding.INVALID: "opted in, but Mailchimp or a rule refuses them: see rejected_records after a push",
}

Take = Callable[[Sequence[tuple[str, str]]], None]


@dataclass(frozen=True)
class Survey:
    """How many people there are of each kind, and when a pull has last read the audience (None: never)."""

    counts: dict[Finding, int]
    mirrored_at: datetime | None

    def to_json(self) -> dict[str, int]:
        """Return the counts."""
        return {str(finding): count for finding, count in self.counts.items()}


def check_limit(settings: StoreSettings) -> None:
    """Check that the store has a limit for new subscribers.

    Raises:
        PreflightFailed: it has none, so nobody would be asked.
    """
    if settings.max_new_subscribers is None:
        raise PreflightFailed(
            f"Store {settings.key!r} has no max_new_subscribers, so nobody would be asked before many people are "
            "subscribed. Set it in the settings file; the task count says how many there are. Nothing was sent."
        )


def request_for(dag_id: str, dag_run_id: str) -> RunRequest:
    """Make the request of such a run."""
    return RunRequest(dag_id, dag_run_id, SUBSCRIBERS, Mode.IDS, None, None, (_MEMBERS.name,))


def survey(
    state: StateDatabase, extractor: Extractor, store: StoreRef, context: BuildContext, take: Take | None = None
) -> Survey:
    """Look at everybody whom the shop knows, each person once, however many accounts have the address.

    Who asked to be erased, or has only deleted accounts, is nobody here.

    Args:
        state: the state tables.
        extractor: reads the shop.
        store: the store.
        context: its settings and audience.
        take: is handed those who can be brought over, page by page: (hash of the address, the shop's key).
    """
    counts: Counter[str] = Counter(dict.fromkeys(map(str, _MEANINGS), 0))
    for part in extractor.plan(_MEMBERS.extract, _EVERYTHING, 10**9):  # one range: from the first to the last key
        after = None
        while True:
            frame = extractor.read_range(
                _MEMBERS.extract, after, part.last_key, _ROWS, _EVERYTHING, first=part.first_key
            )
            found = _look_at(state, extractor, store, context, frame)
            counts.update(found["finding"].tolist())
            if take is not None:
                chosen = found.loc[found["finding"] == Finding.WITH_EVIDENCE]
                take(list(zip(chosen["record_id"].tolist(), chosen["key"].tolist(), strict=True)))
            if len(frame) < _ROWS:
                break
            after = str(frame[_MEMBERS.key].iloc[-1])
    with state.begin() as connection:
        read_at = mirrored_at(connection, store.account_id, context.settings.list_id)
    return Survey({finding: counts[str(finding)] for finding in _MEANINGS}, read_at)


def choose(state: StateDatabase, extractor: Extractor, store: StoreRef, run: Run, context: BuildContext) -> Survey:
    """Give a run everybody who can be brought over; repeated for the same run, they are chosen anew."""
    with state.begin() as connection:
        forget_given(connection, run.run_ref)

    def take(chosen: Sequence[tuple[str, str]]) -> None:
        with state.begin() as connection:
            give(connection, store.store_ref, run.run_ref, chosen)

    return survey(state, extractor, store, context, take)


def only_with_evidence(extractor: Extractor, frame: pd.DataFrame, context: BuildContext) -> pd.DataFrame:
    """Keep the customers whose person has a proven opt-in, as the shop says now.

    Args:
        extractor: reads what the rows refer to in the snapshot that ``frame`` was read in.
        frame: rows of the ``customers`` extract.
        context: the store's settings.
    """
    found = _people(extractor, frame)
    proven = judge(found, context.settings.exclude_emails) == Finding.WITH_EVIDENCE
    return frame.loc[frame[_MEMBERS.key].isin(found.loc[proven, "key"])].reset_index(drop=True)


def survey_table(found: Survey) -> str:
    """Lay out what a survey found."""
    lines = [f"{finding:<17}{found.counts[finding]:>10,}  {meaning}" for finding, meaning in _MEANINGS.items()]
    if found.mirrored_at is None:
        lines.append(
            "No pull has read this audience yet, so contacts that came to it in other ways are counted as new. Their "
            "status stays as it is all the same; run mailchimp_pull before for the right number."
        )
    else:
        lines.append(f"contacts of the audience as of {found.mirrored_at:%Y-%m-%d %H:%M} UTC (mailchimp_pull)")
    return "\n".join(lines)


def _people(extractor: Extractor, frame: pd.DataFrame) -> pd.DataFrame:
    related = _MEMBERS.read_related(extractor, frame)
    return people.of_chunk(Frames(frame, related), guests=True, erased=read_erased(extractor))


def _look_at(
    state: StateDatabase, extractor: Extractor, store: StoreRef, context: BuildContext, frame: pd.DataFrame
) -> pd.DataFrame:
    """Judge the people of a page; columns ``record_id``, ``key`` and ``finding``."""
    found = _people(extractor, frame)
    # A person is looked at with the account that speaks: that is one row, whichever pages the others are on.
    found = found.loc[found["key"] == found["customer_id"]]
    finding = judge(found, context.settings.exclude_emails)
    with state.begin() as connection:
        known = standings(
            connection,
            store.store_ref,
            store.account_id,
            context.settings.list_id,
            found["record_id"].dropna().tolist(),
        )
    finding = finding.mask(found["record_id"].isin(known.contacts), Finding.ALREADY_CONTACT)
    hopeful = finding == Finding.WITH_EVIDENCE
    rows = frame.loc[frame[_MEMBERS.key].isin(found.loc[hopeful, "key"])].reset_index(drop=True)
    sendable = _MEMBERS.build(extractor, rows, context).record_ids.to_pylist() if len(rows) else []
    refused = ~found["record_id"].isin(sendable) | found["record_id"].isin(known.rejected)
    finding = finding.mask(hopeful & refused, Finding.INVALID)
    return pd.DataFrame({"record_id": found["record_id"], "key": found["key"], "finding": finding})
