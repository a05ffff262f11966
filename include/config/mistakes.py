"""What is wrong in the settings file, in words: where it is, what is wrong, what is possible."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from include.config.yaml_file import did_you_mean


def told(details: ErrorDetails, content: dict[str, Any], file: type[BaseModel], store: type[BaseModel]) -> str:
    """Tell one mistake in a sentence.

    Args:
        details: what pydantic says of it.
        content: of the file.
        file: what a file may have.
        store: what a store in it may have.
    """
    where, known = _place(details["loc"], content, file, store)
    name = details["loc"][-1] if details["loc"] else ""
    match details["type"]:
        case "extra_forbidden":
            return f"{where}: there is no such setting; {did_you_mean(name, known)}"
        case "missing":
            return f"{where}: is missing and has no default"
        case "value_error":
            return f"{where}: {details['ctx']['error']}"
        case _:
            message = details["msg"][0].lower() + details["msg"][1:]
            return f"{where}: {message}; found {details['input']!r}"


def _place(
    location: tuple[int | str, ...], content: dict[str, Any], file: type[BaseModel], known: type[BaseModel]
) -> tuple[str, set[str]]:
    """Where a mistake is, with stores named by their keys, and the settings that exist there."""
    match location:
        case ("stores", int(number), *rest):
            entry = content["stores"][number]
            key = entry.get("key") if isinstance(entry, dict) else None
            store = f"store {key!r}" if key else f"store number {number + 1}"
            setting = ".".join(map(str, rest))
            return f"{store}, setting {setting!r}" if setting else store, set(known.model_fields)
        case ():
            return "stores", set(file.model_fields)
        case _:
            return f"setting {'.'.join(map(str, location))!r}", set(file.model_fields)
