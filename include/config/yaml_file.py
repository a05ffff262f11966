"""Reading the project's YAML files so that a mistake is told where it was made."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml


class YamlUnreadable(ValueError):
    """A file is missing, isn't YAML, or isn't a mapping; the message names it and says where the mistake is."""


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, where plain YAML silently takes the last, and `on`, `yes`, … as a key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping; raises `ConstructorError` at a key that is refused."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            fault = "is given twice; keep one of them" if key in seen else None
            if isinstance(key, bool):
                fault = f"means {str(key).lower()} in YAML, not a name; quote it"
            if fault:
                raise yaml.constructor.ConstructorError(None, None, f"{key_node.value!r} {fault}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Args:
        path: the file.

    Returns:
        The mapping; empty for an empty file.

    Raises:
        YamlUnreadable: see there.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 (it is a SafeLoader)
    except FileNotFoundError:
        raise YamlUnreadable(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise YamlUnreadable(f"{path}: can't be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise YamlUnreadable(f"{path}{place}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise YamlUnreadable(f"{path}: is not YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise YamlUnreadable(f"{path}: should hold `name: value` lines, but holds a {type(content).__name__}")
    return content


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """`did you mean x?`, or else a list of all known names.

    Args:
        name: what was written.
        known: what could have been meant.
    """
    names = sorted(known)
    match = get_close_matches(str(name), names, n=1)
    return f"did you mean {match[0]!r}?" if match else f"known are: {', '.join(names)}"
