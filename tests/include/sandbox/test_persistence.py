"""The sandbox's file: calls and the batch worker write it at the same time."""

from __future__ import annotations

import threading
from pathlib import Path

from include.sandbox.account import Account
from include.sandbox.batches import Batch
from include.sandbox.persistence import StateFile


def test_a_call_that_saves_its_batch_and_the_worker_do_not_wait_for_each_other(tmp_path: Path) -> None:
    account = Account()
    file = StateFile(tmp_path / "sandbox.sqlite", account)
    worker = threading.Thread(target=file.save_changes, daemon=True)

    def call() -> None:
        with account.lock:  # as every call has it
            worker.start()
            worker.join(timeout=0.2)  # it gets as far as it can
            file.save_batch(Batch("0123456789", "2026-11-21T16:00:00+00:00", b"{}"))

    calling = threading.Thread(target=call, daemon=True)
    calling.start()
    calling.join(timeout=20)
    worker.join(timeout=20)
    assert not calling.is_alive()
    assert not worker.is_alive()
    file.close()
