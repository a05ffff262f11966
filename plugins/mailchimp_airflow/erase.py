"""The task of a run that erases people who asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from include import shops


def erases(profile: str) -> bool:
    """Tell whether a shop profile has the extract of people who asked to be erased, without loading it.

    :param profile: its name.
    """
    return (Path(shops.__file__).parent / profile / "erasures.sql").is_file()


def erase_people(store_key: str, run_ref: int, context: Mapping[str, Any]) -> dict[str, int]:
    """Erase people who asked for it, at Mailchimp and from the state tables.

    :param store_key: key of the store.
    :param run_ref: the run.
    :param context: the task's context.
    :return: how many were erased, and how many wait for a later run.
    :raises RunStopped: more people are to be erased than the store allows; nobody was.
    """
    from include.load.erase import erase_people as erase
    from include.state.runs import load_run
    from include.state.stores import load_store
    from mailchimp_airflow.store import open_store

    with open_store(store_key) as store:
        with store.state.begin() as connection:
            run = load_run(connection, run_ref)
            reference = load_store(connection, run.store_ref)
        counts = erase(
            store.state,
            store.read_engine,
            store.profile,
            store.client,
            reference,
            store.settings,
            run,
            allow_deletes=context["params"].get("allow_deletes", False),
        )
    return asdict(counts)
