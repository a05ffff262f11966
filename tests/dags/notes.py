"""A notifier of the tests' own: writes what it is to tell into a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier


class Note(BaseNotifier):
    """Adds one line of JSON per message."""

    template_fields = ("subject", "text")

    def __init__(self, path: str, subject: str | None = None, text: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.subject = subject
        self.text = text

    def notify(self, context: Any) -> None:
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.write(json.dumps([self.subject, self.text]) + "\n")


class Broken(BaseNotifier):
    """Can't reach anybody."""

    def notify(self, context: Any) -> None:
        raise ConnectionError("ops@example.com")


NOT_A_NOTIFIER = "text"


def noted(path: Path) -> list[tuple[str, str]]:
    """Subjects and texts, in order."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [tuple(json.loads(line)) for line in lines]
