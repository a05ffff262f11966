from __future__ import annotations

import pytest

from include.pull.clicked import LONGEST, without_person


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://shop.invalid/sale", "https://shop.invalid/sale"),
        ("https://shop.invalid/sale?e=ada@shop.invalid&x=1#ada@shop.invalid", "https://shop.invalid/sale"),
        ("https://ada:secret@shop.invalid:8080/sale", "https://shop.invalid:8080/sale"),
        ("https://shop.invalid/u/ada@shop.invalid/off", "https://shop.invalid/u/*/off"),
        ("https://shop.invalid/u/ada%40shop.invalid", "https://shop.invalid/u/*"),
        ("mailto:ada@shop.invalid", "mailto:"),
        ("ada@shop.invalid", "*"),
        ("", "*"),
        ("https://[broken", "*"),
        ("https://shop.invalid/" + "x" * 900, ("https://shop.invalid/" + "x" * 900)[:LONGEST]),
    ],
    ids=["plain", "query", "credentials", "path", "encoded", "mailto", "no scheme", "empty", "broken", "long"],
)
def test_an_address_of_a_link_tells_nothing_about_who_clicked(url: str, kept: str) -> None:
    assert without_person(url) == kept
