"""The README's table of capabilities names the tests that are here, and every test here has a row."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

FOLDER = Path(__file__).parent
README = FOLDER.parents[1] / "README.md"
ROW = re.compile(r"^\| (?P<row>[A-K]\d+) \|.*\| `(?P<test>test_\w+)(?:_…` \((?P<times>\d+)\)|`) \|$", re.MULTILINE)
TEST = re.compile(r"^def (test_([a-k]\d+)_\w+)", re.MULTILINE)


def test_each_row_names_its_tests() -> None:
    tests = [found for file in FOLDER.glob("test_?_*.py") for found in TEST.findall(file.read_text(encoding="utf-8"))]
    by_row = Counter(row for _, row in tests)
    rows = {match["row"].lower(): match for match in ROW.finditer(README.read_text(encoding="utf-8"))}
    assert rows.keys() == by_row.keys()
    for row, match in rows.items():
        if match["times"]:
            assert (row, match["test"], int(match["times"])) == (row, f"test_{row}", by_row[row])
        else:
            assert [name for name, of in tests if of == row] == [match["test"]]
